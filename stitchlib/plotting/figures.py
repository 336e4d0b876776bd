"""Drawing on matplotlib axes: planes of tiles with their borders and names.

Axes of a picture are the first two image axes that are left, x to the right and y downward, in
voxels or µm. Nothing here shows a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stitchlib.core.boxes import Box, hull
from stitchlib.core.shifts import check_axis, whole_number
from stitchlib.errors import InputError
from stitchlib.io.images import Reader
from stitchlib.io.views import Projected
from stitchlib.plotting.colours import Colour, default_colours
from stitchlib.plotting.overlays import F32, Contrast, overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = "xyz"
BLACK = 1.0
"""Percentile of the intensities that pictures show as black: cameras add a constant."""
LEGEND = 2
"""Up to so many tiles are named in a legend; more are named by what is written in them."""


@dataclass(frozen=True, slots=True)
class Plane:
    """The tiles that a plane of a layout meets, as images of two axes."""

    boxes: tuple[Box, ...]
    """Where they lie in the plane, voxels."""
    readers: tuple[Reader, ...]
    numbers: tuple[int, ...]
    """Which of the tiles of the layout they are."""
    axes: tuple[int, int]
    """The image axes that run to the right and down."""
    where: str
    """The plane in words; empty for images of two axes."""

    @classmethod
    def of(
        cls,
        boxes: Sequence[Box],
        readers: Sequence[Reader],
        axis: int,
        coordinate: int | None,
        window: Box,
        axes: tuple[int, int] = (0, 1),
    ) -> Plane:
        """Cut a plane: at a coordinate along an axis, or through the middle of the window."""
        ndim = len(window.lower)
        if ndim == 2:
            if coordinate is not None:
                raise InputError(f"coordinate = {coordinate}: images of two axes have no planes")
            return cls(tuple(boxes), tuple(readers), tuple(range(len(boxes))), axes, "")
        if ndim != 3:
            raise InputError(f"images of {ndim} axes cannot be plotted; they must have 2 or 3")
        axis = check_axis(axis, ndim)
        lower, upper = window.lower[axis], window.upper[axis]
        plane = (
            (lower + upper - 1) // 2
            if coordinate is None
            else whole_number(coordinate, "coordinate")
        )
        if not lower <= plane < upper:
            raise InputError(
                f"coordinate = {plane}: the layout has {lower} to {upper - 1} along axis {axis}"
            )
        met = [i for i, b in enumerate(boxes) if b.lower[axis] <= plane < b.upper[axis]]
        return cls(
            tuple(flat(boxes[i], axis) for i in met),
            tuple(_cut(readers[i], axis, plane - boxes[i].lower[axis]) for i in met),
            tuple(met),
            _others(axis),
            f"{NAMES[axis]} = {plane}",
        )


def flat(box: Box, axis: int) -> Box:
    """Return a box of three axes without one of them."""
    a, b = _others(axis)
    return Box((box.lower[a], box.lower[b]), (box.upper[a], box.upper[b]))


def plane_of(box: Box, axis: int) -> Box:
    """Return a box of two axes, or one of three without the axis across the plane."""
    return flat(box, check_axis(axis, 3)) if len(box.lower) == 3 else box


def _others(axis: int) -> tuple[int, int]:
    a, b = (d for d in range(3) if d != axis)
    return a, b


def _cut(reader: Reader, axis: int, plane: int) -> Reader:
    return Projected(reader, axis, (plane, plane + 1))


def draw_slice(
    ax: Axes | None,
    boxes: Sequence[Box],
    readers: Sequence[Reader],
    *,
    names: Sequence[str] | None = None,
    axis: int = 2,
    coordinate: int | None = None,
    window: Box | None = None,
    colours: Sequence[Colour] | None = None,
    percentile: float | None = 98,
    normalize: bool = True,
    voxel_size: float | Sequence[float] | None = None,
    borders: bool = True,
    pixels: int | None = None,
    axes: tuple[int, int] = (0, 1),
) -> Axes:
    """Draw a plane of a layout: all tiles in their colours, with borders and names.

    Parameters
    ----------
    ax : Axes or None
        Of matplotlib; drawn into. None = new ones, on a figure of pyplot.
    boxes : list of Box
        Where the tiles lie, 2 or 3 axes, voxels.
    readers : list of Reader
        Their images, of the same shapes: anything with shape, dtype and ``read(box)``. Of each no
        more is asked for than the plane.
    names : list of str, optional
        Written into the tiles where there is room.
    axis : int
        Of images of three axes: the one across the plane.
    coordinate : int, optional
        The plane, in the layout, voxels; default the middle one.
    window : Box, optional
        What is shown, voxels; default all tiles.
    colours : list of tuple of float, optional
        RGB from 0 to 1, one per tile; default such that neighbours differ.
    percentile : float or None
        Of the covered pixels, the brightness at which they are cut off.
    normalize : bool
        Stretch the brightness to black and the cut-off; otherwise the largest value of the voxels'
        type is brightest.
    voxel_size : float or list of float, optional
        µm, for all axes or one per axis; the axes are then in µm.
    borders : bool
        Draw the tiles' borders and names.
    pixels : int, optional
        Pixels along the longer side; default what the axes have on the figure.
    axes : tuple of int
        Of images of two axes: which axes (x, y, z) they are.

    Returns
    -------
    Axes
        ``ax``, or the new ones.

    Raises
    ------
    InputError
        Where there is no tile, the coordinate is outside, or an image cannot be read.
    """
    if not boxes and window is None:
        raise InputError("there is no tile to plot")
    shown = hull(boxes) if window is None else window
    plane = Plane.of(boxes, readers, axis, coordinate, shown, axes)
    shown = plane_of(shown, axis)
    size = sizes(voxel_size, plane.axes)
    if ax is None:
        ax = new_axes(shown, size)
    every = default_colours(boxes) if colours is None else colours
    own = [every[i] for i in plane.numbers]
    steps = _steps(shown, size, _pixels(ax) if pixels is None else pixels)
    contrast = Contrast(percentile, normalize, BLACK if normalize else None)
    planewise = plane.axes[1] == 2 and steps[1] > 1
    image = overlay(plane.boxes, plane.readers, own, shown, steps, contrast, planewise=planewise)
    if not normalize:
        image = _of_type(image, plane.readers)
    draw_image(ax, image, shown, steps, size)
    label_axes(ax, shown, plane.axes, voxel_size)
    ax.set_title(plane.where)
    if borders:
        titles = None if names is None else [names[i] for i in plane.numbers]
        draw_borders(ax, plane.boxes, own, size, titles)
    return ax


def before_and_after(
    figure: Figure,
    before: Sequence[Box],
    after: Sequence[Box],
    readers: Sequence[Reader],
    **options: Any,
) -> tuple[Axes, Axes]:
    """Draw the same plane of tiles twice, at their nominal and at their placed positions.

    Parameters
    ----------
    figure : Figure
        Of matplotlib; two axes are added to it.
    before, after : list of Box
        Where the tiles lie, voxels.
    readers : list of Reader
        Their images.
    **options
        As of `draw_slice`.

    Returns
    -------
    tuple of Axes
        Before and after, on one scale.

    Raises
    ------
    InputError
        As `draw_slice`.
    """
    if not before or not after:
        raise InputError("there is no tile to plot")
    around = hull([*before, *after])
    shown = plane_of(around, options.get("axis", 2)).shape
    axes = figure.subplots(*_side_by_side(figure, shown), sharex=True, sharey=True)
    options = {"window": around, **options}
    for ax, boxes, title in zip(axes, (before, after), ("before", "after"), strict=True):
        draw_slice(ax, boxes, readers, **options)
        ax.set_title(f"{title} placement, {ax.get_title()}".rstrip(", "))
    return axes[0], axes[1]


def _side_by_side(figure: Figure, shape: Sequence[int]) -> tuple[int, int]:
    """Return the rows and columns in which two pictures of a shape are largest."""
    width, height = figure.get_size_inches()
    beside = min(width / 2 / shape[0], height / shape[1])
    below = min(width / shape[0], height / 2 / shape[1])
    return (1, 2) if beside >= below else (2, 1)


def new_axes(window: Box, size: Sequence[float]) -> Axes:
    """Return axes on a new figure, made for a window of two axes with voxels of a size."""
    from matplotlib import pyplot as plt

    extents = [n * s for n, s in zip(window.shape, size, strict=True)]
    width, height = (max(7 * extent / max(extents), 2.5) for extent in extents)
    _, ax = plt.subplots(figsize=(width + 1.2, height + 1), layout="constrained")
    return ax


def sizes(voxel_size: Any, axes: Sequence[int]) -> tuple[float, float]:
    """Return the extent of a voxel along two axes; 1 where no voxel size is given."""
    if voxel_size is None:
        return 1.0, 1.0
    every = np.atleast_1d(np.asarray(voxel_size, float))
    if every.ndim != 1 or not (np.isfinite(every).all() and (every > 0).all()):
        raise InputError(f"voxel_size = {voxel_size!r}: must be positive, a number or one per axis")
    if every.size == 1:
        return float(every[0]), float(every[0])
    if every.size <= max(axes):
        raise InputError(f"voxel_size = {voxel_size!r}: must have one number per axis")
    return float(every[axes[0]]), float(every[axes[1]])


def draw_image(
    ax: Axes, image: F32, window: Box, steps: Sequence[int], size: Sequence[float]
) -> None:
    """Show a colour image, shape (pixels along x, along y, 3), where it lies."""
    ends = [lower + n * s for lower, n, s in zip(window.lower, image.shape, steps, strict=False)]
    x, y = ([window.lower[d] * size[d], ends[d] * size[d]] for d in (0, 1))
    ax.imshow(
        image.transpose(1, 0, 2), extent=(x[0], x[1], y[1], y[0]), origin="upper", aspect="equal"
    )


def label_axes(ax: Axes, window: Box, axes: Sequence[int], voxel_size: Any) -> None:
    """Set limits and labels: of a window in voxels, in µm where a voxel size is given."""
    size = sizes(voxel_size, axes)
    unit = "voxels" if voxel_size is None else "µm"
    ax.set_xlim(window.lower[0] * size[0], window.upper[0] * size[0])
    ax.set_ylim(window.upper[1] * size[1], window.lower[1] * size[1])
    ax.set_aspect("equal")
    ax.set_xlabel(f"{NAMES[axes[0]]} ({unit})")
    ax.set_ylabel(f"{NAMES[axes[1]]} ({unit})")


def draw_borders(
    ax: Axes,
    boxes: Sequence[Box],
    colours: Sequence[Any],
    size: Sequence[float],
    names: Sequence[str] | None,
) -> None:
    """Draw the borders of boxes of two axes, and their names where there is room."""
    from matplotlib.patches import Rectangle

    smallest = min(
        (n * s for box in boxes for n, s in zip(box.shape, size, strict=True)), default=1
    )
    width_points = min(1.0, smallest * _points(ax) / 20)  # borders of tiny tiles don't hide them
    patches = []
    for box, colour in zip(boxes, colours, strict=True):
        corner = (box.lower[0] * size[0], box.lower[1] * size[1])
        width, height = (n * s for n, s in zip(box.shape, size, strict=True))
        patches.append(
            Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=width_points)
        )
        ax.add_artist(patches[-1])  # as a patch, it would be asked for its limits
    if names is None:
        return
    if len(boxes) <= LEGEND:
        ax.legend(
            patches,
            list(names),
            loc="upper right",
            fontsize="small",
            facecolor="0.15",
            labelcolor="white",
        )
        return
    write_names(ax, boxes, names, size, color="white", background="black")


def write_names(
    ax: Axes,
    boxes: Sequence[Box],
    names: Sequence[str],
    size: Sequence[float],
    *,
    color: str,
    background: str,
) -> None:
    """Write into boxes of two axes, as large as there is room, and nothing illegible."""
    from matplotlib import patheffects

    points = _points(ax)
    written: list[tuple[float, float]] = []
    for box, name in zip(boxes, names, strict=True):
        letters = max(len(name), 1)
        room = min(box.shape[0] * size[0] * points / letters * 1.3, 9)
        x, y = ((a + b) / 2 * s for a, b, s in zip(box.lower, box.upper, size, strict=True))
        wide, high = room * letters * 0.7 / points, room / points
        if room < 4 or any(abs(x - a) < wide and abs(y - b) < high for a, b in written):
            continue
        written.append((x, y))
        ax.text(
            x, y, name, ha="center", va="center", fontsize=room, color=color, clip_on=True,
            path_effects=[patheffects.withStroke(linewidth=1.5, foreground=background)],
        )  # fmt: skip


def _points(ax: Axes) -> float:
    """Return how many points long a unit of the x axis is."""
    span = abs(ax.get_xlim()[1] - ax.get_xlim()[0]) or 1.0
    return _drawn(ax)[0] * 72 / ax.figure.dpi / span


def _drawn(ax: Axes) -> tuple[float, float]:
    box = ax.get_window_extent()
    return box.width, box.height


def _pixels(ax: Axes) -> int:
    return max(64, round(max(_drawn(ax))))


def _steps(window: Box, size: Sequence[float], pixels: int) -> tuple[int, ...]:
    pixel = max(n * s for n, s in zip(window.shape, size, strict=True)) / pixels
    return tuple(max(1, int(pixel / s)) for s in size)


def _of_type(image: F32, readers: Sequence[Reader]) -> F32:
    most = max((np.iinfo(r.dtype).max if r.dtype.kind in "iu" else 1 for r in readers), default=1)
    bright: F32 = np.clip(image / np.float32(most), 0, 1)
    return bright
