"""Covariances of two images at every displacement of a range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.peaks import centred_images
from stitchlib.core.searches import compared, feasible, make_plan, memory_order, part_of
from stitchlib.core.shifts import SearchRange
from stitchlib.core.spectra import correlation
from stitchlib.core.surface import make_surface

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Lags:
    """What two images have in common at every displacement of a range.

    All arrays have one entry per displacement, axes as in the images.
    """

    lower: Point
    """Displacement of the first entry, voxels."""
    n: Floats
    """Voxels compared."""
    cross: Floats
    """Sum of the products of both images' deviations from their means there."""
    spread_a: Floats
    """Sum of squared deviations of the pre image; 0 where constant."""
    spread_b: Floats
    """Sum of squared deviations of the post image; 0 where constant."""
    volume: float
    """Voxels per independent sample: the variance of the NCC of unrelated images with these
    autocorrelations is ``volume / n`` [1]_.

    .. [1] Bartlett, M. S. (1935). Some aspects of the time-correlation problem in regard to tests
       of significance. J. R. Stat. Soc. 98, 536-543.
    """

    def ncc(self) -> Floats:
        """Zero-mean normalised cross-correlation, 0 where a side is constant."""
        product = np.sqrt(self.spread_a) * np.sqrt(self.spread_b)
        known = product > 0
        return np.where(known, self.cross / np.where(known, product, 1.0), 0.0)


def covariances(pre: NDArray[Any], post: NDArray[Any], search: SearchRange, least: Point) -> Lags:
    """Compare two images at every displacement of a range that leaves overlap enough.

    Parameters
    ----------
    pre, post : ndarray, 1 to 3 axes
        Images.
    search : SearchRange
        Displacements, post corner minus pre corner, voxels.
    least : tuple of int
        Least extent of the overlap per axis, voxels.

    Returns
    -------
    Lags
        From one correlation in float32.

    Raises
    ------
    NoOverlapError
        No displacement has the overlap asked for.
    """
    possible = feasible(pre.shape, post.shape, search, least)
    axes = memory_order(pre.shape, pre.strides)
    plan = make_plan(pre.shape, post.shape, possible, axes)
    boxes = compared(pre.shape, post.shape, possible)
    a, b = centred_images(
        part_of(pre, boxes[0], None, plan, "pre"),
        part_of(post, boxes[1], None, plan, "post"),
        "ncc",
    )
    surface = make_surface(a, b, plan)
    c, power = correlation(a, b, plan, np.float32, power=True)
    n = surface.n.astype(np.float64)
    sums = [s.astype(np.float64) for s in (surface.a.plain, surface.b.plain)]
    cross = c - sums[0] * sums[1] / n
    spreads = [
        np.maximum(0.0, s.squares - p * p / n)
        for s, p in zip((surface.a, surface.b), sums, strict=True)
    ]
    # Where a side is constant, what is left is rounding.
    cross[(surface.spread == 0) | np.isnan(surface.spread)] = 0.0
    norms = surface.a.norm2 * surface.b.norm2
    order = [plan.slots[axes.index(axis)] for axis in range(len(axes))]
    arrays = [_ordered(array, order) for array in (n, cross, *spreads)]
    return Lags(
        possible.lower,
        arrays[0],
        arrays[1],
        arrays[2],
        arrays[3],
        max(1.0, power / norms) if norms else math.inf,
    )


def _ordered(array: Floats, order: list[int]) -> Floats:
    """Return the caller's axes of an array over the three axes of a plan."""
    absent = [i for i in range(3) if i not in order]
    return array.transpose(*order, *absent).reshape([array.shape[i] for i in order])
