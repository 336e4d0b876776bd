"""How the voxels of several tiles at one place become one, exactly.

Integer results are the exact quotient rounded to nearest, ties to even. They do not depend on how
the volume is cut into parts: a voxel's result is a function of the tiles that cover it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point
from stitchlib.errors import InputError

Array = NDArray[Any]
Order = Literal["C", "F"]

BLENDINGS = ("interpolation", "max", "min", "mean")


def ramp(n: int, lower: int = 0, upper: int | None = None) -> NDArray[np.int64]:
    """Weights 1, 2, …, 2, 1 along an axis of ``n`` voxels, of those in ``[lower, upper)``."""
    i = np.arange(lower, n if upper is None else upper)
    return 1 + np.minimum(i, n - 1 - i)


def weights(
    shape: Point,
    box: Box | None = None,
    order: Order = "C",
    *,
    planes: bool = False,
    dtype: type[np.number[Any]] = np.int64,
) -> NDArray[Any]:
    """Weights of a tile's voxels: 1 + the distance to the nearest face, in voxels.

    Parameters
    ----------
    shape : tuple of int
        Extent of the whole tile.
    box : Box, optional
        The part that is wanted, in the tile's own coordinates; default all.
    order : {'C', 'F'}
        Memory layout of the result.
    planes : bool
        The tile is a plane that is given as a stack of one: it is weighted like the plane.
    dtype : type
        Type of the result; it must hold the extent of the tile.

    Returns
    -------
    array of whole numbers, shape of the part
    """
    box = box or Box.at((0,) * len(shape), shape)
    axes = [axis for axis in range(len(shape)) if not (planes and axis == 2)]
    result = np.full((1,) * len(shape), max(shape), dtype)
    # The slowest axis last: what comes before is small.
    for axis in axes if order == "F" else axes[::-1]:
        along = [1] * len(shape)
        along[axis] = -1
        own = ramp(shape[axis], box.lower[axis], box.upper[axis]).astype(dtype).reshape(along)
        extent = np.broadcast_shapes(result.shape, own.shape)
        result = np.minimum(result, own, out=np.empty(extent, dtype, order))
    return result


def heaviest(shape: Point, box: Box, *, planes: bool = False) -> int:
    """Bound the `weights` of a part of a tile."""
    bounds = []
    for n, lower, upper in zip(shape, box.lower, box.upper, strict=True):
        inmost = min(max((n - 1) // 2, lower), upper - 1)
        bounds.append(1 + min(inmost, n - 1 - inmost))
    return min(bounds[:2] if planes else bounds)


def blend(
    values: Sequence[Array],
    tile_weights: Sequence[Array] | None,
    method: str,
    dtype: np.dtype[Any] | None = None,
) -> Array:
    """Blend the voxels of the tiles that cover a region.

    Parameters
    ----------
    values : sequence of array
        One array per covering tile, all of one shape and type.
    tile_weights : sequence of array of int
        Their weights; needed by 'interpolation' alone.
    method : {'interpolation', 'max', 'min', 'mean'}
    dtype : dtype, optional
        Type of the result, rounded once; default that of the values.

    Returns
    -------
    array of the same shape
    """
    dtype = dtype or values[0].dtype
    if len(values) == 1:
        return converted(values[0], dtype)
    if method in ("max", "min"):
        function = np.maximum if method == "max" else np.minimum
        result = values[0].copy(order="K")
        for other in values[1:]:
            function(result, other, out=result)
        return converted(result, dtype)
    exact = quotient(values, None if method == "mean" else tile_weights)
    if dtype.kind in "iu" and values[0].dtype == dtype:  # finite, and in range: no need to look
        return np.rint(exact, out=exact).astype(dtype)
    return converted(exact, dtype)


def exact_in_float32(values: Sequence[Array], weight: int) -> bool:
    """Tell whether `blend_in_float32` gives the exact quotient, rounded half to even.

    Where ``weight``, a bound of the sum of the weights, times the next power of 2 above all voxels
    is less than 2**24, float32 holds all products and sums exactly, and a quotient that is no tie
    differs from any by at least 1 / (2 weight): more than the error of its division in float32.
    """
    dtype = values[0].dtype
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        return False
    if weight << 8 * dtype.itemsize < 2**24:  # whatever they are: no need to look
        return True
    return weight << max(map(largest, values)).bit_length() < 2**24


def largest(values: Array) -> int:
    """Return the largest absolute value of integers."""
    highest = int(values.max())
    return highest if values.dtype.kind == "u" else max(highest, -int(values.min()))


def blend_in_float32(values: Sequence[Array], tile_weights: Sequence[NDArray[np.float32]]) -> Array:
    """Blend integers as 'interpolation' does, several times faster; see `exact_in_float32`.

    ``tile_weights`` are whole numbers, and are overwritten.
    """
    weight = tile_weights[0]
    total = values[0].astype(np.float32)
    total *= weight
    for value, other in zip(values[1:], tile_weights[1:], strict=True):
        own = value.astype(np.float32)
        own *= other
        total += own
        weight += other
    total /= weight
    return np.rint(total, out=total).astype(values[0].dtype)


def blend_by(
    values: Sequence[Array],
    tile_weights: Sequence[Array] | None,
    function: Callable[..., Any],
    dtype: np.dtype[Any],
) -> Array:
    """Blend the voxels of the tiles that cover a region by a function.

    Parameters
    ----------
    values : sequence of array
        One array per covering tile, all of one shape and type.
    tile_weights : sequence of array, optional
        Their weights; with them, the result is function(weights × values) / function(weights).
    function : callable
        Called with a stack, tiles along axis 0, and ``axis=0``.
    dtype : dtype
        Type of the result; rounded and kept in its range where it is an integer.
    """
    if len(values) == 1:
        return converted(values[0], dtype)
    if tile_weights is None:
        return converted(np.asarray(function(np.stack(values), axis=0)), dtype)
    if function is np.sum:
        return converted(quotient(values, tile_weights), dtype)
    weight = np.stack(tile_weights)
    integers = {values[0].dtype.kind, weight.dtype.kind} <= {"i", "u"}
    exact = np.int64 if integers else np.float64
    upper = np.asarray(function(np.multiply(np.stack(values), weight, dtype=exact), axis=0))
    return converted(np.asarray(upper / function(weight, axis=0)), dtype)


def converted(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return values in another type: rounded half to even and kept in range where it is integer."""
    if values.dtype == dtype:
        return values
    if dtype.kind not in "iu":
        return values.astype(dtype)
    info = np.iinfo(dtype)
    if values.dtype.kind in "iu":
        own = np.iinfo(values.dtype)
        bounds = max(info.min, own.min), min(info.max, own.max)
        return np.asarray(np.clip(values, *bounds)).astype(dtype)
    rounded = np.nan_to_num(
        np.rint(values.astype(np.float64, copy=False)), posinf=np.inf, neginf=-np.inf
    )
    # The largest 64-bit integers are no float64: the next smaller one is the bound.
    top = float(info.max) if dtype.itemsize < 8 else np.nextafter(float(info.max), 0)
    return np.asarray(np.clip(rounded, float(info.min), top)).astype(dtype)


