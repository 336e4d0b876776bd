"""Where exactly, to parts of a voxel, two images fit best, and the standard error of that.

Both images are cut to what they show of their overlap before they are smoothed, so that what a
filter makes of the borders is alike in both. Scaled alike, b = a + δ·∇a + noise, and least squares
over the voxels give δ [1]_: from products of one image with the other only, as their noises are
independent, so that noise makes gradients look no steeper. The error is that of the gradients
times what is left of b - a, summed over small blocks [2]_; where few blocks say it all, the error
is itself not well known [3]_.

.. [1] Lucas, B. D. & Kanade, T. (1981). An iterative image registration technique with an
   application to stereo vision. Proc. 7th IJCAI, 674-679.
.. [2] White, H. (1980). A heteroskedasticity-consistent covariance matrix estimator and a direct
   test for heteroskedasticity. Econometrica 48, 817-838.
.. [3] Satterthwaite, F. E. (1946). An approximate distribution of estimates of variance
   components. Biometrics Bulletin 2, 110-114.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from stitchlib.core.agreement import Windows, block_sums, central_parts, common, within
from stitchlib.core.boxes import Point
from stitchlib.core.filters import filtered

Floats = NDArray[np.float64]
F32 = NDArray[np.float32]

_INTERPOLATION = 0.01
"""Error where there is no noise, voxels (measured on phantoms)."""
_INTERPOLATION_LITTLE = 0.015
"""The same where no more is looked at than a small part."""
_WELL = 0.1
"""Standard error from which no more of the overlap is looked at, voxels."""
_LITTLE = 1 << 15
"""Voxels of the part that images that look alike are tried on first."""
_PLAIN = 0.02
"""Error from which no more of them is looked at: most of it is that of the interpolation."""
_BLOCK = 3
"""Voxels along an axis over which errors are summed: noise may be alike in neighbours."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far from a whole displacement two images fit best, one number per axis."""

    moves: tuple[float, ...]
    """Voxels; 0 along axes that were not asked for."""
    errors: tuple[float, ...]
    """Standard errors, voxels; infinite along axes that were not asked for or cannot be told."""
    freedom: tuple[float, ...]
    """Degrees of freedom of the errors: in how many blocks they were seen."""
    interpolation: float = _INTERPOLATION
    """Error where there is no noise, voxels."""

    def spread(self) -> tuple[float, ...]:
        """Return what 68 % of the errors are below: more than the error where few blocks say it."""
        return tuple(
            math.hypot(error * _beyond(freedom), self.interpolation)
            for error, freedom in zip(self.errors, self.freedom, strict=True)
        )

    def margins(self, moves: tuple[float, ...]) -> tuple[float, ...]:
        """Return the deviations of a normal error that are as rare as these being a voxel off."""
        found = []
        for mine, move, error, freedom in zip(
            self.moves, moves, self.errors, self.freedom, strict=True
        ):
            # To either side, a voxel is as far as that from where the images fit best.
            sides = [
                as_normal((1 + way) / max(error, self.interpolation), freedom)
                for way in (mine - move, move - mine)
            ]
            rare = np.logaddexp(*scipy.special.log_ndtr(np.negative(sides)))
            found.append(max(0.0, -float(scipy.special.ndtri_exp(rare - math.log(2)))))
        return tuple(found)


