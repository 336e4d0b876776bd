"""Alignment of two images at positions, whole or projected: the displacement and its quality.

Where `stitchlib.align` measures the planned pairs of a run, this works for any two readers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib import parallel
from stitchlib.core.boxes import Box, Point
from stitchlib.core.correlate import reachable, score, search
from stitchlib.core.peaks import Measure
from stitchlib.core.shifts import Interval, SearchRange, whole_numbers
from stitchlib.core.signal import Background, Clip, measurable
from stitchlib.errors import InputError, NoOverlapError
from stitchlib.io.images import Reader
from stitchlib.io.views import Cropped, Held, Projected, whole

log = logging.getLogger(__name__)

NO_SIGNAL = -float("inf")
"""Quality where there is nothing to align."""


@dataclass(frozen=True, slots=True)
class Options:
    """How two images are compared."""

    measure: Measure = "ssd"
    """'ssd': quality is −MSE; 'ncc': zero-mean normalised cross-correlation."""
    clip: Clip | None = None
    background: Background | None = None
    min_overlap: Any = 1
    """Least extent of the overlap, voxels: one for all axes, or one per axis."""

    @classmethod
    def parse(cls, clip: Any, background: Any, normalize: bool, min_overlap: Any) -> Options:
        """Return the options that the loose arguments of the documented functions mean."""
        least = min_overlap if np.ndim(min_overlap) == 0 else tuple(min_overlap)
        return cls(
            "ncc" if normalize else "ssd", Clip.parse(clip), Background.parse(background), least
        )

    def least(self, ndim: int) -> Point:
        """Least extent of the overlap per axis."""
        entries = self.min_overlap
        entries = entries if isinstance(entries, tuple) else (entries,) * ndim
        return whole_numbers(entries, "min_overlap", ndim)

    def without(self, axis: int) -> Options:
        """Return the options for images that lack an axis."""
        if not isinstance(self.min_overlap, tuple):
            return self
        least = self.min_overlap[:axis] + self.min_overlap[axis + 1 :]
        return Options(self.measure, self.clip, self.background, least)


@dataclass(frozen=True, slots=True)
class Match:
    """What was found."""

    shift: Point
    """Voxels to add to the position of the second image."""
    quality: float
    """−MSE or NCC; −inf = no signal."""


@dataclass(frozen=True, slots=True)
class Task:
    """Two images at positions, and the shifts of the second one that are tried."""

    name: str
    """Which pair it is, for messages."""
    pre: Reader
    post: Reader
    corner_pre: Point
    """Position of the first image, voxels."""
    corner_post: Point
    shifts: SearchRange
    """Added to ``corner_post``; both ends included."""

    @property
    def nominal(self) -> Point:
        """Displacement of the images as they are."""
        return tuple(b - a for a, b in zip(self.corner_pre, self.corner_post, strict=True))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.corner_pre)

    def common(self, axis: int) -> int:
        """Extent of the overlap along an axis as the images are; not above 0 where none."""
        low = max(self.corner_pre[axis], self.corner_post[axis])
        return (
            min(
                self.corner_pre[axis] + self.pre.shape[axis],
                self.corner_post[axis] + self.post.shape[axis],
            )
            - low
        )


def measure(task: Task, options: Options) -> Match:
    """Find the best shift, reading only what the shifts can reach.

    Raises
    ------
    NoOverlapError
        Where none of them overlaps enough.
    """
    displacements = task.shifts.shifted(task.nominal)
    parts = reachable(task.pre.shape, task.post.shape, displacements)
    if parts[0].empty or parts[1].empty:
        raise NoOverlapError(
            f"{task.name}: images of shapes {tuple(task.pre.shape)} and {tuple(task.post.shape)} "
            f"at {task.corner_pre} and {task.corner_post} overlap at no shift from "
            f"{task.shifts.lower} to {task.shifts.upper}; widen max_shifts or correct the positions"
        )
    pre, post = _voxels(task.pre, parts[0], options), _voxels(task.post, parts[1], options)
    if options.background and not all(map(options.background.signal, (pre, post))):
        return Match((0,) * task.ndim, NO_SIGNAL)
    try:
        peak = search(
            pre,
            post,
            displacements,
            measure=options.measure,
            nominal=task.nominal,
            min_overlap=options.least(task.ndim),
            offset_pre=parts[0].lower,
            offset_post=parts[1].lower,
            shape_pre=task.pre.shape,
            shape_post=task.post.shape,
        )
    except NoOverlapError as error:
        raise NoOverlapError(f"{task.name}: {error}") from None
    shift = tuple(a - b for a, b in zip(peak.displacement, task.nominal, strict=True))
    log.debug("%s: shift %s, quality %g", task.name, shift, peak.quality)
    return Match(shift, peak.quality)


def _voxels(image: Reader, box: Box, options: Options) -> NDArray[Any]:
    voxels = measurable(image.read(box))
    return options.clip.apply(voxels) if options.clip else voxels


def end_planes(task: Task, axis: int, depth: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Last ``depth`` planes of the first image along an axis, and first ones of the second."""
    n = task.pre.shape[axis]
    return (max(0, n - depth), n), (0, min(depth, task.post.shape[axis]))


