"""What the stage does: a model of where it takes tiles, fitted to tiles placed by their images.

A displacement along a grid axis has a typical shift from nominal per axis (scale, rotation and
skew of the grid) and a scatter. For tiles that no link places, positions themselves are modelled:
an offset per component, terms of the grid index as far as the data support them (linear, quadratic,
and the alternation of rows or columns that a snake-like path with backlash leaves), and what
neighbouring tiles have in common beyond that, as a Gaussian Markov field on the grid (Rue and Held
2005, Gaussian Markov Random Fields) with one roughness per grid axis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

LEAST_SCATTER = 1.0
"""A stage is never taken for better than this when links are judged by it, voxels."""
FEW_LINKS = 8
"""Links that it takes to judge others by the stage."""
SUPPORT = 12.0
"""F of a term of the model that is kept (one in about a thousand by chance)."""
_MOST = 0.65
"""Share of the links along a grid axis that must agree on what is typical of it."""
_STEPS = 4
"""Grid indices that it takes to say that a shift grows along an axis."""
_ENOUGH = 5000
"""Of more links, every so many-th tell enough about the stage."""
_AROUND = 16
"""Neighbours that vote on the component that a tile without links follows."""
_EXACT = 2000
"""Up to so many tiles without links their standard deviations are solved for one by one."""


@dataclass(frozen=True, slots=True)
class StageShifts:
    """How displacements differ from nominal."""

    typical: Floats
    """Shift of a link along each grid axis, voxels, shape (grid axes, image axes)."""
    gradient: Floats
    """By how much it grows from tile to tile, voxels, shape (grid axes, index axes, image axes)."""
    alternation: Floats
    """What odd steps along each grid axis have more, and even ones less (a snake-like path with
    backlash), voxels, shape (grid axes, image axes)."""
    centre: Floats
    """Grid index where it is ``typical``, shape (3,)."""
    scatter: Floats
    """Standard deviation about it, voxels, shape (image axes,); nan = unknown."""
    narrow: Floats
    """The same, to judge rows that agree among themselves: where the grid is too small to tell how
    its rows scatter, not above twice what links scatter along the better grid axis."""
    links: int
    """Links it was fitted to."""

    @property
    def known(self) -> bool:
        """Whether links may be judged by it."""
        return self.links >= FEW_LINKS

    @property
    def width(self) -> Floats:
        """Standard deviations to judge by, voxels: wider where few links tell the scatter."""
        scatter = np.fmax(self.scatter, LEAST_SCATTER)
        wide: Floats = scatter * (1 + 6 / self.links) if self.known else scatter
        return wide

    def deviation(self, axis: Ints, where: Ints, shift: Floats) -> Floats:
        """Shifts less what the model expects there, voxels, shape (links, image axes)."""
        slope = np.einsum("ki,kia->ka", where - self.centre, self.gradient[axis])
        swing = self.alternation[axis] * _parity(axis, where)[:, None]
        deviation: Floats = shift - self.typical[axis] - slope - swing
        return deviation

    def units(self, axis: Ints, where: Ints, shift: Floats) -> Floats:
        """Largest deviation over the axes in standard deviations, shape (links,)."""
        deviation = np.abs(self.deviation(axis, where, shift) / self.width)
        worst: Floats = deviation.max(axis=1, initial=0)
        return worst

    def likelihood(self, axis: Ints, where: Ints, shift: Floats) -> Floats:
        """Log-likelihood of shifts, up to a constant: Student's t with 4 degrees of freedom."""
        square = ((self.deviation(axis, where, shift) / self.width) ** 2).sum(axis=1)
        likelihood: Floats = -(4 + shift.shape[1]) / 2 * np.log1p(square / 4)
        return likelihood


def fit_shifts(axis: Ints, where: Ints, shift: Floats) -> StageShifts:
    """Fit typical shifts and scatter robustly.

    Parameters
    ----------
    axis : array of int, shape (links,)
        Grid axis of each link, 0, 1, 2.
    where : array of int, shape (links, 3)
        Grid index of the first end.
    shift : array of float, shape (links, axes)
        Displacement − nominal, voxels.
    """
    n_axes, links = shift.shape[1], len(shift)
    typical, swing, gradient = (np.zeros((*k, n_axes)) for k in ((3,), (3,), (3, 3)))
    centre = where.mean(axis=0) if links else np.zeros(3)
    if links < FEW_LINKS:
        narrow = _spread(shift)
        return StageShifts(typical, gradient, swing, centre, narrow, narrow, links)
    if links > _ENOUGH:
        step = links // _ENOUGH
        axis, where, shift = axis[::step], where[::step], shift[::step]
    start = np.array([np.median(shift[axis == d], axis=0) if (axis == d).any() else typical[d]
                      for d in range(3)])  # fmt: skip
    # Half of the links along one direction may be wrong: the better one tells what is usual.
    both = [_spread((shift - start[axis])[axis == d]) for d in range(3) if (axis == d).sum() >= 4]
    better = np.fmax(np.min([*both, _spread(shift)], axis=0), LEAST_SCATTER)
    scatter, parity = 1.5 * np.asarray(better, np.float64), _parity(axis, where)
    for d in range(3):
        mine, place = shift[axis == d], (where - centre)[axis == d]
        for a in range(n_axes if len(mine) else 0):
            values, odd = mine[:, a], parity[axis == d]
            swing[d, a] = _alternation(values, odd, where[axis == d, d], scatter[a])
            values = values - swing[d, a] * odd
            typical[d, a] = _typical(values, float(np.median(values)), scatter[a])
            typical[d, a], gradient[d, :, a] = _slopes(values, place, typical[d, a], scatter[a])
    fit = StageShifts(typical, gradient, swing, centre, scatter, scatter, links)
    found = _spread(fit.deviation(axis, where, shift))
    narrow = found
    if min(len(np.unique(where[axis == d, d])) for d in np.unique(axis)) < _STEPS:
        narrow = np.asarray(np.minimum(found, 2 * better), np.float64)
    return replace(fit, scatter=found, narrow=narrow)


