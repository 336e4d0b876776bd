"""Positions of images from the displacements between them, for any graph of images.

Where `stitchlib.place` decides which links of a run can be trusted, this uses all it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.graph import components, tree_positions
from stitchlib.core.solve import least_squares, round_half_even
from stitchlib.errors import DisconnectedError, InputError

Method = Literal["optimization", "tree"]
METHODS = ("optimization", "tree")


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Displacements between numbered images."""

    n: int
    """Number of images."""
    pre: NDArray[np.int64]
    """Number of the first image of every link, shape (links,)."""
    post: NDArray[np.int64]
    displacement: NDArray[np.int64]
    """Wanted position of post minus position of pre, voxels, shape (links, axes)."""

    @classmethod
    def of(cls, n: int, ndim: int, links: Sequence[tuple[int, int, Any]]) -> Links:
        """Return the links given as (pre, post, displacement)."""
        return cls(
            n,
            np.array([link[0] for link in links], np.int64),
            np.array([link[1] for link in links], np.int64),
            np.array([link[2] for link in links], np.int64).reshape(-1, ndim),
        )

    def groups(self) -> list[list[int]]:
        """Return the numbers of the images that are connected, by their first image."""
        if not self.n:
            return []
        label = components(self.n, self.pre, self.post)
        found: list[list[int]] = [[] for _ in range(int(label.max()) + 1)]
        for i, group in enumerate(label.tolist()):
            found[group].append(i)
        return found


def relative_positions(links: Links, fixed: Sequence[int], method: str) -> NDArray[np.int64]:
    """Return positions relative to the fixed image of each connected group.

    Parameters
    ----------
    links : Links
    fixed : sequence of int
        One image of every group.
    method : {'optimization', 'tree'}
        Least squares, rounded half to even relative to the fixed image; or sums along breadth-first
        trees.

    Returns
    -------
    array of int, shape (n, axes)
    """
    if method not in METHODS:
        raise InputError(f"method = {method!r}: must be one of {', '.join(METHODS)}")
    if method == "tree":
        return tree_positions(links.n, links.pre, links.post, links.displacement, fixed)
    solved, component = least_squares(
        links.n, links.pre, links.post, links.displacement.astype(np.float64)
    )
    anchor = np.zeros(links.n, np.int64)
    anchor[component[list(fixed)]] = fixed
    return round_half_even(solved - solved[anchor[component]])


def connected_positions(
    links: Links, fixed: int, method: str, names: Sequence[str]
) -> NDArray[np.int64]:
    """Return positions relative to one fixed image that all others are connected to.

    Raises
    ------
    DisconnectedError
        Where they are not; names the groups.
    """
    groups = links.groups()
    if len(groups) > 1:
        listed = "; ".join(", ".join(names[i] for i in group) for group in groups)
        raise DisconnectedError(
            f"{len(groups)} separate groups of sources: {listed}. Lower min_quality, add "
            f"alignments between them, or place each group on its own"
        )
    return relative_positions(links, [fixed], method)


def grouped_positions(links: Links, positions: NDArray[np.int64], method: str) -> NDArray[np.int64]:
    """Return new positions; every connected group keeps its middle image in place."""
    if not links.n:
        return positions
    groups = links.groups()
    fixed = [group[(len(group) - 1) // 2] for group in groups]
    relative = relative_positions(links, fixed, method)
    anchor = np.zeros(links.n, np.int64)
    for group, middle in zip(groups, fixed, strict=True):
        anchor[group] = middle
    return positions[anchor] + relative


def grid_positions(
    indices: Sequence[Point], shapes: Sequence[Point], overlaps: Point
) -> NDArray[np.int64]:
    """Return where tiles of a grid lie if neighbours overlap by ``overlaps`` voxels.

    Parameters
    ----------
    indices : sequence of tuple of int
        Place of each tile on the grid, from any base.
    shapes : sequence of tuple of int
        Extent of each tile, voxels. A row of the grid is as wide as its widest tile.
    overlaps : tuple of int
        One per grid axis, voxels.

    Returns
    -------
    array of int, shape (tiles, axes)
        The least index of every axis lies at 0.
    """
    result = np.zeros((len(indices), len(shapes[0])), np.int64)
    for axis, overlap in enumerate(overlaps):
        widths: dict[int, int] = {}
        for index, shape in zip(indices, shapes, strict=True):
            widths[index[axis]] = max(widths.get(index[axis], 0), shape[axis])
        usual = max(widths.values())
        low, high = min(widths), max(widths)
        steps = [widths.get(i, usual) - overlap for i in range(low, high)]
        corner = np.concatenate([[0], np.cumsum(steps, dtype=np.int64)])
        result[:, axis] = corner[[index[axis] - low for index in indices]]
    return result
