"""The tile sheet's rows, checked one by one, with what the headers of their images say."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from stitchlib.core.boxes import Point
from stitchlib.errors import InputError, Problems
from stitchlib.io.files import canonical_json, read_json, read_table, write_text
from stitchlib.io.images import read_header
from stitchlib.io.parts import WHOLE, Part
from stitchlib.io.planes import is_pattern, stamp
from stitchlib.schemas import NAME_RULE, check_columns, schema

_PENDING = {"key": None, "timepoint": 0}
"""Columns that are not built yet, and the one value they may have until then."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image as a card describes it: a file, or a part of one."""

    path: str
    """As the sheet names it: relative to the sheet, or absolute."""
    size: int
    """Bytes of the file."""
    mtime_ns: int
    """Date of the file's last change, nanoseconds."""
    part: Part = WHOLE
    """Which of its series, channels, … it is."""
    planes: str = ""
    """Digest of names, sizes and dates of a stack's files, where each plane is one; size is then
    that of all, and the date the latest."""

    @property
    def name(self) -> str:
        """What a person calls it; different images have different names."""
        return self.part.of(self.path)

    def as_json(self) -> dict[str, Any]:
        """Return the plain values that go into a card."""
        return {
            "path": self.path,
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            **self.part.as_json(),
            **({"planes": self.planes} if self.planes else {}),
        }


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the sheet, or one colour of it."""

    line: int
    """Where it stands in the sheet."""
    values: Mapping[str, Any]
    """Its fields, converted; empty ones are missing."""
    channel: str
    """Name of the channel in the volume: the row's, or of a colour {channel}_R, _G, _B."""
    image: Image
    """The channel's voxels."""
    aligned: Image
    """What is aligned where the row's channel is the reference: of a colour, the luminance."""
    shape: Point
    """Extent (x, y[, z]) in voxels."""
    dtype: str

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)

    @property
    def is_colour(self) -> bool:
        """Whether it is one of the three channels that an RGB image becomes."""
        return self.aligned.part.luminance


def load_sheet(
    sheet: Path, dataset: str, headers: Path | None, problems: Problems | None = None
) -> list[Row]:
    """Read a sheet and the headers of all its images; an RGB image gives three rows.

    Parameters
    ----------
    sheet : Path
        The table.
    dataset : str
        Name of the dataset of rows that name none.
    headers : Path or None
        A JSON file that remembers headers, so that only new or changed images are opened.
    problems : Problems, optional
        Gathers what is wrong; rows with errors are left out then.

    Raises
    ------
    InputError
        For the first thing that is wrong with the sheet or a file.
    """
    problems = problems or Problems()
    lines = _read_lines(sheet, dataset, problems)
    files = _stat(sheet, [line["path"] for line in lines], problems)
    lines = [line for line in lines if line["path"] in files]
    images = [replace(files[line["path"]], part=line["part"]) for line in lines]
    known = _headers(sheet, images, headers, problems)
    rows = []
    for line, image in zip(lines, images, strict=True):
        if image not in known:
            continue
        shape, dtype, rgb = known[image]
        name: str = line["channel"]
        aligned, found = image, [(name, image)]
        if rgb:
            aligned = replace(image, part=replace(image.part, luminance=True))
            found = [
                (f"{name}_{letter}", replace(image, part=image.part.colour(i)))
                for i, letter in enumerate("RGB")
            ]
        rows += [Row(line["#"], line, *own, aligned, shape, dtype) for own in found]
    with problems.each():
        _check_unique(sheet, [(row.line, row["dataset"], row["tile"], row.channel) for row in rows])
    return rows


# The sheet's text


@cache
def _column(name: str) -> Callable[[str], Any]:
    """Return the converter of a column, which raises ValueError with what is expected."""
    spec = schema("tiles")["properties"][name]
    pattern = re.compile(spec.get("pattern", ""))

    def integer(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,9}", text) or int(text) < spec.get("minimum", -math.inf):
            least = f" of at least {spec['minimum']}" if "minimum" in spec else ""
            raise ValueError(f"must be a whole number{least}")
        return int(text)

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not abs(value) < 2**31:
            raise ValueError("must be a number of voxels, between -2³¹ and 2³¹")
        return value

    def string(text: str) -> str:
        if not pattern.search(text) or any(ord(c) < 32 for c in text):
            raise ValueError(
                "must be axes of the file with an index each, e.g. C=1,T=0"
                if name == "select"
                else NAME_RULE
            )
        return text

    return {"integer": integer, "number": number, "string": string}[spec["type"]]


