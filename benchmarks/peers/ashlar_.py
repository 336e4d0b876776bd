"""Ashlar by its Python classes, as its command does: align edges, mosaic, pyramidal OME-TIFF."""

import csv
import json
import sys
from pathlib import Path

from ashlar import fileseries, reg

data, out = map(Path, sys.argv[1:])
grid = json.loads((data / "set.json").read_text())
width, height = grid["grid"]["x"], grid["grid"]["y"]
folder = out / "tiles"
folder.mkdir()
names = {}
with (data / "tiles.tsv").open() as file:
    for row in csv.DictReader(file, delimiter="\t"):
        number = int(row["tile_x"]) + width * int(row["tile_y"])
        (folder / f"tile_{number:04d}.tif").symlink_to(data / row["path"])
        names[number] = row["tile"]
reader = fileseries.FileSeriesReader(
    str(folder), "tile_{series:4}.tif", grid["overlap"] / grid["extent"]["x"], width, height
)
aligner = reg.EdgeAligner(reader, max_shift=max(grid["max_shift"].values()))
aligner.run()
mosaic = reg.Mosaic(aligner, aligner.mosaic_shape)
reg.PyramidWriter([mosaic], str(out / "fused.ome.tif")).run()
positions = {names[i]: (float(x), float(y), 0.0) for i, (y, x) in enumerate(aligner.positions)}
(out / "positions.json").write_text(json.dumps(positions))
