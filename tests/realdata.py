"""Real tiles with known truth, beside the project where they exist: sheets made from them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True, slots=True)
class RealSet:
    """How a set is aligned, and what is known of it."""

    align: dict[str, Any]
    """What the configuration says; without an overlap the sheet gives nominal corners."""
    peer: str | None = None
    """Whose record is the truth; None where the truth is exact."""
    bar: float = 1.0
    """How far from it is right, voxels."""


SETS = {
    "cut_brain_2x3": RealSet(
        {"overlap": {"x": 0.15, "y": 0.15}, "max_shift": {"x": 12, "y": 12, "z": 8}}
    ),
    "cut_cortexb_2ch_2x2": RealSet(
        {"overlap": {"x": 0.18, "y": 0.18}, "max_shift": {"x": 12, "y": 12, "z": 5}}
    ),
    "imagexpress_3433": RealSet({"max_shift": {"x": 10, "y": 10, "z": 1}}),
    "lscm_speckle1": RealSet(
        {"overlap": {"x": 0.1, "y": 0.1}, "max_shift": {"x": 25, "y": 25}},
        peer="TileConfiguration_uncorrected.txt",
    ),
    "stitch2d_sem": RealSet(
        {"overlap": {"x": 0.24, "y": 0.1}, "max_shift": {"x": 15, "y": 15}}, "stitch2d", 3.0
    ),
    "itk_cmu": RealSet({"overlap": {"x": 0.15, "y": 0.15}, "max_shift": {"x": 45, "y": 45}}),
    "itk_mri3d": RealSet({"max_shift": {"x": 10, "y": 10, "z": 3}}),
}


def real_set(name: str) -> tuple[Path, dict[str, Any]]:
    """Return the folder and the description of a set; skip the test where it is absent."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real tiles {name!r} are not there (looked in {DATA})")
    return folder, json.loads((folder / "meta.json").read_text())


def write_sheet(name: str, sheet: Path, channels: dict[str, str] | None = None) -> dict[str, Any]:
    """Write a tile sheet of a set, whose files have one tile and channel each.

    ``channels`` renames the set's channels; wells are datasets.
    """
    folder, meta = real_set(name)
    rows = []
    for tile in meta["tiles"]:
        index = grid_index(tile)
        channel = tile.get("channel", "c0")
        row = {
            "tile": tile_name(tile),
            "channel": (channels or {}).get(channel, channel),
            "path": folder / tile["file"],
            **dict(zip(("tile_x", "tile_y", "tile_z"), index[::-1], strict=False)),
        }
        if "well" in tile:
            row["dataset"] = tile["well"]
        if "overlap" not in SETS[name].align:
            row |= dict(zip("xyz", tile["nominal"][::-1], strict=False))
        rows.append(row)
    lines = [rows[0].keys(), *(row.values() for row in rows)]
    sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    return meta


def grid_index(tile: dict[str, Any]) -> tuple[int, ...]:
    """Return plane (where there are several), row and column of a tile."""
    return tuple(tile["index"]) if "index" in tile else (tile["row"], tile["col"])


def tile_name(tile: dict[str, Any]) -> str:
    """Name a tile by its place in the grid."""
    index = grid_index(tile)
    return "".join(f"{a}{i}" for a, i in zip("zrc"[-len(index) :], index, strict=True))


def known_positions(meta: dict[str, Any], key: str, peer: str | None = None) -> dict[str, Any]:
    """Return tile -> known corner (x, y, z); 2-D sets get z = 0."""
    known = {}
    for tile in meta["tiles"]:
        corner = tile[key][peer] if peer else tile[key]
        corner = tuple(corner[::-1])
        known[tile_name(tile)] = corner + (0,) * (3 - len(corner))
    return known


def true_positions(name: str, meta: dict[str, Any], well: str = "") -> dict[str, Any]:
    """Return tile -> true or recorded corner (x, y, z); NaN on axes where it is not known."""
    if name == "imagexpress_3433":
        across = 232.0 if well == "B03" else math.nan
        return {"r0c0": (0.0,) * 3, "r0c1": (across, math.nan, math.nan)}
    peer = SETS[name].peer
    return known_positions(meta, "peer" if peer else "truth", peer)
