"""What a search compares: its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point
from stitchlib.core.shifts import SearchRange
from stitchlib.errors import InputError, NoOverlapError


@cache
def fast_length(least: int) -> int:
    """Return the length that is transformed fast: factors of 2, 3 and 5 only, not 7 or 11."""
    length = max(1, least)
    while _without_small_factors(length) > 1:
        length += 1
    return length


def _without_small_factors(n: int) -> int:
    for factor in (2, 3, 5):
        while n % factor == 0:
            n //= factor
    return n


def reachable(
    shape_pre: Sequence[int], shape_post: Sequence[int], search: SearchRange
) -> tuple[Box, Box]:
    """Parts of either image that any displacement of the range can compare.

    Parameters
    ----------
    shape_pre, shape_post : sequence of int
        Extents of the images, voxels, in the axis order of the range.
    search : SearchRange
        Displacements, post corner minus pre corner.

    Returns
    -------
    tuple of Box
        In coordinates of the pre and of the post image; empty where nothing can be compared.
    """
    ones = (1,) * len(search.lower)
    try:
        possible = feasible(tuple(shape_pre), tuple(shape_post), search, ones)
    except NoOverlapError:
        nothing = (0,) * len(search.lower)
        return Box(nothing, nothing), Box(nothing, nothing)
    return compared(tuple(shape_pre), tuple(shape_post), possible)


def compared(pre: Point, post: Point, possible: SearchRange) -> tuple[Box, Box]:
    """Return the parts of either image that displacements, all of them possible, compare."""
    low, high = possible.lower, possible.upper
    return (
        Box(
            tuple(max(0, a) for a in low),
            tuple(min(n, b + m) for n, m, b in zip(pre, post, high, strict=True)),
        ),
        Box(
            tuple(max(0, -b) for b in high),
            tuple(min(m, n - a) for n, m, a in zip(pre, post, low, strict=True)),
        ),
    )


def feasible(pre: Point, post: Point, search: SearchRange, least: Point) -> SearchRange:
    """Displacements of the range whose overlap has at least ``least`` voxels on every axis.

    The overlap of an axis rises, stays and falls with the displacement, so these are a range too.
    """
    if not len(pre) == len(post) == len(search.lower) == len(least):
        raise InputError(
            f"images of shapes {pre} and {post}, range {search.lower} to {search.upper} and "
            f"min_overlap {least} differ in their number of axes."
        )
    need = tuple(max(1, t) for t in least)
    lower = tuple(max(a, t - m) for a, t, m in zip(search.lower, need, post, strict=True))
    upper = tuple(min(b, n - t) for b, t, n in zip(search.upper, need, pre, strict=True))
    short = any(t > min(n, m) for t, n, m in zip(need, pre, post, strict=True))
    if short or any(a > b for a, b in zip(lower, upper, strict=True)):
        raise NoOverlapError(
            f"images of shapes {pre} and {post} have no displacement from {search.lower} to "
            f"{search.upper} with an overlap of at least {need} voxels. Widen the range, lower "
            f"min_overlap or correct the positions."
        )
    return SearchRange(lower, upper)


@dataclass(frozen=True, slots=True)
class Plan:
    """The search in three axes, slowest in memory first; absent axes have extent 1 and lag 0."""

    axes: tuple[int, ...]
    """The axis of the caller that each present axis is."""
    origin: Point
    """Displacement of the caller that lag 0 is, per axis of the caller."""
    extent_a: Point
    """Extents of the compared part of the pre image, three axes."""
    extent_b: Point
    """Extents of the compared part of the post image, three axes."""
    lower: Point
    """Smallest lag, three axes, never positive."""
    upper: Point
    """Largest lag, three axes, never negative."""

    @property
    def slots(self) -> tuple[int, ...]:
        """Where the present axes are among the three; slabs run along the first of them."""
        return ((2,), (0, 2), (0, 1, 2))[len(self.axes) - 1]

    @property
    def lengths(self) -> Point:
        """FFT lengths of whole images: so long that no lag of the range is met by a wrapped one."""
        return tuple(
            fast_length(max(n - a, m + b))
            for n, m, a, b in zip(self.extent_a, self.extent_b, self.lower, self.upper, strict=True)
        )

    @property
    def shape(self) -> Point:
        """Number of lags, three axes."""
        return tuple(b - a + 1 for a, b in zip(self.lower, self.upper, strict=True))

    def lag_windows(self) -> list[tuple[NDArray[np.int64], ...]]:
        """First and end voxel of the window in a and in b at every lag, per axis."""
        found: list[tuple[NDArray[np.int64], ...]] = []
        for n, m, low, high in zip(
            self.extent_a, self.extent_b, self.lower, self.upper, strict=True
        ):
            lag = np.arange(low, high + 1)
            found.append(
                (
                    np.maximum(0, lag),
                    np.minimum(n, lag + m),
                    np.maximum(0, -lag),
                    np.minimum(m, n - lag),
                )
            )
        return found

    def displacement(self, index: Sequence[int]) -> Point:
        """Return the caller's displacement of an index into the lags."""
        found = [0] * len(self.axes)
        for slot, axis in zip(self.slots, self.axes, strict=True):
            found[axis] = int(index[slot]) + self.lower[slot] + self.origin[axis]
        return tuple(found)


def memory_order(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Return the axes of an array, slowest in memory first; those of one voxel before all others.

    What runs along the last axis is cheap, and nothing runs along an axis of one voxel.
    """
    return tuple(sorted(range(len(shape)), key=lambda d: (shape[d] > 1, -abs(strides[d]))))


def make_plan(pre: Point, post: Point, possible: SearchRange, axes: tuple[int, ...]) -> Plan:
    """Plan the search of a range; ``axes`` is the order of the caller's axes, slowest first."""
    box_a, box_b = compared(pre, post, possible)
    origin = tuple(a - b for a, b in zip(box_a.lower, box_b.lower, strict=True))
    empty = Plan(axes, origin, (1,) * 3, (1,) * 3, (0,) * 3, (0,) * 3)

    def three(values: Sequence[int], fill: int) -> Point:
        spread = [fill] * 3
        for slot, axis in zip(empty.slots, axes, strict=True):
            spread[slot] = values[axis]
        return tuple(spread)

    return replace(
        empty,
        extent_a=three(box_a.shape, 1),
        extent_b=three(box_b.shape, 1),
        lower=three([a - o for a, o in zip(possible.lower, origin, strict=True)], 0),
        upper=three([b - o for b, o in zip(possible.upper, origin, strict=True)], 0),
    )


def part_of(
    image: NDArray[Any], box: Box, offset: Point | None, plan: Plan, name: str
) -> NDArray[Any]:
    """Return the view of a box, three axes in the order of the plan."""
    local = box.relative_to(offset or (0,) * image.ndim)
    if not Box((0,) * image.ndim, image.shape).contains(local):
        raise InputError(
            f"{name} array of shape {image.shape} at offset {offset} lacks voxels of its "
            f"reachable box {box.lower} to {box.upper}; read that box."
        )
    view = np.asarray(image)[local.slices()].transpose(plan.axes)
    return np.expand_dims(view, tuple(i for i in range(3) if i not in plan.slots))
