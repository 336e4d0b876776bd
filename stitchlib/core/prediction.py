"""Where the stage took tiles that no link places, as far as the placed ones tell.

A position less nominal is an offset per component, terms of the grid index as far as the data
support them (linear, quadratic, and the alternation of rows or columns that a snake-like path with
backlash leaves), and what neighbouring tiles have in common beyond that, as a Gaussian Markov field
on the grid (Rue and Held 2005, Gaussian Markov Random Fields) with one roughness per grid axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from stitchlib.core.links import Floats, Ints, Mask
from stitchlib.core.stage import SUPPORT

_AROUND = 16
"""Neighbours that vote on the component that a tile without links follows."""
_EXACT = 2000
"""Up to so many tiles without links their standard deviations are solved for one by one."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where the model expects tiles."""

    offset: Floats
    """Position − nominal, voxels, in the frame of its component, shape (n, axes)."""
    sigma: Floats
    """Its standard deviation, voxels; nan where it cannot be told; shape (n, axes)."""
    trend: Floats
    """What the terms make of it, the same in all frames, shape (n, axes)."""
    terms: list[dict[str, float]]
    """Per image axis: coefficients of the terms that the data support, voxels."""
    scatter: Floats
    """Residual of the placed tiles about the terms, standard deviation, voxels, per image axis."""


def predict(index: Ints, offset: Floats, placed: Mask, frame: Ints) -> Prediction:
    """Expect positions of all tiles from those of the placed ones.

    Parameters
    ----------
    index : array of int, shape (n, 3)
        Grid index of every tile.
    offset : array of float, shape (n, axes)
        Position − nominal of the placed tiles, voxels; others do not count.
    placed : array of bool, shape (n,)
        Tiles to learn from.
    frame : array of int, shape (n,)
        Component in whose frame each tile stands or is wanted; each has an offset of its own.
    """
    n, axes = offset.shape
    expected, sigma = np.zeros((n, axes)), np.full((n, axes), np.nan)
    trends = np.zeros((n, axes))
    scatter = np.full(axes, np.nan)
    terms: list[dict[str, float]] = [{} for _ in range(axes)]
    if not placed.any():
        return Prediction(expected, sigma, trends, terms, scatter)
    frames = np.unique(frame[placed], return_inverse=True)[1]
    count = np.bincount(frames)
    lookup = np.zeros(int(frame.max()) + 1, np.int64)
    lookup[frame[placed]] = frames
    mine = lookup[frame]
    named = _terms(index)
    for a in range(axes):
        y = offset[placed, a]
        trend, terms[a] = _fit_terms(named, placed, frames, count, y)
        trends[:, a] = trend
        rest = y - trend[placed]
        level = _means(rest, frames, count)
        rest -= level[frames]
        free = placed.sum() - len(count) - len(terms[a])
        if free >= 1:
            scatter[a] = np.sqrt(rest @ rest / free)
            field, spread = _field(index, placed, rest, float(scatter[a]))
            expected[:, a] = trend + level[mine] + field
            sigma[:, a] = np.sqrt(spread + scatter[a] ** 2 / count[mine])
        else:
            expected[:, a] = trend + level[mine]
    return Prediction(expected, sigma, trends, terms, scatter)


def _terms(index: Ints) -> dict[str, Floats]:
    """Terms of the grid index, most plausible first; constant ones are left out."""
    named: dict[str, Floats] = {}
    centred = index - np.round(index.mean(axis=0))
    for d, axis in enumerate("xyz"):
        named[f"tile_{axis}"] = centred[:, d].astype(float)
        named[f"odd tile_{axis}"] = (index[:, d] % 2).astype(float)
    for d, axis in enumerate("xyz"):
        named[f"tile_{axis}²"] = centred[:, d].astype(float) ** 2
    return {name: t for name, t in named.items() if np.ptp(t) > 0}


def _means(values: Floats, group: Ints, count: Ints) -> Floats:
    means: Floats = np.bincount(group, values, len(count)) / count
    return means


def _fit_terms(
    named: dict[str, Floats], placed: Mask, frames: Ints, count: Ints, y: Floats
) -> tuple[Floats, dict[str, float]]:
    """Take in terms one by one, the best first, as long as each is supported."""

    def inner(values: Floats) -> Floats:
        return values - _means(values, frames, count)[frames]

    y = inner(y)
    columns = {name: inner(term[placed]) for name, term in named.items()}
    chosen: list[str] = []
    coefficients: Floats = np.zeros(0)
    while True:
        base = np.column_stack([columns[c] for c in chosen]) if chosen else np.zeros((len(y), 0))
        coefficients = np.asarray(np.linalg.lstsq(base, y, rcond=None)[0], np.float64)
        rest = y - base @ coefficients
        free = len(y) - len(count) - len(chosen) - 1
        best, gain = "", 0.0
        for name, column in columns.items():
            if name in chosen or free < 3:
                continue
            new = column - base @ np.linalg.lstsq(base, column, rcond=None)[0]
            if new @ new < 1e-6 * len(y):
                continue
            taken = float(new @ rest) ** 2 / float(new @ new)
            f = taken / max((float(rest @ rest) - taken) / free, 1e-4)
            if f > max(gain, SUPPORT):
                best, gain = name, f
        if not best:
            break
        chosen.append(best)
    trend = np.zeros(len(placed))
    for name, value in zip(chosen, coefficients, strict=True):
        trend += value * named[name]
    return trend, {name: float(v) for name, v in zip(chosen, coefficients, strict=True)}