def _parity(axis: Ints, where: Ints) -> Floats:
    """Return +1 for odd steps along their grid axis, −1 for even ones."""
    odd = where[np.arange(len(axis)), axis] % 2
    return np.where(odd == 1, 1.0, -1.0)


def _alternation(values: Floats, parity: Floats, at: Ints, scatter: float) -> float:
    """Half the difference of odd and even steps where most of each agree on it; else 0."""
    middle, variance = [], 0.0
    if len(np.unique(at)) <= _STEPS:
        return 0.0
    for sign in (1, -1):
        mine = values[parity == sign]
        if len(np.unique(at[parity == sign])) < _STEPS // 2:
            return 0.0
        middle.append(float(np.median(mine)))
        if (np.abs(mine - middle[-1]) < 3 * scatter).mean() < _MOST:
            return 0.0
        variance += scatter**2 / len(mine)
    half = (middle[0] - middle[1]) / 2
    return half if abs(half) > 3 * np.sqrt(variance) else 0.0


def _spread(values: Floats) -> Floats:
    """Return the standard deviation about 0, from the four tenths of the values nearest to it."""
    if not len(values):
        return np.full(values.shape[1], np.nan)
    # 0.5244: what four tenths of the absolute values of a standard normal variable are below.
    spread: Floats = np.quantile(np.abs(values), 0.4, axis=0) / 0.5244
    return spread


def _slopes(values: Floats, place: Floats, typical: float, scatter: float) -> tuple[float, Floats]:
    """Let the typical shift grow along grid axes where the data support that."""
    gradient: Floats = np.zeros(3)
    for _ in range(3):
        rest = values - typical - place @ gradient
        weight = np.maximum(1 - (rest / (4 * scatter)) ** 2, 0) ** 2
        best, gain, step = -1, SUPPORT, 0.0
        for i in range(3):
            column = place[:, i] - np.average(place[:, i], weights=weight + 1e-9)
            size = float(weight @ column**2)
            steps = len(np.unique(place[weight > 0, i]))
            if steps < _STEPS or (weight > 0).sum() < max(FEW_LINKS, _MOST * len(values)):
                continue
            slope = float(weight @ (column * rest)) / size
            left = float(weight @ (rest - slope * column) ** 2) / max(weight.sum() - 2, 1)
            f = slope**2 * size / max(left, 1e-4)
            if f > gain:
                best, gain, step = i, f, slope
        if best < 0:
            break
        gradient[best] += step
        weight = (
            np.maximum(1 - ((values - typical - place @ gradient) / (4 * scatter)) ** 2, 0) ** 2
        )
        if weight.sum() > 0:
            typical += float(weight @ (values - typical - place @ gradient)) / weight.sum()
    return typical, gradient


def _typical(values: Floats, median: float, scatter: float) -> float:
    """Centre of most values (Tukey's biweight), where it is clearly not nominal; else 0."""
    centre, weight = _biweight(values, median, 4 * scatter)
    enough = (weight > 0).sum() >= _MOST * len(values)
    clear = abs(centre) > 3 * scatter / np.sqrt(max(weight.sum(), 1.0))
    return centre if enough and clear else 0.0


def _biweight(values: Floats, centre: float, width: float) -> tuple[float, Floats]:
    weight = np.zeros(len(values))
    for _ in range(20):
        weight = np.maximum(1 - ((values - centre) / width) ** 2, 0) ** 2
        if weight.sum() <= 0:
            break
        centre = float(weight @ values / weight.sum())
    return centre, weight


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where the model expects tiles."""

    offset: Floats
    """Position − nominal, voxels, in the frame of its component, shape (n, axes)."""
    sigma: Floats
    """Its standard deviation, voxels; nan where it cannot be told; shape (n, axes)."""
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
    scatter = np.full(axes, np.nan)
    terms: list[dict[str, float]] = [{} for _ in range(axes)]
    if not placed.any():
        return Prediction(expected, sigma, terms, scatter)
    frames = np.unique(frame[placed], return_inverse=True)[1]
    count = np.bincount(frames)
    lookup = np.zeros(int(frame.max()) + 1, np.int64)
    lookup[frame[placed]] = frames
    mine = lookup[frame]
    named = _terms(index)
    for a in range(axes):
        y = offset[placed, a]
        trend, terms[a] = _fit_terms(named, placed, frames, count, y)
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
    return Prediction(expected, sigma, terms, scatter)


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
    coupling = coo_array((w, (a, b)), shape=(n, n))
    factor = splu((diags_array(diagonal) - coupling - coupling.T).tocsc(), "MMD_AT_PLUS_A")
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
    found = KDTree(index[known]).query(index[wanted], k=min(_AROUND, len(known)))
    distance, near = (np.asarray(part).reshape(len(wanted), -1) for part in found)
    theirs = component[known[near]]
    votes = np.zeros(theirs.shape)
    for k in range(theirs.shape[1]):
        votes[:, k] = ((theirs == theirs[:, k : k + 1]) / distance**2).sum(axis=1)
    best = votes.max(axis=1, keepdims=True)
    frame[wanted] = np.where(votes >= best * (1 - 1e-9), theirs, len(component)).min(axis=1)
    return frame
