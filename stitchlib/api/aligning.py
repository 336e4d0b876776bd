"""Alignment functions of all pairs of a layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stitchlib.api.alignment_base import tiling_axes
from stitchlib.api.alignments import Alignment
from stitchlib.api.pairing import task_of, with_overlap
from stitchlib.core.shifts import (
    check_axis,
    depth_along,
    interval,
    intervals,
    overlap_ranges,
    shift_range,
)
from stitchlib.errors import InputError
from stitchlib.matching import (
    Match,
    Options,
    Task,
    common_planes,
    cropped,
    facing_planes,
    measure,
    measure_all,
    measure_projected,
    measure_projections,
)


def align_layout(
    layout: Any,
    max_shifts: Any = 10,
    clip: Any = None,
    background: Any = None,
    processes: Any = None,
    verbose: bool = False,
    *,
    normalize: bool = False,
    min_overlap: Any = 1,
) -> Any:
    """Align all pairs of a layout around their current positions.

    Parameters
    ----------
    layout : Layout
    max_shifts : int, tuple or list
        Shifts that are tried, voxels; as in `align_2_sources`.
    clip, background, normalize, min_overlap
        As in `align_2_sources`.
    processes : int, 'serial' or None
        Pairs that are aligned at one time; None = as many as there are cores.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    Layout
        The same one; its alignments have their displacements and qualities.

    Raises
    ------
    NoOverlapError
        Where a pair overlaps at no shift of the range; names it.
    InputError
        For arguments that cannot be used.
    """
    options = Options.parse(clip, background, normalize, min_overlap)
    tasks = _tasks(layout, max_shifts)
    found = measure_all(
        tasks, lambda task: measure(task, options), processes=processes, verbose=verbose
    )
    return _update(layout, found)


def _tasks(layout: Any, max_shifts: Any) -> list[Task]:
    shifts = shift_range(max_shifts, layout.ndim) if layout.alignments else None
    return [
        task_of(alignment.name, alignment.pre, alignment.post, shifts)
        for alignment in layout.alignments
        if shifts is not None
    ]


def _update(layout: Any, found: Sequence[Match], axis: int | None = None) -> Any:
    """Write what was found into the alignments, along one axis only where it is given."""
    for alignment, match in zip(layout.alignments, found, strict=True):
        if axis is None:
            alignment.shift = match.shift
        else:
            shift = alignment.shift
            shift[axis] = match.shift[axis]
            alignment.shift = shift
        alignment.quality = match.quality
    return layout


def align_layout_on_tiling(
    layout: Any,
    overlaps: Any = 10,
    max_shifts: Any = 10,
    clip: Any = None,
    background: Any = None,
    processes: Any = None,
    verbose: bool = False,
    *,
    normalize: bool = False,
    min_overlap: Any = 1,
) -> Any:
    """Align all neighbours on a grid by the overlaps that are expected along its axes.

    Parameters
    ----------
    layout : TiledLayout
    overlaps : int, or list of int or tuple
        Overlaps that are tried, voxels: o = 1 to o, (least, most); one for all grid axes or one
        per grid axis. Wherever the tiles are.
    max_shifts : int, tuple or list
        Shifts that are tried on the other axes around the current positions, voxels.
    clip, background, normalize, min_overlap
        As in `align_2_sources`.
    processes : int, 'serial' or None
        Pairs that are aligned at one time; None = as many as there are cores.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    TiledLayout
        The same one; its alignments have their displacements and qualities.

    Raises
    ------
    NoOverlapError
        Where nothing in the range of a pair overlaps; names it.
    InputError
        For arguments that cannot be used, or a pair that is not neighbours on the grid.
    """
    options = Options.parse(clip, background, normalize, min_overlap)
    searched = overlap_ranges(overlaps, layout.tile_dim)
    tasks = []
    for task, alignment in zip(_tasks(layout, max_shifts), layout.alignments, strict=True):
        axis, direction = _neighbours_along(alignment)
        tasks.append(with_overlap(task, axis, searched[axis], direction))
    found = measure_all(
        tasks, lambda task: measure(task, options), processes=processes, verbose=verbose
    )
    return _update(layout, found)


def _neighbours_along(alignment: Alignment) -> tuple[int, int]:
    """Return the grid axis of a pair, and 1 where post comes after pre, else −1."""
    axes = tiling_axes(alignment)
    pre, post = alignment.pre.tile_position, alignment.post.tile_position
    if len(axes) != 1:
        raise InputError(
            f"alignment {alignment.name}: tile positions {pre} and {post} are no neighbours along "
            f"one grid axis; use align_layout for such pairs"
        )
    return axes[0], 1 if post[axes[0]] > pre[axes[0]] else -1


def align_layout_axis(
    layout: Any,
    axis: int | None = 2,
    depth: Any = 10,
    max_shifts: Any = 10,
    axis_range: Any = None,
    clip: Any = None,
    background: Any = None,
    processes: Any = None,
    verbose: bool = False,
    *,
    normalize: bool = False,
    min_overlap: Any = 1,
) -> Any:
    """Align all pairs of a layout along one axis only, from maximum projections.

    Each pair is projected along its `Alignment.mip_axis`.

    Parameters
    ----------
    layout : Layout
    axis : int or None
        The axis that is measured; None = the last.
    depth : int or list of int
        Planes at the facing sides that are projected along a tiling axis: one for all axes or one
        per axis. Along another axis all planes are that both tiles have.
    max_shifts : int, tuple or list
        Shifts that are tried, voxels; as in `align_2_sources`.
    axis_range : tuple of int, optional
        Absolute coordinates (lower, upper) along the axis that are used, voxels.
    clip, background, normalize, min_overlap
        As in `align_2_sources`.
    processes : int, 'serial' or None
        Pairs that are aligned at one time; None = as many as there are cores.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    Layout
        The same one; of the displacements only the components along the axis are new.

    Raises
    ------
    NoOverlapError
        Where a pair overlaps at no shift of the range; names it.
    InputError
        For arguments that cannot be used.
    """
    axis = check_axis(-1 if axis is None else axis, layout.ndim)
    ranges: list[Any] = [None] * layout.ndim
    ranges[axis] = interval(axis_range, "axis_range")
    mips = [alignment.mip_axis(axis, max_shifts) for alignment in layout.alignments]
    options = Options.parse(clip, background, normalize, min_overlap)
    found = _measure_mips(layout, mips, (depth, max_shifts, ranges, options), processes, verbose)
    return _update(layout, found, axis)


def _measure_mips(
    layout: Any,
    axes: Sequence[int],
    how: tuple[Any, Any, Any, Options],
    processes: Any,
    verbose: bool,
) -> list[Match]:
    """Measure each pair in its projection along its own axis."""
    depth, max_shifts, ranges, options = how
    bounds = intervals(ranges, layout.ndim) if layout.alignments else ()
    jobs: list[Any] = []
    for task, alignment, axis in zip(
        _tasks(layout, max_shifts), layout.alignments, axes, strict=True
    ):
        part = cropped(task, bounds)
        if axis in (tiling_axes(alignment) or [alignment.mip_axis()]):
            planes = facing_planes(part, axis, depth_along(depth, axis))
        else:
            planes = common_planes(part, axis)
        jobs.append((part, axis, planes))
    return measure_all(
        jobs,
        lambda job: measure_projected(job[0], job[1], job[2], options),
        processes=processes,
        verbose=verbose,
    )


def align_layout_rigid_mip(
    layout: Any,
    depth: Any = 10,
    max_shifts: Any = 10,
    ranges: Any = None,
    clip: Any = None,
    background: Any = None,
    processes: Any = None,
    workspace: Any = None,  # noqa: ARG001 - documented
    verbose: bool = False,
    *,
    normalize: bool = False,
    min_overlap: Any = 1,
) -> Any:
    """Align all pairs of a layout from maximum projections along their tiling axes.

    Along its tiling axis each pair stays at its current displacement.

    Parameters
    ----------
    layout : Layout
    depth : int or list of int
        Planes at the facing sides that are projected: one for all axes or one per axis.
    max_shifts : int, tuple or list
        Shifts that are tried, voxels; as in `align_2_sources`.
    ranges : tuple or list, optional
        Absolute coordinates (lower, upper) that are used, voxels; one or None per axis.
    clip, background, normalize, min_overlap
        As in `align_2_sources`.
    processes : int, 'serial' or None
        Pairs that are aligned at one time; None = as many as there are cores.
    workspace : object
        Not used; accepted for old scripts.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    Layout
        The same one; its alignments have their displacements and qualities.

    Raises
    ------
    NoOverlapError
        Where a pair overlaps at no shift of the range; names it.
    InputError
        For arguments that cannot be used.
    """
    mips = [alignment.mip_axis() for alignment in layout.alignments]
    options = Options.parse(clip, background, normalize, min_overlap)
    found = _measure_mips(layout, mips, (depth, max_shifts, ranges, options), processes, verbose)
    return _update(layout, found)


def align_layout_rigid_mips(
    layout: Any,
    depth: Any = 10,
    max_shifts: Any = 10,
    ranges: Any = None,
    clip: Any = None,
    background: Any = None,
    processes: Any = None,
    verbose: bool = False,
    *,
    normalize: bool = False,
    min_overlap: Any = 1,
) -> Any:
    """Align all pairs of a layout along all axes, from maximum projections along every axis.

    The projections say which shifts are worth a look; the voxels of the overlap decide.

    Parameters
    ----------
    layout : Layout
    depth : int or list of int
        Planes at the facing sides that are projected along the tiling axis: one for all axes or
        one per axis. Along other axes all planes are that both tiles have.
    max_shifts : int, tuple or list
        Shifts that are tried, voxels; as in `align_2_sources`.
    ranges : tuple or list, optional
        Absolute coordinates (lower, upper) that are used, voxels; one or None per axis.
    clip, background, normalize, min_overlap
        As in `align_2_sources`.
    processes : int, 'serial' or None
        Pairs that are aligned at one time; None = as many as there are cores.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    Layout
        The same one; its alignments have their displacements, and the qualities of the voxels.

    Raises
    ------
    NoOverlapError
        Where a pair overlaps at no shift of the range; names it.
    InputError
        For arguments that cannot be used.
    """
    options = Options.parse(clip, background, normalize, min_overlap)
    bounds = intervals(ranges, layout.ndim) if layout.alignments else ()
    jobs: list[Any] = []
    for task, alignment in zip(_tasks(layout, max_shifts), layout.alignments, strict=True):
        axis = alignment.mip_axis()
        jobs.append((cropped(task, bounds), axis, depth_along(depth, axis)))
    found = measure_all(
        jobs,
        lambda job: measure_projections(job[0], job[1], job[2], options),
        processes=processes,
        verbose=verbose,
    )
    return _update(layout, found)
