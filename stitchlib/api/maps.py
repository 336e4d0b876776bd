"""Maps of regions and alignments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stitchlib.api.alignments import Numbers
from stitchlib.api.linking import filter_alignments, sources_from_alignments
from stitchlib.api.pictures import label
from stitchlib.core.boxes import hull
from stitchlib.core.shifts import check_axis, whole_numbers
from stitchlib.errors import InputError
from stitchlib.plotting.figures import label_axes, new_axes, sizes
from stitchlib.plotting.maps import Link, draw_links, draw_regions, draw_tiles, projected_box

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_regions(
    regions: Sequence[Any],
    sources: Any = None,
    cmap: Any = "viridis",
    annotate: bool = True,
    axes: Any = [0, 1],  # noqa: B006 - as documented; never changed
    *,
    voxel_size: Any = None,
    ax: Any = None,
) -> Axes:
    """Plot regions in the colour of how many sources cover them.

    Parameters
    ----------
    regions : list of Region
        As of `embedding`; one without sources counts as covered by one.
    sources : list of Source, optional
        Whose borders are drawn; default those of the regions.
    cmap : str or Colormap
        Of matplotlib: a colour for each number of sources.
    annotate : bool
        Write the names of the sources; without sources, the numbers of the regions.
    axes : list of int
        The two axes that are seen, to the right and down. Of those behind each other the one that
        most sources cover is in front.
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
        Where there is no region, or an argument cannot be used.
    """
    if not regions:
        raise InputError("there is no region to plot")
    seen = _axes(axes, regions[0].ndim)
    covering = [getattr(region, "sources", []) for region in regions]
    if sources is None:
        sources = list({id(s): s for several in covering for s in several}.values())
    boxes = [projected_box(region.box, seen) for region in regions]
    tiles = [projected_box(source.box, seen) for source in sources]
    window = hull([*boxes, *tiles])
    ax = new_axes(window, sizes(voxel_size, seen)) if ax is None else ax
    counts = [max(1, len(several)) for several in covering]
    draw_regions(ax, list(zip(boxes, counts, strict=True)), window, seen, cmap, voxel_size)
    draw_tiles(ax, tiles, _names(sources, annotate), seen, voxel_size, "black")
    if not sources and annotate:
        draw_tiles(ax, boxes, [str(i) for i in range(len(boxes))], seen, voxel_size, "white")
    return ax  # type: ignore[no-any-return]


def plot_alignments(
    alignments: Sequence[Any],
    sources: Any = None,
    axes: Any = [0, 1],  # noqa: B006 - as documented; never changed
    annotate: bool = True,
    min_quality: Any = -np.inf,
    cmap: Any = "viridis",
    *,
    voxel_size: Any = None,
    ax: Any = None,
) -> Axes:
    """Plot alignments as lines between their sources, in the colour of their quality.

    Parameters
    ----------
    alignments : list of Alignment
    sources : list of Source, optional
        Whose borders are drawn; default those of the alignments.
    axes : list of int
        The two axes that are seen, to the right and down.
    annotate : bool
        Write the names of the sources, and the qualities where they are not too many.
    min_quality : float, tuple of float or None
        Alignments that are not above it are dotted; as in `filter_alignments`. −inf dots only those
        without signal.
    cmap : str or Colormap
        Of matplotlib.
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
        Where there is no source, a source of an alignment is missing, or an argument cannot be
        used.
    """
    sources = sources_from_alignments(alignments) if sources is None else list(sources)
    if not sources:
        raise InputError("there is no source to plot")
    seen = _axes(axes, sources[0].ndim)
    tiles = [projected_box(source.box, seen) for source in sources]
    numbers, used = Numbers(sources), filter_alignments(alignments, min_quality)
    # What has no quality has no colour either, also where it is wanted.
    good = {id(a) for a in used if np.isfinite(a.quality)}
    links: list[Link] = []
    dotted: list[Link] = []
    for alignment in alignments:
        pre, post = numbers.find(alignment.pre), numbers.find(alignment.post)
        if pre is None or post is None:
            raise InputError(f"alignment {alignment.name}: a source of it is not in the list")
        group = links if id(alignment) in good else dotted
        group.append((pre, post, alignment.quality))
    window = hull(tiles)
    ax = new_axes(window, sizes(voxel_size, seen)) if ax is None else ax
    label_axes(ax, window, seen, voxel_size)
    draw_tiles(ax, tiles, _names(sources, annotate), seen, voxel_size, "0.6")
    draw_links(ax, tiles, links, dotted, seen, cmap, voxel_size, annotate=annotate)
    return ax  # type: ignore[no-any-return]


def _names(sources: Sequence[Any], annotate: bool) -> list[str] | None:
    return [label(source) for source in sources] if annotate else None


def _axes(axes: Any, ndim: int) -> tuple[int, int]:
    a, b = (check_axis(d, ndim) for d in whole_numbers(axes, "axes", 2))
    if a == b:
        raise InputError(f"axes = {axes!r}: must be two different axes")
    return a, b
