"""Cross-correlation of a whole range of displacements [1]_, in pieces that need little memory.

.. [1] Anuta, P. E. (1970). Spatial registration of multispectral and multitemporal digital
   imagery using fast Fourier transform techniques. IEEE Trans. Geosci. Electron. 8, 353-368.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.peaks import SLAB_VOXELS, Image, blocks, slabs
from stitchlib.core.searches import Plan, fast_length

SPECTRA_BYTES = 64 << 20
"""So much memory spectra may take however small the images are."""
_SHARE = 0.35
"""Where images are large, this part of the post image in 16 bits."""
_MOST_PASSES = 8
_SINGLE = 8
"""Bytes of a complex number in single precision."""
_COLUMN_VOXELS = 1 << 14
"""Complex numbers transformed along the first axis at a time."""

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

    slabs: tuple[Slab, ...]
    """Along the first axis; their products are added up in Fourier space."""
    lengths: Point
    """FFT lengths: as those of the plan, but for the first axis."""
    parts: tuple[slice, ...]
    """Frequencies along the last axis, a pass each: the last axis is transformed in every pass."""
    columns: int
    """Columns along the first axis that are transformed at a time."""
    nbytes: int
    """Peak of what is allocated, in all."""


def cut(plan: Plan, item: int, limit: int | None = None) -> Cut:
    """Cut a correlation so that its spectra take little memory, the cheapest way that does.

    Parameters
    ----------
    plan : Plan
        The search.
    item : int
        Bytes of a complex number.
    limit : int, optional
        Bytes allowed, as far as there is a way; by default 64 MiB, or 0.35 of the bytes of the post
        image in 16 bits where that is more, and in float64 no more than float32 takes.
    """
    if limit is None:
        limit = max(SPECTRA_BYTES, int(2 * _SHARE * math.prod(plan.extent_b)))
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
    n, low, high, lags = plan.extent_a[0], plan.lower[0], plan.upper[0], plan.shape
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
    width = lengths[1] * max(part.stop - part.start for part in parts)
    columns = min(width, max(8, _COLUMN_VOXELS // lengths[0]))
    deepest = max(s.a.stop - s.a.start + s.b.stop - s.b.start for s in found)
    held = deepest + (lengths[0] if len(found) > 1 else 0) + 2 * lags[0]
    rows = 1 + SLAB_VOXELS // (lengths[1] * lengths[2])
    plane = rows * (plan.extent_a[1] + plan.extent_b[1] + 3 * lengths[1]) * half * item
    pieces = 4 * columns * lengths[0] * item
    result = lags[0] * lags[1] * (half * item + lengths[2] * item)
    nbytes = held * width * item + max(plane, pieces) + 2 * result
    return Cut(found, lengths, parts, columns, nbytes)


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
    lengths, lags = pieces.lengths, plan.shape
    wrapped = [
        np.arange(low, high + 1) % n
        for low, high, n in zip(plan.lower, plan.upper, lengths, strict=True)
    ]
    half = np.empty((lags[0], lags[1], lengths[2] // 2 + 1), kind)
    square = 0.0
    for part in pieces.parts:
        lagged, added = _along_first(a, b, pieces, part, wrapped[0], kind, power=power)
        square += added
        folded = lagged.reshape(lags[0], lengths[1], part.stop - part.start)
        half[:, :, part] = scipy.fft.ifft(folded, axis=1, overwrite_x=True)[:, wrapped[1]]
        del lagged, folded
    found = scipy.fft.irfft(half, lengths[2], axis=2)[:, :, wrapped[2]].astype(np.float64)
    # Half of the frequencies of the last axis stand for all, so each counts twice.
    square *= (2 if lengths[2] > 1 else 1) / math.prod(lengths)
    if power and len(pieces.slabs) > 1:
        square *= _whole_per_slabs(a, b, pieces.slabs)
    return found, square


def _along_first(
    a: Image,
    b: Image,
    pieces: Cut,
    part: slice,
    wrapped: NDArray[np.int64],
    kind: np.dtype[Any],
    *,
    power: bool,
) -> tuple[NDArray[Any], float]:
    """Correlate along the first axis, still in Fourier space of the others.

    Returns an array (lags, columns), and the sum of squares of the products if wanted.
    """
    first, width = pieces.lengths[0], pieces.lengths[1] * (part.stop - part.start)
    lagged = np.empty((len(wrapped), width), kind)
    total = np.zeros((first, width), kind) if len(pieces.slabs) > 1 else None
    square = 0.0
    # Made once: memory that is new to the process costs as much as a transform.
    spectra_a, spectra_b = (
        np.empty((max(s.stop - s.start for s in planes), width), kind)
        for planes in zip(*((s.a, s.b) for s in pieces.slabs), strict=True)
    )
    known = slice(0, 0)
    for slab in pieces.slabs:
        left = spectra_a[: slab.a.stop - slab.a.start]
        right = spectra_b[: slab.b.stop - slab.b.start]
        # The last planes of a slab are the first ones of the next.
        kept = max(0, known.stop - slab.a.start)
        left[:kept] = spectra_a[known.stop - known.start - kept :][:kept].copy()
        known = slab.a
        _transform_planes(
            a, slice(slab.a.start + kept, slab.a.stop), pieces.lengths, part, left[kept:]
        )
        _transform_planes(b, slab.b, pieces.lengths, part, right)
        for columns in _slices(width, pieces.columns):
            product = _transformed(right[:, columns], 0, first)
            np.conjugate(product, out=product)
            product *= _transformed(left[:, columns], slab.a.start - slab.b.start, first)
            if power:
                flat = product.view(product.real.dtype).reshape(-1).astype(np.float64)
                square += float(np.einsum("i,i->", flat, flat))
            if total is None:
                lagged[:, columns] = scipy.fft.ifft(product, axis=0, overwrite_x=True)[wrapped]
            else:
                total[:, columns] += product
    if total is not None:
        for columns in _slices(width, pieces.columns):
            lagged[:, columns] = scipy.fft.ifft(total[:, columns], axis=0)[wrapped]
    return lagged, square


def _transformed(spectra: NDArray[Any], begin: int, n: int) -> NDArray[Any]:
    """Transform columns along the first axis, whose first entry is number ``begin`` of ``n``."""
    padded = np.zeros((n, spectra.shape[1]), spectra.dtype)
    before = min(len(spectra), -begin)
    padded[n + begin : n + begin + before] = spectra[:before]
    padded[: len(spectra) - before] = spectra[before:]
    return np.asarray(scipy.fft.fft(padded, axis=0, overwrite_x=True))


def _transform_planes(
    image: Image, wanted: slice, lengths: Point, part: slice, found: NDArray[Any]
) -> None:
    """Transform planes along the two last axes, into ``found`` (planes, columns)."""
    _, rows, columns = image.data.shape
    planes = found.reshape(len(found), lengths[1], part.stop - part.start)
    values = np.zeros((0, 0, 0), found.real.dtype)
    for slab in slabs((len(found), lengths[1], lengths[2])):
        at = slice(wanted.start + slab.start, wanted.start + slab.stop)
        if len(values) != at.stop - at.start:
            values = np.zeros((at.stop - at.start, rows, lengths[2]), values.dtype)
        if image.narrow:
            # Exact in float32, and without an array in between.
            np.subtract(image.data[at], values.dtype.type(image.centre), out=values[..., :columns])
        else:
            values[..., :columns] = image.centred(at)
        padded = planes[slab]
        padded[:, :rows] = scipy.fft.rfft(values, axis=2)[:, :, part]
        padded[:, rows:] = 0
        if lengths[1] > 1:
            done = scipy.fft.fft(padded, axis=1, overwrite_x=True)
            if not np.may_share_memory(done, padded):
                padded[...] = done


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