def _read_lines(sheet: Path, dataset: str, problems: Problems) -> list[dict[str, Any]]:
    columns, table = read_table(sheet)
    check_columns(sheet, columns, "tiles")
    if not table:
        raise InputError(f"{sheet}: the sheet lists no tiles; add one line per tile and channel")
    lines = []
    for fields in table:
        with problems.each():
            lines.append(_convert(sheet, fields, schema("tiles")["required"], dataset))
    with problems.each():
        _check_unique(sheet, [(v["#"], v["dataset"], v["tile"], v["channel"]) for v in lines])
    return lines


def _convert(
    sheet: Path, fields: Mapping[str, str], required: list[str], dataset: str
) -> dict[str, Any]:
    """Return the values of a line by column, its number as ``#``, and the image's ``part``."""
    where = f"{sheet}, line {fields['#']}"
    values: dict[str, Any] = {"#": int(fields["#"])}
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
    try:
        values["part"] = Part.parse(values.get("series"), values.get("select"))
    except ValueError as error:
        raise InputError(f"{where}: select = {values['select']!r}: {error}") from None
    values.setdefault("dataset", dataset)
    return values


def _check_unique(sheet: Path, rows: Iterable[tuple[int, str, str, str]]) -> None:
    """Refuse two lines of one dataset, tile and channel."""
    seen: dict[tuple[str, str, str], int] = {}
    for line, *key in rows:
        dataset, tile, channel = key
        other = seen.setdefault((dataset, tile, channel), line)
        if other != line:
            raise InputError(
                f"{sheet}, line {line}: dataset {dataset!r}, tile {tile!r}, channel {channel!r} "
                f"stand in line {other} already; remove one of the two lines"
            )


# The image files


def _stat(sheet: Path, paths: Iterable[str], problems: Problems) -> dict[str, Image]:
    """Size and date of every file, from one listing of each folder."""
    folders: dict[Path, list[str]] = {}
    images, missing = {}, []
    for path in dict.fromkeys(paths):
        if is_pattern(Path(path)):
            with problems.each():
                size, date, planes = stamp(sheet.parent / path)
                images[path] = Image(path, size, date, planes=planes)
            continue
        folders.setdefault((sheet.parent / path).parent, []).append(path)
    for folder, members in folders.items():
        try:
            with os.scandir(folder) as entries:
                found = {entry.name: entry for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            found = {}
        except OSError as error:
            with problems.each():
                raise InputError(
                    f"{sheet}: the folder of {members[0]!r} cannot be read: {error.strerror}"
                ) from error
            continue
        for path in members:
            entry = found.get(Path(path).name)
            if entry is None or (entry.is_symlink() and not Path(entry.path).exists()):
                missing.append(path)
                continue
            with problems.each():
                if entry.is_dir():
                    raise InputError(f"{sheet}: path {path!r} is a directory, not an image file")
                stat = entry.stat()
                images[path] = Image(path, stat.st_size, stat.st_mtime_ns)
    with problems.each():
        _refuse_missing(sheet, missing)
    return images


def _refuse_missing(sheet: Path, missing: Sequence[str]) -> None:
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(
            f"{sheet}: there is no file {missing[0]!r}{more}; paths are relative to the sheet, "
            f"so it was looked for at {sheet.parent / missing[0]}"
        )


def _headers(
    sheet: Path, images: Iterable[Image], cache_file: Path | None, problems: Problems
) -> dict[Image, tuple[Point, str, bool]]:
    """Shape (x, y[, z]), type and whether it is RGB, remembered for files that did not change."""
    remembered = _remembered(cache_file)
    keys = {image: f"{image.name}|{image.size}|{image.mtime_ns}{image.planes}" for image in images}
    found: dict[str, Any] = {}
    for image, key in keys.items():
        if key not in remembered:
            with problems.each():
                found[key] = read_header(sheet.parent / image.path, image.part)
    if found and cache_file is not None:
        used = {key: value for key, value in remembered.items() if key in keys.values()}
        with suppress(OSError):  # it only saves time; who may not write here may still look
            write_text(cache_file, canonical_json({**used, **found}))
    both = {**remembered, **found}
    known = {image: both[key] for image, key in keys.items() if key in both}
    return {image: (tuple(value[0]), *value[1:]) for image, value in known.items()}


def _remembered(cache_file: Path | None) -> dict[str, Any]:
    if cache_file is None or not cache_file.exists():
        return {}
    try:
        value = read_json(cache_file)
    except InputError:
        return {}
    if not isinstance(value, dict):
        return {}
    fields = len(("shape", "type", "RGB"))
    return {k: v for k, v in value.items() if isinstance(v, list) and len(v) == fields}
