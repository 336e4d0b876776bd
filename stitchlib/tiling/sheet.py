"""A sheet and a starting configuration from what was found, and what is told about them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stitchlib.config import FLAT_CHUNK, Overlap
from stitchlib.core.boxes import AXES
from stitchlib.errors import InputError
from stitchlib.io.files import table_text, write_text
from stitchlib.io.images import read_header
from stitchlib.layouts import relative_location
from stitchlib.tiling.found import Found
from stitchlib.tiling.metadata import Lengths
from stitchlib.tiling.sources import Options, survey
from stitchlib.tiling.trial import Trial, try_overlaps
from stitchlib.tiling.verdict import (
    Turn,
    deviations,
    max_shift,
    overlaps,
    sheet_order,
    turn_of,
    warnings,
)

GUESSED_OVERLAP = 0.1
"""Where nothing tells the overlap."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Tiles on their grid, and what the pixels said."""

    found: tuple[Found, ...]
    """In the order of the sheet."""
    shapes: Mapping[Found, tuple[int, ...]]
    """Extent x, y[, z] of each."""
    dtype: str
    voxel_size: Lengths
    overlap: Mapping[int, Overlap]
    """By grid axis, where several tiles lie along it and no positions are known."""
    max_shift: Mapping[str, int]
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def flat(self) -> bool:
        """Whether tiles are planes."""
        return all(len(shape) == 2 for shape in self.shapes.values())

    @property
    def extent(self) -> tuple[int, ...]:
        """Largest extent x, y, z of a tile, voxels."""
        return tuple(max((*s, 1)[d] for s in self.shapes.values()) for d in range(3))


def make(
    sources: Sequence[str],
    options: Options,
    *,
    turn: Turn,
    overlap: Mapping[int, Overlap],
    tried: bool = True,
) -> Sheet:
    """Find tiles and look at a few of their overlaps.

    Parameters
    ----------
    sources : sequence of str
        See `survey`.
    options : Options
        What a person says beside.
    turn : Turn
        How the axes are put right.
    overlap : mapping
        The overlap that a person says, by grid axis.
    tried : bool
        Whether overlaps are tried on the pixels.

    Raises
    ------
    InputError
        Where tiles or their places cannot be found, or an image cannot be read.
    """
    known = survey(sources, options)
    remarks = list(known.remarks)
    found = sheet_order(turn.apply(known.found))
    trial = _trial(found) if tried else Trial((), 0, 1)
    if not known.sure and not turn and (better := turn_of(trial)):
        found = sheet_order(better.apply(found))
        trial = _trial(found)
        remarks.append(f"rows and columns: as the pixels say ({better.as_options()})")
    headers = {f: read_header(f.path, f.part) for f in found}
    shapes = {f: header[0] for f, header in headers.items()}
    extent = tuple(max((*s, 1)[d] for s in shapes.values()) for d in range(3))
    by_axis = _overlaps(found, overlap, overlaps(trial))
    said = list(warnings(trial, overlap, known.voxel_size, microns=known.microns))
    said += _shape_warnings(headers)
    said += _overlap_doubts(by_axis, overlap, overlaps(trial), tried=tried)
    if trial.pairs:
        remarks.append(
            f"overlaps tried on the pixels: {len(trial.pairs)} of {trial.tried} pairs recognised"
        )
    off = deviations(
        trial, {d: o * extent[d] if isinstance(o, float) else float(o) for d, o in by_axis.items()
                if not isinstance(o, tuple)},
    )  # fmt: skip
    return Sheet(
        tuple(found),
        shapes,
        next(iter(headers.values()))[1],
        known.voxel_size,
        by_axis,
        max_shift(off, extent),
        tuple(remarks),
        tuple(said),
    )


def _trial(found: Sequence[Found]) -> Trial:
    first: dict[Any, Found] = {}
    for f in found:
        first.setdefault((f.dataset, f.place), f)
    return try_overlaps([f for f in first.values() if f.channel == found[0].channel])


def _overlaps(
    found: Sequence[Found], said: Mapping[int, Overlap], measured: Mapping[int, int]
) -> dict[int, Overlap]:
    if found[0].corner is not None:
        return {}
    several = [d for d in range(3) if len({f.place[d] for f in found}) > 1]
    return {d: said.get(d, measured.get(d, GUESSED_OVERLAP)) for d in several}


