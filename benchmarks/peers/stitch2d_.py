"""stitch2d: its features want 8 bits, so the tiles are stretched; writes a TIFF (no pyramid)."""

import cv2
import numpy as np
import stitch2d
from task import read, write_positions

data, out, grid, rows = read()
rows.sort(key=lambda row: (int(row["tile_y"]), int(row["tile_x"])))
images = [cv2.imread(str(data / row["path"]), cv2.IMREAD_UNCHANGED) for row in rows]
low, high = np.percentile(np.array(images)[:, ::8, ::8], [0.1, 99.9])
small = [np.clip((i - low) * (255 / (high - low)), 0, 255).astype(np.uint8) for i in images]
mosaic = stitch2d.StructuredMosaic(
    [stitch2d.OpenCVTile(i) for i in small],
    dim=grid["grid"]["x"],
    origin="upper left",
    direction="horizontal",
    pattern="raster",
)
mosaic.align()
mosaic.smooth_seams()
mosaic.save(str(out / "fused.tif"))
corners = mosaic.params["coords"]
found = {row["tile"]: corners[i][::-1] for i, row in enumerate(rows) if corners.get(i) is not None}
write_positions(out, found)
