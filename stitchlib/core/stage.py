"""What the stage does from tile to tile: how links differ from nominal, to judge links by.

A displacement along a grid axis has a typical shift from nominal per axis (scale, rotation and
skew of the grid), which may grow along the grid and alternate, and a scatter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stitchlib.core.links import Floats, Ints

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
