"""Exact similarity of two equal regions, and what the best displacement of a search is worth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.errors import InputError

Measure = Literal["ncc", "ssd"]
"""``"ncc"``: zero-mean normalised cross-correlation; ``"ssd"``: mean squared difference."""

SLAB_VOXELS = 1 << 17
"""Voxels worked on at a time: temporaries that stay in the cache of a core."""
_DOT_VOXELS = 1 << 20
"""At most this many products below 2³² add up in float64 without rounding (2⁵³)."""
_LIMIT = 1e150
"""Largest magnitude of float data: its square is still a float64."""
_TIE = 1e-12
"""Relative difference below which two float64 similarities differ by rounding only."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The best displacement of a search, and how far to trust it."""

    displacement: Point
    """Post corner minus pre corner, voxels."""
    quality: float
    """NCC in [-1, 1], or minus the mean squared difference in squared intensity units."""
    overlap: int
    """Voxels compared at that displacement."""
    error: tuple[float, ...]
    """Standard error per axis, voxels; infinite where it cannot be told."""
    confidence: float
    """Probability (0 to 1) that the displacement is right within one voxel; provisional."""


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """Read-only pixels with the constants that make their arithmetic safe."""

    data: NDArray[Any]
    """Pixels, any number of axes; a view of the caller's array, never written."""
    centre: float
    """Value near the mean, taken off before any product; a whole number for integer data."""
    scale: float
    """Power of two that float data are divided by; 1 for integer data."""

    @property
    def exact(self) -> bool:
        """Whether the pixels are integers."""
        return self.data.dtype.kind != "f"

    @property
    def narrow(self) -> bool:
        """Whether the pixels are integers of at most 16 bits: centred squares fit 32 bits."""
        return self.exact and self.data.dtype.itemsize <= 2

    def centred(self, index: Any) -> NDArray[Any]:
        """Return ``(data[index] - centre) / scale`` as int32, int64 or float64."""
        part = self.data[index]
        if self.exact:
            kind = np.int32 if self.narrow else np.int64
            return np.asarray(np.subtract(part, kind(self.centre), dtype=kind))
        values: NDArray[Any] = part.astype(np.float64)
        values -= self.centre
        values *= 1 / self.scale
        return values


def centred_images(pre: NDArray[Any], post: NDArray[Any], measure: Measure) -> tuple[Image, Image]:
    """Wrap two images; float data get one common scale for ``"ssd"``, one each for ``"ncc"``.

    Raises
    ------
    InputError
        Data that are neither floats nor integers of at most 32 bits, or that are not finite.
    """
    if measure not in ("ncc", "ssd"):
        raise InputError(f"unknown measure {measure!r}; use 'ncc' or 'ssd'.")
    if (pre.dtype.kind == "f") != (post.dtype.kind == "f"):
        # A mixed pair is float data; integers of up to 32 bits are exact in float64.
        if pre.dtype.kind == "f":
            post = post.astype(np.float64)
        else:
            pre = pre.astype(np.float64)
    first, second = _centred(pre, "pre"), _centred(post, "post")
    if measure == "ssd":
        common = max(first.scale, second.scale)
        return Image(pre, first.centre, common), Image(post, second.centre, common)
    return first, second


