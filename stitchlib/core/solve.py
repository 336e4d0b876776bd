"""Positions from pairwise displacements: sparse least squares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import splu

from stitchlib.core.graph import components


def least_squares(
    n: int, pre: NDArray[np.int64], post: NDArray[np.int64], displacement: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find positions x that minimise Σ |x_post − x_pre − displacement|².

    The graph's Laplacian, with the first node of every component held at zero, is factorised once
    and serves all axes.

    Parameters
    ----------
    n : int
        Number of nodes.
    pre, post : array of int, shape (links,)
        The two ends of every link.
    displacement : array of float, shape (links, axes)
        Wanted x_post − x_pre.

    Returns
    -------
    positions : array of float, shape (n, axes)
        Relative to the first node of each component.
    component : array of int, shape (n,)
        Numbered 0, 1, … by their first node.
    """
    component = components(n, pre, post)
    positions = np.zeros((n, displacement.shape[1]))
    grounded = np.unique(component, return_index=True)[1]
    free = np.setdiff1d(np.arange(n), grounded)
    if not len(free):
        return positions, component
    ones = np.ones(len(pre))
    rows, columns = np.concatenate([pre, post]), np.concatenate([post, pre])
    coupling = coo_array((np.tile(ones, 2), (rows, columns)), shape=(n, n)).tocsc()
    degree = np.bincount(rows, minlength=n).astype(float)
    laplacian = (diags_array(degree) - coupling).tocsr()
    right = np.zeros_like(positions)
    np.add.at(right, post, displacement)
    np.subtract.at(right, pre, displacement)
    factor = splu(laplacian[free].tocsc()[:, free], permc_spec="MMD_AT_PLUS_A")
    positions[free] = factor.solve(right[free])
    return positions, component


def round_half_even(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round to integers, ties to even.

    Loops of integer displacements often sum to exact halves, which the solver gives with an error
    in the last digits; these count as halves, so that every machine rounds them alike.
    """
    return np.rint(np.round(positions, 6)).astype(np.int64)
