"""Slow, obvious implementations that the fast ones must equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def blended(
    tiles: Mapping[str, NDArray[Any]], corners: Mapping[str, tuple[int, ...]], fill: int = 0
) -> NDArray[Any]:
    """Blend integer tiles by interpolation: Σ w·v / Σ w, rounded to nearest, ties to even.

    Axes as the tiles have them; a tile's weight is 1 + the distance to its nearest face.
    """
    least = np.min([corners[name] for name in tiles], axis=0)
    extent = np.max([np.add(corners[n], t.shape) for n, t in tiles.items()], axis=0) - least
    total = np.zeros(extent, object)
    weight = np.zeros(extent, object)
    dtype = next(iter(tiles.values())).dtype
    for name, tile in tiles.items():
        inside = tuple(
            slice(c - low, c - low + n)
            for c, low, n in zip(corners[name], least, tile.shape, strict=True)
        )
        index = np.indices(tile.shape)
        depth = [np.minimum(i, n - 1 - i) for i, n in zip(index, tile.shape, strict=True) if n > 1]
        w = 1 + np.min(depth, axis=0)
        total[inside] += w.astype(object) * tile.astype(object)
        weight[inside] += w.astype(object)
    result = np.full(extent, fill, object)
    for at in np.ndindex(*extent):
        if weight[at]:
            whole, rest = divmod(int(total[at]), int(weight[at]))
            up = 2 * rest > weight[at] or (2 * rest == weight[at] and whole % 2)
            result[at] = whole + bool(up)
    return result.astype(dtype)
