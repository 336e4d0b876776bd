"""multiview-stitcher as in its README: register by translation, stream into an OME-Zarr pyramid."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import tifffile
from multiview_stitcher import fusion, msi_utils, registration
from multiview_stitcher import spatial_image_utils as si_utils


def main() -> None:
    """Run it."""
    data, out = map(Path, sys.argv[1:])
    grid = json.loads((data / "set.json").read_text())
    tiles, nominal, images = [], [], []
    with (data / "tiles.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            corner = {axis: int(row[f"tile_{axis}"]) * grid["step"][axis] for axis in "xy"}
            image = si_utils.get_sim_from_array(
                tifffile.imread(data / row["path"])[None],
                dims=["c", "z", "y", "x"],
                scale={"z": 1, "y": 1, "x": 1},
                translation={"z": 0, **corner},
                transform_key="stage",
                c_coords=["c0"],
            )
            images.append(msi_utils.get_msim_from_sim(image, scale_factors=[]))
            tiles.append(row["tile"])
            nominal.append((corner["x"], corner["y"], 0))
    found = registration.register(
        images,
        reg_channel="c0",
        transform_key="stage",
        new_transform_key="registered",
        pre_registration_pruning_method=None,
    )
    fusion.fuse(
        images=images,
        transform_key="registered",
        output_zarr_url=str(out / "fused.ome.zarr"),
        zarr_options={"ome_zarr": True},
    )
    shifts = [np.asarray(f).squeeze()[:3, 3][::-1] for f in found]
    positions = {
        t: tuple(map(float, n + s)) for t, n, s in zip(tiles, nominal, shifts, strict=True)
    }
    (out / "positions.json").write_text(json.dumps(positions))


if __name__ == "__main__":
    main()
