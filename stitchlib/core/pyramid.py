"""Pyramid levels: which axes a level halves, and the mean that does it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point


def halved_axes(shape: Point, voxel_size: tuple[float, ...]) -> tuple[bool, ...]:
    """Tell which axes the next level halves.

    Those whose voxel is less than twice the smallest one, among the axes longer than one voxel.
    """
    sizes = [size for n, size in zip(shape, voxel_size, strict=True) if n > 1]
    least = min(sizes, default=0.0)
    return tuple(n > 1 and size < 2 * least for n, size in zip(shape, voxel_size, strict=True))


def level_factors(
    shape: Point, voxel_size: tuple[float, ...], levels: int | None = None, least: int = 256
) -> list[Point]:
    """Downsampling factors of every level, relative to level 0.

    Parameters
    ----------
    shape : tuple of int
        Extent of level 0 in voxels.
    voxel_size : tuple of float
        Its voxel size, µm, same axes.
    levels : int, optional
        Number of levels; fewer where nothing is left to halve. Default: until no axis is over
        ``least`` voxels.
    least : int
        See ``levels``.
    """
    factors = [(1,) * len(shape)]
    while len(factors) < levels if levels else max(shape) > least:
        halved = halved_axes(shape, voxel_size)
        if not any(halved):
            break
        factors.append(tuple(f * 2 if h else f for f, h in zip(factors[-1], halved, strict=True)))
        shape = tuple(-(-n // 2) if h else n for n, h in zip(shape, halved, strict=True))
        voxel_size = tuple(s * 2 if h else s for s, h in zip(voxel_size, halved, strict=True))
    return factors


def halve(array: NDArray[Any], axes: tuple[bool, ...]) -> NDArray[Any]:
    """Halve ``array`` along some axes: the mean of the voxels that exist, rounded half up.

    Parameters
    ----------
    array : array
        Integers of up to 32 bits, or floats.
    axes : tuple of bool
        Which axes; an odd last voxel counts alone.

    Returns
    -------
    array of the same type, extent ceil(n / 2) along these axes
    """
    dtype = array.dtype
    wide = array.astype(_sum_type(dtype, 2 ** sum(axes)), order="K")
    shift = sum(axes)
    if dtype.kind == "f":
        # Exact, and no sum of finite voxels overflows.
        wide *= 0.5**shift
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is NaN and no news
        for axis, halves in enumerate(axes):
            if halves:
                wide = _pair_sums(wide, axis)
    if dtype.kind == "f":
        return wide.astype(dtype)
    if shift:
        wide += 1 << (shift - 1)
        wide >>= shift
    return wide.astype(dtype)


def _sum_type(dtype: np.dtype[Any], terms: int) -> np.dtype[Any]:
    if dtype.kind == "f":
        return np.dtype(np.float64)
    bits = dtype.itemsize * 8 + terms.bit_length()
    return np.dtype(f"{dtype.kind}{4 if bits <= 32 else 8}")


def _pair_sums(array: NDArray[Any], axis: int) -> NDArray[Any]:
    n = array.shape[axis]

    def along(s: slice) -> tuple[slice, ...]:
        return (slice(None),) * axis + (s,)

    result = array[along(slice(0, n, 2))].copy(order="K")
    result[along(slice(0, n // 2))] += array[along(slice(1, n, 2))]
    if n % 2:
        # Counting the odd last voxel twice gives the mean of the voxels that exist: numerator and
        # count double alike.
        result[along(slice(n // 2, None))] *= 2
    return result
