"""Positions from pairwise displacements: weighted sparse least squares, and trees."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from stitchlib.core.graph import components, forest

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Network:
    """Nodes and links whose least squares are solved again and again with other weights.

    The graph's Laplacian with the grounded nodes left out is positive definite. Its pattern and the
    order of elimination (minimum degree) are found once; a solution costs one sparse factorisation,
    whatever the number of axes.

    Parameters
    ----------
    n : int
        Number of nodes.
    pre, post : array of int, shape (links,)
        The two ends of every link.
    ground : array of int
        Nodes whose positions are given, at least one in every component.
    often : bool
        Whether it will be solved more than once or twice: finding the order beforehand pays then.
    """

    def __init__(self, n: int, pre: Ints, post: Ints, ground: Ints, *, often: bool = True) -> None:
        self.n, self.pre, self.post = n, pre, post
        self.free = np.setdiff1d(np.arange(n), ground)
        self._order: Literal["NATURAL", "MMD_AT_PLUS_A"] = "MMD_AT_PLUS_A"
        self._arrange()
        if often and len(self.free):
            self.free = self.free[np.argsort(self.factorise(np.ones(len(pre))).perm_c)]
            self._order = "NATURAL"
            self._arrange()

    def _arrange(self) -> None:
        """Find where in the matrix each link's weight goes."""
        nf = len(self.free)
        number = np.full(self.n, -1, np.int64)
        number[self.free] = np.arange(nf)
        a, b = number[self.pre], number[self.post]
        inner = np.flatnonzero((a >= 0) & (b >= 0))
        first, last = np.flatnonzero(a >= 0), np.flatnonzero(b >= 0)
        rows = np.concatenate([a[inner], b[inner], a[first], b[last]])
        columns = np.concatenate([b[inner], a[inner], a[first], b[last]])
        self._from = np.concatenate([inner, inner, first, last])
        self._sign = np.repeat([-1.0, 1.0], [2 * len(inner), len(first) + len(last)])
        keys, self._to = np.unique(columns * max(nf, 1) + rows, return_inverse=True)
        self._indices = keys % max(nf, 1)
        self._indptr = np.searchsorted(keys, np.arange(nf + 1) * max(nf, 1))

    def _matrix(self, weight: Floats) -> Any:
        values = np.bincount(self._to, self._sign * weight[self._from], len(self._indices))
        nf = len(self.free)
        return scipy.sparse.csc_array((values, self._indices, self._indptr), shape=(nf, nf))

    def factorise(self, weight: Floats) -> scipy.sparse.linalg.SuperLU:
        """Factorise the normal equations for one weight per link, shape (links,), all > 0."""
        factor: scipy.sparse.linalg.SuperLU = scipy.sparse.linalg.splu(
            self._matrix(weight),
            permc_spec=self._order,
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        return factor

    def right(self, flow: Floats) -> Floats:
        """Add up a value per link, shape (links, axes): + at its post, − at its pre."""
        ends = np.concatenate([self.post, self.pre])
        return np.column_stack(
            [np.bincount(ends, np.concatenate([f, -f]), self.n) for f in flow.T]
        )[self.free].astype(np.float64, copy=False)

    def solve(self, weight: Floats, displacement: Floats, fixed: Floats | None = None) -> Floats:
        """Minimise Σ weight · (x_post − x_pre − displacement)².

        Parameters
        ----------
        weight : array of float, shape (links,) or (links, axes)
            One per link is one factorisation for all axes; one per link and axis is one each.
        displacement : array of float, shape (links, axes)
            Wanted x_post − x_pre.
        fixed : array of float, shape (n, axes), optional
            Positions, of which those of grounded nodes count; default 0.

        Returns
        -------
        array of float, shape (n, axes)
            Positions.
        """
        x = np.zeros((self.n, displacement.shape[1])) if fixed is None else fixed.copy()
        if not len(self.free):
            return x
        x[self.free] = 0
        wanted = displacement - (x[self.post] - x[self.pre])
        if weight.ndim == 1:
            solution = self.factorise(weight).solve(self.right(weight[:, None] * wanted))
            x[self.free] = solution
            return x
        for axis, column in enumerate(weight.T):
            right = self.right((column * wanted[:, axis])[:, None])
            x[self.free, axis] = self.factorise(column).solve(right)[:, 0]
        return x


def least_squares(
    n: int,
    pre: Ints,
    post: Ints,
    displacement: Floats,
    *,
    weight: Floats | None = None,
) -> tuple[Floats, Ints]:
    """Find positions x that minimise Σ weight · |x_post − x_pre − displacement|².

    The graph's Laplacian, with the first node of every component held at zero, is factorised once
    and serves all axes (once per axis where the weights differ by axis).

    Parameters
    ----------
    n : int
        Number of nodes.
    pre, post : array of int, shape (links,)
        The two ends of every link.
    displacement : array of float, shape (links, axes)
        Wanted x_post − x_pre.
    weight : array of float, shape (links,) or (links, axes), optional
        Inverse variance of each displacement; default 1.

    Returns
    -------
    positions : array of float, shape (n, axes)
        Relative to the first node of each component.
    component : array of int, shape (n,)
        Numbered 0, 1, … by their first node.
    """
    component = components(n, pre, post)
    network = Network(n, pre, post, np.unique(component, return_index=True)[1], often=False)
    return network.solve(np.ones(len(pre)) if weight is None else weight, displacement), component


def least_tree(
    n: int, pre: Ints, post: Ints, displacement: Floats, variance: Floats
) -> tuple[Floats, Floats, Ints]:
    """Add up displacements along the trees of least variance.

    Parameters
    ----------
    n : int
        Number of nodes.
    pre, post : array of int, shape (links,)
        The two ends of every link.
    displacement : array of float, shape (links, axes)
        x_post − x_pre.
    variance : array of float, shape (links, axes)
        Of the displacements, > 0.

    Returns
    -------
    positions, variances : array of float, shape (n, axes)
        Relative to the first node of each component.
    component : array of int, shape (n,)
        Numbered 0, 1, … by their first node.
    """
    component = components(n, pre, post)
    # Of parallel links the best counts: a sparse matrix would add them up.
    cost = variance.sum(axis=1)
    best = np.lexsort((np.arange(len(pre)), cost))
    low, high = np.minimum(pre, post)[best], np.maximum(pre, post)[best]
    best = best[np.unique(low * n + high, return_index=True)[1]]
    graph = scipy.sparse.coo_array((cost[best], (pre[best], post[best])), shape=(n, n)).tocsr()
    kept = scipy.sparse.csgraph.minimum_spanning_tree(graph).tocoo()
    inside = best[np.isin(pre[best] * n + post[best], kept.row.astype(np.int64) * n + kept.col)]
    roots = np.unique(component, return_index=True)[1]
    tree = forest(n, pre[inside], post[inside], roots)
    below = np.flatnonzero(tree.link >= 0)
    link = inside[tree.link[below]]
    sign = np.where(post[link] == below, 1.0, -1.0)[:, None]
    step, spread = np.zeros((2, n, displacement.shape[1]))
    step[below] = sign * displacement[link]
    spread[below] = variance[link]
    return tree.accumulate(step), tree.accumulate(spread), component


def round_half_even(positions: Floats) -> Ints:
    """Round to integers, ties to even.

    Loops of integer displacements often sum to exact halves, which the solver gives with an error
    in the last digits; these count as halves, so that every machine rounds them alike.
    """
    return np.rint(np.round(positions, 6)).astype(np.int64)
