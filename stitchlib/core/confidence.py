"""From evidence to a probability, calibrated on phantoms, and to words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import fmean
from typing import Self

from stitchlib.core.boxes import AXES
from stitchlib.core.evidence import Evidence

CERTAIN = 0.99
"""Confidence from which a reason is not needed."""
UNLIKELY = 0.5
"""Confidence below which a link is not ok, however little confidence is asked for."""
_LEAST, _MOST = -10.0, 30.0
"""Evidence beyond these is all the same."""
_NO_RIVAL = 30.0
"""Standard deviations that stand for having no other peak in the range at all."""
_SELECTED = 3.0
"""Standard deviations that the best of many has over the next by being the best."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the confidence of a displacement is made of."""

    odds: float
    """Log-odds of about there, within two voxels, against everywhere else in the range."""
    odds_axis: tuple[float, ...]
    """The same per axis; infinite where there is one displacement only."""
    chance: float
    """Log-likelihood above the highest peak that unrelated images would give."""
    margin: tuple[float, ...]
    """Standard deviations, by the parts of the overlap, until it is a voxel off; per axis."""
    border: tuple[bool, ...]
    """Whether it is on the border of the range, per axis."""
    rival: float
    """How surely the parts of the overlap prefer it to the next best peak, standard deviations;
    infinite where there is none."""

    @classmethod
    def of(cls, evidence: Evidence, margin: Sequence[float], rival: float) -> Self:
        """Put together what was found; margins of axes that are not searched do not matter."""
        return cls(
            evidence.odds,
            evidence.odds_axis,
            evidence.chance,
            tuple(
                math.inf if math.isinf(odds) else value
                for odds, value in zip(evidence.odds_axis, margin, strict=True)
            ),
            evidence.border,
            rival,
        )

    @classmethod
    def of_projections(
        cls,
        odds: Sequence[Sequence[float]],
        chance: Sequence[float],
        rival: Sequence[float],
        fixed: tuple[bool, ...],
    ) -> Self:
        """Put together what projections along all axes say about one displacement.

        They show the same voxels, so what they say does not add up: their mean counts, and the
        nearest rival.

        Parameters
        ----------
        odds : sequence of sequence of float
            Per axis, the log-odds along it in every projection that has it.
        chance, rival : sequence of float
            Of every projection.
        fixed : tuple of bool
            The axes along which there is one displacement only.
        """
        axes = tuple(
            math.inf if there else fmean(max(-_NO_RIVAL, min(v, _NO_RIVAL)) for v in values)
            for there, values in zip(fixed, odds, strict=True)
        )
        searched = [value for value in axes if not math.isinf(value)]
        whole = reduce(_both, searched) if searched else 1e6
        nobody = (math.inf,) * len(axes)
        return cls(whole, axes, fmean(chance), nobody, (False,) * len(axes), min(rival))

    @classmethod
    def hopeless(cls, evidence: Evidence) -> Self:
        """Return those of a peak that unrelated images would have: nothing else is asked."""
        return cls.of(evidence, (0.0,) * len(evidence.displacement), 0.0)

    def together(self, rough: Features, border: tuple[bool, ...]) -> Features:
        """Return what a decision at full resolution and the coarse one it follows say together."""
        return Features(
            _both(self.odds, rough.odds),
            tuple(_both(a, b) for a, b in zip(self.odds_axis, rough.odds_axis, strict=True)),
            rough.chance,
            self.margin,
            border,
            rough.rival,
        )

    def numbers(self, axis: int | None = None) -> tuple[float, float, float]:
        """Return distance, chance and margin, bounded, of one axis or of all together.

        The distance to all else in the range is told by the log-odds, or, where texture is smooth
        and noise little, better by how surely the next best peak fits less well.
        """
        odds, margin = (
            (self.odds, min(self.margin))
            if axis is None
            else (max(self.odds, self.odds_axis[axis]), self.margin[axis])
        )
        distance = max(odds, min(self.rival, _NO_RIVAL) - _SELECTED)
        return _bounded(distance), _bounded(self.chance), min(_MOST, margin)


def _both(first: float, second: float) -> float:
    """Return the log-odds against being wrong in one way or in another."""
    if math.isinf(first) or math.isinf(second):
        return min(first, second)
    low, high = sorted((first, second))
    return low - math.log1p(math.exp(low - high))


def _bounded(value: float) -> float:
    """Bound an evidence: more of it, or more against it, is all the same."""
    return max(_LEAST, min(_MOST, value)) / 5


GATES = ((-3.64, 3.47), (-1.41, 3.9))
"""Constant and slope of the logistic functions of distance and chance, which are fifths of
log-odds; made by benchmarks/calibration.py."""
_BORDER = 0.85
"""Factor for a peak on the border of its range: the truth may lie outside."""


def confidence(features: Features) -> tuple[float, tuple[float, ...]]:
    """Return the probability of being within one voxel of the truth, in all and per axis.

    A product of logistic functions of distance and chance, and of the probability that a normal
    error is less than the margin: a link is as weak as its weakest side.
    """
    axes = tuple(
        _probability(features.numbers(axis)) * (_BORDER if features.border[axis] else 1.0)
        if not math.isinf(features.odds_axis[axis])
        else 1.0
        for axis in range(len(features.margin))
    )
    return min(_probability(features.numbers()), *axes), axes


def apart(features: Features) -> float:
    """Return the probability that it is no other displacement of the range, nor a chance peak."""
    distance, chance, _ = features.numbers()
    return math.prod(_gates(distance, chance))


def _gates(distance: float, chance: float) -> tuple[float, float]:
    first, second = (
        1 / (1 + math.exp(-(constant + slope * number)))
        for (constant, slope), number in zip(GATES, (distance, chance), strict=True)
    )
    return first, second


def _within(margin: float) -> float:
    """Return the probability that it is less than a voxel off, if it is the right peak."""
    return math.erf(margin / math.sqrt(2))


def _probability(numbers: tuple[float, float, float]) -> float:
    distance, chance, margin = numbers
    return math.prod(_gates(distance, chance)) * _within(margin)


def reason(features: Features, whole: float, axes: tuple[float, ...]) -> str:
    """Say what speaks against a displacement; nothing where it is certain."""
    if whole >= CERTAIN:
        return ""
    words = []
    distance, chance, margin = features.numbers()
    if any(features.border):
        words.append(f"the peak is on the border of the range in {_names(features.border)}")
    unique, real = _gates(distance, chance)
    if real <= min(unique, _within(margin)):
        words.append("the peak is no higher than unrelated images would give")
    elif unique <= _within(margin):
        words.append("another displacement in the range is as good")
    elif not words:
        vague = tuple(p < CERTAIN for p in axes)
        words.append(
            f"not known to a voxel along {_names(vague)}" if any(vague) else "not quite sure"
        )
    sure = tuple(
        p >= CERTAIN and not math.isinf(o) for p, o in zip(axes, features.odds_axis, strict=True)
    )
    if any(sure):
        words.append(f"sure along {_names(sure)} only")
    return "; ".join(words)


def _names(marked: tuple[bool, ...]) -> str:
    return ", ".join(axis for axis, here in zip(AXES, marked, strict=False) if here)
