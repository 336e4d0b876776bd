"""Layouts to files and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from stitchlib.api.alignments import Alignment
from stitchlib.api.sources import Slice, Source
from stitchlib.errors import InputError
from stitchlib.io.files import write_text
from stitchlib.io.parts import WHOLE, Part
from stitchlib.io.views import ImageFile, MappedFile, Missing
from stitchlib.layouts import (
    AlignmentRecord,
    LayoutRecord,
    SourceRecord,
    read_layout,
    relative_location,
)


def write(filename: Any, layout: Any) -> Any:
    """Write a layout; see `Layout.save`."""
    path = Path(filename)
    folder = path.absolute().parent
    if any(Path(s.location).resolve() == path.resolve() for s in layout.sources if s.location):
        raise InputError(f"{path}: is an image of the layout; save it under another name")
    own = layout.__dict__
    axes = getattr(layout, "tile_axes", None)
    record = LayoutRecord(
        tuple(_record(source, folder) for source in layout.sources),
        tuple(
            AlignmentRecord(a.pre.id, a.post.id, tuple(a.displacement.tolist()), a.quality)
            for a in layout.alignments
        ),
        own["_position"],
        own["_shape"],
        None if axes is None else tuple(axes),
    )
    if len({source.id for source in record.sources}) < len(record.sources):
        raise InputError(f"{path}: several slices of one source cannot be saved in one layout")
    write_text(path, record.as_text())
    return filename


def _record(source: Any, folder: Path) -> SourceRecord:
    base, slicing, position = source, None, source.position
    if isinstance(source, Slice):
        base, position = source.source, source.position_unsliced
        slicing = tuple((p.start, p.stop) if isinstance(p, slice) else p for p in source.slicing)
    if not isinstance(base, Source) or isinstance(base, Slice):
        raise InputError(f"{source!r}: only images, and slices of images, can be saved")
    file = _file_of(base)
    return SourceRecord(
        source.id,
        None if file is None else relative_location(file[0], folder),
        base.shape,
        str(base.dtype),
        position,
        source.tile_position,
        slicing,
        WHOLE if file is None else file[1],
    )


def _file_of(source: Source) -> tuple[Path, Part] | None:
    """Return the image file of a source, also of a ``.npy`` file that is mapped as a whole."""
    file = source.as_virtual().source
    if isinstance(file, ImageFile):
        return file.path, file.part
    if isinstance(file, MappedFile) and file.path.suffix == ".npy":
        mapped = np.load(file.path, mmap_mode="r", allow_pickle=False)
        return (file.path, WHOLE) if MappedFile.of(mapped) == file else None
    return None


def read(filename: Any) -> tuple[list[Any], list[Alignment], LayoutRecord]:
    """Return the sources and alignments of a layout file, and what else it says.

    The sources keep the ids that they have in the file; sources made later get higher ones.
    """
    path = Path(filename)
    record = read_layout(path)
    folder = path.absolute().parent
    by_id = {entry.id: _source(entry, folder, path) for entry in record.sources}
    if len(by_id) < len(record.sources):
        raise InputError(f"{path}: two sources have the same id")
    Source.counter = max(Source.counter, *(i + 1 for i in by_id), 0)
    alignments = []
    for link in record.alignments:
        missing = {link.pre, link.post} - by_id.keys()
        if missing:
            raise InputError(f"{path}: an alignment has source {missing.pop()}, which is not there")
        alignments.append(
            Alignment(
                by_id[link.pre],
                by_id[link.post],
                displacement=link.displacement,
                quality=link.quality,
            )
        )
    return list(by_id.values()), alignments, record


def _source(entry: SourceRecord, folder: Path, path: Path) -> Source:
    dtype = np.dtype(entry.dtype)
    image: ImageFile | Missing
    if entry.location is None:
        why = f"{path}: source {entry.id} was in memory when the layout was saved; give the image"
        image = Missing(entry.shape, dtype, f"{why} with change_sources")
    else:
        # Not resolved: a link may lead elsewhere on purpose.
        location = Path(os.path.normpath(folder / entry.location))
        image = ImageFile(location, entry.shape, dtype, entry.part)
    if entry.slicing is None:
        source = Source(image, entry.position, entry.tile_position)
        source.renumber(entry.id)
        return source
    slicing = tuple(p if isinstance(p, int) else slice(*p) for p in entry.slicing)
    first = (p.start if isinstance(p, slice) else p for p in slicing)
    corner = tuple(p - f for p, f in zip(entry.position, first, strict=True))
    base = Source(image, corner, entry.tile_position)
    base.renumber(entry.id)
    return Slice(base, slicing=slicing)


def read_layout_at(filename: Any) -> tuple[SourceRecord, ...]:
    """Return the sources that a layout file lists."""
    return read_layout(Path(filename)).sources
