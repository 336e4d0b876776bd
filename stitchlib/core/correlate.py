"""Exact search of the integer displacement at which two images agree best.

One float32 cross-correlation gives every displacement at once, exact box sums normalise it, and
whatever could still be the best within a bound of the rounding errors is evaluated again exactly,
so that the result equals that of trying every displacement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.peaks import (
    SLAB_VOXELS,
    Image,
    Measure,
    Moments,
    Peak,
    centred_images,
    moments,
    product,
    score,
)
from stitchlib.core.searches import (
    Plan,
    compared,
    feasible,
    make_plan,
    memory_order,
    part_of,
    reachable,
)
from stitchlib.core.shifts import SearchRange
from stitchlib.core.spectra import Floats, correlation, cut, fft_error
from stitchlib.core.surface import Surface, make_surface
from stitchlib.core.windows import BLOCK_VOXELS
from stitchlib.errors import NoOverlapError

__all__ = ["Peak", "SearchRange", "bytes_needed", "reachable", "score", "search"]

_FEW = 32
"""Up to this many candidates are evaluated one by one at once."""

Index = tuple[int, ...]


def search(  # noqa: PLR0913 - four keywords say what part of the images was passed
    pre: NDArray[Any],
    post: NDArray[Any],
    search: SearchRange,
    *,
    measure: Measure,
    nominal: Point,
    min_overlap: Point,
    offset_pre: Point | None = None,
    offset_post: Point | None = None,
    shape_pre: Point | None = None,
    shape_post: Point | None = None,
) -> Peak:
    """Find the best integer displacement of a range; the same as trying each of them.

    At displacement d, voxel p of pre is compared with voxel p - d of post wherever both exist.

    Parameters
    ----------
    pre, post : ndarray, 1 to 3 axes
        Images, or parts of them that hold at least their `reachable` boxes; integers of at most
        32 bits or floats. Any strides and byte order; never written to.
    search : SearchRange
        Displacements to try, voxels, axes as in the images.
    measure : {"ncc", "ssd"}
        Highest zero-mean normalised cross-correlation, mean and variance of each displacement's
        own overlap (0 where a side is constant), or lowest mean squared difference.
    nominal : tuple of int
        Among equally good displacements the nearest to this one wins, then the
        lexicographically smallest.
    min_overlap : tuple of int
        Least extent of the overlap per axis, voxels; at least 1.
    offset_pre, offset_post : tuple of int, optional
        First voxel of the images that ``pre`` and ``post`` hold; default 0.
    shape_pre, shape_post : tuple of int, optional
        Extents of the whole images; default those of ``pre`` and ``post``.

    Returns
    -------
    Peak
        Quality from exact integer sums (integer data) or float64 (float data).

    Raises
    ------
    NoOverlapError
        No displacement of the range has the overlap asked for.
    InputError
        Axes that differ, parts that lack voxels needed, NaN or infinite pixels, other data types.
    """
    whole_pre, whole_post = shape_pre or pre.shape, shape_post or post.shape
    possible = feasible(whole_pre, whole_post, search, min_overlap)
    axes = memory_order(pre.shape, pre.strides)
    plan = make_plan(whole_pre, whole_post, possible, axes)
    boxes = compared(whole_pre, whole_post, possible)
    a, b = centred_images(
        part_of(pre, boxes[0], offset_pre, plan, "pre"),
        part_of(post, boxes[1], offset_post, plan, "post"),
        measure,
    )
    surface = make_surface(a, b, plan)
    c, _ = correlation(a, b, plan, np.float32)
    index, sums = _best(a, b, plan, surface, c, _Rule(measure, nominal))
    return Peak(plan.displacement(index), sums.quality(measure, a.scale), sums.n)


@dataclass(frozen=True, slots=True)
class _Rule:
    """What is best, and which of several that are equally good."""

    measure: Measure
    nominal: Point

    def nearest(self, among: NDArray[np.bool_], plan: Plan) -> Index:
        """Return the index of the displacement nearest to nominal, then the smallest."""
        rows = np.argwhere(among)
        slots = [plan.slots[plan.axes.index(axis)] for axis in range(len(plan.axes))]
        first = np.array(plan.displacement((0, 0, 0)))
        found = rows[:, slots] + first
        distance = ((found - np.array(self.nominal)) ** 2).sum(axis=1)
        order = np.lexsort((*found.T[::-1], distance))
        return tuple(int(i) for i in rows[order[0]])


def _best(
    a: Image, b: Image, plan: Plan, surface: Surface, c: Floats, rule: _Rule
) -> tuple[Index, Moments]:
    """Evaluate exactly whatever may be the best within the error of the correlation ``c``."""
    chosen, sure, whole = _shortlist(a, b, plan, surface, c, rule.measure)
    # Values without error are those of constant windows: all alike, so the nearest will do.
    if sure.any():
        chosen[rule.nearest(sure, plan)] = True
    equal = np.zeros(plan.shape, np.bool_)
    close = np.full(plan.shape, -np.inf)
    winner: tuple[Index, Moments] | None = None
    top: Fraction | float = -math.inf
    for row in np.argwhere(chosen):
        index = tuple(int(i) for i in row)
        sums = _moments_at(a, b, plan, surface, index, whole)
        key = sums.key(rule.measure)
        if winner is None or key > top:
            winner, top = (index, sums), key
            equal[...] = False
        equal[index] = key == top
        close[index] = key
    if winner is None:
        raise RuntimeError("no candidate: the error bound of the correlation is not a number")
    slack = winner[1].tolerance(rule.measure)
    if slack > 0:
        equal |= close > float(top) - slack
    best = rule.nearest(equal, plan)
    if best == winner[0]:
        return winner
    return best, _moments_at(a, b, plan, surface, best, whole)


def _shortlist(
    a: Image, b: Image, plan: Plan, surface: Surface, c: Floats, measure: Measure
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Floats | None]:
    """Lags that may be the best: uncertain ones, certain ones, and the exact correlation if made.

    Many are narrowed down by a correlation in float64; that of integers is itself an integer, so
    that one with an error below a half is exact once rounded.
    """
    norms = math.sqrt(surface.a.norm2) * math.sqrt(surface.b.norm2)
    value, bound = surface.values(measure, c, fft_error(plan, np.float32) * norms)
    chosen = _candidates(value, bound, measure)
    whole: Floats | None = None
    if np.count_nonzero(chosen & (bound > 0)) > _FEW:
        fine, _ = correlation(a, b, plan, np.float64)
        error = fft_error(plan, np.float64) * norms
        if surface.exact and error < 0.25:
            whole, error = np.rint(fine), 0.0
            fine = whole
        value, bound = surface.values(measure, fine, error)
        chosen &= _candidates(value, bound, measure)
    return chosen & (bound > 0), chosen & (bound == 0), whole


def _candidates(value: Floats, bound: Floats, measure: Measure) -> NDArray[np.bool_]:
    top = 1.0 if measure == "ncc" else 0.0
    least = float((value - bound).max())
    return np.asarray(np.minimum(value + bound, top) >= min(least, top))


def _moments_at(
    a: Image, b: Image, plan: Plan, surface: Surface, index: Index, whole: Floats | None
) -> Moments:
    windows = [
        tuple(int(w[i]) for w in axis) for axis, i in zip(plan.lag_windows(), index, strict=True)
    ]
    part_a = tuple(slice(w[0], w[1]) for w in windows)
    part_b = tuple(slice(w[2], w[3]) for w in windows)
    if not surface.exact:
        return moments(a, b, part_a, part_b)
    cross = product(a, b, part_a, part_b) if whole is None else int(whole[index])
    return Moments(
        n=int(surface.n[index]),
        a=int(surface.a.plain[index]),
        b=int(surface.b.plain[index]),
        aa=int(surface.a.squares[index]),
        bb=int(surface.b.squares[index]),
        ab=cross,
        offset=int(surface.offset),
    )


def bytes_needed(
    shape_pre: Sequence[int], shape_post: Sequence[int], search: SearchRange, itemsize: int
) -> int:
    """Peak bytes that `search` allocates, the images themselves not counted.

    Parameters
    ----------
    shape_pre, shape_post : sequence of int
        Extents of the whole images, voxels.
    search : SearchRange
        Displacements to try.
    itemsize : int
        Bytes per voxel of the images.
    """
    ones = (1,) * len(search.lower)
    try:
        possible = feasible(tuple(shape_pre), tuple(shape_post), search, ones)
    except NoOverlapError:
        return 0
    ranks = range(len(ones))
    plans = (
        make_plan(tuple(shape_pre), tuple(shape_post), possible, memory_order(shape_pre, strides))
        for strides in (ranks, ranks[::-1])
    )
    return max(_bytes(plan, itemsize) for plan in plans)


def _bytes(plan: Plan, itemsize: int) -> int:
    """Peak of the three stages of a search: surface, transforms, single displacements."""
    lags = math.prod(plan.shape) * 8
    shapes = (plan.extent_a, plan.extent_b)
    block = max(BLOCK_VOXELS, *(shape[2] for shape in shapes))
    wide = 4 if itemsize <= 2 else 8
    # Of a block: values and squares, and the sums of its planes before and after rows are added.
    sums = (2 * wide + 32) * block + 2 * 8 * math.prod(
        min(n, 2 * m) for n, m in zip(plan.extent_a, plan.shape, strict=True)
    )
    # In float64 only where float32 leaves many displacements.
    transforms = max(cut(plan, item).nbytes for item in (8, 16))
    single = min(SLAB_VOXELS, max(math.prod(shape) for shape in shapes)) * 48
    stages = (sums + 10 * lags, transforms + 10 * lags, single + 26 * lags)
    return int(max(stages) * 1.05) + (1 << 16)
