"""Tables of positions: Fiji's TileConfiguration.txt, and CSV files."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from stitchlib.errors import InputError
from stitchlib.io.parts import Part
from stitchlib.tiling.found import Found, channel_name
from stitchlib.tiling.metadata import MICRONS, Lengths

Rows = list[tuple[Found, Lengths]]

_COLUMN = re.compile(
    r"(?:(?:stage|position|pos)[ _]?)?(?P<axis>[xyz])(?:[ _]?(?:position|pos))?"
    r"[ _]*[\[(]?(?P<unit>[a-zµμ]*)[\])]?"
)
_VOXELS = ("px", "pixel", "pixels", "voxel", "voxels")
_NAMES = ("path", "file", "filename", "file_name", "image", "name")


def read_fiji(path: Path) -> Rows:
    """Read a tile configuration of Fiji's stitching: lines ``name; series; (x, y[, z])``."""
    rows: Rows = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#") or re.match(r"(dim|multiseries)\s*=", text):
            continue
        fields = [field.strip() for field in text.split(";")]
        try:
            name, series, at = fields
            x, y, *z = (float(value) for value in at.strip("()").split(","))
            part = Part(int(series) if series else 0)
        except ValueError:
            raise InputError(
                f"{path}, line {number}: {text!r} is not 'file; ; (x, y)' of a tile configuration"
            ) from None
        rows.append((Found(path.parent / name, part=part), (x, y, z[0] if z else None)))
    if not rows:
        raise InputError(f"{path}: names no tiles; lines are 'file; ; (x, y)'")
    return rows


def read_positions(path: Path, unit: str | None) -> tuple[Rows, str]:
    """Read a CSV of positions; return its rows, and whether they are 'um' or 'voxels'.

    The header names a column of files (path), x, y, perhaps z, with a unit (``x_um``, ``x (mm)``,
    ``x_px``) or without, and perhaps channel and dataset.

    Raises
    ------
    InputError
        Where a column, a number or the unit is missing.
    """
    text = _text(path)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    lines = csv.DictReader(text.splitlines(), delimiter=delimiter)
    header = {(name or "").strip().lower(): name for name in lines.fieldnames or ()}
    file = next((header[name] for name in _NAMES if name in header), None)
    axes = {
        found["axis"]: (header[name], found["unit"])
        for name in header
        if (found := _COLUMN.fullmatch(name))
    }
    if file is None or not {"x", "y"} <= set(axes):
        raise InputError(
            f"{path}: its header must name the columns path, x, y (perhaps x_um or x_px); it is "
            f"{first.strip()!r}"
        )
    units = {found for _, found in axes.values() if found}
    unknown = units - set(MICRONS) - set(_VOXELS)
    if unknown:
        raise InputError(f"{path}: positions in {unknown.pop()!r}; write um, mm or px")
    if not units and unit is None:
        raise InputError(f"{path}: are positions µm or voxels? Say --unit um or --unit voxels")
    voxels = bool(units & set(_VOXELS)) if units else unit == "voxels"
    rows: Rows = []
    for number, row in enumerate(lines, 2):
        try:
            at = {
                axis: float(row[column]) * (1 if voxels else MICRONS.get(of, 1))
                for axis, (column, of) in axes.items()
            }
            name = row[file].strip()
        except (TypeError, ValueError, AttributeError):
            raise InputError(f"{path}, line {number}: a position is no number: {row}") from None
        channel = (row.get(header.get("channel", "")) or "").strip()
        dataset = (row.get(header.get("dataset", "")) or "").strip()
        found_ = Found(path.parent / name, channel_name("", channel) if channel else "c0", dataset)
        rows.append((found_, (at["x"], at["y"], at.get("z"))))
    if not rows:
        raise InputError(f"{path}: names no tiles")
    return rows, "voxels" if voxels else "um"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a table: {error}") from error
