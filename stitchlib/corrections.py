"""A person's last word on the placement: corrections.tsv, read and checked before any job runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from stitchlib.core.solve import least_squares
from stitchlib.errors import InputError
from stitchlib.io.files import read_table
from stitchlib.schemas import check_columns, schema

if TYPE_CHECKING:
    from stitchlib.config import Config
    from stitchlib.tiles import Dataset

Point3 = tuple[float, float, float]

CLOSES = 1.0
"""Pins and links made by hand may disagree by so many voxels."""
_STATUSES = ("ok", "background", "no-overlap", "low-confidence", "rejected", "manual")


@dataclass(frozen=True, slots=True)
class HandLink:
    """A link made by hand."""

    pre: str
    post: str
    axis: int
    """Grid axis along which the tiles lie side by side, or farthest apart."""
    displacement: Point3
    """post − pre along x, y, z, voxels."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """What a person decided about one dataset."""

    pins: Mapping[str, Point3] = field(default_factory=dict)
    """Corners x, y, z of tiles, voxels, in the sheet's frame."""
    links: tuple[HandLink, ...] = ()
    forbidden: frozenset[tuple[str, str]] = frozenset()
    """Pairs whose links are not used: (pre, post) and (post, pre)."""
    excluded: frozenset[str] = frozenset()
    """Tiles that are neither used nor drawn."""

    def as_json(self) -> dict[str, Any]:
        """Return the plain values that go into a card."""
        return {
            "pins": {tile: list(corner) for tile, corner in self.pins.items()},
            "links": [[k.pre, k.post, k.axis, list(k.displacement)] for k in self.links],
            "forbidden": sorted(map(list, self.forbidden)),
            "excluded": sorted(self.excluded),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return what `as_json` described."""
        return cls(
            {tile: (c[0], c[1], c[2]) for tile, c in value["pins"].items()},
            tuple(HandLink(a, b, axis, (d[0], d[1], d[2])) for a, b, axis, d in value["links"]),
            frozenset((a, b) for a, b in value["forbidden"]),
            frozenset(value["excluded"]),
        )


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    """File and line."""
    kind: str
    values: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The tiles it is about."""
        return tuple(self.values[c] for c in ("tile", "pre", "post") if c in self.values)

    def triple(self, prefix: str, ndim: int) -> Point3:
        z = self.values.get(f"{prefix}z")
        if z is None and ndim == 3:
            raise InputError(
                f"{self.where}: {prefix}z is empty; a {self.kind} needs it, tiles have a z"
            )
        if z and ndim == 2:
            raise InputError(
                f"{self.where}: {prefix}z = {z:g}, but the tiles have no z; leave it out"
            )
        return (self.values[f"{prefix}x"], self.values[f"{prefix}y"], float(z or 0))


# corrections.tsv


def load_corrections(config: Config, datasets: Iterable[Dataset]) -> dict[str, Corrections]:
    """Read the configured corrections.

    Returns
    -------
    dict
        By dataset; nothing to correct is an empty `Corrections`.

    Raises
    ------
    InputError
        For the first row that is malformed, names what is not there, or contradicts another.
    """
    datasets = list(datasets)
    if config.place.corrections is None:
        return {d.name: Corrections() for d in datasets}
    rows = _read_rows(config.place.corrections)
    tiles = {d.name: {t.name for t in d.tiles} for d in datasets}
    wanted: dict[str, list[_Row]] = {d.name: [] for d in datasets}
    for row in rows:
        only = row.values.get("dataset")
        if only is not None and only not in tiles:
            raise InputError(f"{row.where}: there is no dataset {only!r}; there are {few(tiles)}")
        names = [only] if only is not None else list(tiles)
        found = [name for name in names if set(row.names) <= tiles[name]]
        if not found:
            known = set().union(*(tiles[name] for name in names))
            missing = [name for name in row.names if name not in known] or list(row.names)
            raise InputError(
                f"{row.where}: {row.kind} names tile {missing[0]!r}, which the tile sheet "
                f"{config.tiles} does not have there; correct the name or remove the line"
            )
        for name in found:
            wanted[name].append(row)
    return {d.name: _collect(wanted[d.name], d, config.place.method) for d in datasets}


def few(names: Iterable[str]) -> str:
    """Return the first of some names, for a message."""
    names = list(names)
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")


def _read_rows(path: Path) -> list[_Row]:
    spec = schema("corrections")
    columns, table = read_table(path)
    check_columns(path, columns, "corrections")
    needed = {
        rule["if"]["properties"]["kind"]["const"]: rule["then"]["required"]
        for rule in spec["allOf"]
    }
    return [_row(path, fields, spec["properties"], needed) for fields in table]


def _row(
    path: Path, fields: Mapping[str, str], spec: Mapping[str, Any], needed: Mapping[str, list[str]]
) -> _Row:
    where = f"{path}, line {fields['#']}"
    kind = fields["kind"]
    if kind not in needed:
        raise InputError(f"{where}: kind = {kind!r}; give one of {', '.join(needed)}")
    allowed = {*needed[kind], "kind", "dataset", "comment"}
    allowed |= {c[:-1] + "z" for c in needed[kind] if c.endswith("y")}
    values: dict[str, Any] = {}
    for name, text in fields.items():
        if name in ("#", "comment", "kind") or not text:
            continue
        if name not in allowed:
            raise InputError(
                f"{where}: {name} = {text!r} means nothing in a {kind}; it needs "
                f"{', '.join(needed[kind])}"
            )
        values[name] = finite_number(where, name, text) if spec[name]["type"] == "number" else text
    for name in needed[kind]:
        if name not in values:
            raise InputError(f"{where}: {name} is empty; a {kind} needs {', '.join(needed[kind])}")
    return _Row(where, kind, values)


def finite_number(where: str, name: str, text: str) -> float:
    """Return a number of voxels, or refuse the text of column ``name``."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 2**31:
        raise InputError(f"{where}: {name} = {text!r}: must be a number of voxels")
    return value


def _collect(rows: Sequence[_Row], dataset: Dataset, method: str) -> Corrections:
    index = {tile.name: tile.index for tile in dataset.tiles}
    seen: dict[tuple[str, ...], _Row] = {}
    for row in rows:
        if method == "given" and row.kind in ("link", "forbid"):
            raise InputError(
                f"{row.where}: a {row.kind} has no effect with place.method = 'given', which uses "
                "no links; remove the line, or choose another method"
            )
        _check_row(row, seen)
    pins = {r.values["tile"]: r.triple("", dataset.ndim) for r in rows if r.kind == "pin"}
    links = []
    for row in rows:
        if row.kind == "link":
            pre, post = row.values["pre"], row.values["post"]
            apart = [b - a for a, b in zip(index[pre], index[post], strict=True)]
            axis = max(range(3), key=lambda d: abs(apart[d]))
            links.append(HandLink(pre, post, axis, row.triple("displacement_", dataset.ndim)))
    forbidden = [(r.values["pre"], r.values["post"]) for r in rows if r.kind == "forbid"]
    excluded = frozenset(r.values["tile"] for r in rows if r.kind == "exclude")
    if len(excluded) == len(dataset.tiles):
        raise InputError(
            f"{rows[-1].where}: every tile of dataset {dataset.name!r} is excluded; keep one, or "
            "take the dataset out of the sheet"
        )
    _check_closing([row for row in rows if row.kind == "link"], links, pins)
    both = frozenset([*forbidden, *((b, a) for a, b in forbidden)])
    return Corrections(pins, tuple(links), both, excluded)


def _check_row(row: _Row, seen: dict[tuple[str, ...], _Row]) -> None:
    """Refuse a row that contradicts an earlier one; ``seen`` has these by kind and tiles."""
    names = tuple(sorted(row.names))
    if len(set(names)) < len(names):
        raise InputError(f"{row.where}: pre and post are both {names[0]!r}; name two tiles")
    clashes = [(row.kind, *names)]
    if row.kind in ("link", "forbid"):
        clashes.append(("forbid" if row.kind == "link" else "link", *names))
    if row.kind == "pin":
        clashes.append(("exclude", *names))
    if row.kind == "link":
        clashes += [("exclude", name) for name in names]
    if row.kind == "exclude":
        clashes += [("pin", *names), ("linked", *names)]
    for clash in clashes:
        if clash in seen:
            other = seen[clash]
            raise InputError(
                f"{row.where}: {row.kind} {' – '.join(row.names)} contradicts or repeats "
                f"{other.kind} {' – '.join(other.names)} in line {other.where.rsplit(' ', 1)[1]}; "
                "remove one of the two lines"
            )
    seen[(row.kind, *names)] = row
    if row.kind == "link":
        for name in names:
            seen.setdefault(("linked", name), row)


def _check_closing(
    rows: Sequence[_Row], links: Sequence[HandLink], pins: Mapping[str, Point3]
) -> None:
    """Refuse links by hand that contradict one another or the pins."""
    names = list(dict.fromkeys([n for k in links for n in (k.pre, k.post)] + list(pins)))
    number = {name: i + 1 for i, name in enumerate(names)}  # 0: where pins are tied to
    ends = [(number[k.pre], number[k.post], k.displacement) for k in links]
    ends += [(0, number[tile], corner) for tile, corner in pins.items()]
    if not ends:
        return
    pre, post = (np.array([e[i] for e in ends], np.int64) for i in (0, 1))
    wanted = np.array([e[2] for e in ends], float)
    x, _ = least_squares(len(names) + 1, pre, post, wanted)
    off = np.abs(wanted - (x[post] - x[pre])).max(axis=1)[: len(links)]
    if len(off) and off.max() > CLOSES:
        row = rows[int(np.argmax(off))]
        raise InputError(
            f"{row.where}: link {' – '.join(row.names)} contradicts the other links and pins by "
            f"{off.max():.1f} voxels; correct it, or remove the line that is wrong"
        )


# Positions and links made before
