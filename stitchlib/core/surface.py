"""Similarity of every displacement, but for the correlation itself, with bounds of its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.peaks import Image, Measure
from stitchlib.core.searches import Plan
from stitchlib.core.windows import EPS, Sums, constant_windows, window_sums

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """Similarity of every lag but for the correlation itself."""

    n: NDArray[np.int64]
    a: Sums
    b: Sums
    spread: Floats
    """n² times both standard deviations; 0 where a side is constant, NaN where unknown."""
    loose: Floats
    """Bound of the relative error of ``spread``."""
    offset: float
    """Constant to add to a - b, in the units of the pixels."""

    @property
    def exact(self) -> bool:
        """Whether all sums are integers."""
        return bool(self.a.squares.dtype == np.int64 == self.b.squares.dtype)

    def values(self, measure: Measure, c: Floats, error: float) -> tuple[Floats, Floats]:
        """Similarity of each lag and a bound of its error, given the correlation ``c``."""
        return self._ncc(c, error) if measure == "ncc" else self._ssd(c, error)

    def _ncc(self, c: Floats, error: float) -> tuple[Floats, Floats]:
        n = self.n.astype(np.float64)
        left, right = self.a.plain.astype(np.float64), self.b.plain.astype(np.float64)
        known = self.spread > 0
        divisor = np.where(known, self.spread, 1.0)
        value = np.where(known, (n * c - left * right) / divisor, 0.0)
        slack = n * error + 4 * EPS * (np.abs(n * c) + np.abs(left * right))
        slack += np.abs(left) * self.b.error_plain + np.abs(right) * self.a.error_plain
        bound = slack / divisor + np.abs(value) * self.loose + 4 * EPS
        bound = np.where(known, bound, np.where(np.isnan(self.spread), 2.0, 0.0))
        return value, bound

    def _ssd(self, c: Floats, error: float) -> tuple[Floats, Floats]:
        squares = self.a.squares.astype(np.float64) + self.b.squares
        cross = 2 * self.offset * (self.a.plain.astype(np.float64) - self.b.plain)
        n = self.n.astype(np.float64)
        value = -((squares - 2 * c + cross) / n + self.offset * self.offset)
        terms = squares + 2 * np.abs(c) + np.abs(cross)
        fixed = 2 * error + self.a.error_squares + self.b.error_squares
        fixed += 2 * abs(self.offset) * (self.a.error_plain + self.b.error_plain)
        bound = (fixed + 8 * EPS * terms) / n + 8 * EPS * self.offset * self.offset
        # Without any contrast there is nothing to round.
        return value, np.where((terms > 0) | (fixed > 0), bound, 0.0)


def make_surface(a: Image, b: Image, plan: Plan) -> Surface:
    """Sum both images over the window of every lag."""
    windows = plan.lag_windows()
    in_a = [(w[0], w[1]) for w in windows]
    in_b = [(w[2], w[3]) for w in windows]
    extents = [w[1] - w[0] for w in windows]
    n: Any = extents[0][:, None, None] * extents[1][:, None] * extents[2]
    sums_a, sums_b = window_sums(a, in_a), window_sums(b, in_b)
    spread, loose = np.ones(n.shape), np.zeros(n.shape)
    for image, sums, where in ((a, sums_a, in_a), (b, sums_b, in_b)):
        square, error = spread_of(n, sums)
        unknown = square <= error
        if sums.error_squares and unknown.any():
            square = np.where(
                unknown, np.where(constant_windows(image, where), 0.0, np.nan), square
            )
            error = np.where(unknown, 0.0, error)
        safe = np.where(square > 0, square, 1.0)
        loose += error / safe
        spread *= np.sqrt(square)
    offset = (a.centre - b.centre) / a.scale
    return Surface(n, sums_a, sums_b, spread, loose, offset)


def spread_of(n: NDArray[np.int64], sums: Sums) -> tuple[Floats, Floats]:
    """n² times the variance of every window, and a bound of its error.

    Both terms may exceed 64 bits. Modulo 2⁶⁴ their difference is exact all the same, and a small
    difference, the one that rounding would spoil, is that remainder itself.
    """
    plain, squares = sums.plain.astype(np.float64), sums.squares.astype(np.float64)
    both = n * squares
    rounded = np.maximum(both - plain * plain, 0.0)
    error = 4 * EPS * both
    if sums.squares.dtype != np.float64:
        remainder = (n * sums.squares - sums.plain * sums.plain).astype(np.float64)
        small = rounded + error < 2.0**62
        return np.where(small, remainder, rounded), np.where(small, 0.0, error)
    error += n * sums.error_squares
    error += (2 * np.abs(plain) + sums.error_plain) * sums.error_plain
    return rounded, error
