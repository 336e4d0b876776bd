"""The tile sheet, and the datasets it describes: tiles on a grid with their image files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from stitchlib.config import AXES, Config, Overlap
from stitchlib.core.boxes import Box, Point, touching
from stitchlib.errors import InputError
from stitchlib.io.files import canonical_json, read_json, read_table, write_text
from stitchlib.io.images import open_image
from stitchlib.schemas import schema

_PENDING = {"series": None, "key": None, "select": None, "timepoint": 0}
"""Columns that are not built yet, and the one value they may have until then."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image file as a card describes it."""

    path: str
    """As the sheet names it: relative to the sheet, or absolute."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Date of the last change, nanoseconds."""

    def as_json(self) -> dict[str, Any]:
        """Return the plain values that go into a card."""
        return {"path": self.path, "size": self.size, "mtime_ns": self.mtime_ns}


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile with its place on the grid and its channels."""

    name: str
    index: tuple[int, int, int]
    """Grid index along x, y, z."""
    nominal: Point
    """Nominal lower corner (x, y, z) in voxels."""
    shape: Point
    """Extent (x, y, z) in voxels; z = 1 in 2-D."""
    images: Mapping[str, Image]
    """One file per channel that the tile has."""

    @property
    def box(self) -> Box:
        """The voxels it covers at its nominal position."""
        return Box.at(self.nominal, self.shape)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Tiles that are stitched together."""

    name: str
    tiles: tuple[Tile, ...]
    """In sheet order."""
    channels: tuple[str, ...]
    """In order of first appearance in the sheet."""
    reference: str
    """The channel that is aligned."""
    dtype: str
    """NumPy name of the voxels' type."""
    ndim: int
    """2 or 3."""


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)


def load_datasets(config: Config, headers: Path | None = None) -> tuple[Dataset, ...]:
    """Read the sheet and the headers of all its images, and check everything about them.

    Parameters
    ----------
    config : Config
        Names the sheet; gives overlaps for nominal positions.
    headers : Path, optional
        A JSON file that remembers shapes and types, so that only new or changed images are opened.
        It may be deleted at any time.

    Raises
    ------
    InputError
        For the first thing that is wrong with the sheet, a file, or their agreement.
    """
    sheet = config.tiles
    rows = _read_rows(sheet, config.dataset)
    images = _stat(sheet, [row["path"] for row in rows])
    known = _headers(sheet, images, headers)
    groups: dict[str, list[_Row]] = {}
    for row in rows:
        groups.setdefault(row["dataset"], []).append(row)
    return tuple(
        _Builder(sheet, config, name, group, images, known).dataset()
        for name, group in groups.items()
    )


# The sheet's text


@cache
def _column(name: str) -> Callable[[str], Any]:
    """Return the converter of a column, which raises ValueError with what is expected."""
    spec = schema("tiles")["properties"][name]
    pattern = re.compile(spec.get("pattern", ""))

    def integer(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,9}", text):
            raise ValueError("must be a whole number")
        return int(text)

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not abs(value) < 2**31:
            raise ValueError("must be a number of voxels")
        return value

    def string(text: str) -> str:
        if not pattern.search(text) or any(ord(c) < 32 for c in text):
            raise ValueError(
                "a name starts with a letter or digit, then letters, digits, '.', '_', '-'"
            )
        return text

    return {"integer": integer, "number": number, "string": string}[spec["type"]]


def _read_rows(sheet: Path, dataset: str) -> list[_Row]:
    columns, table = read_table(sheet)
    spec = schema("tiles")
    for name in columns:
        if name not in spec["properties"]:
            raise InputError(
                f"{sheet}: unknown column {name!r}; known: {', '.join(spec['properties'])}"
            )
    missing = [name for name in spec["required"] if name not in columns]
    if missing:
        raise InputError(f"{sheet}: column {missing[0]!r} is missing (header: {columns})")
    if not table:
        raise InputError(f"{sheet}: the sheet lists no tiles; add one line per tile and channel")
    rows = [_convert(sheet, fields, spec["required"], dataset) for fields in table]
    _check_unique(sheet, rows)
    return rows


