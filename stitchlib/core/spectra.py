"""Cross-correlation of a whole range of displacements [1]_, in pieces that need little memory.

.. [1] Anuta, P. E. (1970). Spatial registration of multispectral and multitemporal digital
   imagery using fast Fourier transform techniques. IEEE Trans. Geosci. Electron. 8, 353-368.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.peaks import SLAB_VOXELS, Image, blocks
from stitchlib.core.searches import Plan, fast_length

SEARCH_BYTES = 64 << 20
"""So much memory a search may take however small the images are."""
_SPECTRA_SHARE = 0.94
"""Of it, for the spectra, less ten numbers in float64 for every lag."""
_SHARE = 0.35
"""Where images are large, this part of the post image in 16 bits."""
_MOST_PASSES = 8
_SINGLE = 8
"""Bytes of a complex number in single precision."""
_PIECE_VOXELS = 1 << 16
"""Complex numbers transformed along the two first axes at a time: they stay in a core's cache."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Slab:
    """Planes of both images that are transformed together."""

    a: slice
    """Planes of the pre image that any lag compares with those of ``b``."""
    b: slice
    """Planes of the post image; the slabs' are disjoint."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How a correlation is cut into pieces that fit the memory allowed."""

    turned: bool
    """Whether the two last axes change places: what is padded least is transformed first."""
    slabs: tuple[Slab, ...]
    """Along the first axis; their products are added up in Fourier space."""
    lengths: Point
    """FFT lengths: as those of the plan, turned, but for the first axis."""
    parts: tuple[slice, ...]
    """Frequencies along the last axis, a pass each: the last axis is transformed in every pass."""
    nbytes: int
    """Peak of what is allocated, in all."""

    @property
    def frequencies(self) -> int:
        """How many frequencies are transformed along the two first axes at a time."""
        return max(1, _PIECE_VOXELS // (self.lengths[0] * self.lengths[1]))

    @property
    def planes(self) -> tuple[int, int]:
        """Most planes of either image in a slab."""
        return (
            max(slab.a.stop - slab.a.start for slab in self.slabs),
            max(slab.b.stop - slab.b.start for slab in self.slabs),
        )


def cut(plan: Plan, item: int, limit: int | None = None) -> Cut:
    """Cut a correlation so that its spectra take little memory, the cheapest way that does.

    Parameters
    ----------
    plan : Plan
        The search.
    item : int
        Bytes of a complex number.
    limit : int, optional
        Bytes allowed, as far as there is a way; by default what keeps a search within 64 MiB, or
        0.35 of the bytes of the post image in 16 bits where that is more, and in float64 no more
        than float32 takes.
    """
    if limit is None:
        lags = 80 * math.prod(plan.shape)
        share = int(2 * _SHARE * math.prod(plan.extent_b))
        limit = max(int(_SPECTRA_SHARE * SEARCH_BYTES) - lags, share)
        if item > _SINGLE:
            limit = _cut(plan, _SINGLE, limit).nbytes
    return _cut(plan, item, limit)


@lru_cache
def _cut(plan: Plan, item: int, limit: int) -> Cut:
    planes = plan.extent_b[0]
    # Slabs no deeper than the range would be mostly margin.
    depths = [planes, *(k * plan.shape[0] for k in (8, 4, 2, 1))]
    found = cut_into(plan, item, planes, 1)
    for passes in range(1, _MOST_PASSES * item // _SINGLE + 1):
        for depth in depths:
            if depth <= planes:
                found = cut_into(plan, item, depth, passes)
            if found.nbytes <= limit:
                return found
    return found


def cut_into(plan: Plan, item: int, depth: int, passes: int) -> Cut:
    """Cut a correlation into slabs of so many planes of the post image, and so many passes."""
    n, low, high = plan.extent_a[0], plan.lower[0], plan.upper[0]
    turned = _padding(plan, 1) < _padding(plan, 2)
    if turned:
        plan = _turned(plan)
    found = tuple(
        Slab(slice(max(0, b.start + low), min(n, b.stop + high)), b)
        for b in _slices(plan.extent_b[0], depth)
        if b.start + low < n and b.stop + high > 0
    )
    least = max(max(s.a.stop - s.b.start - low, high - s.a.start + s.b.stop) for s in found)
    lengths = (fast_length(least), *plan.lengths[1:])
    half = lengths[2] // 2 + 1
    passes = min(passes, half)
    edges = [half * i // passes for i in range(passes + 1)]
    parts = tuple(slice(a, b) for a, b in itertools.pairwise(edges))
    pieces = Cut(turned, found, lengths, parts, 0)
    return replace(pieces, nbytes=_nbytes(plan, pieces, item))


def _padding(plan: Plan, axis: int) -> float:
    """By how much transforms along an axis are longer than the images."""
    return plan.lengths[axis] / max(plan.extent_a[axis], plan.extent_b[axis])


def _turned(plan: Plan) -> Plan:
    """Return a plan whose two last axes changed places; only what `correlation` needs of it."""

    def swapped(of: Point) -> Point:
        return (of[0], of[2], of[1])

    return replace(
        plan,
        extent_a=swapped(plan.extent_a),
        extent_b=swapped(plan.extent_b),
        lower=swapped(plan.lower),
        upper=swapped(plan.upper),
    )


def _nbytes(plan: Plan, pieces: Cut, item: int) -> int:
    """Peak of what a correlation allocates; the plan turned as the pieces are."""
    lengths, lags = pieces.lengths, plan.shape
    half = lengths[2] // 2 + 1
    rows = plan.extent_a[1], plan.extent_b[1]
    width = max(part.stop - part.start for part in pieces.parts)
    planes = pieces.planes
    several = len(pieces.slabs) > 1
    held = planes[0] * rows[0] + planes[1] * rows[1] + several * lengths[0] * lengths[1]
    kept = several * lags[0] * rows[0] * width * item
    plane = max(SLAB_VOXELS // lengths[2], 1) * (3 * half * item + 16 * lengths[2])
    piece = min(width, pieces.frequencies) * lengths[0] * lengths[1] * (2 * item + 16)
    passing = held * width * item + max(kept, plane, piece)
    # Of the last transform back: all lags, those of the plan, and the same in float64.
    back = lengths[2] * item // 2 + lags[2] * (item // 2 + 8)
    rows_of_lags = lags[0] * lags[1]
    return int(rows_of_lags * half * item + max(passing, rows_of_lags * back))


def _slices(n: int, depth: int) -> Iterator[slice]:
    for start in range(0, n, depth):
        yield slice(start, min(start + depth, n))


def correlation(
    a: Image, b: Image, plan: Plan, real: type, *, pieces: Cut | None = None, power: bool = False
) -> tuple[Floats, float]:
    """Cross-correlate over all lags of a plan.

    Parameters
    ----------
    a, b : Image
        The compared parts, three axes in the order of the plan.
    plan : Plan
        The search.
    real : type
        float32 or float64.
    pieces : Cut, optional
        By default as `cut` says.
    power : bool
        Whether the second number is wanted.

    Returns
    -------
    ndarray of float64, shape plan.shape
        Sum of a[p + lag] b[p].
    float
        Sum over all lags of the product of both autocorrelations: the variance that the
        cross-correlation of independent images with these spectra would have. Of several slabs it
        is what they say of the whole. 0 where not wanted.
    """
    kind = np.dtype(np.complex64 if real is np.float32 else np.complex128)
    pieces = pieces or cut(plan, kind.itemsize)
    first, second = a, b
    if pieces.turned:
        plan = _turned(plan)
        first, second = (replace(i, data=i.data.swapaxes(1, 2)) for i in (a, b))
    lengths, lags = pieces.lengths, plan.shape
    wrapped = [
        np.arange(low, high + 1) % n
        for low, high, n in zip(plan.lower, plan.upper, lengths, strict=True)
    ]
    half = np.empty((lags[0], lags[1], lengths[2] // 2 + 1), kind)
    square = 0.0
    for part in pieces.parts:
        square += _pass(first, second, pieces, part, wrapped, half[:, :, part], power=power)
    found = scipy.fft.irfft(half, lengths[2], axis=2)[:, :, wrapped[2]].astype(np.float64)
    # Half of the frequencies of the last axis stand for all, so each counts twice.
    square *= (2 if lengths[2] > 1 else 1) / math.prod(lengths)
    if power and len(pieces.slabs) > 1:
        square *= _whole_per_slabs(a, b, pieces.slabs)
    return found.swapaxes(1, 2) if pieces.turned else found, square


def _pass(
    a: Image,
    b: Image,
    pieces: Cut,
    part: slice,
    wrapped: list[NDArray[np.int64]],
    found: NDArray[Any],
    *,
    power: bool,
) -> float:
    """Correlate at some frequencies of the last axis, which stay, into ``found`` (lags, lags, n).

    Returns the sum of squares of the products if wanted.
    """
    n, kind = part.stop - part.start, found.dtype
    # Made once, and in one piece, which the C library rather keeps for the next pair of images:
    # memory that is new to the process costs as much as a transform.
    shapes = [
        (n, planes, image.data.shape[1])
        for image, planes in zip((a, b), pieces.planes, strict=True)
    ]
    size = math.prod(shapes[0])
    both = np.empty(size + math.prod(shapes[1]), kind)
    spectra_a, spectra_b = both[:size].reshape(shapes[0]), both[size:].reshape(shapes[1])
    total = np.zeros((n, *pieces.lengths[:2]), kind) if len(pieces.slabs) > 1 else None
    square = 0.0
    known = slice(0, 0)
    for slab in pieces.slabs:
        left = spectra_a[:, : slab.a.stop - slab.a.start]
        right = spectra_b[:, : slab.b.stop - slab.b.start]
        # The last planes of a slab are the first ones of the next.
        kept = max(0, known.stop - slab.a.start)
        left[:, :kept] = spectra_a[:, known.stop - known.start - kept :][:, :kept].copy()
        known = slab.a
        _transform_rows(a, slice(slab.a.start + kept, slab.a.stop), pieces, part, left[:, kept:])
        _transform_rows(b, slab.b, pieces, part, right, conjugate=True)
        for some in _slices(n, pieces.frequencies):
            product = _transformed(right[some], 0, pieces.lengths, conjugate=True)
            product *= _transformed(left[some], slab.a.start - slab.b.start, pieces.lengths)
            if power:
                flat = product.view(product.real.dtype).reshape(-1).astype(np.float64)
                square += float(np.einsum("i,i->", flat, flat))
            if total is None:
                found[:, :, some] = _lagged(product, wrapped)
            else:
                total[some] += product
    if total is not None:
        for some in _slices(n, pieces.frequencies):
            found[:, :, some] = _lagged(total[some], wrapped)
    return square


def _transform_rows(
    image: Image,
    wanted: slice,
    pieces: Cut,
    part: slice,
    found: NDArray[Any],
    *,
    conjugate: bool = False,
) -> None:
    """Transform planes along the last axis, into ``found`` (frequencies, planes, rows)."""
    (_, rows, columns), length = image.data.shape, pieces.lengths[2]
    # In the order of the memory, whichever of the two axes that is.
    axis, order = (0, (1, 2, 0)) if pieces.turned else (2, (0, 1, 2))
    values = np.zeros((0, 0, 0), found.real.dtype)
    for planes, *cut_rows in blocks((found.shape[1], rows), max(1, SLAB_VOXELS // length)):
        (across,) = cut_rows or [slice(0, rows)]
        at = slice(wanted.start + planes.start, wanted.start + planes.stop), across
        size = (planes.stop - planes.start, across.stop - across.start)
        if values.transpose(order).shape[:2] != size:
            values = np.zeros((length, *size) if pieces.turned else (*size, length), values.dtype)
        inner = values.transpose(order)[..., :columns]
        if image.narrow:
            # Exact in float32, and without an array in between.
            np.subtract(image.data[at], values.dtype.type(image.centre), out=inner)
        else:
            inner[...] = image.centred(at)
        done = scipy.fft.rfft(values, axis=axis)
        if conjugate:
            np.conjugate(done, out=done)
        found[:, planes, across] = (done if pieces.turned else done.transpose(2, 0, 1))[part]


def _transformed(
    spectra: NDArray[Any], begin: int, lengths: Point, *, conjugate: bool = False
) -> NDArray[Any]:
    """Transform (frequencies, planes, rows) along the two last axes, padded to ``lengths``.

    The first plane is number ``begin`` of the axis, which goes round. Of conjugates the conjugates.
    """
    n, planes, rows = spectra.shape
    padded = np.zeros((n, *lengths[:2]), spectra.dtype)
    before = min(planes, -begin)
    stretches = (
        (slice(before), slice(lengths[0] + begin, lengths[0] + begin + before)),
        (slice(before, planes), slice(planes - before)),
    )
    for given, at in stretches:
        padded[:, at, :rows] = spectra[:, given]
    # The axis that grows more comes last.
    if rows + lengths[0] < planes + lengths[1]:
        _transform(padded[:, :, :rows], 1, conjugate=conjugate)
        _transform(padded, 2, conjugate=conjugate)
        return padded
    for _, at in stretches:
        if padded[:, at].size:
            _transform(padded[:, at], 2, conjugate=conjugate)
    _transform(padded, 1, conjugate=conjugate)
    return padded


def _transform(values: NDArray[Any], axis: int, *, conjugate: bool) -> None:
    """Transform along an axis, in place; backwards, but for its factor, is of conjugates."""
    if values.shape[axis] > 1:
        if conjugate:
            done = scipy.fft.ifft(values, axis=axis, norm="forward", overwrite_x=True)
        else:
            done = scipy.fft.fft(values, axis=axis, overwrite_x=True)
        if not np.may_share_memory(done, values):
            values[...] = done


def _lagged(product: NDArray[Any], wrapped: list[NDArray[np.int64]]) -> NDArray[Any]:
    """Transform (frequencies, planes, rows) back; return (lags, lags, frequencies)."""
    for axis in (1, 2):
        if product.shape[axis] > 1:
            product = scipy.fft.ifft(product, axis=axis, overwrite_x=True)
        product = product.take(wrapped[axis - 1], axis=axis)
    return product.transpose(1, 2, 0)


def _whole_per_slabs(a: Image, b: Image, slabs: Sequence[Slab]) -> float:
    """Return the product of both images' sums of squares over the sum of that of the slabs."""
    first, second = (_squares(image) for image in (a, b))
    parts = sum(float(first[s.a].sum() * second[s.b].sum()) for s in slabs)
    return float(first.sum() * second.sum()) / parts if parts else 1.0


def _squares(image: Image) -> Floats:
    """Return the sum of squares of every plane."""
    found = np.zeros(image.data.shape[0])
    for block in blocks(image.data.shape):
        values = image.centred(block).astype(np.float64).reshape(-1, image.data[block].shape[-1])
        planes = block[0].stop - block[0].start
        found[block[0]] += np.einsum("ij,ij->i", *[values.reshape(planes, -1)] * 2)
    return found


def fft_error(plan: Plan, real: type) -> float:
    """Bound of the error of a correlation, relative to the product of the two-norms.

    Every factor of two of a transform multiplies the two-norm error by at most about 1 + 7 u, u
    half an epsilon (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 24.1);
    there are three transforms; rounding the input and the product adds a few u. By
    Cauchy-Schwarz no single lag is further off than that times both norms.
    """
    stages = math.log2(math.prod(plan.lengths)) + 3
    # Slabs are transformed in shorter pieces, but their sum is rounded as often as there are slabs,
    # and every plane of the pre image is in two at most, which doubles the square of its norm.
    sums = len(cut(plan, np.dtype(real).itemsize * 2).slabs)
    twice = math.sqrt(2) if sums > 1 else 1.0
    return twice * float(np.finfo(real).eps) * (10.5 * stages + 8 + sums)
