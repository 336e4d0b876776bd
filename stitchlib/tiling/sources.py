"""From what a person names to the images of a sheet: patterns, folders, files, tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stitchlib.errors import InputError
from stitchlib.io.images import known_suffixes, read_header
from stitchlib.io.parts import Part
from stitchlib.tags import Expression
from stitchlib.tiling.found import Found, channel_name, gridded, numbered, steps
from stitchlib.tiling.metadata import Lengths, Stage, stages
from stitchlib.tiling.names import Named, guess
from stitchlib.tiling.tables import read_fiji, read_positions

TAGS = {
    "X": "column", "Y": "row", "Z": "plane, or layer of stacks", "C": "channel",
    "I": "running number", "W": "well or sample", "T": "time",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """What a person says beside the sources."""

    voxel_size: Lengths = (None, None, None)
    """µm along x, y, z; None = what the files say."""
    unit: str | None = None
    """'um' or 'voxels' of a table of positions."""
    grid: tuple[int, int] | None = None
    """Columns and rows, for running numbers."""
    order: str = "rows"
    """How running numbers go over the grid."""
    stage: bool = False
    """Whether stage positions count more than names."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The images of a sheet."""

    found: tuple[Found, ...]
    voxel_size: Lengths
    """µm along x, y, z, as far as known."""
    sure: bool
    """Whether it is said somewhere which number is the column and which the row."""
    microns: bool
    """Whether positions were µm, so that the voxel size decides where tiles lie."""
    remarks: tuple[str, ...]
    """What a person should know of how it was understood."""


def survey(sources: Sequence[str], options: Options) -> Survey:
    """Find the images that sources name, and where they lie.

    Parameters
    ----------
    sources : sequence of str
        Tag expressions, folders, image files, a TileConfiguration.txt, or tables of positions.
    options : Options
        What is known beside.

    Raises
    ------
    InputError
        Where it cannot be told what is what; says how to.
    """
    remarks: list[str] = []
    files = [Path(s) for s in sources if Path(s).suffix.lower() in known_suffixes()]
    plain = [path for path in files if "<" not in str(path)]
    tables = [s for s in sources if Path(s).suffix.lower() in (".txt", ".csv", ".tsv")]
    if tables:
        if len(sources) > 1:
            raise InputError(f"{tables[0]}: a table of positions is the only source; it names all")
        return _from_table(Path(tables[0]), options)
    named, sure = [], True
    for source in sources:
        if "<" in source:
            named += _expression(source)
        elif Path(source) not in plain:
            sure &= _guessed(_images(Path(source)), Path(source), named, remarks)
    if plain:
        for path in plain:
            _must_be(path)
        sure &= _guessed(plain, _common(plain), named, remarks)
    found = _channels(_planes_or_layers(named), remarks)
    return _placed(found, options, sure, remarks)