def _convert(sheet: Path, fields: Mapping[str, str], required: list[str], dataset: str) -> _Row:
    where = f"{sheet}, line {fields['#']}"
    values: dict[str, Any] = {}
    for name, text in fields.items():
        if name == "#":
            continue
        if not text:
            if name in required:
                raise InputError(f"{where}: column {name!r} is empty")
            continue
        try:
            values[name] = _column(name)(text)
        except ValueError as error:
            raise InputError(f"{where}: {name} = {text!r}: {error}") from None
        if name in _PENDING and values[name] != _PENDING[name]:
            raise InputError(
                f"{where}: {name} = {text!r}: this column is not supported yet; leave it out and "
                "give each tile and channel an image file of its own"
            )
    values.setdefault("dataset", dataset)
    return _Row(int(fields["#"]), values)


def _check_unique(sheet: Path, rows: list[_Row]) -> None:
    seen: dict[tuple[str, str, str], int] = {}
    for row in rows:
        key = (row["dataset"], row["tile"], row["channel"])
        if key in seen:
            raise InputError(
                f"{sheet}, line {row.line}: dataset {key[0]!r}, tile {key[1]!r}, channel "
                f"{key[2]!r} stand in line {seen[key]} already; remove one of the two lines"
            )
        seen[key] = row.line


# The image files


def _stat(sheet: Path, paths: Iterable[str]) -> dict[str, Image]:
    """Size and date of every file, from one listing of each folder."""
    folders: dict[Path, list[str]] = {}
    for path in dict.fromkeys(paths):
        folders.setdefault((sheet.parent / path).parent, []).append(path)
    images, missing = {}, []
    for folder, members in folders.items():
        try:
            with os.scandir(folder) as entries:
                found = {entry.name: entry for entry in entries}
        except OSError:
            found = {}
        for path in members:
            entry = found.get(Path(path).name)
            if entry is None or (entry.is_symlink() and not Path(entry.path).exists()):
                missing.append(path)
                continue
            if entry.is_dir():
                raise InputError(f"{sheet}: path {path!r} is a directory, not an image file")
            stat = entry.stat()
            images[path] = Image(path, stat.st_size, stat.st_mtime_ns)
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(
            f"{sheet}: there is no file {missing[0]!r}{more}; paths are relative to the sheet, "
            f"so it was looked for at {sheet.parent / missing[0]}"
        )
    return images


def _headers(
    sheet: Path, images: Mapping[str, Image], cache_file: Path | None
) -> dict[str, tuple[Point, str]]:
    """Shape (x, y[, z]) and type of every image, remembered for files that did not change."""
    remembered = _remembered(cache_file)
    keys = {path: f"{i.path}|{i.size}|{i.mtime_ns}" for path, i in images.items()}
    found: dict[str, Any] = {}
    for path, key in keys.items():
        if key not in remembered:
            reader = open_image(sheet.parent / path)
            found[key] = [list(reader.shape), str(reader.dtype)]
    if found and cache_file is not None:
        used = {key: value for key, value in remembered.items() if key in keys.values()}
        with suppress(OSError):  # it only saves time; who may not write here may still look
            write_text(cache_file, canonical_json({**used, **found}))
    both = {**remembered, **found}
    return {path: (tuple(both[key][0]), both[key][1]) for path, key in keys.items()}


def _remembered(cache_file: Path | None) -> dict[str, Any]:
    if cache_file is None or not cache_file.exists():
        return {}
    try:
        value = read_json(cache_file)
    except InputError:
        return {}
    return value if isinstance(value, dict) else {}


# The datasets


