"""m2stitch finds positions only: the tiles are pasted there, and written as a TIFF (no pyramid)."""

import m2stitch
import numpy as np
import tifffile
from task import read, write_positions

data, out, _, rows = read()
images = np.array([tifffile.imread(data / row["path"]) for row in rows])
# The threshold that noisy tiles need; its default stops with an error.
found, _ = m2stitch.stitch_images(
    images,
    [int(row["tile_y"]) for row in rows],
    [int(row["tile_x"]) for row in rows],
    row_col_transpose=False,
    ncc_threshold=0.1,
)
corners = found[["x_pos2", "y_pos2"] if "x_pos2" in found else ["x_pos", "y_pos"]].to_numpy()
corners = corners - corners.min(axis=0)
height, width = images.shape[1:]
volume = np.zeros((corners[:, 1].max() + height, corners[:, 0].max() + width), images.dtype)
for (x, y), image in zip(corners, images, strict=True):
    volume[y : y + height, x : x + width] = image
tifffile.imwrite(out / "fused.tif", volume, compression="zlib")
write_positions(out, {row["tile"]: corner for row, corner in zip(rows, corners, strict=True)})
