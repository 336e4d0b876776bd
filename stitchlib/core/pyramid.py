"""Pyramid levels: which axes a level halves, and the mean that does it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.blend import largest
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
    shift = sum(axes)
    if not shift:
        return array
    # Halving floats first is exact, and then no sum of finite voxels overflows.
    is_float = dtype.kind == "f"
    sums = np.multiply(array, 0.5**shift, dtype=np.float64) if is_float else array
    most = 0 if is_float else largest(array)
    # The slowest axis of a stack first: whole planes are added, and less is left for the others.
    for axis in reversed(range(array.ndim)):
        if axes[axis]:
            most *= 2
            sums = _pair_sums(sums, axis, _sum_type(dtype, most + 2 ** (shift - 1)))
    if not is_float:
        sums += 1 << (shift - 1)
        sums >>= shift
    return sums.astype(dtype)


def _sum_type(dtype: np.dtype[Any], most: int) -> np.dtype[Any]:
    """Return the least type that holds sums up to ``most``: the narrower, the faster they are."""
    if dtype.kind == "f":
        return np.dtype(np.float64)
    wider = (np.dtype(f"{dtype.kind}{size}") for size in (1, 2, 4, 8) if size >= dtype.itemsize)
    return next(kind for kind in wider if most <= np.iinfo(kind).max)


def _pair_sums(array: NDArray[Any], axis: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    n = array.shape[axis]

    def along(start: int, stop: int | None, step: int) -> tuple[slice, ...]:
        return (slice(None),) * axis + (slice(start, stop, step),)

    shape = (*array.shape[:axis], -(-n // 2), *array.shape[axis + 1 :])
    result = np.empty(shape, dtype, order="F" if array.flags.f_contiguous else "C")
    even, odd, last = along(0, n - n % 2, 2), along(1, n, 2), along(n - 1, n, 1)
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is NaN and no news
        np.add(array[even], array[odd], out=result[along(0, n // 2, 1)], dtype=dtype)
    if n % 2:
        # Counting the odd last voxel twice gives the mean of the voxels that exist: numerator and
        # count double alike.
        np.multiply(array[last], 2, out=result[along(n // 2, None, 1)], dtype=dtype)
    return result