@dataclass(frozen=True, slots=True)
class _Builder:
    """Puts the rows of one dataset together, refusing what does not agree."""

    sheet: Path
    config: Config
    name: str
    rows: list[_Row]
    images: Mapping[str, Image]
    headers: Mapping[str, tuple[Point, str]]

    def dataset(self) -> Dataset:
        channels = tuple(dict.fromkeys(row["channel"] for row in self.rows))
        reference = self.config.reference_channel or channels[0]
        if reference not in channels:
            raise InputError(
                f"reference_channel = {reference!r}: dataset {self.name!r} of {self.sheet} has "
                f"only {', '.join(channels)}"
            )
        tiles: dict[str, list[_Row]] = {}
        for row in self.rows:
            tiles.setdefault(row["tile"], []).append(row)
        ndim, dtype = self._common_type()
        for name, group in tiles.items():
            self._check_tile(name, group, reference)
        firsts = [group[0] for group in tiles.values()]
        self._check_indices(firsts)
        if ndim == 2:
            self._check_flat(firsts)
        shapes = [self._shape(row) for row in firsts]
        corners = self._corners(firsts, shapes)
        dataset = Dataset(
            self.name,
            tuple(
                Tile(
                    name,
                    _index(group[0]),
                    corner,
                    shape,
                    {row["channel"]: self.images[row["path"]] for row in group},
                )
                for (name, group), corner, shape in zip(tiles.items(), corners, shapes, strict=True)
            ),
            channels,
            reference,
            dtype,
            ndim,
        )
        self._check_reach(dataset)
        return dataset

    def _where(self, row: _Row) -> str:
        return f"{self.sheet}, line {row.line} ({row['path']})"

    def _shape(self, row: _Row) -> Point:
        shape = self.headers[row["path"]][0]
        return shape + (1,) * (3 - len(shape))

    def _common_type(self) -> tuple[int, str]:
        first = self.rows[0]
        shape, dtype = self.headers[first["path"]]
        for row in self.rows:
            other_shape, other = self.headers[row["path"]]
            if other != dtype:
                raise InputError(
                    f"{self._where(row)}: voxels are {other}, but {dtype} in line {first.line} "
                    f"({first['path']}); all tiles of a dataset have one type"
                )
            if len(other_shape) != len(shape):
                raise InputError(
                    f"{self._where(row)}: {len(other_shape)}-D, but line {first.line} "
                    f"({first['path']}) is {len(shape)}-D"
                )
        return len(shape), dtype

    def _check_tile(self, name: str, group: list[_Row], reference: str) -> None:
        first = group[0]
        if reference not in [row["channel"] for row in group]:
            raise InputError(
                f"{self._where(first)}: tile {name!r} lacks the reference channel {reference!r}; "
                "a tile may lack any channel but that one"
            )
        for row in group[1:]:
            for column in ("tile_x", "tile_y", "tile_z", "x", "y", "z"):
                if row[column] != first[column]:
                    raise InputError(
                        f"{self._where(row)}: {column} = {row[column]}, but {first[column]} in "
                        f"line {first.line}; all channels of a tile have one position"
                    )
            if self._shape(row) != self._shape(first):
                raise InputError(
                    f"{self._where(row)}: shape (x, y, z) = {self._shape(row)}, but "
                    f"{self._shape(first)} in line {first.line}; all channels of a tile have one "
                    "shape"
                )

    def _check_indices(self, firsts: list[_Row]) -> None:
        seen: dict[tuple[int, int, int], _Row] = {}
        for row in firsts:
            other = seen.setdefault(_index(row), row)
            if other is not row:
                raise InputError(
                    f"{self._where(row)}: tile {row['tile']!r} has the grid index (x, y, z) = "
                    f"{_index(row)} of tile {other['tile']!r} in line {other.line}"
                )

    def _check_flat(self, firsts: list[_Row]) -> None:
        """Refuse planes that lie at different heights: they would become a volume."""
        for row in firsts:
            for column in ("z", "tile_z"):
                value = row[column] or 0
                if value != (0 if column == "z" else firsts[0][column] or 0):
                    raise InputError(
                        f"{self._where(row)}: {column} = {value}, but the images are 2-D, and 2-D "
                        "tiles have no z; leave the column out, or make each stack one file"
                    )

    def _corners(self, firsts: list[_Row], shapes: Sequence[Point]) -> list[Point]:
        columns = [self._along(d, firsts, shapes) for d in range(3)]
        return [
            tuple(int(v) for v in corner)
            for corner in np.rint(np.array(columns)).T.astype(np.int64).tolist()
        ]

    def _along(self, d: int, firsts: list[_Row], shapes: Sequence[Point]) -> list[float]:
        """Nominal corners along an axis, not rounded yet."""
        axis = AXES[d]
        given = [row[axis] is not None for row in firsts]
        if any(given) and not all(given):
            lacking = firsts[given.index(False)]
            raise InputError(f"{self._where(lacking)}: {axis} is empty, but other tiles have it")
        if all(given):
            return [row[axis] for row in firsts]
        if axis in "xy" and any(row[other] is not None for row in firsts for other in "xy"):
            raise InputError(f"{self.sheet}: has x or y without the other; give both or neither")
        indices = [_index(row)[d] for row in firsts]
        if len(set(indices)) == 1:
            return [0.0] * len(indices)
        overlap = self.config.align.overlap.get(axis)
        if overlap is None:
            raise InputError(
                f"align.overlap.{axis} is missing; it is needed because {self.sheet} has several "
                f"tiles along {axis} and no column {axis!r} with their positions"
            )
        extent = max(shape[d] for shape in shapes)
        step = extent - sum(overlap_voxels(overlap, extent)) / 2
        if step <= 0:
            raise InputError(
                f"align.overlap.{axis} = {overlap!r}: not less than the tiles, whose extent along "
                f"{axis} is {extent} voxels"
            )
        return [(index - min(indices)) * step for index in indices]

    def _check_reach(self, dataset: Dataset) -> None:
        """Refuse a tile that no other tile can overlap."""
        if len(dataset.tiles) < 2:
            return
        reach = self.max_shift()
        grown = [
            Box(tile.box.shifted([-m for m in reach]).lower, tile.box.shifted(reach).upper)
            for tile in dataset.tiles
        ]
        for tile, others in zip(dataset.tiles, touching(grown), strict=True):
            if not others:
                raise InputError(
                    f"{self.sheet}: tile {tile.name!r} of dataset {dataset.name!r} overlaps no "
                    f"other tile: it lies at (x, y, z) = {tile.nominal} with shape {tile.shape}, "
                    f"and max_shift is {reach}. Correct its position or grid index, raise "
                    "align.max_shift, or make it a dataset of its own"
                )

    def max_shift(self) -> tuple[int, int, int]:
        """± voxels around nominal, from the configuration; required without positions."""
        return max_shift(self.config, any(row["x"] is not None for row in self.rows))


def max_shift(config: Config, has_positions: bool) -> tuple[int, int, int]:
    """Return ± voxels around nominal along x, y, z.

    Raises
    ------
    InputError
        Where it is not configured although the sheet gives no positions.
    """
    if config.align.max_shift is not None:
        return config.align.max_shift
    if not has_positions:
        raise InputError(
            "align.max_shift is missing; it is needed because the sheet has no columns x, y. "
            "Write how far, in voxels, tiles may lie from where the grid puts them"
        )
    return (20, 20, 8)


def overlap_voxels(overlap: Overlap, extent: int) -> tuple[float, float]:
    """Return the least and largest configured overlap in voxels (equal where it is one number)."""
    lower, upper = overlap if isinstance(overlap, tuple) else (overlap, overlap)
    scale = extent if isinstance(lower, float) else 1
    return lower * scale, upper * scale


def _index(row: _Row) -> tuple[int, int, int]:
    return (row["tile_x"], row["tile_y"], row["tile_z"] or 0)
