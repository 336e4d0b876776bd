"""Our library alone: layout, alignment, placement, one HDF5 volume (no pyramid)."""

import csv
import json
import sys
from pathlib import Path

import numpy as np

import stitchlib


def main() -> None:
    """Run it."""
    data, out = map(Path, sys.argv[1:])
    grid = json.loads((data / "set.json").read_text())
    axes = "xyz"[: grid["dimensions"]]
    with (data / "tiles.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    layout = stitchlib.TiledLayout(
        expression=str(data / "tiles" / "x<X>_y<Y>_c0.tif"), overlaps=(grid["overlap"],) * 2
    )
    least = tuple(grid["overlap"] // 2 if axis in "xy" else 1 for axis in axes)
    layout.align(
        max_shifts=[grid["max_shift"][axis] for axis in axes], normalize=True, min_overlap=least
    )
    layout.place()
    layout.stitch(str(out / "fused.h5"))
    at = dict(zip(map(tuple, layout.tile_positions), layout.source_positions(), strict=True))
    positions = {
        row["tile"]: tuple(np.append(at[int(row["tile_x"]), int(row["tile_y"])], 0.0)[:3])
        for row in rows
    }
    (out / "positions.json").write_text(json.dumps(positions))


if __name__ == "__main__":
    main()
