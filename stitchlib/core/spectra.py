"""What a search compares, and its cross-correlation: every displacement of a range at once [1]_.

.. [1] Anuta, P. E. (1970). Spatial registration of multispectral and multitemporal digital
   imagery using fast Fourier transform techniques. IEEE Trans. Geosci. Electron. 8, 353-368.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point
from stitchlib.core.peaks import Image, slabs
from stitchlib.core.shifts import SearchRange
from stitchlib.errors import InputError, NoOverlapError

_SPECTRA_BYTES = 256 << 20
"""Spectra above this are made in several passes, each for a part of the frequencies."""
_MAX_PASSES = 8
_COLUMN_VOXELS = 1 << 15
"""Complex numbers transformed along the first axis at a time."""

Floats = NDArray[np.float64]


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
        """FFT lengths: just so long that no lag of the range is reached by a wrapped one."""
        least = [
            max(n - a, m + b)
            for n, m, a, b in zip(self.extent_a, self.extent_b, self.lower, self.upper, strict=True)
        ]
        return tuple(scipy.fft.next_fast_len(n, real=i == 2) for i, n in enumerate(least))

    @property
    def columns(self) -> int:
        """Columns along the first axis that are transformed at a time."""
        return max(8, _COLUMN_VOXELS // self.lengths[0])

    @property
    def shape(self) -> Point:
        """Number of lags, three axes."""
        return tuple(b - a + 1 for a, b in zip(self.lower, self.upper, strict=True))

    def parts(self, item: int) -> list[slice]:
        """Frequencies of each pass if a complex number takes ``item`` bytes."""
        half = self.lengths[2] // 2 + 1
        total = (self.extent_a[0] + self.extent_b[0]) * self.lengths[1] * half * item
        limit = _SPECTRA_BYTES if item == 8 else min(_SPECTRA_BYTES, max(1, total // 2))
        passes = min(half, _MAX_PASSES * item // 8, -(-total // limit))
        edges = [half * i // passes for i in range(passes + 1)]
        return [slice(a, b) for a, b in itertools.pairwise(edges)]

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


def _spectrum(image: Image, lengths: Point, part: slice, real: type) -> NDArray[Any]:
    """Transform the two last axes: complex array of shape (planes, columns)."""
    planes = image.data.shape[0]
    width = part.stop - part.start
    kind = np.complex64 if real is np.float32 else np.complex128
    found = np.empty((planes, lengths[1], width), kind)
    for rows in slabs(image.data.shape):
        values: NDArray[Any] = image.centred(rows).astype(real, copy=False)
        half = scipy.fft.rfft(values, lengths[2], axis=2)[:, :, part]
        del values
        found[rows] = scipy.fft.fft(half, lengths[1], axis=1) if lengths[1] > 1 else half
        del half
    return found.reshape(planes, -1)


def correlation(a: Image, b: Image, plan: Plan, real: type) -> tuple[Floats, float]:
    """Cross-correlate over all lags of a plan.

    Returns
    -------
    ndarray of float64, shape plan.shape
        Sum of a[p + lag] b[p].
    float
        Sum over all lags of the product of both autocorrelations: the variance that the
        cross-correlation of independent images with these spectra would have.
    """
    lengths, lags = plan.lengths, plan.shape
    item = 8 if real is np.float32 else 16
    kind = np.complex64 if item == 8 else np.complex128
    wrapped = [
        np.arange(low, high + 1) % n
        for low, high, n in zip(plan.lower, plan.upper, lengths, strict=True)
    ]
    half = np.empty((lags[0], lags[1], lengths[2] // 2 + 1), kind)
    power = 0.0
    for part in plan.parts(item):
        width = part.stop - part.start
        left, right = (_spectrum(image, lengths, part, real) for image in (a, b))
        lagged = np.empty((lags[0], left.shape[1]), kind)
        for start in range(0, left.shape[1], plan.columns):
            columns = slice(start, start + plan.columns)
            product = scipy.fft.fft(right[:, columns], lengths[0], axis=0)
            np.conjugate(product, out=product)
            product *= scipy.fft.fft(left[:, columns], lengths[0], axis=0)
            power += float(np.vdot(product, product).real)
            lagged[:, columns] = scipy.fft.ifft(product, axis=0, overwrite_x=True)[wrapped[0]]
        del left, right
        folded = lagged.reshape(lags[0], lengths[1], width)
        del lagged
        half[:, :, part] = scipy.fft.ifft(folded, axis=1, overwrite_x=True)[:, wrapped[1]]
        del folded
    found = scipy.fft.irfft(half, lengths[2], axis=2)[:, :, wrapped[2]]
    # The last axis holds half of the frequencies: each stands for two, but for the mean.
    # Half of the frequencies stand for all, so each counts twice.
    twice = 2 if lengths[2] > 1 else 1
    return found.astype(np.float64), twice * power / math.prod(lengths)


def fft_error(plan: Plan, real: type) -> float:
    """Bound of the error of a correlation, relative to the product of the two-norms.

    Every factor of two of a transform multiplies the two-norm error by at most about 1 + 7 u, u
    half an epsilon (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 24.1);
    there are three transforms; rounding the input and the product adds a few u. By
    Cauchy-Schwarz no single lag is further off than that times both norms.
    """
    stages = math.log2(math.prod(plan.lengths)) + 3
    return float(np.finfo(real).eps) * (10.5 * stages + 8)