def place(
    pre: NDArray[Any],
    post: NDArray[Any],
    best: Point,
    axes: tuple[bool, ...],
    *,
    step: int = 1,
    width: float = 0.0,
    flat: bool = False,
    alike: bool = False,
) -> Place:
    """Find where exactly two images fit best.

    Parameters
    ----------
    pre, post : ndarray
        Images of equal axes, not filtered.
    best : tuple of int
        Displacement, post corner minus pre corner, voxels.
    axes : tuple of bool
        Along which axes.
    step : int
        Voxels to either side over which gradients are taken.
    width, flat
        As of `filtered`.
    alike : bool
        Whether there is so little noise that a small part may make it plain.

    Returns
    -------
    Place
        From the centre of the overlap, or from as much more of it as makes it well known.
    """
    found = Place((0.0,) * len(best), (math.inf,) * len(best), (1.0,) * len(best))
    windows = common(pre.shape, post.shape, (best,))
    if windows is None:
        return found
    # Of two planes, one step is from half-way between them.
    steps = tuple(
        min(step, b - a - 1, max(1, (b - a - 1) // 2)) if searched else 0
        for searched, (a, b) in zip(axes, windows, strict=True)
    )
    along = [axis for axis, s in enumerate(steps) if s]
    if not along:
        return found
    view = steps, width, flat
    parts = central_parts(windows)
    if alike and (little := central_parts(windows, _LITTLE)[:1]) != parts[:1]:
        found = _seen_in(little, (pre, post), best, view)
        found = replace(found, interpolation=_INTERPOLATION_LITTLE)
        if all(found.spread()[axis] <= _PLAIN for axis in along):
            return found
    return _seen_in(parts, (pre, post), best, view)


def _seen_in(
    parts: Sequence[Windows],
    images: tuple[NDArray[Any], NDArray[Any]],
    best: Point,
    view: tuple[Point, float, bool],
) -> Place:
    """Find where exactly images fit best, part after part until it is well known.

    ``view`` are steps, along at least one axis, and how images are filtered.
    """
    steps, width, flat = view
    along = [axis for axis, s in enumerate(steps) if s]
    size = len(along) + 2
    slope: Floats = np.zeros(size)
    bend: Floats = np.zeros((size, size))
    rests: list[Floats] = []
    for part in parts:
        pre, post = within(images[0], part, best), within(images[1], part, (0,) * len(best))
        fields = _Fields((pre, post), steps, width, flat)
        slope, bend = slope + fields.slope(), bend + fields.bend()
        inverse = _inverse(bend)
        moves = inverse @ slope
        # An axis without signal is anywhere, which is not to spoil the others.
        rests.append(fields.rests(np.clip(moves, -1, 1)))
        known = np.asarray(inverse.any(axis=1))
        found = _place(len(best), along, known, moves, inverse @ np.concatenate(rests, axis=1))
        if all(found.spread()[axis] <= _WELL for axis in along):
            break
    return found


def _inverse(bend: Floats) -> Floats:
    """Invert the normal equations; the last two unknowns are gain and offset.

    If noise makes them no minimum, each axis is solved alone, and rows of axes without one are 0.
    """
    size = len(bend)
    if np.linalg.eigvalsh(bend)[0] > 0:
        return np.asarray(np.linalg.inv(bend), np.float64)
    found = np.zeros((size, size))
    for axis in range(size - 2):
        alone = np.ix_([axis, size - 2, size - 1], [axis, size - 2, size - 1])
        if np.linalg.eigvalsh(bend[alone])[0] > 0:
            found[axis, alone[1][0]] = np.linalg.inv(bend[alone])[0]
    return found


def _place(
    axes: int, along: list[int], known: NDArray[np.bool_], moves: Floats, parts: Floats
) -> Place:
    """Put together moves and what every block adds to their errors: (fields, blocks)."""
    squares = parts**2
    variance, fourth = squares.sum(axis=1), (squares**2).sum(axis=1)
    # Of normal errors the mean fourth power is three times the mean square, squared.
    seen = np.where(fourth > 0, variance**2 / np.where(fourth > 0, fourth, 1.0), np.inf)
    freedom = np.clip(3 * seen - 2, 1.0, parts.shape[1])
    found = np.zeros(axes), np.full(axes, np.inf), np.ones(axes)
    errors = np.where(known, np.sqrt(variance), np.inf)
    for values, all_of_them in zip(found, (moves, errors, freedom), strict=True):
        values[along] = all_of_them[: len(along)]
    moved, error, free = (tuple(values.tolist()) for values in found)
    return Place(moved, error, free)


def _scaled(image: NDArray[Any], seen: NDArray[Any]) -> tuple[F32, F32]:
    """Return an image, and as a filter shows it, so that the latter has mean 0 and variance 1."""
    raw, shown = image.astype(np.float32), seen.astype(np.float32)
    raw -= raw.mean(dtype=np.float64)
    shown -= shown.mean(dtype=np.float64)
    square = float(np.vdot(shown, shown)) / shown.size
    scale = np.float32(1 / math.sqrt(square) if square > 0 else 0.0)
    raw *= scale
    shown *= scale
    return raw, shown


def _with_middle(image: F32, axes: Sequence[int]) -> F32:
    """Put the mean of two planes between them."""
    for axis in axes:
        middle = image.mean(axis=axis, dtype=np.float32)
        image = np.insert(image, 1, middle, axis=axis)
    return image


class _Fields:
    """What least squares is made of, voxel by voxel.

    The fields are the gradients along the axes, the image itself and 1: a blob that the border cuts
    is brighter in the image that shows more of it, so gain and offset are fitted along with the
    moves. Borders as wide as the steps are left out.
    """

    def __init__(
        self, images: tuple[NDArray[Any], NDArray[Any]], steps: Point, width: float, flat: bool
    ) -> None:
        self._steps, self._view = steps, (width, flat)
        self._along = [axis for axis, s in enumerate(steps) if s]
        # Two planes have a gradient half-way between them only.
        halves = [axis for axis in self._along if images[0].shape[axis] == 2]
        self._far = [s / (2 if axis in halves else 1) for axis, s in enumerate(steps)]
        scaled = [_scaled(image, filtered(image, width, flat=flat)) for image in images]
        pairs = [[_with_middle(image, halves) for image in pair] for pair in scaled]
        self._raw, self._seen = zip(*pairs, strict=True)
        self._pairs = self._both(self._seen)

    def _at(self, image: F32, axis: int | None = None, by: int = 0) -> F32:
        """Return the image beyond every inner voxel."""
        starts = [s * (1 + by * (d == axis)) for d, s in enumerate(self._steps)]
        inner = tuple(
            slice(start, start + n - 2 * s)
            for start, s, n in zip(starts, self._steps, image.shape, strict=True)
        )
        return np.ascontiguousarray(image[inner])

    def _rise(self, image: F32, axis: int, low: int, high: int) -> F32:
        """Return the differences of voxels so many steps beyond every inner one."""
        return self._at(image, axis, high) - self._at(image, axis, low)

    def _both(self, images: tuple[F32, ...]) -> list[list[F32]]:
        """Return every field but the last as either image has it."""
        fields = [
            [
                np.float32(1 / (2 * self._far[axis])) * self._rise(image, axis, -1, 1)
                for image in images
            ]
            for axis in self._along
        ]
        return [*fields, [self._at(image) for image in images]]

    def slope(self) -> Floats:
        """Return the sum of every field times b - a."""
        a, b = self._pairs[-1]
        rest = b - a
        sums = [(np.vdot(rest, da) + np.vdot(rest, db)) / 2 for da, db in self._pairs]
        return np.array([*sums, rest.sum(dtype=np.float64)])

    def bend(self) -> Floats:
        """Return the sums of products of all fields."""
        pairs = [*self._pairs, [np.ones_like(self._pairs[-1][0])] * 2]
        found = np.zeros((len(pairs), len(pairs)))
        for i, (da, db) in enumerate(pairs):
            for j, (ea, eb) in enumerate(pairs[: i + 1]):
                found[i, j] = found[j, i] = (np.vdot(da, eb) + np.vdot(ea, db)) / 2
        for i, axis in enumerate(self._along):
            # Over one step and over two, so that what finite differences miss cancels.
            near = [
                np.vdot(*(self._rise(image, axis, low, low + 1) for image in self._seen))
                for low in (-1, 0)
            ]
            found[i, i] = (found[i, i] + sum(near) / self._far[axis] ** 2) / 3
        return found

    def rests(self, moves: Floats) -> Floats:
        """Return the sums over blocks of every field times what is left of b - a.

        Seen before the filter, where noises are independent: that of what a filter shows has few
        independent blocks, in which least squares would leave too little.
        """
        pairs = self._both(self._raw)
        a, b = pairs[-1]
        rest = b - a
        # What the offset, the last unknown, takes off is the mean.
        for move, (da, db) in zip(moves[:-1], pairs, strict=True):
            rest -= np.float32(move / 2) * (da + db)
        rest -= rest.mean(dtype=np.float64)
        fields = [self._spread((da + db) * np.float32(0.5)) for da, db in self._pairs]
        if not self._view[1]:
            fields.append(np.ones_like(rest))
        sums = [block_sums(rest * field, _BLOCK).ravel() for field in fields]
        # Where shading is taken off there is no offset either.
        sums += [np.zeros_like(sums[0])] * (len(moves) - len(sums))
        return np.array(sums, np.float64)

    def _spread(self, field: F32) -> F32:
        """Return the weights of unfiltered voxels in the sum of a field times filtered ones."""
        width, flat = self._view
        if width == 0 and not flat:
            return field
        mean = field.mean(dtype=np.float64)
        inner = tuple(slice(s, n - s) for s, n in zip(self._steps, self._raw[0].shape, strict=True))
        whole = np.zeros_like(self._raw[0])
        whole[inner] = field - mean
        found: F32 = filtered(whole, width, flat=flat)[inner]
        return found if flat else found + np.float32(mean)


def as_normal(deviations: float, freedom: float) -> float:
    """Return the standard deviations of a normal error that are as rare as those of Student's t.

    The approximation of Wallace, D. L. (1959). Bounds on normal approximations to Student's and
    the chi-square distributions. Ann. Math. Stat. 30, 1121-1130.
    """
    scale = (8 * freedom + 1) / (8 * freedom + 3)
    found = scale * math.sqrt(freedom * math.log1p(deviations * deviations / freedom))
    return math.copysign(found, deviations)


def _beyond(freedom: float) -> float:
    """Return the deviations of Student's t that are as rare as one of a normal error."""
    scale = (8 * freedom + 3) / (8 * freedom + 1)
    return math.sqrt(freedom * math.expm1(scale * scale / freedom))
