"""What decides a placement beside measuring: corrections, and positions or links made before.

Everything is read and checked before any job runs; the place job's card holds the content.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stitchlib.core.boxes import AXES
from stitchlib.corrections import Corrections, finite_number, load_corrections
from stitchlib.errors import InputError
from stitchlib.io.files import read_table
from stitchlib.pairs import MEASURED_COLUMNS, Link, read_measured

if TYPE_CHECKING:
    from stitchlib.config import Config
    from stitchlib.tiles import Dataset

_STATUSES = ("ok", "background", "no-overlap", "low-confidence", "rejected", "manual")


def load_given(config: Config, dataset: Dataset, excluded: Iterable[str]) -> dict[str, Any] | None:
    """Read the configured positions: by tile, [x, y, z], [x_fit, …], [sigma_x, …] or None."""
    path = config.place.positions
    if path is None:
        return None
    columns, table = read_table(path)
    for name in ("tile", "x", "y"):
        if name not in columns:
            raise InputError(f"{path}: column {name!r} is missing (header: {columns})")
    wanted = {tile.name for tile in dataset.tiles}
    found: dict[str, Any] = {}
    for row in table:
        where, tile = f"{path}, line {row['#']}", row["tile"]
        if tile not in wanted:
            continue
        if tile in found:
            raise InputError(f"{where}: tile {tile!r} stands twice; remove one of the two lines")
        corner = [
            finite_number(where, axis, row.get(axis, "") or "0") for axis in AXES[: dataset.ndim]
        ]
        if any(not row.get(axis) for axis in AXES[: dataset.ndim]):
            raise InputError(
                f"{where}: tile {tile!r} lacks one of {', '.join(AXES[: dataset.ndim])}"
            )
        corner += [0.0] * (3 - len(corner))
        found[tile] = {
            "corner": corner,
            "fit": _optional(where, row, "{}_fit"),
            "sigma": _optional(where, row, "sigma_{}"),
        }
    missing = sorted(wanted - set(found) - set(excluded))
    if missing:
        raise InputError(
            f"{path}: has no position for tile {missing[0]!r} of dataset {dataset.name!r} "
            f"({len(missing)} missing); add it, or exclude the tile with place.corrections"
        )
    return {tile.name: found[tile.name] for tile in dataset.tiles if tile.name in found}


def _optional(where: str, row: Mapping[str, str], name: str) -> list[float] | None:
    columns = [name.format(axis) for axis in AXES]
    if not all(row.get(column) for column in columns):
        return None
    return [finite_number(where, column, row[column]) for column in columns]


def load_preset(config: Config, datasets: Iterable[Dataset]) -> dict[str, list[Link]] | None:
    """Read the configured links, by dataset; None = align."""
    path = config.align.preset
    if path is None:
        return None
    tiles = {d.name: {t.name for t in d.tiles} for d in datasets}
    found: dict[str, list[Link]] = {name: [] for name in tiles}
    seen: set[tuple[str, str]] = set()
    for line, link in zip(_lines(path), read_measured(path), strict=True):
        where = f"{path}, line {line}"
        problem = _problem(link)
        if problem:
            raise InputError(f"{where}: {problem}")
        pair = (min(link.pre, link.post), max(link.pre, link.post))
        if pair in seen:
            raise InputError(f"{where}: {link.pre} – {link.post} stands twice; remove one line")
        seen.add(pair)
        there = [name for name, known in tiles.items() if {link.pre, link.post} <= known]
        if not there:
            known = set().union(*tiles.values())
            missing = next((n for n in (link.pre, link.post) if n not in known), link.pre)
            raise InputError(
                f"{where}: there is no tile {missing!r} in the tile sheet {config.tiles} (beside "
                f"its partner); remove the line, or give links of these tiles"
            )
        for name in there:
            found[name].append(link)
    return found


def _lines(path: Path) -> Iterator[str]:
    yield from (row["#"] for row in read_table(path)[1])


def _problem(link: Link) -> str:
    if link.pre == link.post:
        return f"pre and post are both {link.pre!r}"
    if not all(map(math.isfinite, link.displacement)):
        return f"displacement = {link.displacement}: must be numbers of voxels"
    if not 0 <= link.confidence <= 1:
        return f"confidence = {link.confidence:g}: must be from 0 to 1"
    if link.status not in _STATUSES:
        return f"status = {link.status!r}; give one of {', '.join(_STATUSES)}"
    return ""


def links_to_json(links: Iterable[Link]) -> list[str]:
    """Return links as lines that go into a card."""
    rows = (link.as_row() for link in links)
    return ["\t".join(str(row[c]) for c in MEASURED_COLUMNS) for row in rows]


def links_from_json(lines: Iterable[str]) -> list[Link]:
    """Return the links that `links_to_json` described."""
    return [
        Link.from_row({"#": "", **dict(zip(MEASURED_COLUMNS, line.split("\t"), strict=True))},
                      Path("preset"))
        for line in lines
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Inputs:
    """What besides measured links decides a dataset's placement."""

    method: str
    """optimization, tree or given."""
    corrections: Corrections
    given: Mapping[str, Any] | None
    """Positions by tile, with method given; see `load_given`."""
    preset: Sequence[Link] | None
    """Links to use instead of aligning."""

    @property
    def aligns(self) -> bool:
        """Whether pairs are to be measured."""
        return self.given is None and self.preset is None

    def as_json(self) -> dict[str, Any]:
        """Return the plain values that go into the place job's card."""
        return {
            "method": self.method,
            "corrections": self.corrections.as_json(),
            "given": self.given,
            "preset": None if self.preset is None else links_to_json(self.preset),
        }


def load_inputs(config: Config, datasets: Iterable[Dataset]) -> dict[str, Inputs]:
    """Read and check corrections, given positions and preset links, for every dataset."""
    datasets = list(datasets)
    corrections = load_corrections(config, datasets)
    preset = load_preset(config, datasets)
    return {
        d.name: Inputs(
            config.place.method,
            corrections[d.name],
            load_given(config, d, corrections[d.name].excluded),
            None if preset is None else preset[d.name],
        )
        for d in datasets
    }
