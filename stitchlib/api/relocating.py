"""The same layout for other files: another channel, another folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stitchlib.api.linking import rebound
from stitchlib.api.sources import as_source
from stitchlib.errors import InputError
from stitchlib.io.views import ImageFile
from stitchlib.tags import Expression


def changed_sources(layout: Any, sources: Any) -> tuple[list[Any], list[Any]]:
    """Return other sources at the places of a layout's, and its alignments between them."""
    new = [as_source(source) for source in sources]
    if len(new) != layout.n_sources:
        raise InputError(f"{len(new)} sources for a layout of {layout.n_sources}")
    for old, source in zip(layout.sources, new, strict=True):
        if source.shape != old.shape:
            raise InputError(f"{source!r}: has another shape than {old!r}, which it replaces")
    places = [(old.position, old.tile_position) for old in layout.sources]
    for source, (position, tile_position) in zip(new, places, strict=True):
        source.position = position
        source.tile_position = tile_position
    old_sources, alignments = layout.sources, layout.alignments
    copies = rebound(old_sources, new, alignments)[1]
    for alignment, copy in zip(alignments, copies, strict=True):
        alignment.pre, alignment.post = copy.pre, copy.post
    return new, alignments


def change_location(layout: Any, expression: Any, substitutions: Mapping[str, Any]) -> None:
    """Fill the tags of an expression for every source, and let the source show that file."""
    wanted = Expression.of(expression)
    own = getattr(layout, "expression", None)
    names = []
    for source in layout.sources:
        values: dict[str, Any] = dict(
            zip(layout_axes(layout), source.tile_position or (), strict=False)
        )
        if own is not None and source.location is not None:
            values.update(_absolute(own).read(source.location) or {})
        names.append(wanted.render({**values, **(substitutions or {})}))
    _show(layout, names)


def layout_axes(layout: Any) -> list[str]:
    """Return the names of the tags that the grid axes of a layout are."""
    return list(getattr(layout, "tile_axes", None) or "XYZ")


def replace_location(layout: Any, match: Any, replace: Any, method: str) -> None:
    """Replace a part of every source's file name, and let the source show that file."""
    if method not in ("expression", "replace"):
        raise InputError(f"method = {method!r}: must be 'expression' or 'replace'")
    names = []
    for source in layout.sources:
        location = source.location
        if location is None:
            raise InputError(f"{source!r}: has no file, so no location to replace")
        if method == "replace":
            new = location.replace(str(match), str(replace)) if str(match) in location else None
        else:
            new = Expression.of(match).replaced(location, Expression.of(replace))
        if new is None:
            raise InputError(f"{location}: {str(match)!r} does not fit any part of it")
        names.append(new)
    _show(layout, names)


def _absolute(expression: Expression) -> Expression:
    return Expression(str(Path(expression.text).absolute()))


def _show(layout: Any, names: list[str]) -> None:
    """Check the headers of all files, then let the sources show them."""
    seen: dict[Path, Any] = {}
    files = []
    for source, name in zip(layout.sources, names, strict=True):
        file = ImageFile.of(Path(name))
        if file.path in seen:
            raise InputError(
                f"{file.path}: would be shown by {seen[file.path]!r} and {source!r}; a tag that "
                f"tells them apart is missing"
            )
        seen[file.path] = source
        _check_alike(source, file)
        files.append(file)
    for source, file in zip(layout.sources, files, strict=True):
        source.relocate(file)


def _check_alike(source: Any, file: ImageFile) -> None:
    shape = source.shape if source.cut is None else source.cut.shape
    if file.shape != shape or file.dtype != source.dtype:
        raise InputError(
            f"{file.path}: has shape {file.shape} and type {file.dtype}, but {source!r}, which "
            f"would show it, has {shape} and {source.dtype}"
        )