def _centred(data: NDArray[Any], name: str) -> Image:
    kind, size = data.dtype.kind, data.dtype.itemsize
    if kind not in "iuf" or (kind in "iu" and size > 4):
        raise InputError(
            f"{name} image has data type {data.dtype}; convert it to integers of at most 32 bits "
            f"or to floats."
        )
    if kind in "iu":
        total = sum(int(data[rows].sum(dtype=np.int64)) for rows in slabs(data.shape, 1 << 30))
        return Image(data, total // max(1, data.size), 1.0)
    low, high = float(data.min()), float(data.max())
    if not (abs(low) <= _LIMIT and abs(high) <= _LIMIT):
        raise InputError(
            f"{name} image has values from {low} to {high}: NaN, infinite or beyond {_LIMIT:g}; "
            f"replace them before alignment."
        )
    centre = float(data.mean(dtype=np.float64)) if low < high else low
    reach = max(high - centre, centre - low)
    return Image(data, centre, 2.0 ** math.frexp(reach)[1] if reach > 0 else 1.0)


def slabs(shape: Point, voxels: int = SLAB_VOXELS) -> Iterator[slice]:
    """Yield slices of the first axis of an array of ``shape``, about ``voxels`` each."""
    rows = max(1, voxels // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over the compared voxels of two regions a and b; Python integers where exact."""

    n: int
    a: float
    b: float
    aa: float
    bb: float
    ab: float
    offset: float = 0
    """Constant to add to a - b: the difference of the two centres."""
    flat: bool = False
    """Whether a float region is known to be constant."""

    def key(self, measure: Measure) -> Fraction | float:
        """Return a number that orders displacements as the similarity does, exact for integers.

        For integer data and ``"ncc"`` this is the signed square of the NCC.
        """
        if measure == "ssd":
            total = self.aa + self.bb - 2 * self.ab + 2 * self.offset * (self.a - self.b)
            if isinstance(total, int):
                return -Fraction(total, self.n) - Fraction(self.offset) ** 2
            return -max(0.0, total / self.n + self.offset * self.offset)
        cross = self.n * self.ab - self.a * self.b
        spread_a = self.n * self.aa - self.a * self.a
        spread_b = self.n * self.bb - self.b * self.b
        if self.flat or spread_a <= 0 or spread_b <= 0:
            return Fraction(0)
        if isinstance(cross, int):
            return Fraction(cross * abs(cross), 1) / Fraction(spread_a * spread_b)
        return max(-1.0, min(1.0, cross / (math.sqrt(spread_a) * math.sqrt(spread_b))))

    def quality(self, measure: Measure, scale: float = 1.0) -> float:
        """Return the NCC, or minus the mean squared difference in squared intensity units."""
        key = self.key(measure)
        if measure == "ssd":
            return float(key) * scale * scale
        if isinstance(key, float):
            return key
        return math.copysign(math.sqrt(abs(key)), key)

    def tolerance(self, measure: Measure) -> float:
        """Difference of keys that is rounding only; 0 for integers."""
        if isinstance(self.ab, int):
            return 0.0
        return _TIE if measure == "ncc" else _TIE * (self.aa + self.bb) / self.n


def moments(a: Image, b: Image, part_a: tuple[slice, ...], part_b: tuple[slice, ...]) -> Moments:
    """Return the sums over two equal-shaped regions: exact for integers, else in float64.

    Float data are centred once more on the means of the regions themselves (two passes), which
    keeps the variance of a region that lies far from the mean of its image.
    """
    shape = tuple(s.stop - s.start for s in part_a)
    n = math.prod(shape)
    exact = a.exact and b.exact
    mean_a = mean_b = 0.0
    flat = False
    if not exact:
        means, flats = zip(
            *(_mean(image, part) for image, part in ((a, part_a), (b, part_b))), strict=True
        )
        (mean_a, mean_b), flat = means, any(flats)
    sums: list[Any] = [0, 0, 0, 0, 0]
    for rows in slabs(shape):
        x = _flat(a, part_a, rows, mean_a)
        y = _flat(b, part_b, rows, mean_b)
        total = np.float64 if not exact else np.int64
        added = (x.sum(dtype=total), y.sum(dtype=total), _dot(x, x), _dot(y, y), _dot(x, y))
        sums = [
            s + v.item() if isinstance(v, np.generic) else s + v
            for s, v in zip(sums, added, strict=True)
        ]
    offset = (a.centre - b.centre) / a.scale + (mean_a - mean_b)
    s, t, ss, tt, st = sums
    return Moments(n, s, t, ss, tt, st, int(offset) if exact else offset, flat)


def product(a: Image, b: Image, part_a: tuple[slice, ...], part_b: tuple[slice, ...]) -> int:
    """Return the exact sum of products of two equal-shaped regions of integer images."""
    shape = tuple(s.stop - s.start for s in part_a)
    pairs = ((_flat(a, part_a, rows, 0), _flat(b, part_b, rows, 0)) for rows in slabs(shape))
    return sum(int(_dot(x, y)) for x, y in pairs)


def _mean(image: Image, part: tuple[slice, ...]) -> tuple[float, bool]:
    """Return the mean of a region of float data in centred units, and whether it is constant."""
    region = image.data[part]
    low, high = float(region.min()), float(region.max())
    mean = low if low == high else float(region.mean(dtype=np.float64))
    return (mean - image.centre) / image.scale, low == high


def _flat(image: Image, part: tuple[slice, ...], rows: slice, mean: float) -> NDArray[Any]:
    first = slice(part[0].start + rows.start, part[0].start + rows.stop)
    values = image.centred((first, *part[1:])).reshape(-1)
    if mean:
        values -= mean
    return values


def _dot(x: NDArray[Any], y: NDArray[Any]) -> int | float:
    """Return the sum of products, without rounding for integers below 2³² in magnitude.

    int64 products of 32-bit data overflow, so these are split into 16-bit digits; sums of up to
    2²⁰ products of 16-bit digits are exact in float64, where BLAS is fast.
    """
    if x.dtype.kind == "f":
        return float(np.dot(x, y))
    if x.dtype == np.int64:
        low_x, low_y = (x & 0xFFFF).astype(np.int32), (y.astype(np.int64) & 0xFFFF).astype(np.int32)
        high_x, high_y = (x >> 16).astype(np.int32), (y >> 16).astype(np.int32)
        mixed = _dot(high_x, low_y) + _dot(low_x, high_y)
        return (int(_dot(high_x, high_y)) << 32) + (int(mixed) << 16) + int(_dot(low_x, low_y))
    if y.dtype == np.int64:
        return _dot(y, x)
    total = 0
    for start in range(0, x.size, _DOT_VOXELS):
        part = slice(start, start + _DOT_VOXELS)
        total += int(np.dot(x[part].astype(np.float64), y[part].astype(np.float64)))
    return total


def score(pre_region: NDArray[Any], post_region: NDArray[Any], measure: Measure) -> float:
    """Similarity of two equal-shaped regions.

    Parameters
    ----------
    pre_region, post_region : ndarray, shape (x[, y[, z]])
        Integers of at most 32 bits, or floats.
    measure : {"ncc", "ssd"}
        What to compute.

    Returns
    -------
    float
        Zero-mean NCC in [-1, 1] (0 where a side is constant), or minus the mean squared
        difference in squared intensity units; from exact integer sums, or in float64.

    Raises
    ------
    InputError
        Regions of different or no extent, or data that cannot be compared.
    """
    if pre_region.shape != post_region.shape or pre_region.size == 0:
        raise InputError(
            f"regions of shapes {pre_region.shape} and {post_region.shape} cannot be compared; "
            f"cut them to their common voxels."
        )
    a, b = centred_images(np.atleast_1d(pre_region), np.atleast_1d(post_region), measure)
    part = tuple(slice(0, n) for n in a.data.shape)
    return moments(a, b, part, part).quality(measure, a.scale)


_SAMPLE_VOXELS = 1 << 17
_SUSPICION = 100.0
"""Weight of a chance match against a true one, per displacement."""
_LIKENESS = 0.02
"""Relative difference of NCC that distortion or shading alone may make."""
_BORDER = 0.85
"""Factor for a peak on the border of its range: the truth may lie outside."""


def smoothness(a: Image, b: Image) -> tuple[float, ...]:
    """Autocorrelation at a shift of one voxel per axis, mean of two images, from a central block.

    Returns
    -------
    tuple of float
        0 for white noise, towards 1 for smooth images; 1 where an axis has one voxel only.
    """
    found = np.zeros(a.data.ndim)
    for image in (a, b):
        values = image.centred(_central(image.data.shape)).astype(np.float64)
        values -= values.mean()
        total = float(np.vdot(values, values))
        for axis, extent in enumerate(values.shape):
            if extent < 2 or total == 0:
                found[axis] += 0.5
                continue
            ahead = values[(slice(None),) * axis + (slice(1, None),)]
            behind = values[(slice(None),) * axis + (slice(None, -1),)]
            product = float(np.einsum("ijk,ijk->", ahead, behind))
            found[axis] += 0.5 * product / total * extent / (extent - 1)
    return tuple(float(v) for v in found)


def _central(shape: Point) -> tuple[slice, ...]:
    """Return a central block of at most 2¹⁷ voxels, long axes cut first."""
    extents = list(shape)
    while math.prod(extents) > _SAMPLE_VOXELS:
        longest = extents.index(max(extents))
        extents[longest] = (extents[longest] + 1) // 2
    return tuple(slice((n - e) // 2, (n - e) // 2 + e) for n, e in zip(shape, extents, strict=True))


def judge(
    ncc: NDArray[np.float64],
    index: tuple[int, ...],
    *,
    overlap: int,
    height: float,
    volume: float,
    smooth: tuple[float, ...],
) -> tuple[tuple[float, ...], float]:
    """Judge a peak: its standard errors and its confidence.

    Parameters
    ----------
    ncc : ndarray of float64, three axes
        NCC of every displacement searched.
    index : tuple of int
        The chosen one.
    overlap : int
        Voxels compared there.
    height : float
        NCC there.
    volume : float
        Correlation volume of both images together, voxels (sum of the product of their
        autocorrelations, normalised).
    smooth : tuple of float
        Autocorrelation of the images at a shift of one voxel, per axis.

    Returns
    -------
    tuple of float
        Standard error per axis, voxels.
    float
        Confidence, see `_confidence`.
    """
    if not height > 0:
        return (math.inf,) * ncc.ndim, 0.0
    voxels = overlap / _noise_volume(ncc, index, height, smooth)
    widths = tuple(_half_width(ncc, index, axis, height) for axis in range(ncc.ndim))
    error = tuple(
        _standard_error(_beside(ncc, index, axis, width), width, height, voxels)
        for axis, width in enumerate(widths)
    )
    rival = _rival(ncc, index, widths)
    confidence = _confidence(height, rival, ncc.size, overlap / volume, voxels)
    for axis, deviation in enumerate(error):
        if ncc.shape[axis] > 1:
            confidence *= math.erf(1.5 / (math.sqrt(2) * max(deviation, 1e-9)))
            confidence *= _BORDER if index[axis] in (0, ncc.shape[axis] - 1) else 1.0
    return error, confidence


def _beside(
    ncc: NDArray[np.float64], index: tuple[int, ...], axis: int, step: int = 1
) -> list[float]:
    """NCC ``step`` voxels to either side along one axis, where searched."""
    sides = (index[axis] - step, index[axis] + step)
    return [
        float(ncc[(*index[:axis], at, *index[axis + 1 :])])
        for at in sides
        if 0 <= at < ncc.shape[axis]
    ]


def _half_width(ncc: NDArray[np.float64], index: tuple[int, ...], axis: int, height: float) -> int:
    """Voxels from a peak to where it has lost a quarter of its height; at most 8."""
    width = 1
    while width < 8:
        beside = _beside(ncc, index, axis, width)
        if not _beside(ncc, index, axis, width + 1) or min(beside) < 0.75 * height:
            break
        width += 1
    return width


def _noise_volume(
    ncc: NDArray[np.float64], index: tuple[int, ...], height: float, smooth: tuple[float, ...]
) -> float:
    """Voxels per independent sample of the noise, for noise smoothed by a Gaussian.

    The NCC beside its peak is the autocorrelation of what both images share; what the images'
    own autocorrelation has beyond that is their noise's.
    """
    volume = 1.0
    for axis, whole in enumerate(smooth):
        beside = _beside(ncc, index, axis)
        shared = max(beside) if beside else whole * height
        noise = min(0.98, max(0.0, (whole - shared) / max(1 - height, 0.02)))
        if noise > 0.05:
            volume *= max(1.0, math.sqrt(math.pi / (-2 * math.log(noise))))
    return volume


def _standard_error(beside: list[float], step: int, height: float, voxels: float) -> float:
    """Noise-driven error along one axis, from the curvature of the NCC about its peak.

    The NCC of a pair of which the fraction ``height`` of the variance is shared has a part of
    noise with noise, independent from lag to lag, and one of noise with signal, as smooth as the
    peak. A parabola through three lags turns these into the two terms. The curvature is taken
    ``step`` voxels off the peak, where it stands out of the ripple that made it the highest.
    """
    curvature = 2 * (height - sum(beside) / len(beside)) / step**2 if beside else 0.0
    if curvature <= 0:
        return math.inf
    own = max(0.0, 1 - height)
    return math.sqrt((own * own / 2 + 2 * own * curvature) / voxels) / curvature


def _confidence(
    height: float, rival: float, searched: int, independent: float, voxels: float
) -> float:
    """Probability that a peak is no chance match. PROVISIONAL: to be calibrated.

    The product of two: the peak against the highest that ``searched`` displacements of
    unrelated images as smooth as these (``independent`` samples each) would give by chance; and
    against the next highest local maximum, given ``voxels`` samples of noise. The caller adds
    the standard errors against one and a half voxels, and a fixed factor for a peak on the
    border of its range.
    """
    clipped = min(height, 1 - 1e-12)
    chance = math.sqrt(-independent * math.log1p(-clipped * clipped))
    trials = max(1.0, searched * min(1.0, independent / voxels))
    odds = _SUSPICION * trials * _tail(chance)
    spread = math.sqrt(2 * (1 - clipped * clipped) / voxels + (_LIKENESS * height) ** 2)
    return (1 - _tail((height - rival) / spread)) / (1 + odds)


def _tail(z: float) -> float:
    """Upper tail of the normal distribution."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def _rival(ncc: NDArray[np.float64], index: tuple[int, ...], widths: tuple[int, ...]) -> float:
    """Return the highest local maximum outside the main lobe; -1 if there is none."""
    peaks = ncc >= scipy.ndimage.maximum_filter(ncc, size=3, mode="nearest")
    lobe = tuple(slice(max(0, i - w), i + w + 1) for i, w in zip(index, widths, strict=True))
    peaks[lobe] = False
    return float(ncc[peaks].max(initial=-1.0))
