"""Overlays and plots of aligned maximum projections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.api import pictures
from stitchlib.api.pairing import aligned_projections
from stitchlib.api.sources import as_source
from stitchlib.core.boxes import Box, hull
from stitchlib.core.shifts import check_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def overlay_along_axis_mip(
    src1: Any, src2: Any, axis: int = 2, depth: Any = 10, max_shifts: Any = 10, ranges: Any = None,
    verbose: bool = False, **kwargs: Any,
) -> NDArray[np.float32]:  # fmt: skip
    """Add up the aligned maximum projections of two sources along an axis, each in its colour.

    Parameters
    ----------
    src1, src2 : Source or array, 2 or 3 axes
        The second one follows the first along the axis.
    axis, depth, max_shifts, ranges, verbose
        As in `layout_along_axis_mip`, planes and voxels.
    **kwargs
        ``colors``, ``percentile``, ``normalize``, ``color_ids`` as in `overlay_sources`.

    Returns
    -------
    array of float32, shape (extent of both, voxels, without the axis, 3)

    Raises
    ------
    NoOverlapError
        Where no shift of the range overlaps enough.
    InputError
        For arguments that cannot be used.
    """
    images, boxes = _aligned(src1, src2, axis, depth, max_shifts, ranges, verbose)
    options = {"percentile": 98, "normalize": True, **kwargs}
    colours = pictures.coloring(
        boxes, (), options.pop("colors", None), options.pop("color_ids", None)
    )
    return pictures.combine(images, boxes, colours, hull(boxes), **options)


def plot_along_axis_mip(
    src1: Any, src2: Any, axis: int = 2, depth: Any = 10, max_shifts: Any = 10, ranges: Any = None,
    verbose: bool = False, **kwargs: Any,
) -> Axes:  # fmt: skip
    """Plot the aligned maximum projections of two 3-D sources along an axis.

    Parameters
    ----------
    src1, src2 : Source or array, 3 axes
        The second one follows the first along the axis.
    axis, depth, max_shifts, ranges, verbose
        As in `layout_along_axis_mip`, planes and voxels.
    **kwargs
        ``colors``, ``percentile``, ``normalize``, ``color_ids``, ``annotate``, ``voxel_size`` (of
        all three axes) and ``ax`` as in `plot_sources`.

    Returns
    -------
    Axes
        Of matplotlib; nothing is shown yet.

    Raises
    ------
    NoOverlapError
        Where no shift of the range overlaps enough.
    InputError
        For arguments that cannot be used.
    """
    images, boxes = _aligned(src1, src2, axis, depth, max_shifts, ranges, verbose)
    options = dict(kwargs)
    colours = pictures.coloring(
        boxes, (), options.pop("colors", None), options.pop("color_ids", None)
    )
    kept = [d for d in range(3) if d != check_axis(axis, 3)]
    return pictures.draw(images, boxes, colours, hull(boxes), axes=(kept[0], kept[1]), **options)


def _aligned(
    src1: Any, src2: Any, axis: int, depth: Any, max_shifts: Any, ranges: Any, verbose: bool
) -> tuple[list[_Projection], list[Box]]:
    flat, found = aligned_projections(src1, src2, axis, depth, max_shifts, ranges, verbose)
    images = [
        _Projection(flat.pre, pictures.label(as_source(src1))),
        _Projection(flat.post, pictures.label(as_source(src2))),
    ]
    pre = Box.at(flat.corner_pre, flat.pre.shape)
    post = Box.at(flat.corner_post, flat.post.shape).shifted(found.shift)
    return images, [pre, post]


class _Projection:
    """What is drawn of a source: its projection, under its name."""

    cut = None
    location = None

    def __init__(self, reader: Any, identifier: str) -> None:
        self.reader = reader
        self.identifier = identifier
