"""Exact search of the integer displacement at which two images agree best.

One float32 cross-correlation gives every displacement at once [1]_, exact box sums normalise it
[2]_, and whatever could still be the best within a bound of the rounding errors is evaluated
again exactly, so that the result equals that of trying every displacement.

.. [1] Anuta, P. E. (1970). Spatial registration of multispectral and multitemporal digital
   imagery using fast Fourier transform techniques. IEEE Trans. Geosci. Electron. 8, 353-368.
.. [2] Lewis, J. P. (1995). Fast normalized cross-correlation. Vision Interface, 120-123.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point
from stitchlib.core.peaks import (
    SLAB_VOXELS,
    Image,
    Measure,
    Moments,
    Peak,
    centred_images,
    judge,
    moments,
    product,
    score,
    slabs,
    smoothness,
)
from stitchlib.core.shifts import SearchRange
from stitchlib.errors import InputError, NoOverlapError

__all__ = ["Peak", "SearchRange", "bytes_needed", "reachable", "score", "search"]

_FEW = 32
"""Up to this many candidates are evaluated one by one at once."""
_SPECTRA_BYTES = 256 << 20
"""Spectra above this are made in several passes, each for a part of the frequencies."""
_MAX_PASSES = 8
_COLUMN_VOXELS = 1 << 15
"""Complex numbers transformed along the first axis at a time."""
_EPS = float(np.finfo(np.float64).eps)

Floats = NDArray[np.float64]
Index = tuple[int, ...]


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
        possible = _feasible(tuple(shape_pre), tuple(shape_post), search, ones)
    except NoOverlapError:
        nothing = (0,) * len(search.lower)
        return Box(nothing, nothing), Box(nothing, nothing)
    return _compared(tuple(shape_pre), tuple(shape_post), possible)


def _compared(pre: Point, post: Point, possible: SearchRange) -> tuple[Box, Box]:
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


def _feasible(pre: Point, post: Point, search: SearchRange, least: Point) -> SearchRange:
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
class _Plan:
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


def _plan(pre: Point, post: Point, possible: SearchRange, axes: tuple[int, ...]) -> _Plan:
    box_a, box_b = _compared(pre, post, possible)
    origin = tuple(a - b for a, b in zip(box_a.lower, box_b.lower, strict=True))
    empty = _Plan(axes, origin, (1,) * 3, (1,) * 3, (0,) * 3, (0,) * 3)

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


# --- cross-correlation --------------------------------------------------------------------------


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


def _correlation(a: Image, b: Image, plan: _Plan, real: type) -> tuple[Floats, float]:
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


def _fft_error(plan: _Plan, real: type) -> float:
    """Bound of the error of a correlation, relative to the product of the two-norms.

    Every factor of two of a transform multiplies the two-norm error by at most about 1 + 7 u, u
    half an epsilon (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 24.1);
    there are three transforms; rounding the input and the product adds a few u. By
    Cauchy-Schwarz no single lag is further off than that times both norms.
    """
    stages = math.log2(math.prod(plan.lengths)) + 3
    return float(np.finfo(real).eps) * (10.5 * stages + 8)


# --- window sums --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Sums over the window of every lag in one image, shape of the lags."""

    plain: NDArray[Any]
    squares: NDArray[Any]
    norm2: float
    """Sum of squares of the whole image."""
    error_plain: float
    """Bound of the error of ``plain``; 0 where integer."""
    error_squares: float
    """Bound of the error of ``squares``; 0 where integer."""


