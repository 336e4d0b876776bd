"""The golden phantom: positions and voxels that every later change must keep."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import npy2bdv
import numpy as np
import pytest
import tifffile
import yaml

from stitchlib.core.boxes import Box, hull
from stitchlib.io.images import open_image
from stitchlib.plans import FusionPlan
from stitchlib.stitch import fuse
from tests.reference import blended
from tests.workflow import PROJECT, Outcome, positions, run, snakemake, table

GOLDEN = PROJECT / "tests" / "golden"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())
CHANNELS = ("c0", "c1")


def golden(folder: Path, *arguments: str, **changes: dict[str, object]) -> Outcome:
    """Run the workflow on the golden tiles, with some keys changed."""
    config = yaml.safe_load((GOLDEN / "config.yaml").read_text())
    config["tiles"] = str(GOLDEN / "tiles.tsv")
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return run(folder, *arguments)


def cells(folder: Path, channel: int, level: int = 0) -> np.ndarray[Any, Any]:
    with h5py.File(folder / "results" / "golden" / "golden.h5") as file:
        voxels: np.ndarray[Any, Any] = file[f"t00000/s{channel:02d}/{level}/cells"][:]
        return voxels


def digest(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def observed(folder: Path) -> dict[str, Any]:
    return {
        "positions": {
            name: list(corner)
            for name, corner in positions(folder / "results/golden/positions.tsv").items()
        },
        "voxels": {
            f"{name}/{level}": digest(cells(folder, number, level))
            for number, name in enumerate(CHANNELS)
            for level in range(2)
        },
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    golden(folder)
    return folder


def test_positions_and_voxels_are_kept(finished: Path) -> None:
    assert observed(finished) == EXPECTED


def test_positions_equal_the_truth(finished: Path) -> None:
    placed = positions(finished / "results/golden/positions.tsv")
    truth = positions(GOLDEN / "truth.tsv")
    first = next(iter(truth))
    offset = np.subtract(placed[first], truth[first])
    assert placed == {name: tuple(np.add(c, offset).tolist()) for name, c in truth.items()}
    assert placed[first] == (0, 0, 0)


@pytest.mark.parametrize("channel", range(2))
def test_volume_equals_slow_reference_and_in_memory_stitch(finished: Path, channel: int) -> None:
    placed = positions(finished / "results/golden/positions.tsv")
    paths = {name: GOLDEN / "tiles" / f"{name}_{CHANNELS[channel]}.tif" for name in placed}
    tiles = {name: tifffile.imread(path).T for name, path in paths.items()}
    volume = cells(finished, channel)
    np.testing.assert_array_equal(volume.T, blended(tiles, placed))

    boxes = [Box.at(placed[name], tiles[name].shape) for name in placed]
    plan = FusionPlan.of(boxes, hull(boxes), "interpolation")
    out = np.zeros(plan.window.shape, np.uint16)
    fuse(plan, [open_image(path) for path in paths.values()], out)
    np.testing.assert_array_equal(volume.T, out)


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (["--cores", "1"], {"output": {"shard": 16}, "align": {"pairs_per_job": 1}}),
        ([], {"output": {"shard": "auto"}, "align": {"pairs_per_job": 8}}),
        ([], {"output": {"shard": {"x": 48, "y": 16, "z": 16}, "compression": "none"}}),
    ],
)
def test_shards_cores_and_blocks_do_not_change_the_volume(
    tmp_path: Path, arguments: list[str], changes: dict[str, dict[str, object]]
) -> None:
    golden(tmp_path, *arguments, **changes)
    assert observed(tmp_path) == EXPECTED


def test_volume_and_xml_read_back_with_another_reader(finished: Path) -> None:
    folder = finished / "results" / "golden"
    reader = npy2bdv.BdvEditor(str(folder / "golden.h5"), mode="r")
    try:
        assert (reader.ntimes, reader.nchannels, reader.ntiles) == (1, 2, 1)
        assert reader.dtype == np.uint16
        for channel in range(2):
            view = reader.read_view(time=0, channel=channel)
            np.testing.assert_array_equal(view, cells(finished, channel))
        affine = reader.read_affine(time=0, channel=0)
    finally:
        reader._file_object_h5.close()  # finalize() would rewrite the XML, even in mode 'r'
    with h5py.File(folder / "golden.h5") as file:
        origin = file.attrs["origin_xyz"]
        size = file.attrs["voxel_size_um_xyz"]
    np.testing.assert_allclose(affine, np.c_[np.diag(size), size * origin])


def test_second_run_executes_nothing_and_needs_no_memory_of_snakemakes(finished: Path) -> None:
    assert not run(finished).jobs
    shutil.rmtree(finished / ".snakemake")
    assert not run(finished).jobs
    assert "Nothing to be done" in run(finished).text


def test_changed_tile_changes_the_volume_as_a_fresh_run_would(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "data")
    config = yaml.safe_load((GOLDEN / "config.yaml").read_text())
    config["tiles"] = "data/tiles.tsv"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    run(tmp_path)
    changed = tmp_path / "data" / "tiles" / "x1_y1_c0.tif"
    stack = tifffile.imread(changed)
    stack[:, 4:20, 4:20] += 500
    tifffile.imwrite(changed, stack)
    outcome = run(tmp_path)
    assert outcome.jobs["stitch"] > 0
    incremental = observed(tmp_path)
    shutil.rmtree(tmp_path / "results")
    run(tmp_path)
    assert observed(tmp_path) == incremental
    assert incremental["voxels"] != EXPECTED["voxels"]


def test_every_job_leaves_log_benchmark_and_memory_request(finished: Path) -> None:
    folder = finished / "results" / "golden"
    for stage in ("align", "place", "stitch", "assemble"):
        cards = sorted(p.stem for p in (folder / "cards" / stage).rglob("*.json"))
        assert cards
        assert cards == sorted(p.stem for p in (folder / "logs" / stage).rglob("*.log"))
        tables = sorted((folder / "benchmarks" / stage).rglob("*.tsv"))
        assert cards == [p.stem for p in sorted(tables, key=lambda p: p.stem)]
        assert all("max_rss" in table(p)[0] for p in tables)


def test_inputs_are_never_written(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "data")
    before = {
        p: (p.stat().st_mtime_ns, digest(np.fromfile(p, np.uint8)))
        for p in sorted((tmp_path / "data").rglob("*"))
        if p.is_file()
    }
    config = yaml.safe_load((GOLDEN / "config.yaml").read_text())
    config["tiles"] = "data/tiles.tsv"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    run(tmp_path)
    after = {
        p: (p.stat().st_mtime_ns, digest(np.fromfile(p, np.uint8)))
        for p in sorted((tmp_path / "data").rglob("*"))
        if p.is_file()
    }
    assert after == before


def test_bad_input_stops_before_any_job_with_one_error(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "data")
    (tmp_path / "data" / "tiles" / "x1_y0_c1.tif").unlink()
    config = yaml.safe_load((GOLDEN / "config.yaml").read_text())
    config["tiles"] = "data/tiles.tsv"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    outcome = snakemake(tmp_path)
    assert outcome.returncode != 0
    assert not outcome.jobs
    assert "there is no file 'tiles/x1_y0_c1.tif'" in outcome.text
    assert "Traceback" not in outcome.text
    assert not (tmp_path / "results").exists()
