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
    shape: Point, box: Box | None = None, order: Order = "C", *, planes: bool = False
) -> NDArray[np.int64]:
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

    Returns
    -------
    array of int64, shape of the part
    """
    box = box or Box.at((0,) * len(shape), shape)
    result = np.empty(box.shape, np.int64, order=order)
    result[...] = max(shape)
    for axis, (n, lower, upper) in enumerate(zip(shape, box.lower, box.upper, strict=True)):
        along = [1] * len(shape)
        along[axis] = -1
        if not (planes and axis == 2):
            np.minimum(result, ramp(n, lower, upper).reshape(along), out=result)
    return result


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
    exact = _exact(values[0].dtype, weight.dtype)
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


def _exact(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """Type in which weighted sums are made."""
    integers = all(dtype.kind in "iu" for dtype in dtypes)
    return np.dtype(np.int64 if integers else np.float64)


def quotient(values: Sequence[Array], tile_weights: Sequence[Array] | None) -> Array:
    """Return Σ w·v / Σ w, float64 before any rounding; without weights, the mean.

    Raises
    ------
    InputError
        Where 64-bit integers are too large for an exact result.
    """
    dtype = values[0].dtype
    weights_ = [np.asarray(1)] * len(values) if tile_weights is None else tile_weights
    # int64 holds every sum of weighted 32-bit voxels, and their quotient in float64 is never so
    # near a tie that rounding it again would go wrong: both terms are exact below 2**53.
    exact = _exact(dtype, *(weight.dtype for weight in weights_))
    if dtype.kind in "iu" and dtype.itemsize > 4:
        _check_exact(values, weights_)
    total = np.zeros_like(values[0], dtype=exact)
    # Infinite voxels, and floats whose sum is: the result is what IEEE says, limited below.
    with np.errstate(over="ignore", invalid="ignore"):
        for value, weight in zip(values, weights_, strict=True):
            total += np.multiply(value, weight, dtype=exact)
        result = np.asarray(total / sum(weights_[1:], start=weights_[0]))
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
