"""Sums over the window of every displacement, from box sums collapsed to the windows' edges [1]_.

.. [1] Lewis, J. P. (1995). Fast normalized cross-correlation. Vision Interface, 120-123.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.peaks import Image, slabs

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
    loose = EPS * (64 + 4 * sum(bins))
    return Sums(
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
        bins = np.add.reduceat(steps, edges[0][:-1], axis=0, dtype=np.int64)
        constant = constant & (_windowed(_binned(bins, edges, np.int64), edges, inner) == 0)
    return constant
