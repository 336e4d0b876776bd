"""What speaks for the best displacement of a range: named numbers from which confidence is made.

Under the model that the images share a signal at one displacement d and are unrelated at all
others, the log-likelihood of d against no match at all is -n / (2 V) log(1 - NCC(d)²), with n / V
the number of independent samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.lags import Lags

Floats = NDArray[np.float64]

ABOUT = 2
"""Voxels about the best displacement that are no other one; how exactly it is known there is told
by the parts of the overlap."""
_MOST = 0.9999


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The best displacement of a range, and how it stands out."""

    index: Point
    """Entry of the lags."""
    displacement: Point
    """Post corner minus pre corner, voxels."""
    ncc: float
    """NCC there."""
    chance: float
    """Log-likelihood of the peak above that of the highest that unrelated images would give."""
    odds: float
    """Log-odds of about there, within two voxels, against everywhere else in the range."""
    odds_axis: tuple[float, ...]
    """The same for one axis at a time; infinite where the range has one displacement only."""
    rival: Point | None
    """Displacement of the next best peak, more than two voxels away; None if there is none."""
    border: tuple[bool, ...]
    """Whether the peak is on the border of the range, per axis."""


def weigh(lags: Lags, at: Point | None = None) -> Evidence:
    """Weigh a displacement, by default that of the highest NCC, against all others."""
    ncc = lags.ncc()
    # Smoothing is normalised by a guess from a part of the images: 1 may be passed a little.
    ncc *= min(1.0, _MOST / max(_MOST, float(ncc.max())))
    if at is None:
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(ncc)), ncc.shape))
    else:
        index = tuple(d - o for d, o in zip(at, lags.lower, strict=True))
    top = float(ncc[index])
    beside = _beside(ncc.shape, index, ABOUT)
    independent = _independent(lags, ncc, index)
    positive = np.maximum(ncc, 0.0)
    level = -0.5 * independent * np.log1p(-positive * positive)
    rest = level - level[index]
    searched = max(1.0, ncc.size / min(ncc.size, max(1.0, _lobe(ncc, index))))
    rival = _rival(ncc, beside)
    return Evidence(
        index,
        tuple(o + i for o, i in zip(lags.lower, index, strict=True)),
        top,
        float(level[index]) - math.log(searched),
        _log_odds(rest, beside),
        tuple(_axis_odds(rest, index, axis) for axis in range(ncc.ndim)),
        None if rival is None else tuple(o + r for o, r in zip(lags.lower, rival, strict=True)),
        tuple(n > 1 and i in (0, n - 1) for i, n in zip(index, ncc.shape, strict=True)),
    )


def _beside(shape: Point, index: Point, reach: int) -> NDArray[np.bool_]:
    """Mark the entries within ``reach`` of one."""
    found = np.zeros(shape, np.bool_)
    found[tuple(slice(max(0, i - reach), i + reach + 1) for i in index)] = True
    return found


def _independent(lags: Lags, ncc: Floats, index: Point) -> Floats:
    """Independent samples at every displacement: by theory, or fewer where the range shows it.

    Far from the peak the mean square of the NCC is 1 over their number.
    """
    theory = lags.n / lags.volume
    far = ~_beside(ncc.shape, index, 6) & (lags.n > 0.2 * lags.n[index])
    if np.count_nonzero(far) < 30:
        return theory
    seen = float(np.mean(ncc[far] ** 2 * theory[far]))
    return theory / max(1.0, seen)


def _lobe(ncc: Floats, index: Point) -> float:
    """Entries about a peak that are above half of its height: one independent trial."""
    if ncc[index] <= 0:
        return 1.0
    high = ncc > 0.5 * ncc[index]
    lobe = np.zeros(ncc.shape, np.bool_)
    lobe[index] = True
    size, before = 1, 0
    while size > before:
        for axis in range(ncc.ndim):
            line = np.moveaxis(lobe, axis, 0)
            line[1:] |= line[:-1]
            line[:-1] |= line[1:]
            lobe &= high
        size, before = int(np.count_nonzero(lobe)), size
    return float(size)


def _log_odds(rest: Floats, good: NDArray[np.bool_]) -> float:
    """Log of the ratio of likelihoods inside and outside, at most 1e6."""
    if good.all():
        return 1e6
    inside, outside = (float(np.logaddexp.reduce(rest[part])) for part in (good, ~good))
    return min(1e6, inside - outside)


def _axis_odds(rest: Floats, index: Point, axis: int) -> float:
    if rest.shape[axis] == 1:
        return math.inf
    good = np.zeros(rest.shape, np.bool_)
    i = index[axis]
    good[(slice(None),) * axis + (slice(max(0, i - ABOUT), i + ABOUT + 1),)] = True
    return _log_odds(rest, good)


def _rival(ncc: Floats, beside: NDArray[np.bool_]) -> Point | None:
    """Return the entry of the highest local maximum that is not about the best."""
    peaks = (ncc >= _highest_around(ncc)) & ~beside
    if not peaks.any():
        return None
    flat = int(np.argmax(np.where(peaks, ncc, -2.0)))
    return tuple(int(i) for i in np.unravel_index(flat, ncc.shape))


def _highest_around(values: Floats) -> Floats:
    """Return the highest of each entry and its neighbours, diagonal ones too."""
    found = values.copy()
    for axis in range(values.ndim):
        line = np.moveaxis(found, axis, 0)
        old = line.copy()
        np.maximum(line[1:], old[:-1], out=line[1:])
        np.maximum(line[:-1], old[1:], out=line[:-1])
    return found
