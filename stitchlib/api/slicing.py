"""Slices of layouts."""

from __future__ import annotations

from typing import Any

from stitchlib.api.linking import rebound
from stitchlib.api.sources import slice_of
from stitchlib.core.boxes import Box, Point
from stitchlib.core.shifts import check_axis, whole_number
from stitchlib.errors import InputError


def without(box: Box, axis: int) -> Box:
    """Return a box without an axis."""

    def kept(point: Point) -> Point:
        return tuple(p for d, p in enumerate(point) if d != axis % len(point))

    return Box(kept(box.lower), kept(box.upper))


def middle(layout: Any, axis: int) -> int:
    """Return the coordinate of the middle plane of a layout."""
    axis = check_axis(axis, layout.ndim)
    box: Box = layout.box
    return (box.lower[axis] + box.upper[axis] - 1) // 2


def slices(layout: Any, coordinate: Any, axis: int) -> tuple[list[Any], list[Any]]:
    """Return the slices of the sources that contain a coordinate, and the alignments among them."""
    axis = check_axis(axis, layout.ndim)
    if layout.ndim < 2:
        raise InputError("a layout of one axis cannot be sliced")
    plane = whole_number(coordinate, "coordinate")
    box: Box = layout.box
    if not box.lower[axis] <= plane < box.upper[axis]:
        raise InputError(
            f"coordinate = {plane}: the layout has {box.lower[axis]} to {box.upper[axis] - 1} "
            f"along axis {axis}"
        )
    cut = [s for s in layout.sources if s.box.lower[axis] <= plane < s.box.upper[axis]]
    sources, alignments = rebound(
        cut, [slice_of(source, plane, None, axis) for source in cut], layout.alignments
    )
    for old, new in zip(_kept(cut, layout.alignments), alignments, strict=True):
        new.displacement = [v for d, v in enumerate(old.displacement) if d != axis]
    return sources, alignments


def _kept(sources: list[Any], alignments: list[Any]) -> list[Any]:
    return rebound(sources, sources, alignments)[1]


def settings(layout: Any, axis: int) -> dict[str, Any]:
    """Return the window and type of a slice of a layout: fixed where those of the layout are."""
    own = layout.__dict__
    window = without(layout.box, axis)
    fixed = not layout.sources or own["_shape"] is not None
    return {
        "dtype": layout.dtype,
        "position": window.lower if fixed or own["_position"] is not None else None,
        "shape": window.shape if fixed else None,
    }
