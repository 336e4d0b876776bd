from __future__ import annotations

import io
import json
import logging
import os
import pty
import shutil
import subprocess
import sys
import threading
import time

import pytest

from stitchlib import leases
from stitchlib.changes import Context, describe
from stitchlib.clean import clean_finished, leftovers, size_text, unfinished
from stitchlib.cli import main
from stitchlib.errors import InputError
from stitchlib.leases import BusyError, cleaning, others, take_for_run
from stitchlib.progress import SECONDS, ProgressHandler
from stitchlib.runs import Run
from stitchlib.status import run_status
from tests.acquisition import Setup, environment


@pytest.fixture(scope="session")
def _made(tmp_path_factory):
    """A finished run, made by the library."""
    setup = Setup.make(tmp_path_factory.mktemp("cli") / "work", grid=(2, 2))
    setup.run()
    return setup


@pytest.fixture
def work(_made, tmp_path, monkeypatch):
    setup = _made.copy(tmp_path / "work")
    monkeypatch.chdir(setup.folder)
    return setup


def told(capsys, *args):
    code = main([*args])
    out = capsys.readouterr()
    return code, out.out + out.err


def test_status_of_a_finished_run(work, capsys):
    code, text = told(capsys, "status", "config.yaml")
    assert code == 0
    assert text.endswith("Everything is done.\n")


def test_status_names_the_tile_whose_file_changed(work, capsys):
    work.change("x1y0")
    text = told(capsys, "status", "config.yaml")[1]
    assert "2 of 4 tables of pairs are there, 2 to make" in text
    assert "2 × tile x1y0: file changed (" in text
    assert "6 × tile x1y0 (c0): file changed (" in text
    assert "if no tile moves" in text
    assert "2 pair tables are new" in text


def test_status_writes_nothing(work, capsys):
    def state():
        return {p: p.stat().st_mtime_ns for p in work.results().rglob("*")}

    before = state()
    work.set(stitch={"blending": "max"})
    text = told(capsys, "status", "config.yaml")[1]
    assert "stitch.blending: interpolation → max" in text
    assert state() == before


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ({"stitch": {"fill": 3}}, "stitch.fill: 0 → 3"),
        ({"place": {"min_confidence": 0.5}}, "place.min_confidence: 0.99 → 0.5"),
        ({"align": {"max_shift": {"x": 4, "y": 3, "z": 2}}}, "another search range"),
        ({"output": {"assembly": "virtual"}}, "output.assembly: copy → virtual"),
        ({"output": {"levels": 1}}, "levels of the pyramid: 3 → 1"),
        ({"voxel_size": {"x": 1, "y": 1, "z": 9}}, "voxel_size: (1, 1, 8) → (1, 1, 9)"),
        ({"stitch": {"region": {"x": [8, 60]}}}, "the volume's least corner moved by (8, 0, 0)"),
    ],
)
def test_status_names_the_option_that_changed(work, capsys, groups, reason):
    work.set(**groups)
    assert reason in told(capsys, "status", "config.yaml")[1]


def test_status_tells_what_is_gone_or_edited(work, capsys):
    work.files("shards/c0/*")[0].unlink()
    (work.results() / "positions.tsv").write_text("mine")
    work.files("pairs/*.tsv")[0].unlink()
    text = told(capsys, "status", "config.yaml")[1]
    assert text.count("its result was removed") == 2
    assert "positions.tsv is not the one that was made" in text


def test_status_before_anything_is_made(tmp_path, monkeypatch, capsys):
    Setup.make(tmp_path / "new", grid=(2, 1))
    monkeypatch.chdir(tmp_path / "new")
    text = told(capsys, "status", "config.yaml")[1]
    assert "0 of 1 tables of pairs are there, 1 to make" in text
    assert "not made yet" in text
    assert "about 12 shards; known when the tiles are placed" in text


def test_moved_tiles_are_told_apart_from_a_moved_corner():
    def tile(lower):
        return {"path": "t", "size": 1, "mtime_ns": 1, "lower": lower}

    old = {"stage": "stitch", "version": 1, "tiles": [tile([5, 5, 0])]}
    new = {"stage": "stitch", "version": 2, "tiles": [tile([8, 5, 0])]}
    names = {"t": "tile x1 (c0)"}
    assert describe(old, new, Context(names=names)) == [
        "a new algorithm of stitch (version 1 → 2)",
        "tile x1 (c0): moved by (3, 0, 0)",
    ]
    words = describe(old, {**new, "version": 1}, Context((-3, 0, 0), names))
    assert words == ["the volume's least corner moved by (-3, 0, 0), so all of it does"]