def facing_planes(task: Task, axis: int, depth: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """``depth`` planes of either image at the faces where they meet, whichever comes first."""
    if task.nominal[axis] >= 0:
        return end_planes(task, axis, depth)
    m = task.post.shape[axis]
    return (0, min(depth, task.pre.shape[axis])), (max(0, m - depth), m)


def common_planes(task: Task, axis: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Planes of either image where they overlap as they are."""
    low = max(task.corner_pre[axis], task.corner_post[axis])
    count = task.common(axis)
    if count < 1:
        raise NoOverlapError(
            f"{task.name}: the images at {task.corner_pre} and {task.corner_post} do not overlap "
            f"along axis {axis}, so they cannot be projected along it; correct the positions"
        )
    first, second = low - task.corner_pre[axis], low - task.corner_post[axis]
    return (first, first + count), (second, second + count)


def projected(task: Task, axis: int, planes: tuple[tuple[int, int], tuple[int, int]]) -> Task:
    """Return the task of the two maximum projections along an axis, which is dropped."""

    def kept(point: Point) -> Point:
        return point[:axis] + point[axis + 1 :]

    return Task(
        task.name,
        Projected(task.pre, axis, planes[0]),
        Projected(task.post, axis, planes[1]),
        kept(task.corner_pre),
        kept(task.corner_post),
        task.shifts.without(axis),
    )


def cropped(task: Task, ranges: Sequence[Interval]) -> Task:
    """Return the task of the images' parts inside absolute coordinates ``ranges``."""
    if all(bound == (None, None) for bound in ranges):
        return task
    parts: list[Box] = []
    for image, corner in ((task.pre, task.corner_pre), (task.post, task.corner_post)):
        box = Box.at(corner, image.shape)
        window = Box(
            tuple(a if r[0] is None else r[0] for a, r in zip(box.lower, ranges, strict=True)),
            tuple(b if r[1] is None else r[1] for b, r in zip(box.upper, ranges, strict=True)),
        )
        part = box.intersection(window)
        if part.empty:
            raise InputError(
                f"{task.name}: no voxel of the image from {box.lower} to {box.upper} is in the "
                f"range {window.lower} to {window.upper}; give a range inside the images"
            )
        parts.append(part)
    return Task(
        task.name,
        Cropped(task.pre, parts[0].relative_to(task.corner_pre)),
        Cropped(task.post, parts[1].relative_to(task.corner_post)),
        parts[0].lower,
        parts[1].lower,
        task.shifts,
    )


def measure_projected(
    task: Task,
    axis: int,
    planes: tuple[tuple[int, int], tuple[int, int]],
    options: Options,
) -> Match:
    """Align the maximum projections along an axis; the shift along it is 0."""
    found = measure(projected(task, axis, planes), options.without(axis))
    return Match((*found.shift[:axis], 0, *found.shift[axis:]), found.quality)


def measure_projections(task: Task, tiling: int, depth: int, options: Options) -> Match:
    """Align along all axes from one projection per axis.

    Every projection gives the shift along the other axes. Whatever they say along an axis is a
    candidate; the combination that agrees best in all voxels of the overlap is taken, and its
    quality is that of the voxels.
    """
    task = _held(task, tiling, depth)
    found = []
    for axis in range(task.ndim):
        tiled = axis == tiling
        planes = facing_planes(task, axis, depth) if tiled else common_planes(task, axis)
        match = measure_projected(task, axis, planes, options)
        if match.quality == NO_SIGNAL:
            return Match((0,) * task.ndim, NO_SIGNAL)
        found.append(match.shift)
    candidates = [
        sorted({shift[axis] for own, shift in enumerate(found) if own != axis})
        for axis in range(task.ndim)
    ]
    tried = [_agreement(task, shift, options) for shift in product(*candidates)]
    tried = [match for match in tried if match is not None]
    if not tried:
        raise NoOverlapError(
            f"{task.name}: no combination of the shifts {candidates} that the projections give "
            f"overlaps by {options.least(task.ndim)} voxels; lower min_overlap or max_shifts"
        )
    return min(
        (match for match in tried if match is not None),
        key=lambda match: (-match.quality, sum(s * s for s in match.shift), match.shift),
    )


def _held(task: Task, tiling: int, depth: int) -> Task:
    """Return the task with everything that its projections and shifts need read, once."""
    reached = reachable(task.pre.shape, task.post.shape, task.shifts.shifted(task.nominal))
    planes = [
        facing_planes(task, axis, depth) if axis == tiling else common_planes(task, axis)
        for axis in range(task.ndim)
    ]
    images = []
    for side, (image, box) in enumerate(zip((task.pre, task.post), reached, strict=True)):
        lower, upper = list(box.lower), list(box.upper)
        for axis, ranges in enumerate(planes):
            lower[axis] = min(lower[axis], ranges[side][0])
            upper[axis] = max(upper[axis], ranges[side][1])
        images.append(Held.of(image, Box(tuple(lower), tuple(upper))))
    return replace(task, pre=images[0], post=images[1])


def _agreement(task: Task, shift: Point, options: Options) -> Match | None:
    """Quality of one shift in all voxels of the overlap; None where it is too small."""
    moved = tuple(p + s for p, s in zip(task.corner_post, shift, strict=True))
    box = Box.at(task.corner_pre, task.pre.shape).intersection(Box.at(moved, task.post.shape))
    if any(n < least for n, least in zip(box.shape, options.least(task.ndim), strict=True)):
        return None
    if box.empty:
        return None
    pre = _voxels(task.pre, box.relative_to(task.corner_pre), options)
    post = _voxels(task.post, box.relative_to(moved), options)
    return Match(shift, score(pre, post, options.measure))


def measure_all(
    tasks: Sequence[Any],
    function: Callable[[Any], Match],
    *,
    processes: Any,
    verbose: bool,
) -> list[Match]:
    """Measure many pairs, each by one call; the results do not depend on ``processes``."""
    return parallel.run(
        function, tasks, processes=processes, verbose=verbose, title="aligning pairs"
    )


def voxels_of(image: Reader) -> NDArray[Any]:
    """Read a whole image."""
    return image.read(whole(image))
