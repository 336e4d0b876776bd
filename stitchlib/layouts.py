"""Layout files: tiles, positions and links of one image as versioned JSON (layout.json)."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stitchlib.core.boxes import AXES, Point
from stitchlib.errors import InputError
from stitchlib.io.files import canonical_json, read_json
from stitchlib.io.parts import WHOLE, Part

FORMAT = "stitchlib layout"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One tile of a layout file; axes (x, y[, z])."""

    id: int
    """Number of the tile, unique in the file."""
    location: str | None
    """Path of the image, relative to the layout file where possible; None = no file."""
    shape: Point
    """Extent in voxels."""
    dtype: str
    position: Point
    """Lower corner in voxels."""
    tile_position: Point | None
    """Place on the grid."""
    slicing: tuple[int | tuple[int, int], ...] | None = None
    """Of a slice: the part of the image, per axis of ``shape``, a plane or (first, end)."""
    part: Part = WHOLE
    """Which series, channel, … of the file the image is."""


@dataclass(frozen=True, slots=True)
class AlignmentRecord:
    """One link of a layout file."""

    pre: int
    """Id of the first tile."""
    post: int
    """Id of the second tile."""
    displacement: Point
    """post − pre, voxels."""
    quality: float
    """−inf = no signal."""


@dataclass(frozen=True, slots=True)
class LayoutRecord:
    """The content of a layout file."""

    sources: tuple[SourceRecord, ...]
    alignments: tuple[AlignmentRecord, ...]
    position: Point | None = None
    """Lower corner of the window that the layout shows; None = that of its sources."""
    shape: Point | None = None
    """Extent of the window; None = that of its sources."""
    tile_axes: tuple[str, ...] | None = None
    """Names of the tags that are grid axes."""

    def _more(self) -> dict[str, Any]:
        more: dict[str, Any] = {
            name: _named(value)
            for name, value in (("position", self.position), ("shape", self.shape))
            if value is not None
        }
        if self.tile_axes is not None:
            more["tile_axes"] = list(self.tile_axes)
        return more

    def as_text(self) -> str:
        """Return the file's text."""
        return canonical_json(
            {
                **self._more(),
                "format": FORMAT,
                "version": FORMAT_VERSION,
                "sources": [
                    {
                        "id": s.id,
                        "location": s.location,
                        "shape": _named(s.shape),
                        "dtype": s.dtype,
                        "position": _named(s.position),
                        "tile_position": s.tile_position and _named(s.tile_position),
                        **({"slicing": s.slicing} if s.slicing is not None else {}),
                        **s.part.as_json(),
                    }
                    for s in self.sources
                ],
                "alignments": [
                    {
                        "pre": a.pre,
                        "post": a.post,
                        "displacement": _named(a.displacement),
                        "quality": str(a.quality) if math.isinf(a.quality) else a.quality,
                    }
                    for a in self.alignments
                ],
            }
        )


def read_layout(path: Path) -> LayoutRecord:
    """Read a layout file."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError(f"{path}: is not a layout file of stitchlib")
    version = value.get("version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: has layout version {version!r}, this is for version {FORMAT_VERSION}"
        )
    try:
        return LayoutRecord(
            tuple(_source(s) for s in value["sources"]),
            tuple(
                AlignmentRecord(
                    int(a["pre"]), int(a["post"]), _point(a["displacement"]), float(a["quality"])
                )
                for a in value["alignments"]
            ),
            _point(value["position"]) if "position" in value else None,
            _point(value["shape"]) if "shape" in value else None,
            tuple(value["tile_axes"]) if "tile_axes" in value else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: the layout file is damaged: {error!r}") from error


def _source(value: dict[str, Any]) -> SourceRecord:
    place = value["tile_position"]
    return SourceRecord(
        int(value["id"]),
        _text(value["location"]),
        _point(value["shape"]),
        str(np.dtype(value["dtype"])),
        _point(value["position"]),
        None if place is None else _point(place),
        _slicing(value["slicing"]) if "slicing" in value else None,
        Part.from_json(value),
    )


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is no location")
    return value


def _slicing(value: list[Any]) -> tuple[int | tuple[int, int], ...]:
    return tuple(v if isinstance(v, int) else (int(v[0]), int(v[1])) for v in value)


def relative_location(path: Path, folder: Path) -> str:
    """Return ``path`` relative to ``folder`` where that is possible, with forward slashes.

    Symbolic links on the way to either are followed, because '..' is; the file itself is not.
    """
    path = path.parent.resolve() / path.name
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


def _named(values: Sequence[int]) -> dict[str, int]:
    names = AXES if len(values) <= len(AXES) else "".join(f"{i}" for i in range(len(values)))
    return dict(zip(names, values, strict=False))


def _point(value: dict[str, int]) -> Point:
    return tuple(int(value[axis]) for axis in AXES if axis in value)