def _must_be(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")


def _common(paths: Sequence[Path]) -> Path:
    parents = [set(path.parents) for path in paths]
    return max(set.intersection(*parents), key=lambda p: len(p.parts))


def _images(folder: Path) -> list[Path]:
    _must_be(folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: is no image file ({', '.join(known_suffixes())}), no folder, and no table "
            "(.txt, .csv, .tsv)"
        )
    endings = known_suffixes()
    here = [p for p in folder.iterdir() if p.suffix.lower() in endings]
    files = here or [p for p in folder.rglob("*") if p.suffix.lower() in endings]
    files = [p for p in files if not p.name.startswith(".")]
    if not files:
        raise InputError(f"{folder}: holds no images ({', '.join(endings)})")
    return files


def _guessed(files: Sequence[Path], folder: Path, named: list[Named], remarks: list[str]) -> bool:
    found = guess(files, folder)
    if len(files) > 1:
        remarks.append(f"names, guessed: '{found.pattern}'")
    if found.left_out:
        listed = ", ".join(path.name for path in found.left_out[:3])
        more = ", …" if len(found.left_out) > 3 else ""
        remarks.append(f"left out, named otherwise: {len(found.left_out)} files ({listed}{more})")
    steps_ = {part for path in files for part in path.parts if part.startswith("ZStep_")}
    if "ZStep_0" in steps_ and len(steps_) > 1:
        raise InputError(
            f"{folder}: this microscope's folder ZStep_0 holds projections beside the planes of "
            "ZStep_1, …; move it away, or name it alone"
        )
    named += found.files
    return found.sure


def _expression(text: str) -> list[Named]:
    expression = Expression(text)
    unknown = [tag for tag in expression.tags if tag not in TAGS]
    if unknown:
        known = ", ".join(f"<{tag}> {meaning}" for tag, meaning in TAGS.items())
        raise InputError(f"{text}: what is <{unknown[0]}>? Known tags: {known}")
    return [Named(path, expression, values) for path, values in expression.files()]


def _planes_or_layers(named: Sequence[Named]) -> list[Found]:
    """Make images of files: planes of one stack become one."""
    times = {n.numbers.get("T") for n in named}
    if len(times) > 1:
        raise InputError(
            f"the files are of {len(times)} times ({', '.join(sorted(map(str, times))[:4])}); a "
            "sheet holds one: write a tag expression with that number in place of <T>"
        )
    flat = "Z" in named[0].numbers and len(_shape(named[0].path, Part())) == 2
    columns = {
        tag: steps([int(n.numbers[tag]) for n in named if tag in n.numbers]) for tag in "XYZ"
    }
    found: dict[Any, Found] = {}
    for n in named:
        index = {
            d: columns[tag][int(n.numbers[tag])]
            for d, tag in enumerate("XYZ")
            if tag in n.numbers and not (tag == "Z" and flat)
        }
        numbers = {**n.numbers, **n.texts}
        key = tuple(value for tag, value in numbers.items() if not (tag == "Z" and flat))
        found.setdefault(
            (n.expression.text.rpartition("/")[0], key),
            Found(
                Path(n.with_tag("Z")) if flat else n.path,
                _channel(n),
                channel_name("", w) if (w := numbers.get("W", "")) and not w.isdigit() else w,
                index,
                int(n.numbers["I"]) if "I" in n.numbers else None,
            ),
        )
    return list(found.values())


def _channel(n: Named) -> str:
    if "C" in n.texts:
        return channel_name("", n.texts["C"])
    if "C" in n.numbers:
        before = re.split(r"<C(?:,\d+)?>", n.expression.text)[0]
        return channel_name(before, n.numbers["C"])
    return "c0"


def _shape(path: Path, part: Part) -> tuple[int, ...]:
    return read_header(path, part)[0]


def _channels(found: Sequence[Found], remarks: list[str]) -> list[Found]:
    """Split files that hold several channels or times."""
    stage = stages(found[0].path)[0]
    axes = stage.axes or {}
    if axes.get("T", 1) > 1:
        remarks.append(f"files hold {axes['T']} times; the first is taken")
    times = (("T", 0),) if axes.get("T", 1) > 1 else ()
    if axes.get("C", 1) < 2:
        return [replace(f, part=Part(select=times)) for f in found]
    names = [channel_name("", name) if name else "" for name in stage.channels]
    if len(set(names)) < axes["C"] or not all(re.match("[A-Za-z0-9]", n) for n in names):
        names = [f"c{i}" for i in range(axes["C"])]
    remarks.append(f"files hold {axes['C']} channels: {', '.join(names)}")
    return [
        replace(f, channel=name, part=Part(select=(("C", i), *times)))
        for f in found
        for i, name in enumerate(names)
    ]


def _placed(found: list[Found], options: Options, sure: bool, remarks: list[str]) -> Survey:
    first = stages(found[0].path)
    size: Lengths = tuple(  # type: ignore[assignment]
        a or b for a, b in zip(options.voxel_size, first[0].voxel_size, strict=True)
    )
    by_name = any(0 in f.index or 1 in f.index for f in found)
    has_numbers = any(f.number is not None for f in found)
    if options.grid and not has_numbers:
        columns, rows = options.grid
        raise InputError(
            f"--grid {columns}x{rows}: no name holds a running number; leave it out, or say with "
            "<I> where one is, as in 'raw/t_<I>.tif'"
        )
    if options.grid:
        found = numbered(found, *options.grid, options.order)
        remarks.append(f"running numbers go over the grid by {options.order}; see --order")
        return Survey(tuple(found), size, False, False, tuple(remarks))
    several = len({f.path for f in found}) > 1 or len(first) > 1
    if several and (options.stage or not by_name):
        found = _at_stage(found, size, first)
        remarks.append("positions: of the stage, from the files")
        return Survey(tuple(found), size, True, True, tuple(remarks))
    return Survey(tuple(found), size, sure, False, tuple(remarks))


def _at_stage(found: list[Found], size: Lengths, first: Sequence[Stage]) -> list[Found]:
    """Place tiles where their files say that the stage was."""
    if first[0].position[0] is None or first[0].position[1] is None:
        raise InputError(
            f"nothing tells where the tiles lie: the names have no row and column, and "
            f"{found[0].path.name} no stage position. For running numbers say --grid COLUMNSxROWS "
            "and --order; else write a tag expression, or a CSV of positions (columns path, x, y)"
        )
    if len(first) > 1:
        found = [
            replace(f, part=replace(f.part, series=i), number=i)
            for f in found
            for i in range(len(stages(f.path)))
        ]
    return in_voxels([(f, stages(f.path)[f.part.series].position) for f in found], size)


def in_voxels(placed: Sequence[tuple[Found, Lengths]], size: Lengths) -> list[Found]:
    """Turn positions in µm into corners in voxels, from the least of each dataset, and grid them.

    Raises
    ------
    InputError
        Where the voxel size or a position is not known.
    """
    if size[0] is None or size[1] is None:
        raise InputError(
            "positions in µm need the voxel size, and the files do not tell it; say --voxel-size "
            "X,Y,Z (µm)"
        )
    shape = _shape(placed[0][0].path, placed[0][0].part)
    deep = len(shape) > 2 and size[2] is not None and all(p[2] is not None for _, p in placed)
    least: dict[tuple[str, int], float] = {}
    for f, position in placed:
        if position[0] is None or position[1] is None:
            raise InputError(f"{f.path}: no position is known of it, but of others")
        for d in range(3):
            value = position[d] or 0.0
            least[f.dataset, d] = min(value, least.get((f.dataset, d), value))
    result = []
    for f, position in placed:
        x, y, z = (
            ((position[d] or 0.0) - least[f.dataset, d]) / (size[d] or 1) if d < 2 or deep else 0.0
            for d in range(3)
        )
        result.append(replace(f, corner=(x, y, z)))
    return gridded(result, (*shape, 1)[:3])


def _from_table(path: Path, options: Options) -> Survey:
    _must_be(path)
    if path.suffix.lower() == ".txt":
        found, unit, what = read_fiji(path), "voxels", "a tile configuration of Fiji, pixels"
    else:
        found, unit = read_positions(path, options.unit)
        what = f"a table, {'µm' if unit == 'um' else 'voxels'}"
    remarks = [f"positions: {what}"]
    for f, _ in found:
        _must_be(f.path)
    size: Lengths = tuple(  # type: ignore[assignment]
        a or b
        for a, b in zip(options.voxel_size, stages(found[0][0].path)[0].voxel_size, strict=True)
    )
    if unit == "um":
        placed = in_voxels(found, size)
    else:
        corners = [(f, tuple(v or 0.0 for v in at)) for f, at in found]
        shape = _shape(found[0][0].path, found[0][0].part)
        at = [replace(f, corner=(c[0], c[1], c[2])) for f, c in corners]
        placed = gridded(at, (*shape, 1)[:3])
    return Survey(tuple(placed), size, True, unit == "um", tuple(remarks))
