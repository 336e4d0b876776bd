"""Sums over the window of every displacement, from box sums collapsed to the windows' edges [1]_.

.. [1] Lewis, J. P. (1995). Fast normalized cross-correlation. Vision Interface, 120-123.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.peaks import Image, slabs

BLOCK_VOXELS = 1 << 14
"""Voxels of a block of rows: what is summed of it stays in the cache of a core."""
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Sums over the window of every lag in one image, shape of the lags."""

    plain: NDArray[Any]
    squares: NDArray[Any]
    norm2: float
    """Sum of squares of the whole image."""
    error_plain: float
    """Bound of the error of ``plain``; 0 where integer."""
    error_squares: float
    """Bound of the error of ``squares``; 0 where integer."""


def window_sums(image: Image, windows: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Sums:
    """Sum values and squares over all windows, in int64 wherever that cannot overflow."""
    if image.data.shape[1] == 1 < image.data.shape[0]:
        # Rows are summed much faster than planes of one row each.
        turned = replace(image, data=image.data.swapaxes(0, 1))
        sums = window_sums(turned, [windows[1], windows[0], windows[2]])
        plain, squares = (array.swapaxes(0, 1) for array in (sums.plain, sums.squares))
        return replace(sums, plain=plain, squares=squares)
    edges = [np.unique(np.concatenate(pair)) for pair in windows]
    reach = _reach(image)
    exact = image.exact and reach * reach * image.data.size < 2**62
    whole: Any = np.int64 if image.exact else np.float64
    square: Any = np.int64 if exact else np.float64
    bins = tuple(len(e) - 1 for e in edges)
    plain, squares = np.zeros(bins, whole), np.zeros(bins, square)
    planes, rows, columns = image.data.shape
    for block in slabs((rows, columns), BLOCK_VOXELS):
        cut = np.flatnonzero((edges[1] > block.start) & (edges[1] < block.stop))
        inner = np.concatenate(([block.start], edges[1][cut], [block.stop])) - block.start
        first = int(np.searchsorted(edges[1], block.start, side="right")) - 1
        for i, (start, stop) in enumerate(itertools.pairwise(edges[0].tolist())):
            added, added2 = _plane_sums(image, slice(start, stop), block, whole, square)
            where = (i, slice(first, first + len(inner) - 1))
            for total, values in ((plain, added), (squares, added2)):
                by_row = np.add.reduceat(values.reshape(-1, columns), inner[:-1], axis=0)
                total[where] += np.add.reduceat(by_row, edges[2][:-1], axis=1)
    norm2 = float(squares.sum(dtype=np.float64))
    # However the sums of one bin are added up, no voxel takes part in more additions than this.
    loose = EPS * (64 + 4 * sum(bins) + planes + rows + columns)
    return Sums(
        _windowed(plain, edges, windows),
        _windowed(squares, edges, windows),
        norm2,
        0.0 if image.exact else loose * math.sqrt(norm2 * image.data.size),
        0.0 if exact else loose * norm2,
    )


def _plane_sums(
    image: Image, planes: slice, rows: slice, whole: Any, square: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sum values, and squares, of a block of rows over some planes, in one dimension each."""
    size = (rows.stop - rows.start) * image.data.shape[2]
    plain, squares = np.zeros(size, whole), np.zeros(size, square)
    # Whole rows are added up, which is much faster than adding within rows.
    for block in slabs((planes.stop - planes.start, size), 4 * BLOCK_VOXELS):
        part = slice(planes.start + block.start, planes.start + block.stop)
        values = image.centred((part, rows)).reshape(-1, size)
        # A centred 16-bit value is below 2¹⁶: sums of a few are right in 32 bits, sums of squares
        # in float64.
        few = image.narrow and len(values) < 1 << 14
        plain += np.add.reduce(values, axis=0, dtype=np.int32 if few else whole)
        second = values.astype(np.float64 if image.narrow else square, copy=False)
        added = np.einsum("ij,ij->j", second, second)
        squares += added.astype(square, copy=False)
    return plain, squares


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


def constant_windows(
    image: Image, windows: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> Any:
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
        bins = steps
        for i, edge in enumerate(edges):
            bins = np.add.reduceat(bins, edge[:-1], axis=i, dtype=np.int64)
        constant = constant & (_windowed(bins, edges, inner) == 0)
    return constant
