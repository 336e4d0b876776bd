"""What every program here is given and gives: the set's folder, its tiles, where they were put."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def read() -> tuple[Path, Path, dict[str, Any], list[dict[str, str]]]:
    """Return the folders of the command line, what the set is, and the rows of its sheet."""
    data, out = map(Path, sys.argv[1:])
    with (data / "tiles.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return data, out, json.loads((data / "set.json").read_text()), rows


def write_positions(out: Path, corners: Mapping[str, Iterable[Any]]) -> None:
    """Write where the tiles were put: tile → x, y and, if it has one, z; voxels."""
    positions = {tile: (*map(float, corner), 0.0)[:3] for tile, corner in corners.items()}
    (out / "positions.json").write_text(json.dumps(positions))