def _overlap_doubts(
    used: Mapping[int, Overlap],
    said: Mapping[int, Overlap],
    measured: Mapping[int, int],
    *,
    tried: bool,
) -> Iterator[str]:
    for d in used:
        if d not in said and d not in measured:
            why = "could not be measured" if tried and d < 2 else "is not measured"
            yield (
                f"the overlap along {AXES[d]} {why}; {GUESSED_OVERLAP:.0%} is a guess: say "
                f"--overlap, or correct align.overlap.{AXES[d]}"
            )


def _shape_warnings(headers: Mapping[Found, tuple[tuple[int, ...], str, bool]]) -> Iterator[str]:
    shapes = {header[0] for header in headers.values()}
    types = {header[1] for header in headers.values()}
    if len(shapes) > 1:
        listed = ", ".join(" × ".join(map(str, s)) for s in sorted(shapes)[:4])
        yield f"tiles have {len(shapes)} different shapes: {listed}"
    if len(types) > 1:
        yield f"tiles have different types: {', '.join(sorted(types))}; the workflow refuses that"


def summary(sheet: Sheet) -> Iterator[str]:
    """Yield what was found, line by line."""
    yield from sheet.remarks
    channels = list(dict.fromkeys(f.channel for f in sheet.found))
    datasets = list(dict.fromkeys(f.dataset for f in sheet.found))
    listed = f"channel {channels[0]}" if len(channels) < 2 else f"channels {', '.join(channels)}"
    for dataset in datasets:
        places = dict.fromkeys(f.place for f in sheet.found if f.dataset == dataset)
        ranges = [range(min(p[d] for p in places), max(p[d] for p in places) + 1) for d in range(3)]
        deep = len(ranges[2]) > 1
        grid = " × ".join(str(len(r)) for r in ranges[: 3 if deep else 2])
        name = f"{dataset}: " if dataset else ""
        axes = "x × y × z" if deep else "x × y"
        yield f"{name}{len(places)} tiles on a grid of {grid} ({axes}), {listed}"
        yield from _gaps(sheet, dataset, ranges)
    shape = sheet.extent[: 2 if sheet.flat else 3]
    yield f"tile: {' × '.join(map(str, shape))} voxels, {sheet.dtype}"
    if any(sheet.voxel_size):
        sizes = [f"{v:.4g}" if v else "?" for v in sheet.voxel_size[: 2 if sheet.flat else 3]]
        yield f"voxel: {' × '.join(sizes)} µm"
    for d, value in sheet.overlap.items():
        if not isinstance(value, tuple):
            voxels = value * sheet.extent[d] if isinstance(value, float) else value
            yield f"overlap along {AXES[d]}: {voxels:.0f} voxels ({voxels / sheet.extent[d]:.1%})"
    total = _total(sheet, datasets[0])
    bytes_ = math.prod(total) * _itemsize(sheet.dtype)
    yield (
        f"stitched: about {' × '.join(map(str, total[: 2 if sheet.flat else 3]))} voxels, "
        f"{_size(bytes_)} a channel" + (", each dataset" if len(datasets) > 1 else "")
    )


def _gaps(sheet: Sheet, dataset: str, ranges: Sequence[range]) -> Iterator[str]:
    have: dict[str, set[tuple[int, ...]]] = {}
    for f in sheet.found:
        if f.dataset == dataset:
            have.setdefault(f.channel, set()).add(f.place)
    every = set().union(*have.values())
    whole = {(x, y, z) for x in ranges[0] for y in ranges[1] for z in ranges[2]}
    if missing := sorted(whole - every, key=lambda p: p[::-1]):
        yield f"  gaps: {len(missing)} of {len(whole)} places have no tile: {_places(missing)}"
    else:
        yield "  no gaps"
    for channel, places in have.items():
        if lacking := sorted(every - places):
            yield f"  channel {channel} is missing at {_places(lacking)}"


def _places(places: Sequence[tuple[int, ...]]) -> str:
    listed = ", ".join(f"x{p[0]} y{p[1]}" + (f" z{p[2]}" if p[2] else "") for p in places[:6])
    return listed + (", …" if len(places) > 6 else "")


def _total(sheet: Sheet, dataset: str) -> tuple[int, ...]:
    members = [f for f in sheet.found if f.dataset == dataset]
    total = []
    for d in range(3):
        if all(f.corner is not None for f in members):
            ends = [f.corner[d] for f in members if f.corner is not None]
            total.append(round(max(ends) - min(ends)) + sheet.extent[d])
            continue
        n = max(f.place[d] for f in members) - min(f.place[d] for f in members)
        value = sheet.overlap.get(d, 0)
        voxels = 0.0 if isinstance(value, tuple) else value
        lost = voxels * sheet.extent[d] if isinstance(voxels, float) else voxels
        total.append(round(n * (sheet.extent[d] - lost)) + sheet.extent[d])
    return tuple(total)


