"""How the voxels of several tiles at one place become one, exactly.

Integer results are the exact quotient rounded to nearest, ties to even. They do not depend on how
the volume is cut into parts: a voxel's result is a function of the tiles that cover it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point

Array = NDArray[Any]
Order = Literal["C", "F"]

BLENDINGS = ("interpolation", "max", "min", "mean")


def ramp(n: int, lower: int = 0, upper: int | None = None) -> NDArray[np.int64]:
    """Weights 1, 2, …, 2, 1 along an axis of ``n`` voxels, of those in ``[lower, upper)``."""
    i = np.arange(lower, n if upper is None else upper)
    return 1 + np.minimum(i, n - 1 - i)


def weights(shape: Point, box: Box | None = None, order: Order = "C") -> NDArray[np.int64]:
    """Weights of a tile's voxels: 1 + the distance to the nearest face, in voxels.

    Parameters
    ----------
    shape : tuple of int
        Extent of the whole tile.
    box : Box, optional
        The part that is wanted, in the tile's own coordinates; default all.
    order : {'C', 'F'}
        Memory layout of the result.

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
        # An axis of one voxel says nothing about how deep a voxel lies in the tile: a plane that
        # is given as a stack of one is weighted like the plane.
        if n > 1:
            np.minimum(result, ramp(n, lower, upper).reshape(along), out=result)
    return result


def blend(values: Sequence[Array], tile_weights: Sequence[Array] | None, method: str) -> Array:
    """Blend the voxels of the tiles that cover a region.

    Parameters
    ----------
    values : sequence of array
        One array per covering tile, all of one shape and type.
    tile_weights : sequence of array of int
        Their weights; needed by 'interpolation' alone.
    method : {'interpolation', 'max', 'min', 'mean'}

    Returns
    -------
    array of the same shape and type
    """
    if len(values) == 1:
        return values[0]
    if method in ("max", "min"):
        function = np.maximum if method == "max" else np.minimum
        result = values[0].copy(order="K")
        for other in values[1:]:
            function(result, other, out=result)
        return result
    if method == "mean":
        return _quotient(values, None)
    return _quotient(values, tile_weights)


def _quotient(values: Sequence[Array], tile_weights: Sequence[Array] | None) -> Array:
    """Σ w·v / Σ w; without weights, the mean."""
    dtype = values[0].dtype
    # int64 holds every sum of weighted 32-bit voxels, and their quotient in float64 is never so
    # near a tie that rounding it again would go wrong: both terms are exact below 2**53.
    exact = np.dtype(np.int64 if dtype.kind in "iu" else np.float64)
    total = np.zeros_like(values[0], dtype=exact)
    # Infinite voxels, and floats whose sum is: the result is what IEEE says, limited below.
    with np.errstate(over="ignore", invalid="ignore"):
        if tile_weights is None:
            for value in values:
                total += value
            quotient = total / len(values)
        else:
            for value, weight in zip(values, tile_weights, strict=True):
                total += np.multiply(value, weight, dtype=exact)
            quotient = total / sum(tile_weights)
    if dtype.kind in "iu":
        return np.asarray(np.rint(quotient)).astype(dtype)
    # Rounding of the sums must not lead outside of the values: where they agree, so does the mean.
    lowest, highest = values[0], values[0]
    for other in values[1:]:
        lowest, highest = np.minimum(lowest, other), np.maximum(highest, other)
    return np.asarray(np.clip(quotient, lowest, highest)).astype(dtype)
