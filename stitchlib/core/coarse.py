"""Candidates from a coarse level, and the part of the overlap where they are decided."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.filters import binned
from stitchlib.core.shifts import SearchRange

COARSE_FROM = 1 << 20
"""Voxels of both images together from which a coarse level is worth its while."""
DECIDE_ON = (1 << 17, 1 << 20, 1 << 23)
"""Voxels of the overlap on which a candidate is decided: first so many, if need be more."""
_LEAST_EXTENT = 24
"""Axes with fewer voxels, or of smaller ranges than four, stay as they are."""

Images = tuple[NDArray[Any], NDArray[Any]]


def factors(pre: Point, post: Point, search: SearchRange, most: int = 2) -> Point:
    """Return by how much to bin each axis."""
    return tuple(
        most if min(n, m) >= _LEAST_EXTENT and span > 4 else 1
        for n, m, span in zip(pre, post, search.shape, strict=True)
    )


def coarse(
    images: Images, search: SearchRange, least: Point, by: Point
) -> tuple[Images, SearchRange, Point]:
    """Return images, range and least overlap of a coarse level."""
    return (
        (binned(images[0], by), binned(images[1], by)),
        SearchRange(
            tuple(math.floor(v / f) for v, f in zip(search.lower, by, strict=True)),
            tuple(math.ceil(v / f) for v, f in zip(search.upper, by, strict=True)),
        ),
        tuple(max(1, v // f) for v, f in zip(least, by, strict=True)),
    )


def around(displacement: Point, by: Point, search: SearchRange) -> SearchRange:
    """Return the full-resolution displacements that a coarse one may stand for, and two more."""
    middle = [d * f for d, f in zip(displacement, by, strict=True)]
    reach = [f + 1 if f > 1 else 2 for f in by]
    lower = [
        min(max(m - r, a), b)
        for m, r, a, b in zip(middle, reach, search.lower, search.upper, strict=True)
    ]
    upper = [
        max(min(m + r, b), a)
        for m, r, a, b in zip(middle, reach, search.lower, search.upper, strict=True)
    ]
    return SearchRange(tuple(lower), tuple(upper))


def central(images: Images, local: SearchRange, most: int) -> tuple[Images, SearchRange, Point]:
    """Cut two images to a central part of their overlap.

    Parameters
    ----------
    images : tuple of ndarray
        Pre and post.
    local : SearchRange
        Displacements that are to be decided, voxels.
    most : int
        Voxels of the part, at most.

    Returns
    -------
    tuple of ndarray
        Parts of pre and of post, that of post a little larger.
    SearchRange
        The displacements in coordinates of the parts.
    tuple of int
        What takes a displacement of the parts to one of the images, when added.
    """
    pre, post = images
    lower = [max(0, b) for b in local.upper]
    upper = [min(n, a + m) for a, n, m in zip(local.lower, pre.shape, post.shape, strict=True)]
    while math.prod(b - a for a, b in zip(lower, upper, strict=True)) > most:
        extents = [b - a for a, b in zip(lower, upper, strict=True)]
        axis = extents.index(max(extents))
        quarter = (extents[axis] + 3) // 4
        lower[axis], upper[axis] = lower[axis] + quarter, upper[axis] - quarter
    start = [max(0, a - d) for a, d in zip(lower, local.upper, strict=True)]
    stop = [min(m, b - d) for b, d, m in zip(upper, local.lower, post.shape, strict=True)]
    parts = (
        pre[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))],
        post[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))],
    )
    by = tuple(a - b for a, b in zip(lower, start, strict=True))
    shifted = SearchRange(
        tuple(v - k for v, k in zip(local.lower, by, strict=True)),
        tuple(v - k for v, k in zip(local.upper, by, strict=True)),
    )
    return parts, shifted, by
