"""The benchmarks run, and say what they measured."""

import dataclasses
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import calibration, measure, photons, plots, whole
from benchmarks.calibration import FaintMosaic, Judged
from benchmarks.stages import Figure
from stitchlib.phantom import Phantom


def test_a_command_has_a_cost(tmp_path: Path) -> None:
    code = "import time; x = bytearray(80_000_000); t = time.process_time()\n"
    code += "while time.process_time() < t + 0.5: pass"
    cost = measure.run([sys.executable, "-c", code], tmp_path, tmp_path / "log")
    assert cost.cpu >= 0.5
    assert cost.memory > 80
    assert cost.wall > 0


def test_memory_and_seconds_count_children(tmp_path: Path) -> None:
    child = "import time; x = b'1' * 60_000_000; time.sleep(1)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    cost = measure.run([sys.executable, "-c", code], tmp_path, tmp_path / "log")
    assert cost.memory > 60


def test_a_command_that_fails_says_what_it_said(tmp_path: Path) -> None:
    code = "raise SystemExit('no such tiles')"
    with pytest.raises(measure.CommandError, match="no such tiles"):
        measure.run([sys.executable, "-c", code], tmp_path, tmp_path / "log")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    phantom = Phantom(grid=(2, 2), tile_shape=(96, 96, 24), jitter=(3, 3, 1), **whole.CLEAN)
    monkeypatch.setitem(whole.SETS, "tiny", phantom)
    return tmp_path


@pytest.mark.slow
def test_our_programs_run_on_a_set_and_are_compared_with_its_truth(tiny: Path) -> None:
    data = whole.make("tiny", tiny)
    out = tiny / "out"
    python = tiny / "stitchlib" / "bin" / "python"  # in place of an environment of its own
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tiny / "stitchlib" / ".installed").touch()
    ours = list(itertools.islice(whole.programs(data, out, tiny, 32), 2))  # others get installed
    assert [name for name, _ in ours] == ["stitchlib workflow", "stitchlib library"]
    for name, words in ours:
        result = whole.run(name, words, data, out)
        assert result.errors.shape == (4,)
        assert result.errors.max() <= 1
        assert result.size > 0.1
        assert name in whole.line([result])


