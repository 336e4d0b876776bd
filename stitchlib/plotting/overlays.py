"""Colour images of overlapping tiles: every tile in its colour, added up.

Only the voxels that are shown are asked for. Readers of uncompressed files return views of the
file, so that of a large plane no more is read from disk than every n-th row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point
from stitchlib.errors import InputError
from stitchlib.io.images import Reader
from stitchlib.plotting.colours import Colour

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Contrast:
    """How intensities become brightness."""

    percentile: float | None = 98
    """Of the covered pixels, the brightness at which they are cut off; None = nowhere."""
    normalize: bool = True
    """Whether the cut-off becomes 1."""
    black: float | None = None
    """Percentile of the intensities that is shown as black; None = intensity 0 is."""

    def __post_init__(self) -> None:
        if self.percentile is not None and not 0 <= self.percentile <= 100:
            raise InputError(f"percentile = {self.percentile}: must be from 0 to 100, or None")


def overlay(
    boxes: Sequence[Box],
    readers: Sequence[Reader],
    colours: Sequence[Colour],
    window: Box,
    steps: Sequence[int],
    contrast: Contrast,
    *,
    planewise: bool = False,
) -> F32:
    """Add up the tiles, each in its colour.

    Parameters
    ----------
    boxes : list of Box
        Where the tiles lie, voxels.
    readers : list of Reader
        Their images.
    colours : list of tuple of float
        RGB from 0 to 1, one per tile.
    window : Box
        What is shown, voxels.
    steps : tuple of int, shape (ndim,)
        Every how many voxels one is shown, per axis, from the window's corner on.
    contrast : Contrast
    planewise : bool
        As in `sampled`.

    Returns
    -------
    array of float32, shape (pixels along each axis …, 3)
        Pixel k is voxel ``lower + k · step``. From 0 to 1 where it is normalised, else in units of
        intensity.
    """
    shape = tuple(-(-n // s) for n, s in zip(window.shape, steps, strict=True))
    parts = []
    for box, reader, colour in zip(boxes, readers, colours, strict=True):
        found = sampled(reader, box, window, steps, planewise=planewise)
        if found is not None:
            parts.append((*found, np.asarray(colour, np.float32)))
    black = _black([values for _, values, _ in parts], contrast.black)
    image = np.zeros((*shape, 3), np.float32)
    covered = np.zeros(shape, bool)
    for where, values, rgb in parts:
        image[where] += (values - black)[..., None] * rgb
        covered[where] = True
    return _cut_off(image, covered, contrast)


def sampled(
    reader: Reader, box: Box, window: Box, steps: Sequence[int], *, planewise: bool = False
) -> tuple[tuple[slice, ...], F32] | None:
    """Return every n-th voxel that an image has in a window.

    Parameters
    ----------
    reader : Reader
    box, window : Box
        Where the image lies, and what is shown, voxels.
    steps : tuple of int
        Every how many voxels one is shown, per axis.
    planewise : bool
        Read what is shown along the last axis one by one: for stacks seen from the side, whose
        compressed planes would else all be decoded.

    Returns
    -------
    where : tuple of slice
        The pixels of the window.
    values : array of float32, of their shape
        Not a number is 0.
    None
        Where the image has none of them.
    """
    inside = box.intersection(window)
    ends = [
        (-((w - a) // s), -((w - b) // s))  # of the pixels: rounded up
        for a, b, w, s in zip(inside.lower, inside.upper, window.lower, steps, strict=True)
    ]
    if inside.empty or any(first >= end for first, end in ends):
        return None
    corners = list(zip(ends, window.lower, steps, strict=True))
    lower: Point = tuple(w + first * s for (first, _), w, s in corners)
    upper: Point = tuple(w + (end - 1) * s + 1 for (_, end), w, s in corners)
    asked = Box(lower, upper).relative_to(box.lower)
    apart = _planes(asked, steps[-1]) if planewise else [asked]
    strides = tuple(slice(None, None, s) for s in steps)
    parts = [reader.read(part)[strides].astype(np.float32) for part in apart]
    values = np.concatenate(parts, axis=-1)
    return tuple(slice(*e) for e in ends), np.nan_to_num(values, copy=False)


def _planes(box: Box, step: int) -> list[Box]:
    return [
        Box((*box.lower[:-1], k), (*box.upper[:-1], k + 1))
        for k in range(box.lower[-1], box.upper[-1], step)
    ]


def _black(values: list[F32], percentile: float | None) -> float:
    if percentile is None or not values:
        return 0.0
    least, black, most = np.percentile(
        np.concatenate([v.ravel() for v in values]), [0, percentile, 100]
    )
    # An image that is the same everywhere has no black in it.
    return float(black) if least < most else min(0.0, float(least))


def _cut_off(image: F32, covered: NDArray[Any], contrast: Contrast) -> F32:
    bright = image.max(axis=-1)[covered]
    percentile = 100 if contrast.percentile is None else contrast.percentile
    most = float(np.percentile(bright, percentile)) if bright.size else 0.0
    if most <= 0 and bright.size:  # mostly empty: what little there is must be seen
        most = float(bright.max())
    if contrast.percentile is not None:
        np.minimum(image, most, out=image)
    if contrast.normalize:
        np.maximum(image, 0, out=image)
        if most > 0:
            image /= np.float32(most)
            np.minimum(image, 1, out=image)
    return image
