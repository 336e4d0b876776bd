"""The benchmarks run, and say what they measured."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import measure, whole
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
    ours = [p for p in whole.programs(data, out, tiny) if p[0].startswith("stitchlib")]
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
