"""The displacement between two images and how far to trust it: the engine of all methods."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.agreement import PART_VOXELS, preference
from stitchlib.core.boxes import Point
from stitchlib.core.coarse import COARSE_FROM, DECIDE_ON, around, central, coarse, factors
from stitchlib.core.confidence import CERTAIN, Features, apart, confidence, reason
from stitchlib.core.correlate import bytes_needed
from stitchlib.core.correlate import search as exact_search
from stitchlib.core.evidence import Evidence, weigh
from stitchlib.core.filters import filtered
from stitchlib.core.lags import covariances
from stitchlib.core.mips import combined, projections, without
from stitchlib.core.peaks import Measure, score
from stitchlib.core.searches import feasible
from stitchlib.core.shifts import SearchRange
from stitchlib.core.subvoxel import place
from stitchlib.errors import NoOverlapError

Method = Literal["auto", "exact", "mip"]
"""``"exact"``: every displacement at full resolution; ``"auto"``: large images on a coarse level
first, decided at full resolution, and exact where that leaves a doubt; ``"mip"``: a candidate from
maximum projections along all axes, decided at full resolution. Of images that are planes,
projections tell nothing: ``"mip"`` is ``"auto"`` there."""

_FINE = 1.0
"""Width of the Gaussian, at least, with which parts of a voxel are told: noise between
neighbouring voxels says nothing about them."""
_WIDEST = 2.0
"""Width of the Gaussian, at most, with which a displacement must agree."""
_FARTHEST = 0.75
"""Voxels from a whole displacement to the refined one, at most."""
_ALIKE = 0.6
"""NCC from which a small part of the overlap may say all about parts of a voxel."""
CLEAR = 0.9999
"""Confidence from which no other filter is tried."""
_NIL = 0.001
"""Confidence up to which a view says nothing: the least filtered one stands."""
Filter = tuple[float, bool]
FILTERS: tuple[Filter, ...] = (
    (0.0, False),
    (1.0, False),
    (1.0, True),
    (2.0, True),
    (2.0, False),
)
"""Width of the Gaussian in voxels, and whether shading is taken off; in the order of trying.

