"""multiview-stitcher as in its README: register by translation, stream into an OME-Zarr pyramid."""

import numpy as np
import tifffile
from multiview_stitcher import fusion, msi_utils, registration
from multiview_stitcher import spatial_image_utils as si_utils
from task import read, write_positions


def main() -> None:
    """Run it."""
    data, out, grid, rows = read()
    nominal, images = [], []
    for row in rows:
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
    corners = np.add(nominal, shifts)
    write_positions(out, {row["tile"]: c for row, c in zip(rows, corners, strict=True)})


if __name__ == "__main__":
    main()
