"""Whether the parts of an overlap agree that one displacement is better than its neighbours.

At a displacement the post image is a multiple of the pre image plus a rest, b = α a + e. That it
fits better there than at another one is D = Σ b w, with w the difference of the (equally scaled)
pre images at the two displacements; the error of D is that of Σ w e, which is summed in small
blocks first, so that neither a noise that differs from place to place nor one that is correlated
between neighbours makes D look surer than it is [1]_.

.. [1] White, H. (1980). A heteroskedasticity-consistent covariance matrix estimator and a direct
   test for heteroskedasticity. Econometrica 48, 817-838.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point

_BLOCK = 3
"""Voxels along an axis over which errors are summed, for images that are not smoothed."""
PART_VOXELS = 1 << 17
"""So much of an overlap is looked at in one go, from its centre outwards."""
_MOST_PARTS = 64
"""No more of it is looked at."""
_PLAIN = 10.0
"""Standard deviations from which no more of the overlap is looked at."""

Windows = list[tuple[int, int]]


def preference(
    pre: NDArray[Any], post: NDArray[Any], best: Point, other: Point, width: float = 0.0
) -> float:
    """Return how surely one displacement fits better than another, in standard deviations.

    Parameters
    ----------
    pre, post : ndarray of float32
        Images of equal axes.
    best, other : tuple of int
        Displacements, post corner minus pre corner, voxels.
    width : float
        By how much the images were smoothed, voxels.

    Returns
    -------
    float
        Standard deviations; infinite where the two have no voxel in common to compare.
    """
    gain = square = 0.0
    windows = common(pre.shape, post.shape, (best, other))
    if windows is None:
        return math.inf
    for part in central_parts(windows):
        more = _preference(pre, post, best, other, part, width)
        gain, square = gain + more[0], square + more[1]
        if gain > 0 and gain >= _PLAIN * math.sqrt(square):
            break
    if square > 0:
        return gain / math.sqrt(square)
    return math.copysign(math.inf, gain) if gain else 0.0


def _preference(
    pre: NDArray[Any], post: NDArray[Any], best: Point, other: Point, windows: Windows, width: float
) -> tuple[float, float]:
    """Return by how much the first fits better within windows of post, and its variance."""
    b = _centred(post, windows, (0,) * len(best))
    first, second = (_centred(pre, windows, d) for d in (best, other))
    norm = float(np.vdot(first, first))
    if norm <= 0:
        return 0.0, 0.0
    rest = b - np.float32(float(np.vdot(first, b)) / norm) * first
    other_norm = float(np.vdot(second, second))
    first -= second * np.float32(math.sqrt(norm / other_norm) if other_norm > 0 else 0.0)
    gain = float(np.vdot(b, first))
    first *= rest
    return gain, _variance(first, width)


def _variance(products: NDArray[np.float32], width: float) -> float:
    """Return the variance of a sum of products that are alike in neighbours."""
    sums = block_sums(products, _BLOCK + round(2 * width))
    return float(np.vdot(sums, sums))


def block_sums(values: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Sum blocks of so many neighbours along every axis; the last ones may be smaller."""
    for axis in range(values.ndim):
        line = np.moveaxis(values, axis, 0)
        found = line[::block].copy(order="K")
        for i in range(1, min(block, len(line))):
            piece = line[i::block]
            found[: len(piece)] += piece
        values = np.moveaxis(found, 0, axis)
    return values


def common(shape_pre: Point, shape_post: Point, displacements: Sequence[Point]) -> Windows | None:
    """Return first and end voxel of post, per axis, that all displacements compare."""
    windows = []
    for n, m, along in zip(shape_pre, shape_post, zip(*displacements, strict=True), strict=True):
        low, high = max(0, *(-k for k in along)), min(m, *(n - k for k in along))
        if high <= low:
            return None
        windows.append((low, high))
    return windows


def central_parts(windows: Windows, most: int = PART_VOXELS) -> list[Windows]:
    """Halve windows until a part has ``most`` voxels; the most central parts come first."""
    parts = [windows]
    while math.prod(b - a for a, b in parts[0]) > most:
        extents = [b - a for a, b in parts[0]]
        axis = extents.index(max(extents))
        halves = []
        for part in parts:
            low, high = part[axis]
            middle = (low + high + 1) // 2
            halves += [
                [*part[:axis], half, *part[axis + 1 :]] for half in ((low, middle), (middle, high))
            ]
        parts = halves

    def distance(part: Windows) -> float:
        return sum(
            ((a + b - low - high) / (high - low)) ** 2
            for (a, b), (low, high) in zip(part, windows, strict=True)
        )

    return sorted(parts, key=distance)[:_MOST_PARTS]


def within(image: NDArray[Any], windows: Windows, by: Point) -> NDArray[Any]:
    """Return what lies in windows that are moved."""
    return image[tuple(slice(a + k, b + k) for (a, b), k in zip(windows, by, strict=True))]


def _centred(image: NDArray[Any], windows: Windows, by: Point) -> NDArray[np.float32]:
    found = within(image, windows, by).astype(np.float32)
    found -= found.mean(dtype=np.float64)
    return found
