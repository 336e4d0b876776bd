"""Ashlar by its Python classes, as its command does: align edges, mosaic, pyramidal OME-TIFF."""

from ashlar import fileseries, reg
from task import read, write_positions

data, out, grid, rows = read()
width, height = grid["grid"]["x"], grid["grid"]["y"]
folder = out / "tiles"
folder.mkdir()
names = {}
for row in rows:
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
write_positions(out, {names[i]: corner[::-1] for i, corner in enumerate(aligner.positions)})
