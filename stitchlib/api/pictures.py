"""Overlays and plots of sources and layouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, hull
from stitchlib.core.shifts import shift_range, whole_numbers
from stitchlib.errors import InputError
from stitchlib.plotting.colours import PAIR, Colour, colour_numbers, default_colours, palette
from stitchlib.plotting.figures import Plane, draw_slice, plane_of
from stitchlib.plotting.overlays import Contrast, overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def layout_coloring(layout: Any, colors: Any = None, color_ids: Any = None) -> list[Colour]:
    """Return a colour for each source of a layout, such that neighbours differ.

    Parameters
    ----------
    layout : Layout
    colors : list of tuple of float or color names, optional
        RGB from 0 to 1, or names that matplotlib knows; where they are fewer than needed they are
        used again. Default: magenta and green for two sources, else colours that colour-blind
        people can tell apart.
    color_ids : list of int, shape (sources,), optional
        Which of the colours each source has; default such that sources that overlap or are aligned
        have different ones.

    Returns
    -------
    list of tuple of float
        RGB from 0 to 1, one per source.

    Raises
    ------
    InputError
        For an unknown colour, or another number of ids than sources.
    """
    numbers = {id(source): i for i, source in enumerate(layout.sources)}
    ends = [(numbers.get(id(a.pre)), numbers.get(id(a.post))) for a in layout.alignments]
    pairs = [(a, b) for a, b in ends if a is not None and b is not None]
    return coloring([source.box for source in layout.sources], pairs, colors, color_ids)


def coloring(
    boxes: Sequence[Box], pairs: Sequence[tuple[int, int]], colors: Any, color_ids: Any
) -> list[Colour]:
    """Return a colour for each box; see `layout_coloring`."""
    if color_ids is None and colors is None:
        return default_colours(boxes, pairs)
    given = None if colors is None else _rgb(colors)
    if color_ids is not None:
        ids: Sequence[int] = whole_numbers(color_ids, "color_ids", len(boxes))
    elif given is not None and len(given) >= len(boxes):
        ids = range(len(boxes))
    else:
        ids = colour_numbers(boxes, pairs)
    if any(i < 0 for i in ids):
        raise InputError(f"color_ids = {color_ids!r}: must not be negative")
    if given is None:
        most = max(ids, default=0)
        given = list(PAIR if len(boxes) == 2 and most < 2 else palette(most + 1))
    return [given[i % len(given)] for i in ids]


def _rgb(colors: Any) -> list[Colour]:
    from matplotlib.colors import to_rgb  # noqa: PLC0415 - only where it is needed

    if isinstance(colors, str) or len(colors) == 0:
        raise InputError(f"colors = {colors!r}: must be a list of colours")
    try:
        return [to_rgb(color) for color in colors]
    except ValueError as error:
        raise InputError(f"colors = {colors!r}: {error}") from error


def overlay_sources(
    sources: Sequence[Any],
    colors: Any = None,
    percentile: Any = 98,
    normalize: bool = True,
    *,
    color_ids: Any = None,
) -> NDArray[np.float32]:
    """Add up sources at their places, each in its colour.

    Parameters
    ----------
    sources : list of Source
    colors, color_ids
        As in `layout_coloring`.
    percentile : float or None
        Of the pixels that are covered, the brightness at which they are cut off; None = nowhere.
    normalize : bool
        Scale to numbers from 0 to 1; otherwise they are sums of intensities.

    Returns
    -------
    array of float32, shape (extent of all sources, voxels, 3)

    Raises
    ------
    InputError
        Where there is no source, or an argument cannot be used.
    """
    boxes = [source.box for source in sources]
    colours = coloring(boxes, (), colors, color_ids)
    return combine(sources, boxes, colours, _around(boxes), percentile, normalize)


def overlay_layout(
    layout: Any,
    colors: Any = None,
    percentile: Any = 98,
    normalize: bool = True,
    color_ids: Any = None,
    *,
    coordinate: Any = None,
    axis: int = 2,
) -> NDArray[np.float32]:
    """Add up the sources of a layout at their places, each in its colour.

    Parameters
    ----------
    layout : Layout
    colors, color_ids
        As in `layout_coloring`.
    percentile, normalize
        As in `overlay_sources`.
    coordinate : int, optional
        Only the slice there, in the layout, voxels; default everything.
    axis : int
        The axis of the slice.

    Returns
    -------
    array of float32, shape (shape of the layout, voxels, without the sliced axis, 3)

    Raises
    ------
    InputError
        Where an argument cannot be used.
    """
    colours = layout_coloring(layout, colors, color_ids)
    boxes, sources = [source.box for source in layout.sources], layout.sources
    return combine(
        sources, boxes, colours, layout.box, percentile, normalize, coordinate=coordinate, axis=axis
    )


def combine(
    sources: Sequence[Any],
    boxes: Sequence[Box],
    colours: Sequence[Colour],
    window: Box,
    percentile: Any,
    normalize: bool,
    *,
    coordinate: Any = None,
    axis: int = 2,
) -> NDArray[np.float32]:
    """Return the overlay of sources in boxes, in a window or one plane of it."""
    readers = [source.reader for source in sources]
    if coordinate is not None:
        plane = Plane.of(boxes, readers, axis, coordinate, window)
        boxes, readers, window = plane.boxes, list(plane.readers), plane_of(window, axis)
        colours = [colours[i] for i in plane.numbers]
    steps = (1,) * len(window.lower)
    return overlay(boxes, readers, colours, window, steps, Contrast(percentile, normalize))


def plot_sources(
    sources: Sequence[Any],
    colors: Any = None,
    percentile: Any = 98,
    normalize: bool = True,
    *,
    color_ids: Any = None,
    coordinate: Any = None,
    axis: int = 2,
    annotate: bool = True,
    voxel_size: Any = None,
    ax: Any = None,
) -> Axes:
    """Plot sources at their places, each in its colour, with borders and names.

    No more than the plotted plane is read, and no more pixels are drawn than the figure shows.

    Parameters
    ----------
    sources : list of Source, 2 or 3 axes
    colors, color_ids
        As in `layout_coloring`.
    percentile : float or None
        Of the pixels that are covered, the brightness at which they are cut off.
    normalize : bool
        Stretch the brightness between the darkest and the cut-off; otherwise the largest value of
        the voxels' type is brightest.
    coordinate : int, optional
        The plane of 3-D sources, in the layout, voxels; default the middle one.
    axis : int
        The axis across that plane.
    annotate : bool
        Write the names.
    voxel_size : float or list of float, optional
        µm, for all axes or one per axis; the plot is then in µm instead of voxels.
    ax : Axes, optional
        Of matplotlib, to draw into; default new ones.

    Returns
    -------
    Axes
        Of matplotlib; nothing is shown yet.

    Raises
    ------
    InputError
        Where there is no source, or an argument cannot be used.
    """
    boxes = [source.box for source in sources]
    return draw(
        sources, boxes, coloring(boxes, (), colors, color_ids), _around(boxes),
        percentile=percentile, normalize=normalize, coordinate=coordinate, axis=axis,
        annotate=annotate, voxel_size=voxel_size, ax=ax,
    )  # fmt: skip


def plot_layout(
    layout: Any,
    colors: Any = None,
    percentile: Any = 98,
    normalize: bool = True,
    color_ids: Any = None,
    *,
    coordinate: Any = None,
    axis: int = 2,
    annotate: bool = True,
    voxel_size: Any = None,
    ax: Any = None,
) -> Axes:
    """Plot the sources of a layout at their places, each in its colour, with borders and names.

    Parameters
    ----------
    layout : Layout, 2 or 3 axes
    colors, color_ids
        As in `layout_coloring`.
    percentile, normalize, coordinate, axis, annotate, voxel_size, ax
        As in `plot_sources`.

    Returns
    -------
    Axes
        Of matplotlib; nothing is shown yet.

    Raises
    ------
    InputError
        Where an argument cannot be used.
    """
    return draw(
        layout.sources, [source.box for source in layout.sources],
        layout_coloring(layout, colors, color_ids), layout.box,
        percentile=percentile, normalize=normalize, coordinate=coordinate, axis=axis,
        annotate=annotate, voxel_size=voxel_size, ax=ax,
    )  # fmt: skip


def draw(
    sources: Sequence[Any],
    boxes: Sequence[Box],
    colours: Sequence[Colour],
    window: Box,
    *,
    percentile: Any = 98,
    normalize: bool = True,
    coordinate: Any = None,
    axis: int = 2,
    annotate: bool = True,
    voxel_size: Any = None,
    ax: Any = None,
    axes: tuple[int, int] | None = None,
) -> Axes:
    """Draw sources in boxes, on new axes where none are given."""
    return draw_slice(
        ax, boxes, [source.reader for source in sources],
        names=[label(source) for source in sources] if annotate else None,
        axis=axis, coordinate=coordinate, window=window, colours=colours, percentile=percentile,
        normalize=normalize, voxel_size=voxel_size,
        axes=kept_axes(sources) if axes is None else axes,
    )  # fmt: skip


def kept_axes(sources: Sequence[Any]) -> tuple[int, int]:
    """Return which axes of their images plane sources have: slices lack one."""
    cut = sources[0].cut if sources else None
    kept = [d for d in range(len(cut.shape)) if d not in cut.dropped] if cut is not None else []
    return (kept[0], kept[1]) if len(kept) == 2 else (0, 1)


def label(source: Any) -> str:
    """Return the short name of a source: of its file, else its place on the grid or its id."""
    if source.location is not None:
        return Path(source.location).stem
    return str(source.identifier)


def pair_boxes(alignment: Any) -> list[Box]:
    """Return where the sources of an alignment lie: the second as the displacement says."""
    if alignment.pre is None or alignment.post is None:
        raise InputError(f"alignment {_ends(alignment)}: lacks a source; set pre and post")
    pre, post = alignment.pre.box, alignment.post.box
    wanted = getattr(alignment, "displacement", None)
    if wanted is not None:
        post = Box.at([int(p + d) for p, d in zip(pre.lower, wanted, strict=True)], post.shape)
    return [pre, post]


def grown_overlap(alignment: Any, max_shifts: Any) -> Box:
    """Return the overlap of the sources of an alignment, grown by shifts, within both sources."""
    pre, post = pair_boxes(alignment)
    shared, shifts = pre.intersection(post), shift_range(max_shifts, alignment.ndim)
    grown = Box(
        tuple(a + min(s, 0) for a, s in zip(shared.lower, shifts.lower, strict=True)),
        tuple(b + max(s, 0) for b, s in zip(shared.upper, shifts.upper, strict=True)),
    ).intersection(hull([pre, post]))
    if grown.empty:
        raise InputError(f"alignment {_ends(alignment)}: its sources don't overlap")
    return grown


def _ends(alignment: Any) -> str:
    return " -> ".join("none" if s is None else label(s) for s in alignment.sources)


def overlay_pair(
    alignment: Any, colors: Any = None, percentile: Any = 98, normalize: bool = True, *,
    coordinate: Any = None, axis: int = 2, color_ids: Any = None, window: Box | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Return the overlay of the sources of an alignment."""
    boxes = pair_boxes(alignment)
    return combine(
        alignment.sources, boxes, coloring(boxes, (), colors, color_ids),
        hull(boxes) if window is None else window, percentile, normalize,
        coordinate=coordinate, axis=axis,
    )  # fmt: skip


def plot_pair(
    alignment: Any, colors: Any = None, percentile: Any = 98, normalize: bool = True, *,
    color_ids: Any = None, window: Box | None = None, **drawing: Any,
) -> Axes:  # fmt: skip
    """Plot the sources of an alignment."""
    boxes = pair_boxes(alignment)
    return draw(
        alignment.sources, boxes, coloring(boxes, (), colors, color_ids),
        hull(boxes) if window is None else window,
        percentile=percentile, normalize=normalize, **drawing,
    )  # fmt: skip


def _around(boxes: Sequence[Box]) -> Box:
    if not boxes:
        raise InputError("there is no source to show")
    return hull(boxes)
