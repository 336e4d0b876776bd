"""The memory that jobs state: placing and assembling, and all of them as processes.

What stitching allocates is compared in test_stitch, aligning in test_strips.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from stitchlib import align, levels, memory, place, stitch
from stitchlib import assemble as assembly
from stitchlib.cards import read_card
from stitchlib.core.boxes import Box
from stitchlib.corrections import Corrections
from stitchlib.errors import InputError
from stitchlib.inputs import Inputs
from stitchlib.io import hdf5
from stitchlib.io.bdv import cells
from stitchlib.pairs import Link, write_measured
from stitchlib.phantom import Phantom, write_phantom
from stitchlib.plans import ShardPlan
from stitchlib.runs import Run
from tests.traced import traced
from tests.workflow import PROJECT

SHAPE = (300, 200, 70)

needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")


def made(folder, chunk, shard_levels, count, how, extent=SHAPE):
    """Make shards of a volume that tiles cover, and return the card that assembles them."""
    rng = np.random.default_rng(0)
    factors = [(2**n,) * 3 for n in range(count)]
    plan_levels = [(f, tuple(min(chunk, -(-n // f[0])) for n in extent)) for f in factors]
    folder.mkdir()
    shards, unit = [], chunk * 2 ** (shard_levels - 1)
    side = -(-128 // unit) * unit
    for x in range(0, extent[0], side):
        box = Box((x, 0, 0), (min(x + side, extent[0]), *extent[1:]))
        np.save(folder / "tile.npy", rng.integers(0, 2**16, box.shape, dtype=np.uint16))
        tiles = (({"path": "tile.npy"}, box),)
        made_here = tuple(plan_levels[:shard_levels])
        plan = ShardPlan(box, made_here, tiles, "uint16", "max", 0, "gzip")
        stitch.stitch_shard(plan, folder, folder / "shards" / f"{x}.h5")
        shards.append({"path": f"{x}.h5", "lower": list(box.lower)})
    return {
        "stage": "assemble", "channels": ["c"], "dtype": "uint16", "corner": [0, 0, 0], "fill": 0,
        "voxel_size": [1.0, 1.0, 1.0], "shard_levels": shard_levels, "compression": "gzip",
        "assembly": how, "shards": {"c": shards},
        "levels": [
            {"factor": list(f), "shape": [-(-n // f[0]) for n in extent], "chunk": list(c)}
            for f, c in plan_levels
        ],
    }  # fmt: skip


@pytest.mark.parametrize("how", ["copy", "virtual"])
@pytest.mark.parametrize(("chunk", "shard_levels", "count"), [(16, 1, 3), (32, 2, 3), (12, 1, 2)])
def test_assembling_takes_no_more_memory_than_it_says(
    tmp_path, monkeypatch, chunk, shard_levels, count, how
):
    # Small columns and pieces, so that what is the same for all does not hide an error.
    monkeypatch.setattr(levels, "COLUMN_BYTES", 2**20)
    monkeypatch.setattr(levels, "SLAB_VOXELS", 2**18)
    for module in (assembly, hdf5):
        monkeypatch.setattr(module, "MAPPED_BYTES", 2**21)
    card = made(tmp_path / "in", chunk, shard_levels, count, how)
    shards, volume = tmp_path / "in" / "shards", tmp_path / "in" / "volume.h5"
    assembly.assemble(card, "0" * 12, shards, volume)
    _, peak = traced(assembly.assemble, card, "0" * 12, shards, volume)
    needed = assembly.memory_needed(card)
    assert peak <= needed, f"{peak / needed:.2f} of {needed}"
    assert needed < 2**20 + 4 * peak
    assert memory.card_mb(card) == memory.BASE_MB + needed // 2**20


def test_placing_takes_no_more_memory_than_it_says(tmp_path):
    # In layers, where the solver's matrix fills most, and one link in ten is wrong.
    n, rng = 8, np.random.default_rng(0)
    names = {index: "t{}_{}_{}".format(*index) for index in np.ndindex(n, n, n)}
    links = []
    for index, name in names.items():
        for axis in range(3):
            other = tuple(i + (a == axis) for a, i in enumerate(index))
            if other in names:
                found = [90.0 * (a == axis) for a in range(3)]
                found[axis] += 15.0 * (rng.random() < 0.1)
                links.append(
                    Link(
                        name, names[other], axis, tuple(found), (0.0,) * 3, 0.9, "ncc", (0.1,) * 3,
                        0.999, "ok",
                    )
                )  # fmt: skip
    write_measured(tmp_path / "t.tsv", links)
    card = {
        "stage": "place", "tables": ["t.tsv"], "min_confidence": 0.99, "ndim": 3,
        "dtype": "uint16", **Inputs("optimization", Corrections(), None, None).as_json(),
        "tiles": [
            {"tile": name, "nominal": [90 * i for i in index], "index": list(index)}
            for index, name in names.items()
        ],
    }  # fmt: skip
    _, peak = traced(place.place_dataset, card, tmp_path)
    assert peak <= place.memory_needed(card)
    assert memory.card_mb(card) == memory.BASE_MB + place.memory_needed(card) // 2**20


@pytest.mark.parametrize("how", ["copy", "virtual"])
def test_a_level_made_by_assembly_reads_every_chunk_once(tmp_path, monkeypatch, how):
    card = made(tmp_path / "in", 16, 1, 2, how)
    monkeypatch.setattr(levels, "SLAB_VOXELS", 2**17)  # a few planes
    read = []

    def counted(dataset, box):
        read.append(box)
        return dataset[box.slices()[::-1]].T

    monkeypatch.setattr(assembly, "read_box", counted)
    volume = tmp_path / "in" / "volume.h5"
    assembly.assemble(card, "0" * 12, tmp_path / "in" / "shards", volume)
    assert sum(box.size for box in read) == np.prod(SHAPE)
    assert all(box.lower[axis] % 16 == 0 for box in read for axis in range(3))
    with h5py.File(volume) as file:
        fine, coarse = (file[cells(0, level)][()] for level in (0, 1))
    wanted = fine.astype(np.uint32).reshape(35, 2, 100, 2, 150, 2).sum((1, 3, 5))
    np.testing.assert_array_equal(coarse, (wanted + 4) // 8)


@needs_proc
def test_a_virtual_volume_of_many_shards_keeps_few_of_them_open(tmp_path):
    # HDF5 keeps a chunk or two of every shard that is open.
    card = made(tmp_path / "in", 16, 1, 3, "virtual", (32 * 128, 40, 20))
    used = len(list(Path("/proc/self/fd").iterdir()))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 16, hard))
    try:
        volume = tmp_path / "in" / "volume.h5"
        assembly.assemble(card, "0" * 12, tmp_path / "in" / "shards", volume)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with h5py.File(volume) as file:
        fine, coarse = (file[cells(0, level)][()] for level in (0, 1))
    wanted = fine.astype(np.uint32).reshape(10, 2, 20, 2, 2048, 2).sum((1, 3, 5))
    np.testing.assert_array_equal(coarse, (wanted + 4) // 8)


@pytest.mark.parametrize(
    ("stage", "what"),
    [(align, "aligning"), (place, "placing"), (stitch, "stitching"), (assembly, "assembling")],
)
def test_a_limit_below_what_a_stage_needs_is_refused(tmp_path, monkeypatch, stage, what):
    phantom = Phantom(grid=(2, 1), tile_shape=(40, 36, 8), overlap=(12, 12), jitter=(1, 1, 1))
    files = write_phantom(phantom, tmp_path / "data", results=tmp_path / "results")
    config = yaml.safe_load(files.config.read_text())
    monkeypatch.setattr(stage, "memory_needed", lambda *_, **__: 2**30)
    config["resources"] = {"mem_mb": 1223}
    with pytest.raises(InputError, match=rf"mem_mb = 1223: {what} .*'phantom' needs 1224 MB"):
        Run.of(config)
    config["resources"] = {"mem_mb": 1224}
    Run.of(config)


HIGH_WATER = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) / 1024)
"""


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("how", ["copy", "virtual"])
def test_no_job_takes_more_memory_than_it_says(tmp_path, how):
    phantom = Phantom(grid=(2, 2), tile_shape=(400, 384, 64), jitter=(4, 4, 2))
    files = write_phantom(phantom, tmp_path / "data", results=tmp_path / "results")
    config = yaml.safe_load(files.config.read_text())
    config["output"] = {"assembly": how, "shard": {"x": 256, "y": 256, "z": 64}}
    (dataset,) = Run.of(config).datasets.values()
    folder, tiles = dataset.folder, files.sheet.parent

    def does(job, card, result, *more, stated=None):
        script = PROJECT / "workflow" / "scripts" / f"{job}.py"
        path = card.write(folder)
        command = [sys.executable, "-c", HIGH_WATER, script, path, result, *more]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert float(done.stdout) <= (stated or memory.card_mb(read_card(path))), job

    for (card, _), table in zip(dataset.blocks, dataset.tables, strict=True):
        does("align", card, table, tiles)
    does("place", dataset.place_card, dataset.place_record, tiles)
    finish = dataset.after(dataset.positions())
    for (card, _), shard in zip(finish.shards, finish.paths(folder), strict=True):
        does("stitch", card, shard, tiles, "1")
    does("assemble", finish.last, finish.record(folder), dataset.volume)
    last = dataset.dataset_card
    drawing = memory.preview_mb(dataset.place_card.content)
    does("preview", last, dataset.preview_record, tiles, stated=drawing)
    does("dataset", last, dataset.dataset_record)
