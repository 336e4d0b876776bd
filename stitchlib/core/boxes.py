"""Half-open integer boxes, and the disjoint boxes a set of overlapping ones falls apart into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Self

import numpy as np

AXES = "xyz"
"""Names of the axes, in the order of every point."""

Point = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """Half-open box ``[lower, upper)`` in voxels, one entry per axis."""

    lower: Point
    """First voxel inside, per axis."""
    upper: Point
    """First voxel outside, per axis; not above ``lower`` where empty."""

    @classmethod
    def at(cls, position: Sequence[int], shape: Sequence[int]) -> Self:
        """Box of ``shape`` voxels whose lower corner is ``position``."""
        lower = tuple(position)
        return cls(lower, tuple(p + n for p, n in zip(lower, shape, strict=True)))

    @property
    def shape(self) -> Point:
        """Extent per axis in voxels; 0 where empty."""
        return tuple(max(0, b - a) for a, b in zip(self.lower, self.upper, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return prod(self.shape)

    @property
    def empty(self) -> bool:
        """Whether there is no voxel inside."""
        return any(a >= b for a, b in zip(self.lower, self.upper, strict=True))

    def shifted(self, by: Sequence[int]) -> Box:
        """Return the box moved by ``by`` voxels."""
        return Box(
            tuple(a + s for a, s in zip(self.lower, by, strict=True)),
            tuple(b + s for b, s in zip(self.upper, by, strict=True)),
        )

    def relative_to(self, origin: Sequence[int]) -> Box:
        """Return the box in coordinates whose zero is ``origin``."""
        return self.shifted([-o for o in origin])

    def intersection(self, other: Box) -> Box:
        """Return the voxels inside both; empty where they only touch."""
        return Box(
            tuple(map(max, self.lower, other.lower)),
            tuple(map(min, self.upper, other.upper)),
        )

    def contains(self, other: Box) -> bool:
        """Whether every voxel of ``other`` is inside."""
        return other.empty or self.intersection(other) == other

    def slices(self) -> tuple[slice, ...]:
        """Index of the box in an array whose element 0 is voxel 0; no corner may be negative."""
        return tuple(slice(a, b) for a, b in zip(self.lower, self.upper, strict=True))


def hull(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around all of ``boxes`` (at least one)."""
    return Box(
        tuple(min(column) for column in zip(*(b.lower for b in boxes), strict=True)),
        tuple(max(column) for column in zip(*(b.upper for b in boxes), strict=True)),
    )


def touching(boxes: Sequence[Box]) -> list[list[int]]:
    """Return, for each box, the ascending indices of the others that share a voxel with it.

    A sweep along the axis over which the boxes spread most: near-linear for tiles of a grid.
    """
    result: list[list[int]] = [[] for _ in boxes]
    full = [i for i, box in enumerate(boxes) if not box.empty]
    if len(full) < 2:
        return result
    lower = np.array([boxes[i].lower for i in full])
    upper = np.array([boxes[i].upper for i in full])
    axis = int(np.argmax(np.ptp(lower, axis=0) / (upper - lower).max(axis=0)))
    order = np.argsort(lower[:, axis], kind="stable")
    lower, upper, index = lower[order], upper[order], np.array(full)[order]
    ends = np.searchsorted(lower[:, axis], upper[:, axis])
    for k, end in enumerate(ends):
        later = slice(k + 1, end)
        shared = np.all((lower[later] < upper[k]) & (upper[later] > lower[k]), axis=1)
        for other in index[later][shared].tolist():
            result[index[k]].append(other)
            result[other].append(int(index[k]))
    for members in result:
        members.sort()
    return result


def disjoint(boxes: Sequence[Box]) -> list[tuple[Box, Point]]:
    """Split overlapping boxes into disjoint ones, each covered by one set of them.

    Returns
    -------
    list of (Box, tuple of int)
        Disjoint boxes that together cover exactly the union, each with the ascending indices of
        all boxes that cover it; sorted by lower corner, last axis first. Boxes that share a face
        and their sources are merged.

    Notes
    -----
    Each voxel belongs to the first box that covers it, so every box is split only against its
    neighbours: the cost grows with the number of overlaps, not with the grid that all the edges
    span together.
    """
    pieces: list[tuple[Box, Point]] = []
    for i, others in enumerate(touching(boxes)):
        if boxes[i].empty:
            continue
        near = [(j, boxes[j].intersection(boxes[i])) for j in others]
        cells = _cells(i, boxes[i], near, 0)
        pieces += _merged([(Box(lo, hi), sources) for lo, hi, sources in cells])
    return sorted(pieces, key=lambda piece: piece[0].lower[::-1])


_Cell = tuple[Point, Point, Point]


def _cells(i: int, box: Box, near: list[tuple[int, Box]], axis: int) -> list[_Cell]:
    """Cells (lower, upper, sources) over the axes from ``axis`` on that box ``i`` owns.

    Every box in ``near`` covers the axes before ``axis`` fully.
    """
    if axis == len(box.lower):
        if near and near[0][0] < i:
            return []
        return [((), (), tuple(sorted([i, *(j for j, _ in near)])))]
    edges = {box.lower[axis], box.upper[axis]}
    edges.update(b.lower[axis] for _, b in near)
    edges.update(b.upper[axis] for _, b in near)
    slabs: list[tuple[int, int, list[_Cell]]] = []
    for a, b in pairwise(sorted(edges)):
        active = [(j, o) for j, o in near if o.lower[axis] <= a and o.upper[axis] >= b]
        cells = _cells(i, box, active, axis + 1)
        if slabs and slabs[-1][2] == cells:
            slabs[-1] = (slabs[-1][0], b, cells)
        else:
            slabs.append((a, b, cells))
    return [((a, *lo), (b, *hi), sources) for a, b, cells in slabs for lo, hi, sources in cells]


def _merged(pieces: list[tuple[Box, Point]]) -> list[tuple[Box, Point]]:
    """Merge boxes with the same sources that share a whole face, axis by axis, until none do."""
    ndim = len(pieces[0][0].lower) if pieces else 0
    count = -1
    while count != len(pieces):
        count = len(pieces)
        for axis in range(ndim):
            pieces = _merged_along(pieces, axis)
    return pieces


def _merged_along(pieces: list[tuple[Box, Point]], axis: int) -> list[tuple[Box, Point]]:
    def others(point: Point) -> Point:
        return point[:axis] + point[axis + 1 :]

    rows: dict[tuple[Point, Point, Point], list[Box]] = {}
    for box, sources in pieces:
        rows.setdefault((others(box.lower), others(box.upper), sources), []).append(box)
    merged = []
    for (_, _, sources), row in rows.items():
        row.sort(key=lambda box: box.lower[axis])
        run = row[0]
        for box in row[1:]:
            if box.lower[axis] == run.upper[axis]:
                run = Box(run.lower, box.upper)
            else:
                merged.append((run, sources))
                run = box
        merged.append((run, sources))
    return merged