def _itemsize(dtype: str) -> int:
    return int(re.sub(r"\D", "", dtype)) // 8


def _size(n: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


# The files


def refuse_existing(paths: Sequence[Path | None]) -> None:
    """Raise where a file that is to be written is there already."""
    for path in paths:
        if path is not None and path.exists():
            raise InputError(f"{path}: is there already, and nothing is overwritten; name another")


def sheet_text(sheet: Sheet, path: Path) -> str:
    """Return the text of the sheet that is to stand at ``path``."""
    columns = ["tile", "channel", "path", "tile_x", "tile_y"]
    deep = any(2 in f.index for f in sheet.found)
    columns += ["tile_z"] * deep
    placed = sheet.found[0].corner is not None
    columns += [*"xy"] if placed else []
    if placed and any(f.corner and f.corner[2] for f in sheet.found):
        columns.append("z")
    columns += ["dataset"] * any(f.dataset for f in sheet.found)
    columns += ["series"] * any(f.part.series for f in sheet.found)
    columns += ["select"] * any(f.part.select for f in sheet.found)
    return table_text(columns, (_row(f, path) for f in sheet.found))


def _row(f: Found, sheet: Path) -> dict[str, Any]:
    at = f.corner or (None, None, None)
    return {
        "tile": f.tile,
        "channel": f.channel,
        "path": relative_location(f.path, sheet.parent),
        **{f"tile_{a}": f.place[d] for d, a in enumerate(AXES)},
        **{a: None if v is None else f"{v:.10g}" for a, v in zip(AXES, at, strict=True)},
        "dataset": f.dataset or None,
        "series": f.part.series,
        "select": f.part.as_json().get("select"),
    }


def config_text(sheet: Sheet, path: Path, sources: Sequence[str]) -> str:
    """Return a starting configuration, with comments, for the sheet at ``path``."""
    sizes = {a: v or 1 for a, v in zip(AXES, sheet.voxel_size, strict=True)}
    unknown = [
        a
        for a, v in zip(AXES, sheet.voxel_size, strict=True)
        if not v and not (a == "z" and sheet.flat)
    ]
    axes = AXES[: 2 if sheet.flat else 3]
    size = ", ".join(f"{a}: {sizes[a]:.6g}" for a in axes)
    note = f"µm; not known along {', '.join(unknown)}: correct it" if unknown else "µm"
    lines = [
        "# Made by `stitchlib tiles`; config/README.md says what every key means. Paths are",
        "# relative to the folder in which you start snakemake.",
        f"tiles: {_quoted(path.as_posix())}",
        "results: results",
        *([] if any(f.dataset for f in sheet.found) else [f"dataset: {_dataset(sheet, sources)}"]),
        f"voxel_size: {{{size}}}   # {note}",
        f"reference_channel: {_quoted(sheet.found[0].channel)}   # aligned; applied to all",
        "align:",
    ]
    if sheet.overlap:
        by_axis = ", ".join(f"{AXES[d]}: {_number(o)}" for d, o in sheet.overlap.items())
        lines.append(f"  overlap: {{{by_axis}}}   # voxels; 0.1 would be a tenth of the tile")
    shift = ", ".join(f"{axis}: {value}" for axis, value in sheet.max_shift.items())
    lines.append(f"  max_shift: {{{shift}}}   # voxels, ± around where the sheet puts a tile")
    if sheet.flat:
        lines += ["output:", f"  chunk: {FLAT_CHUNK}   # pixels; the default suits stacks"]
    return "\n".join(lines) + "\n"


def _number(value: Overlap) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", text) else f'"{text}"'


def _dataset(sheet: Sheet, sources: Sequence[str]) -> str:
    source = Path(sources[0])
    folder = source if source.is_dir() else sheet.found[0].path.parent
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")
    return _quoted(name if name and "<" not in str(folder) else "stitch")


def write(sheet: Sheet, path: Path, config: Path | None, sources: Sequence[str]) -> list[Path]:
    """Write the sheet and the configuration; neither is overwritten."""
    refuse_existing([path, config])
    write_text(path, sheet_text(sheet, path))
    if config is not None:
        write_text(config, config_text(sheet, path, sources))
    return [path] if config is None else [path, config]
