"""The workflow on phantoms: datasets, gaps, planes, missing channels, configurations, bad input."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import yaml

from stitchlib.phantom import Phantom, position_error, write_phantom
from tests.reference import blended
from tests.workflow import positions, run, snakemake, table, write_config

SMALL = Phantom(grid=(2, 2), tile_shape=(40, 36, 8), overlap=(12, 12), jitter=(2, 2, 1), seed=3)
SMALL_ALIGN = {"overlap": {"x": 12, "y": 12}, "max_shift": {"x": 5, "y": 5, "z": 3}}
HEADER = "tile\tchannel\tpath\ttile_x\ttile_y"


def _volume(folder: Path, dataset: str, channel: int = 0) -> np.ndarray:
    with h5py.File(folder / "results" / dataset / f"{dataset}.h5") as file:
        return file[f"t00000/s{channel:02d}/0/cells"][:].T


def test_plane_tiles_with_a_gap(tmp_path: Path) -> None:
    phantom = Phantom(
        grid=(3, 2), tile_shape=(96, 80), overlap=(20, 20), jitter=(3, 3), missing=((1, 1),)
    )
    files = write_phantom(phantom, tmp_path / "data", dataset="plane")
    run(tmp_path, configfile=str(files.config))
    results = tmp_path / "results" / "plane"
    placed = positions(results / "positions.tsv")
    assert position_error(placed, positions(files.truth)) == 0
    assert {row["z"] for row in table(results / "positions.tsv")} == {"0"}
    tiles = {
        name: tifffile.imread(tmp_path / "data" / "tiles" / f"{name}_c0.tif").T for name in placed
    }
    corners = {name: corner[:2] for name, corner in placed.items()}
    volume = _volume(tmp_path, "plane")
    assert volume.shape[2] == 1
    np.testing.assert_array_equal(volume[..., 0], blended(tiles, corners))


def test_two_datasets_of_one_sheet_and_one_that_fails(tmp_path: Path) -> None:
    files = write_phantom(SMALL, tmp_path / "data")
    rows = table(files.sheet)
    lines = [f"{HEADER}\tdataset"]
    for dataset in ("a", "b"):
        for row in rows:
            path = row["path"]
            if dataset == "b":
                source, path = tmp_path / "data" / path, f"tiles/b_{row['tile']}.tif"
                stack = tifffile.imread(source)
                tifffile.imwrite(tmp_path / "data" / path, stack, compression="zlib")
            fields = [row["tile"], "c0", path, row["tile_x"], row["tile_y"], dataset]
            lines.append("\t".join(fields))
    files.sheet.write_text("\n".join(lines) + "\n")
    # A compressed plane that is damaged behind a whole header: only its job can find out.
    broken = tmp_path / "data" / "tiles" / "b_x1_y1.tif"
    whole = broken.read_bytes()
    with tifffile.TiffFile(broken) as file:
        start, count = file.pages[3].dataoffsets[0], file.pages[3].databytecounts[0]
    broken.write_bytes(whole[:start] + bytes(count) + whole[start + count :])
    write_config(tmp_path, tiles=str(files.sheet), align=SMALL_ALIGN)
    outcome = snakemake(tmp_path)
    assert outcome.returncode != 0
    assert "b_x1_y1.tif: cannot be" in outcome.text
    assert "Traceback" not in outcome.text
    assert (tmp_path / "results" / "a" / "provenance.json").exists()
    assert not (tmp_path / "results" / "b" / "b.h5").exists()
    broken.write_bytes(whole)
    finished = run(tmp_path)
    assert finished.jobs["assemble"] == 1
    np.testing.assert_array_equal(_volume(tmp_path, "a"), _volume(tmp_path, "b"))


def test_tile_that_lacks_a_channel_is_left_out_of_it(tmp_path: Path) -> None:
    phantom = Phantom(
        grid=(2, 2),
        tile_shape=(40, 36, 8),
        overlap=(12, 12),
        jitter=(2, 2, 1),
        channels=("c0", "c1"),
    )
    files = write_phantom(phantom, tmp_path / "data")
    lines = files.sheet.read_text().splitlines()
    files.sheet.write_text("\n".join(x for x in lines if not x.startswith("x1_y1\tc1")) + "\n")
    config = yaml.safe_load(files.config.read_text())
    config["stitch"] = {"fill": 7}
    files.config.write_text(yaml.safe_dump(config))
    run(tmp_path, configfile=str(files.config))
    placed = positions(tmp_path / "results/phantom/positions.tsv")
    tiles = {
        name: tifffile.imread(tmp_path / f"data/tiles/{name}_c1.tif").T
        for name in placed
        if name != "x1_y1"
    }
    volume = _volume(tmp_path, "phantom", 1)
    least = np.min(list(placed.values()), axis=0)
    part = blended(tiles, placed, fill=7)
    offset = np.min([placed[name] for name in tiles], axis=0) - least
    inside = tuple(slice(o, o + n) for o, n in zip(offset, part.shape, strict=True))
    np.testing.assert_array_equal(volume[inside], part)
    outside = np.ones(volume.shape, bool)
    outside[inside] = False
    assert set(np.unique(volume[outside])) == {7}


def test_single_tile_is_a_volume(tmp_path: Path) -> None:
    files = write_phantom(Phantom(grid=(1, 1), tile_shape=(40, 36, 8), jitter=0), tmp_path / "data")
    write_config(tmp_path, tiles=str(files.sheet))
    assert run(tmp_path).jobs == {"place": 1, "stitch": 1, "assemble": 1}
    tile = tifffile.imread(tmp_path / "data/tiles/x0_y0_c0.tif").T
    np.testing.assert_array_equal(_volume(tmp_path, "stitch"), tile)


def test_numpy_tiles_have_the_axes_of_the_layout(tmp_path: Path) -> None:
    files = write_phantom(SMALL, tmp_path / "data", format="npy")
    run(tmp_path, configfile=str(files.config))
    placed = positions(tmp_path / "results/phantom/positions.tsv")
    assert position_error(placed, positions(files.truth)) == 0


def test_configuration_named_on_the_command_line_stands_alone(tmp_path: Path) -> None:
    files = write_phantom(SMALL, tmp_path / "data")
    (tmp_path / "config").mkdir()
    default = {"tiles": str(files.sheet), "dataset": "default", "align": SMALL_ALIGN}
    (tmp_path / "config" / "config.yaml").write_text(yaml.safe_dump(default))
    named = {"tiles": str(files.sheet), "align": {"overlap": {"x": 12}}}
    (tmp_path / "named.yaml").write_text(yaml.safe_dump(named))
    outcome = snakemake(tmp_path, "-n", configfile="named.yaml")
    assert "align.overlap.y is missing" in outcome.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"align": {"overlapp": {"x": 0.1}}}, "did you mean 'overlap'?"),
        ({"output": {"formats": ["ims"]}}, "output.formats = ['ims'] is not supported yet"),
        ({"tiles": "nowhere.tsv"}, "nowhere.tsv: there is no such file"),
        ({"reference_channel": "c9"}, "reference_channel = 'c9'"),
        ({"resources": {"mem_mb": 10}}, "resources.mem_mb = 10: aligning"),
        ({"results": "config.yaml/here"}, "config.yaml is a file; give a folder"),
    ],
)
def test_bad_configuration_is_one_error_before_any_job(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    files = write_phantom(SMALL, tmp_path / "data")
    write_config(tmp_path, **{"tiles": str(files.sheet), "align": SMALL_ALIGN, **change})
    outcome = snakemake(tmp_path)
    assert outcome.returncode != 0
    assert message in outcome.text
    assert "Traceback" not in outcome.text
    assert not list(tmp_path.glob("results/*/*"))
