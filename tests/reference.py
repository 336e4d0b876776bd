"""Slow, obvious implementations that the fast ones must equal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
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
        depth = [np.minimum(i, n - 1 - i) for i, n in zip(index, tile.shape, strict=True)]
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


def weight(shape: tuple[int, ...], voxel: tuple[int, ...]) -> int:
    """Return the weight of one voxel of a tile: 1 + the distance to its nearest face."""
    return 1 + min(min(i, n - 1 - i) for i, n in zip(voxel, shape, strict=True))


def round_half_even(value: Fraction) -> int:
    """Round to the nearest integer, ties to even."""
    whole, rest = divmod(value, 1)
    return int(whole) + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1))


def stitched(
    tiles: Sequence[tuple[NDArray[Any], tuple[int, ...]]],
    method: str,
    lower: Sequence[int],
    shape: Sequence[int],
) -> NDArray[Any]:
    """Blend tiles at corners, voxel by voxel, in exact fractions; 0 where there is none."""
    dtype = tiles[0][0].dtype
    result = np.zeros(tuple(shape), dtype)
    for index in np.ndindex(*shape):
        at = [i + low for i, low in zip(index, lower, strict=True)]
        values, weights = [], []
        for tile, corner in tiles:
            local = tuple(a - c for a, c in zip(at, corner, strict=True))
            if all(0 <= i < n for i, n in zip(local, tile.shape, strict=True)):
                values.append(Fraction(tile[local].item()))
                weights.append(weight(tile.shape, local) if method == "interpolation" else 1)
        if not values:
            continue
        if method in ("max", "min"):
            found = max(values) if method == "max" else min(values)
        else:
            found = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        result[index] = round_half_even(found) if dtype.kind in "iu" else float(found)
    return result


def best_shift(
    first: NDArray[Any],
    second: NDArray[Any],
    lower: Sequence[int],
    upper: Sequence[int],
    measure: str = "ssd",
) -> tuple[tuple[int, ...], float]:
    """Try every shift of the second image, both at the origin; of equals the smallest wins."""
    found = []
    for shift in itertools.product(*(range(a, b + 1) for a, b in zip(lower, upper, strict=True))):
        a = tuple(slice(max(0, s), min(n, m + s)) for s, n, m in zip(
            shift, first.shape, second.shape, strict=True))  # fmt: skip
        if any(part.start >= part.stop for part in a):
            continue
        b = tuple(slice(p.start - s, p.stop - s) for p, s in zip(a, shift, strict=True))
        quality = _agreement(first[a], second[b], measure)
        found.append((-quality, sum(s * s for s in shift), shift))
    worst, _, shift = min(found)
    return shift, -worst


def _agreement(a: NDArray[Any], b: NDArray[Any], measure: str) -> float:
    if measure == "ssd":
        if a.dtype.kind in "iu":
            # A fraction: equal qualities are equal.
            return -Fraction(
                sum((int(x) - int(y)) ** 2 for x, y in zip(a.flat, b.flat, strict=True)), a.size
            )
        return -float(np.mean((a.astype(float) - b) ** 2))
    p, q = a - a.mean(dtype=float), b - b.mean(dtype=float)
    if not np.ptp(a) or not np.ptp(b):
        return 0.0
    return float((p * q).sum() / math.sqrt((p * p).sum() * (q * q).sum()))
