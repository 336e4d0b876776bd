"""Real tiles through the whole workflow, within the bars that come with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile

from stitchlib.phantom import position_error
from tests.realdata import SETS, real_set, true_positions, write_sheet
from tests.workflow import positions, run, table, write_config


def _ok(results: Path) -> bool:
    return all(row["status"] == "ok" for row in table(results / "pairs.tsv"))


def stitched(name: str, folder: Path, channels: dict[str, str] | None = None, **keys: Any) -> Any:
    """Run the workflow on a set as its settings say; return its description."""
    meta = write_sheet(name, folder / "tiles.tsv", channels)
    write_config(folder, tiles="tiles.tsv", align=SETS[name].align, **keys)
    run(folder)
    return meta


def test_brain_is_placed_within_a_voxel(tmp_path: Path) -> None:
    voxel = {"x": 40, "y": 40, "z": 50}
    meta = stitched("cut_brain_2x3", tmp_path, dataset="brain", voxel_size=voxel)
    results = tmp_path / "results" / "brain"
    truth = true_positions("cut_brain_2x3", meta)
    assert _ok(results)
    assert position_error(positions(results / "positions.tsv"), truth) <= 1


def test_two_channels_of_cortex_are_placed_within_a_voxel(tmp_path: Path) -> None:
    names = {"cortexb_ch0": "c0", "cortexb_ch1": "c1"}
    meta = stitched("cut_cortexb_2ch_2x2", tmp_path, names, dataset="cortex")
    results = tmp_path / "results" / "cortex"
    placed = positions(results / "positions.tsv")
    assert _ok(results)
    assert position_error(placed, true_positions("cut_cortexb_2ch_2x2", meta)) <= 1
    _check_corner_tile(results / "cortex.h5", placed)


def _check_corner_tile(volume: Path, placed: dict[str, tuple[int, int, int]]) -> None:
    """Both channels hold the first tile's own voxels at its corner, where nothing covers it."""
    folder, _ = real_set("cut_cortexb_2ch_2x2")
    corner = np.array(placed["r0c0"]) - np.min(list(placed.values()), axis=0)
    with h5py.File(volume) as file:
        assert list(file.attrs["channels"]) == ["c0", "c1"]
        for number in (0, 1):
            tile = tifffile.imread(folder / f"tile_r0_c0_ch{number}.tif")[:, :100, :100]
            x, y, z = corner
            cells = file[f"t00000/s{number:02d}/0/cells"]
            part = cells[z : z + 26, y : y + 100, x : x + 100]
            np.testing.assert_array_equal(part, tile)


def test_wells_of_a_plate_are_told_apart(tmp_path: Path) -> None:
    """Well B03 has cells in its overlap; B02 has nothing there, and must not be called ok."""
    stitched("imagexpress_3433", tmp_path)
    (good,) = table(tmp_path / "results" / "B03" / "pairs.tsv")
    assert good["status"] == "ok"
    assert abs(float(good["displacement_x"]) - 232) <= 1
    (bad,) = table(tmp_path / "results" / "B02" / "pairs.tsv")
    assert bad["status"] != "ok"
    assert bad["reason"]


def test_laser_scanning_tiles_agree_with_the_record_within_a_pixel(tmp_path: Path) -> None:
    meta = stitched("lscm_speckle1", tmp_path, dataset="speckle")
    results = tmp_path / "results" / "speckle"
    recorded = true_positions("lscm_speckle1", meta)
    assert _ok(results)
    assert position_error(positions(results / "positions.tsv"), recorded) <= 1


def test_electron_micrographs_agree_with_the_record_within_three_pixels(tmp_path: Path) -> None:
    """By the links that the default believes; its tolerance is what another stitcher recorded."""
    meta = stitched("stitch2d_sem", tmp_path, dataset="sem")
    results = tmp_path / "results" / "sem"
    recorded = true_positions("stitch2d_sem", meta)
    assert (
        position_error(positions(results / "positions.tsv"), recorded) <= SETS["stitch2d_sem"].bar
    )


def _fit_errors(results: Path, truth: dict[str, tuple[float, ...]]) -> np.ndarray:
    """Errors of the sub-voxel positions along x, y, z, without their median."""
    rows = table(results / "positions.tsv")
    fits = np.array([[float(row[f"{a}_fit"]) for a in "xyz"] for row in rows])
    errors = fits - [truth[row["tile"]] for row in rows]
    return errors - np.median(errors, axis=0)


def test_colour_micrograph_is_placed_within_half_a_pixel(tmp_path: Path) -> None:
    """Its colours are channels, aligned on their luminance; nominal is off by up to 35 pixels."""
    meta = stitched("itk_cmu", tmp_path, dataset="cmu")
    results = tmp_path / "results" / "cmu"
    truth = true_positions("itk_cmu", meta)
    errors = np.hypot(*_fit_errors(results, truth).T[:2])
    assert np.sqrt(np.mean(errors**2)) <= 0.5
    assert errors.max() <= 1
    with h5py.File(results / "cmu.h5") as file:
        assert list(file.attrs["channels"]) == ["c0_R", "c0_G", "c0_B"]


def test_thick_slices_are_placed_within_half_a_voxel(tmp_path: Path) -> None:
    """Tiles of six planes: what is reached along z is printed, the bar is x and y."""
    meta = stitched("itk_mri3d", tmp_path, dataset="mri")
    truth = true_positions("itk_mri3d", meta)
    errors = _fit_errors(tmp_path / "results" / "mri", truth)
    rms = np.sqrt(np.mean(errors**2, axis=0))
    print("rms along x, y, z: {:.2f}, {:.2f}, {:.2f} voxels".format(*rms))
    assert (rms[:2] <= 0.5).all()