def _field(index: Ints, placed: Mask, rest: Floats, scatter: float) -> tuple[Floats, Floats]:
    """Return what neighbours have in common, and the variance of tiles about it; shape (n,)."""
    n = len(index)
    none = np.zeros(n), np.full(n, scatter**2)
    value = np.zeros(n)
    value[placed] = rest
    steps = [_neighbours(index, axis) for axis in range(index.shape[1])]
    rough = [_variogram(value, placed, index, axis) for axis in range(index.shape[1])]
    active = [one < 1.2 * scatter**2 for one, _ in rough]
    if scatter <= 0 or not any(active):
        return none
    nugget = min(max(one - two / 2, 0.05 * one, 1e-3) for (one, two), on
                 in zip(rough, active, strict=True) if on)  # fmt: skip
    rows, columns, weights = [], [], []
    for (a, b), (one, _), on in zip(steps, rough, active, strict=True):
        walk = max(one - 2 * nugget, 0.05 * one, 1e-3) if on else 4 * scatter**2
        rows.append(a)
        columns.append(b)
        weights.append(np.full(len(a), 1 / walk))
    a, b, w = (np.concatenate(part) for part in (rows, columns, weights))
    degree = np.bincount(np.concatenate([a, b]), np.concatenate([w, w]), n)
    diagonal = degree + placed / nugget + 1 / (4 * scatter**2)
    coupling = scipy.sparse.coo_array((w, (a, b)), shape=(n, n))
    matrix = (scipy.sparse.diags_array(diagonal) - coupling - coupling.T).tocsc()
    factor = scipy.sparse.linalg.splu(matrix, "MMD_AT_PLUS_A")
    field = factor.solve(value * placed / nugget)
    spread = np.full(n, scatter**2)
    wanted = np.flatnonzero(~placed)
    if 0 < len(wanted) <= _EXACT:
        for part in np.array_split(wanted, max(1, len(wanted) // 64)):
            unit = np.zeros((n, len(part)))
            unit[part, np.arange(len(part))] = 1
            spread[part] = factor.solve(unit)[part, np.arange(len(part))] + nugget
    return field, spread


def _neighbours(index: Ints, axis: int, step: int = 1) -> tuple[Ints, Ints]:
    """Pairs of tiles ``step`` apart along a grid axis."""
    low = index - index.min(axis=0)
    extent = low.max(axis=0) + 1 + step
    stride = np.concatenate([[1], np.cumprod(extent[:-1])])
    key = low @ stride
    order = np.argsort(key)
    at = np.searchsorted(key[order], key + step * stride[axis])
    at = np.minimum(at, len(key) - 1)
    there = key[order[at]] == key + step * stride[axis]
    first = np.flatnonzero(there)
    return first, order[at[first]]


def _variogram(value: Floats, placed: Mask, index: Ints, axis: int) -> tuple[float, float]:
    """Mean squared differences at one and at two steps; infinite where there are too few."""
    found = []
    for step in (1, 2):
        a, b = _neighbours(index, axis, step)
        both = placed[a] & placed[b]
        squares = (value[a[both]] - value[b[both]]) ** 2
        found.append(float(np.mean(squares)) if both.sum() >= 8 else np.inf)
    one, two = found
    return one, two if np.isfinite(two) else 2 * one


def joined_frame(index: Ints, placed: Mask, component: Ints) -> Ints:
    """Return the component whose frame every tile stands in: its own, or its neighbours'.

    The 16 nearest placed tiles on the grid vote, by their inverse squared distance; of equals the
    first component. Without placed tiles every tile keeps its own.
    """
    if not placed.any() or placed.all():
        return component
    known = np.flatnonzero(placed)
    frame = component.copy()
    wanted = np.flatnonzero(~placed)
    found = scipy.spatial.KDTree(index[known]).query(index[wanted], k=min(_AROUND, len(known)))
    distance, near = (np.asarray(part).reshape(len(wanted), -1) for part in found)
    theirs = component[known[near]]
    votes = np.zeros(theirs.shape)
    for k in range(theirs.shape[1]):
        votes[:, k] = ((theirs == theirs[:, k : k + 1]) / distance**2).sum(axis=1)
    best = votes.max(axis=1, keepdims=True)
    frame[wanted] = np.where(votes >= best * (1 - 1e-9), theirs, len(component)).min(axis=1)
    return frame
