"""Functions that make layouts: from files, from slices, from projections."""

from __future__ import annotations

from typing import Any

from stitchlib.api import filing
from stitchlib.api.alignments import Alignment
from stitchlib.api.layout_base import LayoutBase
from stitchlib.api.layouts import Layout
from stitchlib.api.pairing import aligned_projections
from stitchlib.api.sources import Source
from stitchlib.api.tiled import TiledLayout
from stitchlib.matching import Options, voxels_of


def save_layout(filename: Any, layout: Layout) -> Any:
    """Write a layout, without voxels, as versioned JSON.

    Parameters
    ----------
    filename : str or Path
    layout : Layout

    Returns
    -------
    str or Path
        The file name.

    Raises
    ------
    InputError
        For a source that is neither an image nor a slice of one.
    """
    return layout.save(filename)


def load_layout(filename: Any) -> Layout:
    """Read a layout from a file, such as the ``layout.json`` of a run.

    Images are opened when they are read.

    Parameters
    ----------
    filename : str or Path

    Returns
    -------
    Layout
        A `TiledLayout` where all sources have a place on a grid.

    Raises
    ------
    InputError
        Where the file is no layout file.
    """
    tiled = all(entry.tile_position is not None for entry in filing.read_layout_at(filename))
    layout: Layout = object.__new__(TiledLayout if tiled else Layout)
    LayoutBase.__init__(layout, [])
    return layout.load(filename)


def slice_layout_along_axis(layout: Layout, coordinate: Any, axis: int = 2) -> Layout:
    """Return the layout of the slices at a coordinate along an axis, which is dropped.

    Parameters
    ----------
    layout : Layout
    coordinate : int
        In the layout, voxels.
    axis : int

    Returns
    -------
    Layout
        Of the sources that contain the coordinate, with the alignments among them.

    Raises
    ------
    InputError
        Where the coordinate is outside of the layout.
    """
    return layout.slice_along_axis(coordinate, axis)


def layout_along_axis_mip(
    src1: Any, src2: Any, axis: int = 2, depth: Any = 10, max_shifts: Any = 10, ranges: Any = None,
    verbose: bool = False, *, clip: Any = None, background: Any = None, normalize: bool = False,
    min_overlap: Any = 1,
) -> Layout:  # fmt: skip
    """Return the layout of the maximum projections of two sources along an axis, aligned.

    Parameters
    ----------
    src1, src2 : Source or array, 2 or 3 axes
        The second one follows the first along the axis.
    axis : int
        The axis that is projected.
    depth : int or list of int
        Planes that are projected: the last ones of the first source and the first ones of the
        second.
    max_shifts : int, tuple or list
        Shifts that are tried, voxels; as in `align_2_sources`.
    ranges : tuple or list, optional
        Absolute coordinates (lower, upper) that are used, voxels; one or None per axis.
    verbose : bool
        Log the result.
    clip, background, normalize, min_overlap
        As in `align_2_sources`.

    Returns
    -------
    Layout
        Of two sources of ndim − 1 axes at their aligned positions, with their alignment.

    Raises
    ------
    NoOverlapError
        Where no shift of the range overlaps enough.
    InputError
        For arguments that cannot be used.
    """
    options = Options.parse(clip, background, normalize, min_overlap)
    flat, found = aligned_projections(
        src1, src2, axis, depth, max_shifts, ranges, verbose, options=options
    )
    pre = Source(voxels_of(flat.pre), flat.corner_pre)
    post = Source(voxels_of(flat.post), flat.corner_post)
    alignment = Alignment(pre, post, shift=found.shift, quality=found.quality)
    post.position = pre.lower + alignment.displacement
    return Layout([pre, post], [alignment])
