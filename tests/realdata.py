"""Real tiles with known truth, beside the project where they exist: sheets made from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def real_set(name: str) -> tuple[Path, dict[str, Any]]:
    """Return the folder and the description of a set; skip the test where it is absent."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real tiles {name!r} are not there (looked in {DATA})")
    return folder, json.loads((folder / "meta.json").read_text())


def write_sheet(name: str, sheet: Path, channels: dict[str, str] | None = None) -> dict[str, Any]:
    """Write a tile sheet of a set whose files have one tile and channel each.

    ``channels`` renames the set's channels; nominal positions are left to grid and overlap.
    """
    folder, meta = real_set(name)
    rows = ["tile\tchannel\tpath\ttile_x\ttile_y"]
    for tile in meta["tiles"]:
        channel = (channels or {}).get(tile.get("channel", "c0"), "c0")
        row, column = grid_index(tile)
        rows.append(f"r{row}c{column}\t{channel}\t{folder / tile['file']}\t{column}\t{row}")
    sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet.write_text("\n".join(rows) + "\n")
    return meta


def grid_index(tile: dict[str, Any]) -> tuple[int, int]:
    """Return row and column of a tile."""
    return tuple(tile["index"]) if "index" in tile else (tile["row"], tile["col"])


def known_positions(meta: dict[str, Any], key: str, peer: str | None = None) -> dict[str, Any]:
    """Return tile -> known corner (x, y, z); 2-D sets get z = 0."""
    known = {}
    for tile in meta["tiles"]:
        corner = tile[key][peer] if peer else tile[key]
        corner = tuple(corner[::-1])
        row, column = grid_index(tile)
        known[f"r{row}c{column}"] = corner + (0,) * (3 - len(corner))
    return known