def _sums(image: Image, windows: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> _Sums:
    """Sum values and squares over all windows, in int64 wherever that cannot overflow."""
    edges = [np.unique(np.concatenate(pair)) for pair in windows]
    reach = _reach(image)
    exact = image.exact and reach * reach * image.data.size < 2**62
    whole: Any = np.int64 if image.exact else np.float64
    square: Any = np.int64 if exact else np.float64
    bins = tuple(len(e) - 1 for e in edges)
    plain, squares = np.zeros(bins, whole), np.zeros(bins, square)
    owner = np.searchsorted(edges[0], np.arange(image.data.shape[0]), side="right") - 1
    for rows in slabs(image.data.shape):
        values = image.centred(rows)
        added = _binned(values, edges, whole)
        # A centred 16-bit value is below 2¹⁶: its square is right as an unsigned 32-bit number.
        second = (
            (values * values).view(np.uint32)
            if image.narrow
            else np.multiply(values, values, dtype=square)
        )
        added2 = _binned(second, edges, square)
        for i, plane in enumerate(owner[rows]):
            plain[plane] += added[i]
            squares[plane] += added2[i]
    norm2 = float(squares.sum(dtype=np.float64))
    loose = _EPS * (64 + 4 * sum(bins))
    return _Sums(
        _windowed(plain, edges, windows),
        _windowed(squares, edges, windows),
        norm2,
        0.0 if image.exact else loose * math.sqrt(norm2 * image.data.size),
        0.0 if exact else loose * norm2,
    )


def _reach(image: Image) -> int:
    """Return a bound of the centred magnitude of integer pixels."""
    if not image.exact:
        return 1
    if image.narrow:
        return 1 << 16
    return max(
        abs(int(image.data.max()) - int(image.centre)),
        abs(int(image.data.min()) - int(image.centre)),
    )


def _binned(values: NDArray[Any], edges: list[NDArray[np.int64]], kind: Any) -> NDArray[Any]:
    """Sum planes (s, n1, n2) between the edges of the two last axes."""
    # Axis 1 first: it adds whole rows, twice as fast as adding within rows.
    rows = np.add.reduceat(values, edges[1][:-1], axis=1, dtype=kind)
    return np.asarray(np.add.reduceat(rows, edges[2][:-1], axis=2))


def _windowed(
    bins: NDArray[Any],
    edges: list[NDArray[np.int64]],
    windows: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> NDArray[Any]:
    """Sum bins over windows that start and end at edges, axis by axis."""
    for axis, (edge, (start, stop)) in enumerate(zip(edges, windows, strict=True)):
        shape = list(bins.shape)
        shape[axis] = len(edge)
        running = np.zeros(shape, bins.dtype)
        after = (slice(None),) * axis + (slice(1, None),)
        np.cumsum(bins, axis=axis, out=running[after])
        bins = running.take(np.searchsorted(edge, stop), axis=axis)
        bins -= running.take(np.searchsorted(edge, start), axis=axis)
    return bins


def _constant(image: Image, windows: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Any:
    """Whether the window of each lag is constant, from counts of steps between neighbours."""
    constant: Any = True
    extents: Point = image.data.shape
    for axis in range(3):
        steps = np.zeros(extents, np.uint8)
        after = (slice(None),) * axis
        steps[(*after, slice(1, None))] = (
            image.data[(*after, slice(1, None))] != image.data[(*after, slice(None, -1))]
        )
        inner = list(windows)
        start, stop = windows[axis]
        # The first voxel of a window has its step outside; a window of one voxel has none.
        inner[axis] = (np.minimum(start + 1, stop), stop)
        edges = [
            np.unique(np.concatenate((*pair, [0, n])))
            for pair, n in zip(inner, extents, strict=True)
        ]
        bins = np.add.reduceat(steps, edges[0][:-1], axis=0, dtype=np.int64)
        constant = constant & (_windowed(_binned(bins, edges, np.int64), edges, inner) == 0)
    return constant


# --- all displacements --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """Similarity of every lag but for the correlation itself."""

    n: NDArray[np.int64]
    a: _Sums
    b: _Sums
    spread: Floats
    """n² times both standard deviations; 0 where a side is constant, NaN where unknown."""
    loose: Floats
    """Bound of the relative error of ``spread``."""
    offset: float
    """Constant to add to a - b, in the units of the pixels."""

    @property
    def exact(self) -> bool:
        """Whether all sums are integers."""
        return bool(self.a.squares.dtype == np.int64 == self.b.squares.dtype)

    def values(self, measure: Measure, c: Floats, error: float) -> tuple[Floats, Floats]:
        """Similarity of each lag and a bound of its error, given the correlation ``c``."""
        return self._ncc(c, error) if measure == "ncc" else self._ssd(c, error)

    def _ncc(self, c: Floats, error: float) -> tuple[Floats, Floats]:
        n = self.n.astype(np.float64)
        left, right = self.a.plain.astype(np.float64), self.b.plain.astype(np.float64)
        known = self.spread > 0
        divisor = np.where(known, self.spread, 1.0)
        value = np.where(known, (n * c - left * right) / divisor, 0.0)
        slack = n * error + 4 * _EPS * (np.abs(n * c) + np.abs(left * right))
        slack += np.abs(left) * self.b.error_plain + np.abs(right) * self.a.error_plain
        bound = slack / divisor + np.abs(value) * self.loose + 4 * _EPS
        bound = np.where(known, bound, np.where(np.isnan(self.spread), 2.0, 0.0))
        return value, bound

    def _ssd(self, c: Floats, error: float) -> tuple[Floats, Floats]:
        squares = self.a.squares.astype(np.float64) + self.b.squares
        cross = 2 * self.offset * (self.a.plain.astype(np.float64) - self.b.plain)
        n = self.n.astype(np.float64)
        value = -((squares - 2 * c + cross) / n + self.offset * self.offset)
        terms = squares + 2 * np.abs(c) + np.abs(cross)
        fixed = 2 * error + self.a.error_squares + self.b.error_squares
        fixed += 2 * abs(self.offset) * (self.a.error_plain + self.b.error_plain)
        bound = (fixed + 8 * _EPS * terms) / n + 8 * _EPS * self.offset * self.offset
        # Without any contrast there is nothing to round.
        return value, np.where((terms > 0) | (fixed > 0), bound, 0.0)


def _surface(a: Image, b: Image, plan: _Plan) -> _Surface:
    windows = plan.lag_windows()
    in_a = [(w[0], w[1]) for w in windows]
    in_b = [(w[2], w[3]) for w in windows]
    extents = [w[1] - w[0] for w in windows]
    n: Any = extents[0][:, None, None] * extents[1][:, None] * extents[2]
    sums_a, sums_b = _sums(a, in_a), _sums(b, in_b)
    spread, loose = np.ones(n.shape), np.zeros(n.shape)
    for image, sums, where in ((a, sums_a, in_a), (b, sums_b, in_b)):
        square, error = _spread(n, sums)
        unknown = square <= error
        if sums.error_squares and unknown.any():
            square = np.where(unknown, np.where(_constant(image, where), 0.0, np.nan), square)
            error = np.where(unknown, 0.0, error)
        safe = np.where(square > 0, square, 1.0)
        loose += error / safe
        spread *= np.sqrt(square)
    offset = (a.centre - b.centre) / a.scale
    return _Surface(n, sums_a, sums_b, spread, loose, offset)


def _spread(n: NDArray[np.int64], sums: _Sums) -> tuple[Floats, Floats]:
    """n² times the variance of every window, and a bound of its error.

    Both terms may exceed 64 bits. Modulo 2⁶⁴ their difference is exact all the same, and a small
    difference, the one that rounding would spoil, is that remainder itself.
    """
    plain, squares = sums.plain.astype(np.float64), sums.squares.astype(np.float64)
    both = n * squares
    rounded = np.maximum(both - plain * plain, 0.0)
    error = 4 * _EPS * both
    if sums.squares.dtype != np.float64:
        remainder = (n * sums.squares - sums.plain * sums.plain).astype(np.float64)
        small = rounded + error < 2.0**62
        return np.where(small, remainder, rounded), np.where(small, 0.0, error)
    error += n * sums.error_squares
    error += (2 * np.abs(plain) + sums.error_plain) * sums.error_plain
    return rounded, error


# --- search -------------------------------------------------------------------------------------


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
    possible = _feasible(whole_pre, whole_post, search, min_overlap)
    axes = tuple(int(i) for i in np.argsort([-abs(s) for s in pre.strides], kind="stable"))
    plan = _plan(whole_pre, whole_post, possible, axes)
    boxes = _compared(whole_pre, whole_post, possible)
    a, b = centred_images(
        _part(pre, boxes[0], offset_pre, plan, "pre"),
        _part(post, boxes[1], offset_post, plan, "post"),
        measure,
    )
    surface = _surface(a, b, plan)
    c, power = _correlation(a, b, plan, np.float32)
    index, sums = _best(a, b, plan, surface, c, _Rule(measure, nominal))
    ncc, _ = surface.values("ncc", c, 0.0)
    norms2 = surface.a.norm2 * surface.b.norm2
    error, confidence = judge(
        np.clip(np.nan_to_num(ncc), -1, 1),
        index,
        overlap=sums.n,
        height=float(sums.quality("ncc")),
        volume=max(1.0, power / norms2) if norms2 else math.inf,
        smooth=smoothness(a, b),
    )
    ordered = [0.0] * len(axes)
    for slot, axis in zip(plan.slots, axes, strict=True):
        ordered[axis] = error[slot]
    quality = sums.quality(measure, a.scale)
    return Peak(plan.displacement(index), quality, sums.n, tuple(ordered), confidence)


def _part(
    image: NDArray[Any], box: Box, offset: Point | None, plan: _Plan, name: str
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


@dataclass(frozen=True, slots=True)
class _Rule:
    """What is best, and which of several that are equally good."""

    measure: Measure
    nominal: Point

    def nearest(self, among: NDArray[np.bool_], plan: _Plan) -> Index:
        """Return the index of the displacement nearest to nominal, then the smallest."""
        rows = np.argwhere(among)
        slots = [plan.slots[plan.axes.index(axis)] for axis in range(len(plan.axes))]
        first = np.array(plan.displacement((0, 0, 0)))
        found = rows[:, slots] + first
        distance = ((found - np.array(self.nominal)) ** 2).sum(axis=1)
        order = np.lexsort((*found.T[::-1], distance))
        return tuple(int(i) for i in rows[order[0]])


def _best(
    a: Image, b: Image, plan: _Plan, surface: _Surface, c: Floats, rule: _Rule
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
    a: Image, b: Image, plan: _Plan, surface: _Surface, c: Floats, measure: Measure
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Floats | None]:
    """Lags that may be the best: uncertain ones, certain ones, and the exact correlation if made.

    Many are narrowed down by a correlation in float64; that of integers is itself an integer, so
    that one with an error below a half is exact once rounded.
    """
    norms = math.sqrt(surface.a.norm2) * math.sqrt(surface.b.norm2)
    value, bound = surface.values(measure, c, _fft_error(plan, np.float32) * norms)
    chosen = _candidates(value, bound, measure)
    whole: Floats | None = None
    if np.count_nonzero(chosen & (bound > 0)) > _FEW:
        fine, _ = _correlation(a, b, plan, np.float64)
        error = _fft_error(plan, np.float64) * norms
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
    a: Image, b: Image, plan: _Plan, surface: _Surface, index: Index, whole: Floats | None
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
        possible = _feasible(tuple(shape_pre), tuple(shape_post), search, ones)
    except NoOverlapError:
        return 0
    axes = tuple(range(len(ones)))
    plans = (
        _plan(tuple(shape_pre), tuple(shape_post), possible, order) for order in (axes, axes[::-1])
    )
    return max(_bytes(plan, itemsize) for plan in plans)


def _bytes(plan: _Plan, itemsize: int) -> int:
    """Peak of the three stages of a search: transforms, surface, single displacements."""
    lengths, lags = plan.lengths, plan.shape
    half = lengths[2] // 2 + 1
    shapes = (plan.extent_a, plan.extent_b)
    # A float64 pass holds half of the frequencies at a time, so it needs what float32 needs.
    width = max(item * (part.stop - part.start) for item in (8, 16) for part in plan.parts(item))
    spectra = (plan.extent_a[0] + plan.extent_b[0] + lags[0]) * lengths[1] * width
    slab = 0
    for shape in shapes:
        rows = min(shape[0], max(1, SLAB_VOXELS // (shape[1] * shape[2])))
        values = rows * shape[1] * shape[2] * (4 + max(4, itemsize))
        slab = max(slab, values + rows * (shape[1] + 2 * lengths[1]) * half * 16)
    columns = min(plan.columns, lengths[1] * half) * lengths[0] * 16 * 4
    folded = lags[0] * lags[1] * half * 16
    single = min(SLAB_VOXELS, max(math.prod(shape) for shape in shapes)) * 48
    surface = math.prod(lags) * 8
    stages = (
        spectra + max(slab, columns) + folded + 8 * surface,
        2 * folded + lags[0] * lags[1] * lengths[2] * 8 + 24 * surface,
        single + 24 * surface,
    )
    return int(max(stages) * 1.05) + (1 << 16)
