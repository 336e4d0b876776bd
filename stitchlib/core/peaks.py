"""Exact similarity of two equal regions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.errors import InputError

Measure = Literal["ncc", "ssd"]
"""``"ncc"``: zero-mean normalised cross-correlation; ``"ssd"``: mean squared difference."""

SLAB_VOXELS = 1 << 16
"""Voxels worked on at a time: temporaries that stay in the cache of a core, and so few that sums
of their products below 2³² are exact in float64."""
_LIMIT = 1e150
"""Largest magnitude of float data: its square is still a float64."""
_TIE = 1e-12
"""Relative difference below which two float64 similarities differ by rounding only."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The best displacement of a search."""

    displacement: Point
    """Post corner minus pre corner, voxels."""
    quality: float
    """NCC in [-1, 1], or minus the mean squared difference in squared intensity units."""
    overlap: int
    """Voxels compared at that displacement."""


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
        # So few values of 16 bits add up in 32 bits, which is faster.
        total = sum(
            int(data[block].sum(dtype=f"{kind}{4 if size <= 2 else 8}"))
            for block in blocks(data.shape, SLAB_VOXELS)
        )
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


def blocks(shape: Point, voxels: int = SLAB_VOXELS) -> Iterator[tuple[slice, ...]]:
    """Yield slices of the first axes of an array of ``shape``: blocks of at most ``voxels``.

    Where one entry of an axis has more voxels than that, it is cut along the next axis, too.
    """
    for rows in slabs(shape, voxels):
        if rows.stop - rows.start > 1 or len(shape) == 1 or math.prod(shape[1:]) <= voxels:
            yield (rows,)
        else:
            yield from ((rows, *inner) for inner in blocks(shape[1:], voxels))


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
    for block in blocks(shape):
        x = _flat(a, part_a, block, mean_a)
        y = _flat(b, part_b, block, mean_b)
        total = np.float64 if not exact else np.int64
        added = (x.sum(dtype=total).item(), y.sum(dtype=total).item(), *_dots(x, y))
        sums = [s + v for s, v in zip(sums, added, strict=True)]
    offset = (a.centre - b.centre) / a.scale + (mean_a - mean_b)
    s, t, ss, tt, st = sums
    return Moments(n, s, t, ss, tt, st, int(offset) if exact else offset, flat)


def product(a: Image, b: Image, part_a: tuple[slice, ...], part_b: tuple[slice, ...]) -> int:
    """Return the exact sum of products of two equal-shaped regions of integer images."""
    shape = tuple(s.stop - s.start for s in part_a)
    pairs = ((_flat(a, part_a, block, 0), _flat(b, part_b, block, 0)) for block in blocks(shape))
    return sum(int(_dot(x, y)) for x, y in pairs)


def _mean(image: Image, part: tuple[slice, ...]) -> tuple[float, bool]:
    """Return the mean of a region of float data in centred units, and whether it is constant."""
    region = image.data[part]
    low, high = float(region.min()), float(region.max())
    mean = low if low == high else float(region.mean(dtype=np.float64))
    return (mean - image.centre) / image.scale, low == high


def _flat(
    image: Image, part: tuple[slice, ...], block: tuple[slice, ...], mean: float
) -> NDArray[Any]:
    """Return a block of a region, less ``mean``, in one dimension."""
    inner = [slice(p.start + b.start, p.start + b.stop) for p, b in zip(part, block, strict=False)]
    values = image.centred((*inner, *part[len(inner) :])).reshape(-1)
    if mean:
        values -= mean
    return values


def _dots(x: NDArray[Any], y: NDArray[Any]) -> tuple[int | float, int | float, int | float]:
    """Return the sums of the products x x, y y and x y; see `_dot`."""
    if x.dtype == y.dtype == np.int32:
        # Blocks have so few voxels that no sum is rounded; converted once instead of twice.
        x, y = x.astype(np.float64), y.astype(np.float64)
        return int(_sum(x, x)), int(_sum(y, y)), int(_sum(x, y))
    return _dot(x, x), _dot(y, y), _dot(x, y)


def _sum(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the sum of products; not by BLAS, whose threads wait where other jobs have cores."""
    return float(np.einsum("i,i->", x, y))


def _dot(x: NDArray[Any], y: NDArray[Any]) -> int | float:
    """Return the sum of products, without rounding for integers below 2³² in magnitude.

    int64 products of 32-bit data overflow, so these are split into 16-bit digits; sums of up to
    2²⁰ products of 16-bit digits are exact in float64, and a block has no more.
    """
    if x.dtype.kind == "f":
        return _sum(x, y)
    if x.dtype == np.int64:
        low_x, low_y = (x & 0xFFFF).astype(np.int32), (y.astype(np.int64) & 0xFFFF).astype(np.int32)
        high_x, high_y = (x >> 16).astype(np.int32), (y >> 16).astype(np.int32)
        mixed = _dot(high_x, low_y) + _dot(low_x, high_y)
        return (int(_dot(high_x, high_y)) << 32) + (int(mixed) << 16) + int(_dot(low_x, low_y))
    if y.dtype == np.int64:
        return _dot(y, x)
    return int(_sum(x.astype(np.float64), y.astype(np.float64)))


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
    axes = np.argsort([-abs(s) for s in pre_region.strides], kind="stable")
    pre_region, post_region = pre_region.transpose(axes), post_region.transpose(axes)
    a, b = centred_images(np.atleast_1d(pre_region), np.atleast_1d(post_region), measure)
    part = tuple(slice(0, n) for n in a.data.shape)
    return moments(a, b, part, part).quality(measure, a.scale)