def test_errors_are_one_line(work, capsys):
    work.path("d", "x1y0", "c0").unlink()
    code, text = told(capsys, "status", "config.yaml")
    assert code == 1
    assert text.startswith("stitchlib status: ")
    assert "d-x1y0-c0.npy" in text
    assert told(capsys, "status", "none.yaml")[1].startswith("stitchlib status: none.yaml: ")


def test_help_comes_without_numpy():
    code = "import sys; from stitchlib.cli import parser; parser().format_help();"
    code += "sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# clean


def old_files(work):
    """Results of an earlier configuration, by hand."""
    shard, table = work.files("shards/c1/*")[0], work.files("pairs/*.tsv")[0]
    found = []
    for path in (shard, table, work.files("cards/stitch/c1/*")[0], work.files("logs/align/*")[0]):
        name, _, suffix = path.name.partition(".")[0], 0, path.suffix
        other = path.with_name(f"{name}.0123456789ab{suffix}")
        shutil.copy(path, other)
        found.append(other)
    return found


def test_clean_removes_what_no_card_names_and_nothing_else(work, capsys):
    keep = {p for p in work.results().rglob("*") if p.is_file()}
    mine = work.results() / "shards" / "c1" / "mine.0123.h5"
    mine.write_text("")
    gone = old_files(work)
    code, text = told(capsys, "clean", "--dry-run", "config.yaml")
    assert code == 0
    assert "4 files to remove" in text
    assert all(p.exists() for p in gone)
    assert told(capsys, "clean", "config.yaml")[0] == 0
    assert not any(p.exists() for p in gone)
    assert {p for p in work.results().rglob("*") if p.is_file()} == keep | {mine}
    assert "nothing to clean" in told(capsys, "clean", "config.yaml")[1]


def test_clean_shards_says_that_they_are_made_again(work, capsys):
    text = told(capsys, "clean", "--shards", "config.yaml")[1]
    assert "makes the shards in use again" in text
    assert work.files("shards/*/*") == []
    assert (work.results() / "d.h5").exists()
    text = told(capsys, "status", "config.yaml")[1]
    assert "its result was removed" in text
    assert work.run().counts[2] > 0


def test_clean_shards_is_refused_while_the_volume_is_virtual(work, capsys):
    work.set(output={"assembly": "virtual"})
    work.run()
    code, text = told(capsys, "clean", "--shards", "config.yaml")
    assert code == 1
    assert "its voxels are in the shards" in text
    assert work.files("shards/*/*")


def test_nothing_is_cleaned_of_an_unfinished_dataset(work, capsys):
    gone = old_files(work)
    work.set(stitch={"blending": "max"})
    run = Run.of(work.config)
    assert unfinished(run.datasets["d"])
    assert clean_finished(run) == ""
    code, text = told(capsys, "clean", "config.yaml")
    assert code == 1
    assert "is not finished" in text
    assert all(p.exists() for p in gone)


def test_keep_old_keeps_after_a_run_but_not_when_asked_for(work, capsys):
    gone = old_files(work)
    work.set(output={"keep_old": True})
    work.run()
    assert all(p.exists() for p in gone)
    told(capsys, "clean", "config.yaml")
    assert not any(p.exists() for p in gone)


# leases


