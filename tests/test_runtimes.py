"""The time that jobs ask for follows from what they have to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks import scale
from stitchlib.runs import Run
from stitchlib.runtimes import card_minutes
from tests.acquisition import RULES

DEEP = (2048, 2048, 4000)


def minutes(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int, int] = scale.SHAPE,
    tiles: int = 4,
    **align: object,
) -> dict[str, int]:
    """Return the longest time that a job of each stage asks for."""
    monkeypatch.setattr(scale, "SHAPE", shape)
    scale.write_case(folder, tiles, 1, 2)
    monkeypatch.chdir(folder)
    config = yaml.safe_load(Path("config.yaml").read_text())
    config["align"] |= align
    run = Run.of(config).datasets["d000"]
    finish = run.after([tile.nominal for tile in run.drawn])
    cards = [card for card, _ in (*run.blocks, *finish.shards)] + [run.place_card, finish.last]
    asked: dict[str, int] = {}
    for card in cards:
        asked[card.stage] = max(asked.get(card.stage, 0), card_minutes(card.content))
    return asked


def test_jobs_with_more_to_do_may_take_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = minutes(tmp_path / "few", monkeypatch)
    deep = minutes(tmp_path / "deep", monkeypatch, DEEP)
    many = minutes(tmp_path / "many", monkeypatch, tiles=900)
    wide = {"x": 100, "y": 100, "z": 50}
    searched = minutes(tmp_path / "wide", monkeypatch, DEEP, max_shift=wide)
    assert set(few) == set(RULES)
    # No less than what starting a job on a busy cluster takes, and no night for a second's work.
    assert all(10 <= asked <= 20 for asked in few.values())
    # 125 times the voxels: so much longer, beside the start.
    for stage in ("align", "stitch", "assemble"):
        assert 30 * (few[stage] - 10) < deep[stage] - 10 < 130 * (few[stage] - 10), stage
    assert deep["place"] == few["place"]
    assert many["place"] > few["place"]
    assert many["assemble"] > 5 * few["assemble"]
    assert many["stitch"] < 2 * few["stitch"]
    assert searched["align"] > 1.2 * deep["align"]