@pytest.mark.slow
def test_a_program_that_fails_is_named(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ("broken peer", [sys.executable, "-c", "raise SystemExit('out of luck')"])
    monkeypatch.setattr(whole, "programs", lambda *_: iter([bad]))
    failed = whole.compare("tiny", tiny, tiny, 1)
    assert "out of luck" in failed["broken peer"]
    assert "broken peer" not in capsys.readouterr().out


def test_tiles_that_are_not_found_are_infinitely_off(tmp_path: Path) -> None:
    (tmp_path / "truth.tsv").write_text("tile\tx\ty\tz\na\t0\t0\t0\nb\t5\t0\t0\nc\t9\t1\t0\n")
    (tmp_path / "positions.json").write_text('{"a": [10, 0, 0], "b": [15, 0, 0]}')
    assert whole.errors(tmp_path, tmp_path).tolist() == [0, 0, np.inf]


def test_a_row_has_the_median_of_the_turns() -> None:
    cost = measure.Cost(wall=1.0, cpu=2.0, memory=3.0)
    one = whole.Result("x", cost, np.array([0.5, 0.25]), 7)
    slow = dataclasses.replace(one, cost=measure.Cost(9.0, 9.0, 9.0))
    assert whole.line([one, slow, one]) == "| x | 1.0 | 2.0 | 3 | 0.50 | 0.38 | 7 |"


def test_a_figure_says_whether_its_goal_is_met() -> None:
    assert Figure.most("a", 3.14159, 4, "s").row() == "| a | 3.14 s | ≤ 4 s | yes |"
    assert (
        Figure.least("b", 12345.6, 2e4, "MB/s").row()
        == "| b | 12346 MB/s | ≥ 20000 MB/s | **no** |"
    )
    assert Figure.most("c", 1.0, None, "s").row() == "| c | 1 s |  |  |"


def test_shares_are_counted_where_the_confidence_says() -> None:
    links = [
        Judged("k", c, wrong, True) for c, wrong in [(0.99, False), (1.0, True), (0.98, False)]
    ]
    *_, row = plots.shares_table({"some": links})
    assert row == "| some | – | – | – | 100 % of 1 | 50 % of 2 |"
    low, high = plots.interval(1, 2)
    assert low < 0.5 < high


def test_kinds_say_what_is_ok_and_wrong() -> None:
    links = [
        Judged("k", 1.0, True, True),
        Judged("k", 0.0, True, True),
        Judged("k", 1.0, False, False),
    ]
    *_, row = calibration.kinds_table("", links)
    assert row == "| k | 3 | 66.7 | 1 | 2 | 50.0 |"


def test_faint_mosaics_are_told_by_their_noise() -> None:
    said = [Judged("mosaic", c, bad, True) for c, bad in ((1.0, False), (0.9, True))]
    empty = [Judged("background", 0.1, True, False)]
    mosaics = [FaintMosaic(2.5, said, empty), FaintMosaic(3.0, said[:1], empty)]
    *_, little, much, whole = calibration.faint_table(mosaics)
    assert little == "| 2.3 to 2.6 | 1 | 2 | 1 | 50 | 50 | 0 | 0.10 |"
    assert much == "| 2.9 to 3.1 | 1 | 1 | 0 | 100 | 100 | 0 | 0.10 |"
    assert whole == "| all | 2 | 3 | 1 | 67 | 50 | 0 | 0.10 |"


def test_gates_are_fitted_to_the_surest_view_of_every_link() -> None:
    rng = np.random.default_rng(0)
    links = []
    for distance, chance in rng.uniform(-2, 6, (2000, 2)):
        right = rng.random() < 1 / (1 + np.exp(4 - 3 * distance))
        # A view that says less, and is wrong, does not matter.
        links.append([((distance, 6.0 + chance, 30.0), bool(right)), ((-2.0, 0.0, 0.1), False)])
    constant, real, slope, worth = calibration.fit(links, starts=2)
    assert constant == pytest.approx(-4, abs=1)
    assert slope == pytest.approx(3, abs=0.7)
    assert real == pytest.approx(0, abs=5)
    assert worth <= 5


def test_reliability_is_drawn(tmp_path: Path) -> None:
    judged = calibration.phantoms(range(3), 1, "mip", 0.6)
    assert len(judged) == 3 * len(calibration.KINDS)
    assert not any(link.wrong for link in judged if link.confidence >= 0.99)
    plots.reliability({"few": judged, "again": judged}, tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").stat().st_size > 10_000


def test_methods_are_compared_against_photons(tmp_path: Path) -> None:
    seen = photons.judged(("3-D", 1000.0, 2))
    assert [s.wrong for s in seen.values()] == [0, 0, 0, 0]
    figures = {"3-D": {1000.0: seen}, "2-D": {1000.0: photons.judged(("2-D", 1000.0, 2))}}
    *_, row = photons.table(figures)
    assert row == "| 2-D | 1000 | 100 % | 0 % | 0 % | 0 % | 0 % | 0 % |"
    plots.against_photons(figures, tmp_path / "photons.png")
    assert (tmp_path / "photons.png").stat().st_size > 10_000


def test_goals_of_whole_runs_are_those_of_the_set() -> None:
    def turns(name: str, wall: float, error: float) -> list[whole.Result]:
        cost = measure.Cost(wall, 1.0, 500.0)
        return [whole.Result(name, cost, np.array([0.0, error]), 1.0)] * 3

    results = {
        "stitchlib workflow": turns("stitchlib workflow", 12.0, 0.5),
        "stitchlib library": turns("stitchlib library", 10.0, 0.5),
        "slow": turns("slow", 90.0, 0.25),
        "quick": turns("quick", 30.0, 0.75),
    }
    memory, speed, error = whole.goals("M", results)
    assert memory.met
    assert (speed.value, speed.met) == ("2.5 ×", True)
    assert (error.value, error.goal, error.met) == ("0.5", "≤ 0.25", False)
    assert [f.value for f in whole.goals("S", results)] == ["500 MB", "3 ×"]
    ours = {name: rows for name, rows in results.items() if name.startswith("stitchlib")}
    more, memory = whole.goals("L", ours)
    assert (more.value, more.met) == ("20 %", False)
