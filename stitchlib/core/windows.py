"""Sums over the window of every displacement, from box sums collapsed to the windows' edges [1]_.

.. [1] Lewis, J. P. (1995). Fast normalized cross-correlation. Vision Interface, 120-123.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.peaks import Image, slabs

BLOCK_VOXELS = 1 << 16
"""Voxels of a block of rows of some planes: what is summed of it stays in the cache of a core."""
_ROW_VOXELS = 1 << 12
"""Voxels of every plane of it."""
_MOST_PLANES = 1 << 15
"""Of so many values of 16 bits the sum fits 32 bits."""
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
    if image.data.shape[0] == 1 < image.data.shape[1]:
        # Adding planes of one row each is much faster than adding the rows of one plane.
        turned = replace(image, data=image.data.swapaxes(0, 1))
        sums = window_sums(turned, [windows[1], windows[0], windows[2]])
        plain, squares = (array.swapaxes(0, 1) for array in (sums.plain, sums.squares))
        return replace(sums, plain=plain, squares=squares)
    edges = [np.unique(np.concatenate(pair)) for pair in windows]
    reach = _reach(image)
    exact = image.exact and reach * reach * image.data.size < 2**62
    as_is = exact and image.narrow
    bins = tuple(len(e) - 1 for e in edges)
    plain = np.zeros(bins, np.int64 if image.exact else np.float64)
    squares = np.zeros(bins, np.int64 if exact else np.float64)
    planes, rows, columns = image.data.shape
    fit = _fit_32_bits(image) if as_is else 0
    for block in slabs((rows, columns), _ROW_VOXELS):
        few = min(_MOST_PLANES, max(1, BLOCK_VOXELS // ((block.stop - block.start) * columns)))
        cut = np.flatnonzero((edges[1] > block.start) & (edges[1] < block.stop))
        inner = np.concatenate(([0], edges[1][cut] - block.start))
        first = int(np.searchsorted(edges[1], block.start, side="right")) - 1
        for run in _runs(edges[0], few):
            where = (run, slice(first, first + len(inner)))
            size = (run.stop - run.start, block.stop - block.start, columns)
            start, stop = int(edges[0][run.start]), int(edges[0][run.stop])
            added = np.zeros(size, plain.dtype), np.zeros(size, squares.dtype)
            for low in range(start, stop, few):
                _add_planes(image, (slice(low, min(low + few, stop)), block), added, fit)
            for total, values in zip((plain, squares), added, strict=True):
                by_row = np.add.reduceat(values, inner, axis=1)
                total[where] += np.add.reduceat(by_row, edges[2][:-1], axis=2)
    if as_is:
        sizes = [np.diff(edge) for edge in edges]
        n: Any = sizes[0][:, None, None] * sizes[1][:, None] * sizes[2]
        centre = int(image.centre)
        squares += centre * (centre * n - 2 * plain)
        plain -= centre * n
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


def _fit_32_bits(image: Image) -> int:
    """Return of how many narrow integers the sum of squares fits 32 bits; one at least."""
    largest = max(abs(int(image.data.min())), int(image.data.max()), 1)
    return (2**32 - 1) // largest**2


def _runs(edges: NDArray[np.int64], few: int) -> Iterator[slice]:
    """Yield bins of several planes one by one, and bins of one plane a few at a time."""
    thick = (np.diff(edges) > 1).tolist()
    start = 0
    for i, one in enumerate(thick, 1):
        if one or i == len(thick) or thick[i] or i - start == few:
            yield slice(start, i)
            start = i


def _add_planes(
    image: Image, part: tuple[slice, slice], sums: tuple[NDArray[Any], NDArray[Any]], fit: int
) -> None:
    """Add values, and squares, of rows of some planes: each plane to its own sums, or all to one.

    Narrow integers of which the squares of ``fit`` fit 32 bits are taken as they are, not centred.
    """
    wide: Any
    if fit:
        values = image.data[part].astype(np.int32)
        squares = np.square(values).view(np.uint32)
        wide = (np.int32, np.uint32 if len(values) <= fit else np.int64)
    else:
        values = image.centred(part)
        squares = np.square(values, dtype=sums[1].dtype)
        wide = (sums[0].dtype, sums[1].dtype)
    for total, each, kind in zip(sums, (values, squares), wide, strict=True):
        one = len(total) < len(each)
        np.add(total, np.add.reduce(each, axis=0, dtype=kind) if one else each, out=total)


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