def other_process(results, datasets=("d",), kind="run"):
    """A living process with a lease."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom stitchlib import leases\n"
        f"leases._write(Path({str(results)!r}), {kind!r}, {list(datasets)!r})\n"
        "print('ready', flush=True)\nsys.stdin.readline()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=None, env={**environment(), "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def end(process):
    process.kill()
    process.communicate()


def test_nothing_is_cleaned_beside_a_run_on_the_same_dataset(work, capsys):
    gone = old_files(work)
    process = other_process(work.results().parent)
    try:
        code, text = told(capsys, "clean", "config.yaml")
        assert code == 1
        assert f"a run of process {process.pid}" in text
        assert "a run of process" in clean_finished(Run.of(work.config))
        assert f"process {process.pid}" in told(capsys, "status", "config.yaml")[1]
        assert all(p.exists() for p in gone)
    finally:
        end(process)
    # Killed: its lease is still there, and counts for nothing.
    assert told(capsys, "clean", "config.yaml")[0] == 0
    assert not any(p.exists() for p in gone)


def test_a_run_on_another_dataset_does_not_hinder(tmp_path):
    process = other_process(tmp_path, ("other",))
    try:
        with cleaning(tmp_path, ["d"]):
            pass
        assert others(tmp_path, ["other"])[0].pid == process.pid
    finally:
        end(process)


def test_a_run_waits_for_cleaning(tmp_path):
    process = other_process(tmp_path, kind="clean")
    threading.Timer(0.5, end, [process]).start()
    start = time.monotonic()
    take_for_run(tmp_path, ["d"])
    assert time.monotonic() - start > 0.3
    with cleaning(tmp_path, ["d"]):  # one's own lease does not hinder
        pass


def test_leases_of_other_machines_count_for_a_week(tmp_path):
    path = leases._write(tmp_path, "run", ["d"])
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "host": "elsewhere"}))
    with pytest.raises(BusyError, match="on elsewhere"), cleaning(tmp_path, ["d"]):
        pass
    path.write_text(json.dumps({**value, "host": "elsewhere", "taken": time.time() - 8 * 86400}))
    with cleaning(tmp_path, ["d"]):
        assert not path.exists()


def test_a_process_of_the_same_number_is_another_one(tmp_path):
    path = leases._write(tmp_path, "run", ["d"])
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "started": 1.0}))
    assert others(tmp_path, ["d"]) == []


def test_what_a_killed_job_left_half_done_goes_after_a_day(work):
    run = Run.of(work.config).datasets["d"]
    half = [run.folder / ".d.h5.123.tmp", run.folder / "shards" / "c0" / ".x.h5.123.tmp"]
    for path in half:
        path.write_text("half")
    assert leftovers(run) == []
    for path in half:
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    assert [file.path for file in leftovers(run)] == half


def test_sizes():
    assert [size_text(n) for n in (0, 999, 1000, 123456, 5.5e12)] == [
        "0 bytes", "999 bytes", "1.0 kB", "123 kB", "5.5 TB",
    ]  # fmt: skip


# progress


def test_progress_counts_pairs_and_shards(work):
    work.set(stitch={"blending": "max"})
    work.files("pairs/*.tsv")[0].unlink()
    run = Run.of(work.config)
    out, now = io.StringIO(), [0.0]
    handler = ProgressHandler(run, out, lambda: now[0])
    log = logging.getLogger("test-progress")
    log.addHandler(handler)
    dataset = run.datasets["d"]
    shards = dataset.after(dataset.positions()).paths(dataset.folder)
    table = next(t for t in dataset.tables if not t.exists())
    for number, path in enumerate([table, *shards]):
        log.warning("", extra={"event": "job_info", "jobid": number, "output": [str(path)]})
        now[0] += 1.0
        log.warning("", extra={"event": "job_finished", "job_id": number})
    lines = out.getvalue().splitlines()
    assert lines[0] == "align: 1 of 1 pairs aligned, 1/s, 0:00 left"
    assert lines[-1].startswith(f"stitch: {len(shards)} of {len(shards)} shards stitched, 1/s, ")
    assert 2 < len(lines) <= 3 + len(shards) / SECONDS
    assert "MB/s" in lines[1]


@pytest.mark.slow
def test_progress_is_on_terminals_only(work):
    work.set(stitch={"blending": "max"})
    assert "shards stitched" not in work.run().text
    work.set(stitch={"blending": "min"})
    parent, child = pty.openpty()
    process = subprocess.Popen(
        work.command(), cwd=work.folder, stdout=child, stderr=child, env=environment()
    )
    os.close(child)
    text = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:
            break
        if not part:
            break
        text += part
    assert process.wait() == 0
    total = len(work.files("shards/*/*.h5"))
    assert f"stitch: {total} of {total} shards stitched".encode() in text
    logs = sorted((work.folder / ".snakemake" / "log").glob("*"))
    assert "shards stitched" not in logs[-1].read_text()


def test_leftovers_of_unknown_stages_stay(work):
    run = Run.of(work.config).datasets["d"]
    path = run.folder / "cards" / "report" / "0123456789ab.json"
    path.parent.mkdir()
    path.write_text("{}")
    assert leftovers(run) == []


def test_status_is_plain_data(work):
    found = run_status(Run.of(work.config))
    assert found[0].done
    assert [stage.total for stage in found[0].stages][:2] == [4, 1]


def test_an_empty_region_is_refused(work):
    work.set(stitch={"region": {"x": [5, 5]}})
    with pytest.raises(InputError, match=r"stitch.region.x = \[5, 5\]: holds no voxel"):
        Run.of(work.config)
