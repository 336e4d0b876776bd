"""Filters that bring out what two noisy images share, and the look of images without content."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.peaks import slabs

F32 = NDArray[np.float32]

_BLOCK_VOXELS = 1 << 15
"""Voxels that are averaged at a time."""

BROAD = 15
"""Width of the running mean that takes shading and background off, voxels."""
_LEAST_EXTENT = 6
"""Axes with fewer voxels are not smoothed: neighbours there are pictures of their own."""
_CERTAIN = 6.0
"""Standard deviations above chance from which block means are structure."""


def smooth(image: NDArray[Any], width: float) -> F32:
    """Smooth an image by a Gaussian of ``width`` voxels, along axes of 6 voxels or more."""
    sigma = [width if n >= _LEAST_EXTENT else 0.0 for n in image.shape]
    centred = image.astype(np.float32)
    centred -= centred.mean(dtype=np.float64)
    found: F32 = scipy.ndimage.gaussian_filter(centred, sigma, truncate=3.0)
    return found


def without_shading(image: F32) -> F32:
    """Take shading and background off: a mean of 15 voxels, along axes of 6 voxels or more."""
    size = [min(BROAD, n) if n >= _LEAST_EXTENT else 1 for n in image.shape]
    found: F32 = image - scipy.ndimage.uniform_filter(image, size)
    return found


def filtered(image: NDArray[Any], width: float, *, flat: bool) -> NDArray[Any]:
    """Smooth an image, and take shading off where ``flat``; as it is where neither is asked."""
    if width == 0 and not flat:
        return image
    found = smooth(image, width)
    return without_shading(found) if flat else found


def binned(image: NDArray[Any], factors: Sequence[int]) -> F32:
    """Average blocks of voxels; what does not fill a block at the upper end is dropped."""
    # A few planes at a time, in the order of the memory, stay in the cache of a core.
    order = np.argsort([-abs(s) for s in image.strides], kind="stable")
    by = [factors[axis] for axis in order]
    shape = tuple(image.shape[axis] // f for axis, f in zip(order, by, strict=True))
    view = image.transpose(order)[tuple(slice(0, n * f) for n, f in zip(shape, by, strict=True))]
    result = np.empty(shape, np.float32)
    for rows in slabs(shape, _BLOCK_VOXELS):
        found = view[rows.start * by[0] : rows.stop * by[0]]
        for axis, factor in enumerate(by):
            if factor == 1:
                continue
            pieces = [
                found[(slice(None),) * axis + (slice(i, None, factor),)] for i in range(factor)
            ]
            found = pieces[0].astype(np.float32)
            for piece in pieces[1:]:
                found += piece
        result[rows] = found
    result *= np.float32(1 / math.prod(factors))
    return result.transpose(np.argsort(order))


def has_content(image: NDArray[Any]) -> bool:
    """Whether an image shows anything but independent noise on an even or vignetted background.

    The means of blocks of 4 × 4 (× 2) voxels, less a quadratic surface, vary by a sixteenth (or
    less) of the variance of the voxels where these are independent; structure makes them vary
    more. The test is a variance ratio at 6 standard deviations.
    """
    factors = tuple(min(f, n) for f, n in zip((4, 4, 2), image.shape, strict=False))
    blocks = binned(image, factors).astype(np.float64)
    if image.min() == image.max():
        return False
    if blocks.size < 40:
        return True
    blocks = _less_surface(blocks)
    per_block = math.prod(factors)
    within = _noise_variance(image, factors)
    if within <= 0:
        return True
    ratio = blocks.var() * per_block / within
    return bool(ratio > 1 + _CERTAIN * math.sqrt(2 / blocks.size * (1 + 1 / per_block)))


def _noise_variance(image: NDArray[Any], factors: Point) -> float:
    """Return the variance within blocks: of independent noise, where there is nothing else."""
    squares = binned(image.astype(np.float32) - np.float32(image.mean()), (1,) * image.ndim)
    mean = binned(squares, factors).astype(np.float64)
    second = binned(squares * squares, factors).astype(np.float64)
    n = math.prod(factors)
    return float((second - mean * mean).mean()) * n / max(1, n - 1)


def _less_surface(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take a quadratic surface off by least squares."""
    axes = [np.linspace(-1, 1, n) for n in blocks.shape]
    grids = np.meshgrid(*axes, indexing="ij")
    terms = [np.ones(blocks.shape), *grids]
    terms += [a * b for i, a in enumerate(grids) for b in grids[i:]]
    matrix = np.stack([t.ravel() for t in terms], axis=1)
    solution = np.linalg.lstsq(matrix, blocks.ravel(), rcond=None)[0]
    return np.asarray(blocks - (matrix @ solution).reshape(blocks.shape))
