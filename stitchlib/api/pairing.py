"""Alignment functions of two sources."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.api.sources import as_source
from stitchlib.core.shifts import (
    SearchRange,
    check_axis,
    depth_along,
    intervals,
    overlap_range,
    shift_range,
)
from stitchlib.errors import InputError
from stitchlib.matching import (
    Match,
    Options,
    Task,
    cropped,
    end_planes,
    measure,
    measure_projected,
    projected,
    voxels_of,
)

log = logging.getLogger(__name__)

Vector = NDArray[np.int64]


def task_of(name: str, pre: Any, post: Any, shifts: SearchRange) -> Task:
    """Return the plain values that the alignment of two sources needs."""
    if pre.ndim != post.ndim:
        raise InputError(f"{name}: sources of {pre.ndim} and {post.ndim} axes cannot be aligned")
    return Task(name, pre.reader, post.reader, pre.position, post.position, shifts)


def _pair(src1: Any, src2: Any, max_shifts: Any) -> Task:
    pre, post = as_source(src1), as_source(src2)
    return task_of("src1 -> src2", pre, post, shift_range(max_shifts, pre.ndim))


def _tell(found: Match, verbose: bool) -> tuple[Vector, float]:
    log.log(logging.INFO if verbose else logging.DEBUG, "shift %s, quality %g",
            found.shift, found.quality)  # fmt: skip
    return np.array(found.shift, np.int64), found.quality


def align_2_sources(
    src1: Any,
    src2: Any,
    max_shifts: Any = 10,
    clip: Any = None,
    background: Any = None,
    normalize: bool = False,
    verbose: bool = False,
    debug: bool = False,
    *,
    min_overlap: Any = 1,
) -> tuple[Vector, float]:
    """Find the shift of the second source at which both agree best; the same as trying each.

    Parameters
    ----------
    src1, src2 : Source or array, 1 to 3 axes
        Arrays lie at the origin.
    max_shifts : int, tuple or list
        Shifts that are tried, voxels, ends included: int m = ±m, tuple (lower, upper), a list with
        one of either per axis.
    clip : number or tuple, optional
        Upper bound, or (lower, upper), of the intensities that are compared.
    background : number or tuple, optional
        t: where all pixels of a side are below t, there is no signal; (t, k): at least k pixels
        (int) or a fraction k (float) of each side must reach t.
    normalize : bool
        Use the zero-mean normalised cross-correlation instead of the mean squared difference.
    verbose : bool
        Log the result.
    debug : bool
        Log it too.
    min_overlap : int or list of int
        Least extent of the overlap, voxels, for all axes or one per axis.

    Returns
    -------
    shift : array of int, shape (ndim,)
        To be added to the second source's position, voxels. Of equally good ones the smallest.
    quality : float
        −MSE (intensity², 0 = perfect), or NCC in [−1, 1]; −inf = no signal (shift 0).

    Raises
    ------
    NoOverlapError
        Where no shift of the range overlaps enough.
    InputError
        For arguments that cannot be used.
    """
    options = Options.parse(clip, background, normalize, min_overlap)
    return _tell(measure(_pair(src1, src2, max_shifts), options), verbose or debug)


def align_2_sources_along_axis(
    src1: Any,
    src2: Any,
    axis: int = 0,
    overlap: Any = 10,
    max_shifts: Any = 10,
    clip: Any = None,
    background: Any = None,
    verbose: bool = False,
    *,
    normalize: bool = False,
    min_overlap: Any = 1,
) -> tuple[Vector, float]:
    """Align two sources whose overlap along an axis is known.

    Parameters
    ----------
    src1, src2 : Source or array, 1 to 3 axes
        The second one follows the first along the axis.
    axis : int
    overlap : int or tuple of int
        Voxels along the axis: o = 1 to o; (least, most) in any order. Wherever the sources are.
    max_shifts : int, tuple or list
        Shifts that are tried on the other axes, voxels; as in `align_2_sources`.
    clip, background, normalize, min_overlap
        As in `align_2_sources`.
    verbose : bool
        Log the result.

    Returns
    -------
    shift : array of int, shape (ndim,)
        To be added to the second source's position, voxels.
    quality : float
        −MSE or NCC; −inf = no signal (shift 0).

    Raises
    ------
    NoOverlapError
        Where nothing in the range overlaps enough.
    InputError
        For arguments that cannot be used.
    """
    task = _pair(src1, src2, max_shifts)
    axis = check_axis(axis, task.ndim)
    task = with_overlap(task, axis, overlap_range(overlap), 1)
    return _tell(measure(task, Options.parse(clip, background, normalize, min_overlap)), verbose)


def with_overlap(task: Task, axis: int, overlap: tuple[int, int], direction: int) -> Task:
    """Return the task that searches overlaps along an axis, wherever the images are."""
    n = (task.pre if direction > 0 else task.post).shape[axis]
    least, most = sorted(direction * (n - o) - task.nominal[axis] for o in overlap)
    lower, upper = list(task.shifts.lower), list(task.shifts.upper)
    lower[axis], upper[axis] = least, most
    shifts = SearchRange(tuple(lower), tuple(upper))
    return Task(task.name, task.pre, task.post, task.corner_pre, task.corner_post, shifts)


def align_2_sources_along_axis_mip(
    src1: Any,
    src2: Any,
    axis: int = 2,
    depth: Any = 10,
    max_shifts: Any = 10,
    clip: Any = None,
    background: Any = None,
    verbose: bool = False,
    with_mip: bool = False,
    *,
    normalize: bool = False,
    min_overlap: Any = 1,
    ranges: Any = None,
) -> Any:
    """Align the maximum projections of two sources along an axis.

    Parameters
    ----------
    src1, src2 : Source or array, 2 or 3 axes
        The second one follows the first along the axis.
    axis : int
        The axis that is projected.
    depth : int or list of int
        Planes that are projected: the last ones of the first source and the first ones of the
        second; one for all axes or one per axis.
    max_shifts : int, tuple or list
        Shifts that are tried, voxels; as in `align_2_sources`. Those along the axis don't count.
    clip, background, normalize, min_overlap
        As in `align_2_sources`.
    verbose : bool
        Log the result.
    with_mip : bool
        Also return the projections.
    ranges : tuple or list, optional
        Absolute coordinates (lower, upper) that are used, voxels; one or None per axis.

    Returns
    -------
    shift : array of int, shape (ndim,)
        To be added to the second source's position, voxels; 0 along the axis.
    quality : float
        −MSE or NCC of the projections; −inf = no signal.
    mips : tuple of array, ndim − 1 axes
        With ``with_mip`` only.

    Raises
    ------
    NoOverlapError
        Where no shift of the range overlaps enough.
    InputError
        For arguments that cannot be used.
    """
    task, axis, planes = projection(src1, src2, axis, depth, max_shifts, ranges)
    options = Options.parse(clip, background, normalize, min_overlap)
    result = _tell(measure_projected(task, axis, planes, options), verbose)
    if not with_mip:
        return result
    flat = projected(task, axis, planes)
    return (*result, (voxels_of(flat.pre), voxels_of(flat.post)))


def projection(
    src1: Any, src2: Any, axis: int, depth: Any, max_shifts: Any, ranges: Any
) -> tuple[Task, int, tuple[tuple[int, int], tuple[int, int]]]:
    """Return what is projected of two sources: the task, the axis and the planes."""
    task = _pair(src1, src2, max_shifts)
    axis = check_axis(axis, task.ndim)
    task = cropped(task, intervals(ranges, task.ndim))
    return task, axis, end_planes(task, axis, depth_along(depth, axis))


def aligned_projections(
    src1: Any, src2: Any, axis: int, depth: Any, max_shifts: Any, ranges: Any, verbose: bool, *,
    options: Options | None = None,
) -> tuple[Task, Match]:  # fmt: skip
    """Return the projections of two sources along an axis, and the shift between them."""
    task, axis, planes = projection(src1, src2, axis, depth, max_shifts, ranges)
    flat = projected(task, axis, planes)
    options = Options.parse(None, None, False, 1) if options is None else options
    found = measure(flat, options.without(axis))
    _tell(found, verbose)
    return flat, found


def max_intensity_projection(data: Any, axis: int = 0, function: Any = np.max) -> NDArray[Any]:
    """Project an image along an axis.

    Parameters
    ----------
    data : array or Source, ndim axes
    axis : int
    function : callable
        Called with the array and ``axis``; default the maximum.

    Returns
    -------
    array, ndim − 1 axes

    Raises
    ------
    InputError
        Where there is no such axis.
    """
    array = np.asarray(data)
    return np.asarray(function(array, axis=check_axis(axis, array.ndim)))
