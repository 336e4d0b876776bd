"""Candidates from maximum projections along all axes, combined."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.filters import filtered
from stitchlib.core.lags import covariances
from stitchlib.core.shifts import SearchRange

Images = tuple[NDArray[Any], NDArray[Any]]

_MOST = 0.9999


def projections(images: Images, middle: Point) -> list[Images]:
    """Project two images along each of their axes.

    Parameters
    ----------
    images : tuple of ndarray
        Pre and post, equal axes.
    middle : tuple of int
        Displacement at which both show the same planes: only these are projected, since others
        would put what one image does not show into the projection of the other.

    Returns
    -------
    list of tuple of ndarray
        Maxima along the first axis, the second, …; each without that axis.
    """
    found = []
    for axis, by in enumerate(middle):
        n, m = (image.shape[axis] for image in images)
        low, high = max(0, by), min(n, m + by)
        before = (slice(None),) * axis
        found.append(
            (
                images[0][(*before, slice(low, high))].max(axis=axis),
                images[1][(*before, slice(low - by, high - by))].max(axis=axis),
            )
        )
    return found


def without(values: Point, axis: int) -> Point:
    """Return the values of all axes but one."""
    return values[:axis] + values[axis + 1 :]


def combined(
    projected: list[Images], search: SearchRange, width: float, *, flat: bool
) -> Point | None:
    """Find the displacement that all projections together speak for most.

    Each projection tells about the axes that it has; the log-likelihoods of their normalised
    cross-correlations add up.

    Parameters
    ----------
    projected : list of tuple of ndarray
        See `projections`.
    search : SearchRange
        Displacements to try, all of them possible.
    width : float
        Width of a Gaussian, voxels.
    flat : bool
        Whether shading is taken off.

    Returns
    -------
    tuple of int
        A displacement of the range; None where no projection has any contrast.
    """
    total = np.zeros(search.shape)
    for axis, images in enumerate(projected):
        a, b = (filtered(image, width, flat=flat) for image in images)
        lags = covariances(a, b, search.without(axis), (1,) * a.ndim)
        if math.isinf(lags.volume):
            continue
        ncc = np.clip(lags.ncc(), 0.0, _MOST)
        level = -0.5 * lags.n / lags.volume * np.log1p(-ncc * ncc)
        total += np.expand_dims(level, axis)
    if not total.any():
        return None
    index = np.unravel_index(int(np.argmax(total)), total.shape)
    return tuple(int(i) + low for i, low in zip(index, search.lower, strict=True))
