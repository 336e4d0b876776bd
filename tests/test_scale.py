"""Large runs: blocks that are filled, plans that grow with the tiles, jobs that read their card."""

from __future__ import annotations

import cProfile
import json
import pstats
from math import prod
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import scale
from stitchlib import neighbours
from stitchlib.io.files import canonical_json
from stitchlib.plans import SHARD_BYTES, auto_shard
from stitchlib.runs import Run
from tests.acquisition import Setup


def planned(folder: Path, tiles: int, **align: object) -> Run:
    """Plan a run of tiles whose files are holes, in a square; paths are relative to ``folder``."""
    scale.write_case(folder, tiles, 1, 2)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["align"] |= align
    return Run.of(config | {"tiles": str(folder / "tiles.tsv"), "results": str(folder / "results")})


@pytest.mark.parametrize(
    ("asked", "most", "jobs"),
    [(1, 1, 60), (2, 2, 35), (4, 4, 18), (7, 4, 18), (8, 8, 9), (99, 60, 1)],
)
def test_blocks_hold_the_pairs_that_were_asked_for(
    tmp_path: Path, asked: int, most: int, jobs: int
) -> None:
    dataset = planned(tmp_path / "case", 36, pairs_per_job=asked).datasets["d000"]
    assert max(len(pairs) for _, pairs in dataset.blocks) == most
    assert len(dataset.blocks) == jobs
    assert sorted(p.pre + p.post for _, pairs in dataset.blocks for p in pairs) == sorted(
        p.pre + p.post for p in dataset.pairs
    )


@pytest.mark.parametrize("base", [0, 1, 5])
def test_pairs_that_are_work_for_two_jobs_are_two_wherever_the_grid_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: int
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_VOXELS", 10**12)
    planned(tmp_path / "case", 36)
    sheet = tmp_path / "case" / "tiles.tsv"
    head, *rows = [line.split("\t") for line in sheet.read_text().splitlines()]
    moved = [[*row[:4], str(int(row[4]) + base), row[5]] for row in rows]
    sheet.write_text("".join("\t".join(row) + "\n" for row in (head, *moved)))
    config = yaml.safe_load((tmp_path / "case" / "config.yaml").read_text())
    config |= {"tiles": str(sheet), "results": str(tmp_path / "results")}
    (dataset,) = Run.of(config).datasets.values()
    assert sorted(len(pairs) for _, pairs in dataset.blocks) == [27, 33]
    monkeypatch.setattr(neighbours, "LEAST_VOXELS", 10**12)
    (dataset,) = Run.of(config).datasets.values()
    assert [len(pairs) for _, pairs in dataset.blocks] == [60]
    monkeypatch.setattr(neighbours, "PAIR_VOXELS", 1)
    (dataset,) = Run.of(config).datasets.values()
    assert [len(pairs) for _, pairs in dataset.blocks] == [1] * 60


def test_a_volume_that_is_work_for_two_jobs_is_two_shards() -> None:
    def shards(*extent: int) -> tuple[int, ...]:
        side = auto_shard((1024, 1024, 1), 1, (1.0, 1.0, 1.0), (64, 64, 64), 2, extent)
        return tuple(-(-n // s) for n, s in zip(extent, side, strict=True))

    assert shards(11000, 11000, 1) == (1, 1, 1)
    assert shards(12000, 12000, 1) == (1, 2, 1)
    assert shards(13000, 12000, 1) == (2, 1, 1)
    assert shards(12000, 13000, 1) == (1, 2, 1)
    assert shards(20000, 6000, 1) == (2, 1, 1)
    assert shards(20000, 20000, 1) == (2, 2, 1)


@given(
    tile=st.tuples(st.integers(2, 6000), st.integers(2, 6000), st.integers(2, 3000)),
    layers=st.integers(1, 3),
    thin=st.sampled_from([1.0, 3.0]),
)
@settings(deadline=None)
def test_no_tile_is_cut_by_two_borders_of_shards(
    tile: tuple[int, int, int], layers: int, thin: float
) -> None:
    shard = auto_shard(tile, layers, (1.0, 1.0, thin), (64, 64, 64), 2, (10**6,) * 3)
    assert shard[0] >= tile[0]
    assert shard[1] >= tile[1]
    # Where it is more than was meant to be, no smaller one would do.
    unit = 256 if thin == 1 else 128
    filled = min(shard[2], tile[2]) if layers == 1 else shard[2]
    if prod(shard[:2]) * filled * 2 > 2 * SHARD_BYTES:
        assert shard[2] <= unit * (1 + (tile[2] <= unit))


def test_json_is_the_same_whatever_the_order_and_has_a_line_for_each_member() -> None:
    value = {
        "b": [{"y": 1, "x": [1, 2]}, {"é": None}],
        "a": {"d": 0.5, "c": "\n"},
        "c": [],
        "d": {},
    }
    text = canonical_json(value)
    assert json.loads(text) == value
    assert text == canonical_json(dict(reversed(value.items())))
    assert text.splitlines()[2:4] == [' "b": [', '  {"x": [1, 2], "y": 1},']
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


def calls(folder: Path, tiles: int) -> int:
    """Count the function calls that planning a run takes, to the last shard."""
    profile = cProfile.Profile()
    profile.enable()
    run = planned(folder, tiles)
    run.prepare()
    for dataset in run.datasets.values():
        finish = dataset.after([tile.nominal for tile in dataset.dataset.tiles])
        for card, _ in finish.shards:
            card.write(dataset.folder)
    profile.disable()
    return int(pstats.Stats(profile).total_calls)


def test_planning_grows_with_the_number_of_tiles(tmp_path: Path) -> None:
    calls(tmp_path / "imports", 4)
    few, many = calls(tmp_path / "few", 100), calls(tmp_path / "many", 900)
    assert many < 1.2 * 9 * few


JOB_NEEDS = {
    "align": ["cards/align"],
    "place": ["cards/place", "pairs"],
    "stitch": ["cards/stitch"],
    "assemble": ["cards/assemble", "shards"],
}


@pytest.mark.slow
def test_a_job_on_a_cluster_reads_its_card_and_nothing_else(tmp_path: Path) -> None:
    whole = Setup.make(tmp_path / "whole", (2, 1), ("c0",))
    whole.run()
    for stage, needs in JOB_NEEDS.items():
        setup = whole.copy(tmp_path / stage)
        (setup.folder / "data/tiles.tsv").unlink()
        kept = [setup.results() / name for name in needs]
        for path in sorted(setup.results().rglob("*"), reverse=True):
            if not any(path.is_relative_to(k) or k.is_relative_to(path) for k in kept):
                path.rmdir() if path.is_dir() else path.unlink()
        card, *others = sorted(kept[0].rglob("*.json"))
        for path in others:
            path.unlink()
        target, wildcards = scale.target_of(card.relative_to(kept[0]), stage)
        path = setup.results() / target
        path.unlink(missing_ok=True)
        target = str(path.relative_to(setup.folder))
        setup.run(*scale.alone(stage, "d", wildcards), "--", target)
        assert path.exists(), stage