Images as they are tell the most where there is little noise; light smoothing takes independent
noise off; without shading and whatever else is alike all over, the peak is sharper.
"""

Images = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Match:
    """The best displacement of a range, and how far to trust it."""

    displacement: Point
    """Post corner minus pre corner, whole voxels."""
    refined: tuple[float, ...]
    """The same with parts of a voxel."""
    quality: float
    """NCC of the pixels as they are, or minus their mean squared difference."""
    overlap: int
    """Voxels compared there."""
    error: tuple[float, ...]
    """Standard error per axis, voxels; infinite where it cannot be told."""
    confidence: float
    """Probability that the displacement is within one voxel of the truth on every axis."""
    sure: tuple[float, ...]
    """The same for each axis alone."""
    reason: str
    """What speaks against it; empty where nothing does."""
    features: Features
    """What the confidence is made of."""


def register(
    pre: NDArray[Any],
    post: NDArray[Any],
    search: SearchRange,
    *,
    least: Point,
    nominal: Point | None = None,
    method: Method = "auto",
    measure: Measure = "ncc",
) -> Match:
    """Find the displacement at which two images agree best, and judge it.

    Parameters
    ----------
    pre, post : ndarray, 2 or 3 axes
        Images, or their parts that any displacement compares; integers of at most 32 bits or
        floats. Never written to.
    search : SearchRange
        Displacements to try, post corner minus pre corner, voxels, in coordinates of the arrays.
    least : tuple of int
        Least extent of the overlap per axis, voxels.
    nominal : tuple of int, optional
        Among equally good displacements the nearest to this one wins (measure ``"ssd"``).
    method : {"auto", "exact", "mip"}
        Where candidates come from.
    measure : {"ncc", "ssd"}
        What is best. With ``"ssd"`` the displacement is that of the least mean squared difference,
        and the NCC says how far to trust it.

    Returns
    -------
    Match
        In coordinates of the arrays.

    Raises
    ------
    NoOverlapError
        No displacement has the overlap asked for.
    """
    at = None
    if measure == "ssd":
        centre = nominal or (0,) * pre.ndim
        at = exact_search(
            pre, post, search, measure=measure, nominal=centre, min_overlap=least
        ).displacement
    view = None
    solid = pre.ndim == 3 and min(pre.shape + post.shape) > 1
    if method == "mip" and at is None and solid:
        return _match(_from_projections((pre, post), search, least), (pre, post), measure)
    if method != "exact" and at is None and pre.size + post.size >= COARSE_FROM:
        view = _from_coarse((pre, post), search, least)
    if view is None:
        view = _surest(weighings(pre, post, search, least, at))
    return _match(view, (pre, post), measure)


def _surest(views: Iterable[Weighing]) -> Weighing:
    """Return the view with the highest confidence, or the first that leaves no doubt."""
    best: Weighing | None = None
    for view in views:
        if best is None or view.confidence > max(best.confidence, _NIL):
            best = view
        if best.confidence >= CLEAR:
            break
    if best is None:
        raise RuntimeError("no view of the images")
    return best


def _from_coarse(images: Images, search: SearchRange, least: Point) -> Weighing | None:
    """Find a candidate among all displacements of a coarse level, decide it at full resolution.

    The coarse level says how it stands out of the range, a central part of the overlap, as large
    as need be, where exactly it is. Nothing is returned where the coarse level leaves a doubt or
    the two disagree.
    """
    by = factors(images[0].shape, images[1].shape, search)
    if max(by) == 1:
        return None
    small, few, fewest = coarse(images, search, least, by)
    try:
        rough = _surest(weighings(*small, few, fewest))
    except NoOverlapError:
        return None
    if apart(rough.features) < CERTAIN:
        return None
    local = around(rough.evidence.displacement, by, search)
    # There is more noise than on the coarse level: less smoothing is not worth a try.
    filters: Sequence[Filter] = FILTERS[FILTERS.index(rough.view) :]
    for most in DECIDE_ON:
        found = _decided(images, local, rough.features, most, filters)
        if found.confidence >= CERTAIN:
            break
        if found.confidence > 0:
            filters = (found.view,)
    inside = zip(found.evidence.displacement, local.lower, local.upper, strict=True)
    searched = zip(search.lower, search.upper, strict=True)
    astray = any(
        d in ends and d not in limits
        for (d, *ends), limits in zip(inside, searched, strict=True)
        if ends[0] < ends[1]
    )
    return None if astray else found


def _from_projections(images: Images, search: SearchRange, least: Point) -> Weighing:
    """Find candidates from projections, filter after filter, and decide them at full resolution.

    A candidate is as sure as its place in the range of the projections, and as the voxels about it.
    """
    possible = feasible(images[0].shape, images[1].shape, search, least)
    middle = tuple((a + b) // 2 for a, b in zip(possible.lower, possible.upper, strict=True))
    projected = projections(images, middle)
    tried: set[Point] = set()

    def views() -> Iterator[Weighing]:
        for width, flat in FILTERS:
            candidate = combined(projected, possible, width, flat=flat)
            if candidate is None or candidate in tried:
                continue
            tried.add(candidate)
            rough = _in_projections(projected, possible, candidate)
            local = around(candidate, (1,) * len(candidate), possible)
            for most in DECIDE_ON:
                found = _decided(images, local, rough, most, FILTERS)
                if found.confidence >= CERTAIN:
                    break
            yield found

    found = views()
    first = next(found, None)
    if first is None:
        return _surest(weighings(*images, possible, least))
    return _surest(itertools.chain((first,), found))


def _in_projections(projected: list[Images], search: SearchRange, at: Point) -> Features:
    """Tell how a displacement stands out of the range in the projections, in the mean of them."""
    odds: list[list[float]] = [[] for _ in at]
    chance, rival = [], []
    for axis, images in enumerate(projected):
        ones = (1,) * (len(at) - 1)
        view = _surest(weighings(*images, search.without(axis), ones, without(at, axis)))
        chance.append(view.features.chance)
        rival.append(view.features.rival)
        kept = (other for other in range(len(at)) if other != axis)
        for other, value in zip(kept, view.features.odds_axis, strict=True):
            odds[other].append(value)
    return Features.of_projections(odds, chance, rival, tuple(n == 1 for n in search.shape))


def _decided(
    images: Images, local: SearchRange, rough: Features, most: int, filters: Sequence[Filter]
) -> Weighing:
    """Decide a candidate on so many voxels of the overlap, at full resolution."""
    parts, shifted, moved = central(images, local, most)
    ones = (1,) * len(moved)
    fine = _surest(weighings(*parts, shifted, ones, filters=filters))
    features = fine.features.together(rough, fine.evidence.border)
    found = tuple(d + k for d, k in zip(fine.evidence.displacement, moved, strict=True))
    refined = tuple(d + k for d, k in zip(fine.refined, moved, strict=True))
    evidence = replace(fine.evidence, displacement=found)
    return Weighing(fine.view, evidence, refined, fine.error, features, *confidence(features))


@dataclass(frozen=True, slots=True, eq=False)
class Weighing:
    """What one filtered view of the images says."""

    view: Filter
    evidence: Evidence
    refined: tuple[float, ...]
    """Displacement with parts of a voxel."""
    error: tuple[float, ...]
    features: Features
    confidence: float
    sure: tuple[float, ...]


def weighings(
    pre: NDArray[Any],
    post: NDArray[Any],
    search: SearchRange,
    least: Point,
    at: Point | None = None,
    filters: Sequence[Filter] = FILTERS,
) -> Iterator[Weighing]:
    """Yield what the images say, filter after filter, at full resolution; see `register`."""
    for view in filters:
        width, flat = view
        a, b = (filtered(image, width, flat=flat) for image in (pre, post))
        evidence = weigh(covariances(a, b, search, least), at)
        if evidence.chance < 0:
            at_all = tuple(map(float, evidence.displacement))
            unknown, unsure = (math.inf,) * pre.ndim, (0.0,) * pre.ndim
            hopeless = Features.hopeless(evidence)
            yield Weighing(view, evidence, at_all, unknown, hopeless, 0.0, unsure)
            continue
        searched = tuple(not math.isinf(odds) for odds in evidence.odds_axis)
        here = evidence.displacement
        rival = math.inf
        if evidence.rival is not None:
            rival = preference(a, b, here, evidence.rival, width)
        alike = evidence.ncc >= _ALIKE
        fine = place(pre, post, here, searched, width=max(_FINE, width), flat=True, alike=alike)
        moves = tuple(
            0.0 if end else max(-_FARTHEST, min(_FARTHEST, move))
            for move, end in zip(fine.moves, evidence.border, strict=True)
        )
        # What is as large as a few voxels is to say the same as details, which noise can make up.
        wide = min(_WIDEST, width + 1)
        broad = place(pre, post, here, searched, step=2, width=wide, flat=flat, alike=alike)
        margins = map(min, fine.margins(moves), broad.margins(moves))
        error = tuple(
            math.inf if end else e for e, end in zip(fine.spread(), evidence.border, strict=True)
        )
        features = Features.of(evidence, tuple(margins), rival)
        refined = tuple(d + m for d, m in zip(here, moves, strict=True))
        yield Weighing(view, evidence, refined, error, features, *confidence(features))


def _match(view: Weighing, pixels: Images, measure: Measure) -> Match:
    evidence = view.evidence
    windows = _windows(pixels, evidence.displacement)
    return Match(
        evidence.displacement,
        view.refined,
        score(*windows, measure),
        windows[0].size,
        view.error,
        view.confidence,
        view.sure,
        reason(view.features, view.confidence, view.sure),
        view.features,
    )


def _windows(pixels: Images, displacement: Point) -> Images:
    """Return what both images show of their overlap."""
    pre, post = pixels
    spans = [
        (max(0, k), min(n, k + m))
        for k, n, m in zip(displacement, pre.shape, post.shape, strict=True)
    ]
    first = pre[tuple(slice(a, b) for a, b in spans)]
    second = post[tuple(slice(a - k, b - k) for (a, b), k in zip(spans, displacement, strict=True))]
    return first, np.asarray(second)


# Asked of every pair while a run is planned; on a grid they are much alike.
@lru_cache(1024)
def register_bytes(shape_pre: Point, shape_post: Point, search: SearchRange, itemsize: int) -> int:
    """Peak bytes that `register` allocates, the images themselves not counted, whatever the method.

    Parameters
    ----------
    shape_pre, shape_post : tuple of int
        Extents of the images, voxels.
    search : SearchRange
        Displacements to try.
    itemsize : int
        Bytes per voxel of the images.
    """
    sizes = math.prod(shape_pre), math.prod(shape_post)
    filters = 4 * (sum(sizes) + 3 * max(sizes))
    # Both images before and after the filter, and the fields of least squares made of either.
    agreement = 32 * 4 * min(PART_VOXELS, max(sizes))
    exact = bytes_needed(shape_pre, shape_post, search, itemsize)
    view = 4 * sum(sizes) + bytes_needed(shape_pre, shape_post, search, 4)
    return max(exact, view, filters) + agreement
