"""Maps of a layout, without its voxels: regions by how many tiles cover them, and links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stitchlib.core.boxes import Box
from stitchlib.errors import InputError
from stitchlib.plotting.figures import draw_borders, label_axes, sizes, write_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

Link = tuple[int, int, float]
"""Index of the first and the second tile, and the quality."""

ANNOTATED = 80
"""Links up to which each has its quality written beside it."""


def projected_box(box: Box, axes: Sequence[int]) -> Box:
    """Return what is seen of a box along all axes but two."""
    a, b = axes
    return Box((box.lower[a], box.lower[b]), (box.upper[a], box.upper[b]))


def colour_map(cmap: Any) -> Colormap:
    """Return a colour map of matplotlib by its name, or as it is."""
    import matplotlib as mpl

    try:
        return mpl.colormaps.get_cmap(cmap)
    except (ValueError, TypeError) as error:
        raise InputError(f"cmap = {cmap!r}: is no colour map of matplotlib") from error


def draw_regions(
    ax: Axes,
    regions: Sequence[tuple[Box, int]],
    window: Box,
    axes: Sequence[int],
    cmap: Any,
    voxel_size: Any,
) -> None:
    """Draw boxes of two axes in the colour of the number of tiles that cover them, with a bar."""
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import BoundaryNorm
    from matplotlib.patches import Rectangle

    size = sizes(voxel_size, axes)
    # Seen from one side, many lie behind each other: the most covered ones are in front.
    ordered = sorted(regions, key=lambda region: region[1])
    counts = [count for _, count in ordered]
    least, most = min(counts, default=0), max(counts, default=0)
    colours = colour_map(cmap).resampled(most - least + 1)
    patches = [
        Rectangle(
            (box.lower[0] * size[0], box.lower[1] * size[1]),
            box.shape[0] * size[0],
            box.shape[1] * size[1],
        )
        for box, _ in ordered
    ]
    norm = BoundaryNorm(np.arange(least, most + 2) - 0.5, colours.N) if most > least else None
    drawn = PatchCollection(patches, cmap=colours, norm=norm, edgecolor="white", linewidth=0.5)
    drawn.set_array(counts)
    ax.add_collection(drawn)
    label_axes(ax, window, axes, voxel_size)
    bar = ax.figure.colorbar(drawn, ax=ax, label="tiles that cover a region", shrink=0.7)
    bar.set_ticks(list(range(least, most + 1)))


def draw_tiles(
    ax: Axes,
    boxes: Sequence[Box],
    names: Sequence[str] | None,
    axes: Sequence[int],
    voxel_size: Any,
    colour: str,
) -> None:
    """Draw the borders of tiles, two axes, and their names where there is room."""
    size = sizes(voxel_size, axes)
    draw_borders(ax, boxes, [colour] * len(boxes), size, None)
    if names is not None:
        write_names(ax, boxes, names, size, color="black", background="white")


def draw_links(
    ax: Axes,
    boxes: Sequence[Box],
    links: Sequence[Link],
    unused: Sequence[Link],
    axes: Sequence[int],
    cmap: Any,
    voxel_size: Any,
    *,
    annotate: bool,
) -> None:
    """Draw links between the centres of tiles, coloured by quality; dotted what is not used."""
    from matplotlib import patheffects
    from matplotlib.collections import LineCollection

    size = sizes(voxel_size, axes)
    centres = [
        tuple((a + b) / 2 * s for a, b, s in zip(box.lower, box.upper, size, strict=True))
        for box in boxes
    ]
    rest = LineCollection(
        [(centres[a], centres[b]) for a, b, _ in unused],
        colors="0.5",
        linestyles="dotted",
        linewidths=1.5,
        label="no signal, or below the least quality",
    )
    ax.add_collection(rest)
    if unused:
        ax.legend(handles=[rest], loc="upper right", fontsize="small")
    lines = LineCollection(
        [(centres[a], centres[b]) for a, b, _ in links], cmap=colour_map(cmap), linewidths=4
    )
    lines.set_array([quality for _, _, quality in links])
    ax.add_collection(lines)
    if links:
        ax.figure.colorbar(lines, ax=ax, label="quality", shrink=0.7)
    if annotate and len(links) <= ANNOTATED:
        for a, b, quality in links:
            x, y = np.add(centres[a], centres[b]) / 2
            ax.text(
                x, y, f"{quality:.3g}", ha="center", va="center", fontsize=7, clip_on=True,
                path_effects=[patheffects.withStroke(linewidth=2, foreground="white")],
            )  # fmt: skip
