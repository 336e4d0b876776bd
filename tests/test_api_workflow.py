"""The library and the workflow are two doors to one engine."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

import stitchlib as sl
from stitchlib.align import align_block
from stitchlib.assemble import assemble
from stitchlib.config import parse_config
from stitchlib.errors import InputError
from stitchlib.memory import card_mb
from stitchlib.pairs import write_measured
from stitchlib.phantom import Phantom, position_error, write_phantom
from stitchlib.place import place_dataset, write_placement
from stitchlib.runs import Run
from stitchlib.stitch import stitch_shard
from tests.workflow import positions, run

STACKS = Phantom(grid=(2, 2), tile_shape=(40, 36, 8), overlap=(12, 12), jitter=(2, 2, 1), seed=3)
PLANES = Phantom(grid=(3, 2), tile_shape=(48, 40), overlap=(14, 14), jitter=(2, 2), seed=1)


def prepared(tmp_path, phantom, monkeypatch, **align):
    """Return the run of a phantom, and its configuration."""
    tmp_path.mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    files = write_phantom(phantom, "data", dataset="p")
    size = dict.fromkeys("xyz", max(5, 2 * phantom.jitter[0] + 2))
    raw = {
        "tiles": str(files.sheet),
        "dataset": "p",
        "align": {"overlap": dict(zip("xy", phantom.overlap, strict=True)), "max_shift": size,
                  **align},
        "output": {"chunk": 16, "shard": 32, "levels": 1},
    }  # fmt: skip
    return Run.of(raw).datasets["p"], files


def placed(job, tmp_path):
    """Do what the align and place jobs do."""
    tables = job.folder / "pairs"
    for card, _ in job.blocks:
        links = align_block(card.content, tmp_path / "data")
        write_measured(tables / f"{card.stem}.tsv", links)
    card = job.place_card.content
    placement = place_dataset(card, tables)
    write_placement(placement, card, job.place_record, tmp_path / "data")
    return placement


def volume(job, tmp_path):
    """Do what the stitch jobs do; return their voxels."""
    corners = job.positions()
    finish = job.after(corners)
    whole = np.zeros(finish.plan.shape, job.dataset.dtype)
    for card, shard in finish.shards:
        path = tmp_path / f"{card.digest}.h5"
        stitch_shard(shard, tmp_path / "data", path)
        with h5py.File(path) as file:
            voxels = file["0"][:].T
        part = tuple(slice(0, n) for n in shard.box.shape)
        whole[shard.box.slices()] = voxels[part]
    return whole


@pytest.mark.parametrize("phantom", [STACKS, PLANES], ids=["stacks", "planes"])
def test_a_layout_of_the_workflow_is_loaded_and_stitched_to_its_volume(
    tmp_path, monkeypatch, phantom
):
    job, _ = prepared(tmp_path, phantom, monkeypatch)
    placed(job, tmp_path)
    layout = sl.load_layout(job.folder / "layout.json")
    wanted = volume(job, tmp_path)
    assert layout.ndim == len(phantom.tile_shape)
    stitched = layout.stitch()
    np.testing.assert_array_equal(stitched.reshape(wanted.shape), wanted)
    copy = layout.copy()
    copy.place()
    assert (
        np.ptp(np.subtract(copy.source_positions(), layout.source_positions()), axis=0).max() <= 1
    )


@pytest.mark.parametrize("clip", [None, 900, [120, 900]])
def test_squared_differences_and_clipping_find_the_truth(tmp_path, monkeypatch, clip):
    job, files = prepared(tmp_path, STACKS, monkeypatch, measure="ssd", clip=clip, min_overlap=4)
    placement = placed(job, tmp_path)
    corners = {p.tile: p.corner for p in placement.positions}
    assert position_error(corners, positions(files.truth)) == 0
    assert {link.measure for link in placement.links} == {"ssd"}
    assert all(link.quality <= 0 for link in placement.links)


def test_clipping_changes_the_quality_and_the_card(tmp_path, monkeypatch):
    job, _ = prepared(tmp_path, STACKS, monkeypatch, measure="ssd")
    clipped, _ = prepared(tmp_path / "b", STACKS, monkeypatch_in(tmp_path, monkeypatch),
                          measure="ssd", clip=400)  # fmt: skip
    cards = [j.blocks[0][0].content for j in (job, clipped)]
    assert "clip" not in cards[0]
    assert card_mb(cards[1]) >= card_mb(cards[0])
    assert cards[1]["clip"] == [None, 400]
    low, high = (
        align_block(card, tmp_path / folder)[0].quality
        for card, folder in zip(cards, ("data", "b/data"), strict=True)
    )
    assert low < high <= 0


def monkeypatch_in(tmp_path, monkeypatch):
    (tmp_path / "b").mkdir()
    return monkeypatch


@pytest.mark.parametrize("clip", [[9, 3], float("inf"), [1, 2, 3], "x"])
def test_a_wrong_clip_is_refused(clip):
    with pytest.raises(InputError, match="clip"):
        parse_config({"tiles": "t.tsv", "align": {"clip": clip}})


@pytest.mark.slow
@pytest.mark.parametrize("phantom", [STACKS, PLANES], ids=["stacks", "planes"])
def test_the_volume_of_a_run_is_the_stitch_of_its_layout(tmp_path, phantom):
    files = write_phantom(phantom, tmp_path / "data", dataset="p")
    run(tmp_path, configfile=str(files.config))
    results = tmp_path / "results" / "p"
    with h5py.File(results / "p.h5") as file:
        wanted = file["t00000/s00/0/cells"][:].T
    stitched = sl.load_layout(results / "layout.json").stitch()
    np.testing.assert_array_equal(stitched.reshape(wanted.shape), wanted)


def test_what_a_run_beside_it_makes_anew_is_waited_for(tmp_path, monkeypatch):
    job, _ = prepared(tmp_path, PLANES, monkeypatch)
    before = placed(job, tmp_path)
    table = min((job.folder / "pairs").iterdir())
    away = table.with_suffix(".away")
    looked = []

    def again(seconds):
        looked.append(seconds)
        away.rename(table)

    table.rename(away)
    monkeypatch.setattr("stitchlib.io.files.time.sleep", again)
    assert place_dataset(job.place_card.content, table.parent).positions == before.positions
    assert len(looked) == 1
    finish = job.after(job.positions())
    for (_, plan), path in zip(finish.shards, finish.paths(job.folder), strict=True):
        stitch_shard(plan, tmp_path / "data", path)
    table = finish.paths(job.folder)[1]
    table.rename(away)
    assemble(finish.last.content, finish.last.digest, job.folder / "shards", job.volume)
    assert len(looked) == 2
    table.unlink()
    monkeypatch.setattr("stitchlib.io.files._PATIENCE", 0)
    with pytest.raises(InputError, match=f"{table.name}: this shard cannot be read"):
        assemble(finish.last.content, finish.last.digest, job.folder / "shards", job.volume)


CLEAN = Phantom(
    grid=(4, 4), tile_shape=(160, 160), overlap=(32, 32), jitter=(5, 5), subvoxel=True,
)  # fmt: skip
DEEP = Phantom(
    grid=(3, 3), tile_shape=(64, 64, 24), overlap=(16, 16), jitter=(3, 3, 2), subvoxel=True,
)  # fmt: skip
KINDS = [
    CLEAN,
    replace(CLEAN, photons=20.0),
    replace(CLEAN, photons=float("inf"), read_noise=0.5),
    replace(CLEAN, vignetting=0.3, gain_spread=0.3, offset_spread=30.0),
    DEEP,
    replace(DEEP, photons=20.0),
]


@pytest.mark.slow
def test_sigma_is_honest_about_images(tmp_path, monkeypatch):
    ratios = []
    for number, kind in enumerate(KINDS):
        for seed in range(12):
            phantom = replace(kind, seed=9000 + 100 * number + seed)
            job, _ = prepared(tmp_path / f"{number}_{seed}", phantom, monkeypatch)
            found = placed(job, tmp_path / f"{number}_{seed}").positions
            axes = len(phantom.tile_shape)
            off = np.array([p.fit[:axes] for p in found]) - list(phantom.truth.values())
            ratios += [
                abs(e - off[0]) / p.sigma[:axes]
                for e, p in zip(off[1:], found[1:], strict=True)
                if p.status == "placed"
            ]
    ratio = np.concatenate(ratios)
    assert len(ratio) > 2000
    assert (ratio < 1).mean() == pytest.approx(0.683, abs=0.05)
    assert (ratio < 2).mean() == pytest.approx(0.954, abs=0.05)