def _exact(dtype: np.dtype[Any], tile_weights: Sequence[Array]) -> np.dtype[Any]:
    """Type in which weighted sums of voxels of a type are made; all of them exact if integers."""
    if dtype.kind not in "iu" or any(weight.dtype.kind not in "iu" for weight in tile_weights):
        return np.dtype(np.float64)
    if dtype.itemsize <= 2 and all(weight.dtype.kind == "u" for weight in tile_weights):
        most = max(abs(int(np.iinfo(dtype).min)), int(np.iinfo(dtype).max))
        narrow = np.dtype(np.uint32 if dtype.kind == "u" else np.int32)
        if most * sum(int(np.max(weight)) for weight in tile_weights) <= np.iinfo(narrow).max:
            return narrow
    return np.dtype(np.int64)


def quotient(values: Sequence[Array], tile_weights: Sequence[Array] | None) -> Array:
    """Return Σ w·v / Σ w, float64 before any rounding; without weights, the mean.

    Raises
    ------
    InputError
        Where 64-bit integers are too large for an exact result.
    """
    dtype = values[0].dtype
    weights_ = [np.asarray(1, np.uint16)] * len(values) if tile_weights is None else tile_weights
    # The integers hold every sum of weighted voxels of up to 32 bits, and their quotient in float64
    # is never so near a tie that rounding it again would go wrong: both terms are exact below
    # 2**53.
    exact = _exact(dtype, weights_)
    if dtype.kind in "iu" and dtype.itemsize > 4:
        _check_exact(values, weights_)
    # Infinite voxels, and floats whose sum is: the result is what IEEE says, limited below.
    with np.errstate(over="ignore", invalid="ignore"):
        weight = np.array(weights_[0], exact)
        total = values[0] * weight
        for value, other in zip(values[1:], weights_[1:], strict=True):
            own = other.astype(exact, copy=False)
            total += value * own
            weight += own
        result = np.asarray(total / weight)
    if exact.kind != "f":
        return result
    # Rounding of the sums must not lead outside of the values: where they agree, so does the mean.
    lowest, highest = values[0], values[0]
    for other in values[1:]:
        lowest, highest = np.minimum(lowest, other), np.maximum(highest, other)
    return np.asarray(np.clip(result, lowest, highest))


def _check_exact(values: Sequence[Array], tile_weights: Sequence[Array]) -> None:
    most = max(max(abs(int(v.max())), abs(int(v.min()))) for v in values)
    if most * sum(float(np.max(weight)) for weight in tile_weights) >= 2**53:
        raise InputError(
            f"voxels of type {values[0].dtype} up to {most} cannot be blended exactly; "
            f"convert the tiles to 32-bit integers or float64"
        )
