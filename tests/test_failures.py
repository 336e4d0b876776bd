"""Whatever fails while a run goes on, the next command that docs/failures.md names completes it.

A drill strikes one job of every stage in turn: the first run fails in align, the next in place,
then stitch, then assemble, and the last one completes. What was finished is not made again, the
volume is that of a run that nothing disturbed, and no input has changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from itertools import product
from pathlib import Path

import pytest

from tests.acquisition import ROOT, Ran, Setup, different, same
from tests.test_reruns import clone

pytestmark = pytest.mark.slow

STAGES = {"align": "x0y0z0-x", "place": "", "stitch": "x1y0z0", "assemble": ""}
"""Stages, and what is in the name of the one job that is struck."""

KILLED = (
    "import os, pathlib, signal\n"
    "def strike(self, target):\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
    "pathlib.Path.replace = strike  # all is written, but not there yet\n"
)
NO_MEMORY = (
    "import resource, stitchlib.jobs\n"
    "def limited(job, original=stitchlib.jobs.run_job):\n"
    "    resource.setrlimit(resource.RLIMIT_AS, (2**30,) * 2)\n"
    "    original(lambda *paths: (bytearray(2**30), job(*paths)))\n"
    "stitchlib.jobs.run_job = limited\n"
)
WAITS = (
    "import pathlib, time\n"
    "pathlib.Path('struck').touch()\n"
    "time.sleep(2)  # Snakemake is killed meanwhile\n"
)


def full(free: int) -> str:
    """Fill the disk of the results but for some bytes."""
    return (
        "with open('results/filler', 'ab', buffering=0) as filler:\n"
        "    try:\n"
        "        while filler.write(bytes(4096)): pass\n"
        "    except OSError: pass\n"
        f"    filler.truncate(filler.tell() - {free})\n"
    )


class Drill:
    """A copy of the workflow in which one job of a stage is struck."""

    def __init__(self, folder: Path, undisturbed: Setup) -> None:
        self.setup = undisturbed.copy(folder / "work")
        shutil.rmtree(self.setup.folder / "results")
        self.undisturbed = undisturbed
        self.inputs = checksums(self.setup.folder / "data")
        self.broken = clone(folder / "clone")
        self.kept: dict[Path, int] = {}

    def arm(self, stage: str, blow: str, name: str | None = None) -> None:
        """Put a blow at the start of a stage's script, for the job with that name."""
        name = STAGES[stage] if name is None else name
        text = (ROOT / "workflow/scripts" / f"{stage}.py").read_text()
        lines = "".join(f"    {line}\n" for line in blow.splitlines())
        head, _, tail = text.partition("from stitchlib")
        blow = f"if {name!r} in sys.argv[1]:\n{lines}\n"
        script = self.broken / "workflow/scripts" / f"{stage}.py"
        script.write_text(f"{head}{blow}from stitchlib{tail}")
        self.setup.code = self.broken

    def disarm(self) -> None:
        for stage in STAGES:
            text = (ROOT / "workflow/scripts" / f"{stage}.py").read_text()
            (self.broken / "workflow/scripts" / f"{stage}.py").write_text(text)
        self.setup.code = ROOT

    def fail(self) -> Ran:
        """Run, be struck, and remember what is finished."""
        ran = self.setup.run(fails=True)
        self.remember()
        self.disarm()
        return ran

    def remember(self) -> None:
        for dataset, pattern in product(self.setup.datasets, ("pairs/*.tsv", "shards/*/*.h5")):
            for path in self.setup.files(pattern, dataset):
                self.kept.setdefault(path, path.stat().st_ino)

    def complete(self) -> tuple[int, ...]:
        """Run what a user types next, and check everything."""
        ran = self.setup.run()
        self.check()
        return ran.counts

    def check(self) -> None:
        for dataset in self.setup.datasets:
            volume, wanted = self.setup.volume(dataset), self.undisturbed.volume(dataset)
            assert same(volume, wanted), different(volume, wanted)
        assert checksums(self.setup.folder / "data") == self.inputs
        now = {path: path.stat().st_ino for path in self.kept}
        assert now == self.kept


def checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Four tiles, four pairs, four shards: each stage has work that is done when a job fails."""
    setup = Setup.make(tmp_path_factory.mktemp("undisturbed") / "work", (2, 2), ("c0",))
    setup.set(output={"shard": 64})
    assert setup.run().counts == (4, 1, 4, 1)
    return setup


@pytest.fixture
def drill(undisturbed, tmp_path):
    return Drill(tmp_path, undisturbed)


ONE_EACH = [(4, 0, 0, 0), (1, 1, 0, 0), (0, 1, 4, 0), (0, 0, 1, 1), (0, 0, 0, 1)]
"""Executed jobs of the five runs of a drill: but for the one that was struck, each job once."""


@pytest.mark.parametrize(
    ("blow", "seen"),
    [
        pytest.param(KILLED, "exit status 137", id="killed"),
        pytest.param(NO_MEMORY, "ERROR: not enough memory", id="out-of-memory"),
    ],
)
def test_a_job_is_lost_at_every_stage(drill, blow, seen):
    counts = []
    for stage in STAGES:
        drill.arm(stage, blow)
        ran = drill.fail()
        assert f"Error in rule {stage}" in ran.text
        assert seen in ran.text
        assert "Traceback" not in ran.text
        counts.append(ran.counts)
    assert [*counts, drill.complete()] == ONE_EACH


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_snakemake_is_killed_at_every_stage(drill, how):
    unlock = how == signal.SIGKILL
    for stage in STAGES:
        drill.arm(stage, WAITS)
        process = drill.setup.start(start_new_session=True)
        struck = drill.setup.folder / "struck"
        while not struck.exists():
            if process.poll() is not None:
                # Snakemake made again what it took for incomplete, and that alone.
                assert unlock
                assert process.wait() == 0
                process = drill.setup.start(start_new_session=True)
            time.sleep(0.02)
        struck.unlink()
        # Ctrl-C reaches the jobs too.
        (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
        drill.remember()
        process.communicate()
        assert process.returncode != 0
        drill.disarm()
        if unlock:
            assert "--unlock" in drill.setup.run(fails=True).text
            drill.setup.run("--unlock")
    if unlock:
        drill.setup.run()
    drill.complete()


@pytest.fixture
def small_disk(drill):
    """Put the results on a small disk of their own; yield what mounts it anew."""
    results = drill.setup.folder / "results"
    results.mkdir()

    def mount(options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(results)]
        subprocess.run(command, check=True, capture_output=True)

    try:
        mount("size=4m")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system of the test's own can't be mounted here: {error}")
    yield mount
    subprocess.run(["umount", "--lazy", str(results)], check=True)


def test_the_disk_is_full_at_every_stage(drill, small_disk):
    counts = []
    for stage in STAGES:
        drill.arm(stage, full(12288 if stage in ("stitch", "assemble") else 0))
        ran = drill.setup.run("--jobs", "1", fails=True)
        # With one job at a time, what comes after the struck one finds the disk full too.
        (drill.setup.folder / "results/filler").unlink()
        drill.remember()
        drill.disarm()
        assert "No space left on device" in ran.text or "errno = 28" in ran.text
        assert "make room on that disk" in ran.text
        counts.append(ran.counts)
    assert drill.complete() == (0, 0, 0, 1)


def test_the_results_are_on_a_read_only_mount(drill, small_disk):
    drill.arm("align", KILLED)
    drill.fail()
    small_disk("remount,ro,size=4m")
    text = drill.setup.run(fails=True).text
    assert "Read-only file system; set `results` to a folder that can be written to" in text
    assert "Traceback" not in text
    small_disk("remount,rw,size=4m")
    assert drill.complete() == (1, 1, 4, 1)


@pytest.mark.parametrize(
    ("change", "stage"),
    [
        pytest.param("os.truncate(PATH, 200)", "align", id="truncated"),
        pytest.param("open(PATH, 'r+b').write(bytes(999))", "stitch", id="replaced"),
    ],
)
def test_an_input_changes_while_the_run_goes_on(drill, change, stage):
    tile = drill.setup.path("d", "x1y0", "c0")
    backup = shutil.copy2(tile, drill.setup.folder / "backup.npy")
    drill.arm(stage, "import os\n" + change.replace("PATH", repr(str(tile))))
    ran = drill.fail()
    assert (
        f"{tile.relative_to(drill.setup.folder)}: was replaced since the run was planned"
        in ran.text
    )
    assert "Traceback" not in ran.text
    shutil.copy2(backup, tile)
    drill.complete()


def test_tables_and_shards_are_damaged(drill):
    drill.arm("place", KILLED)
    drill.fail()
    text = _run_with_damage(drill, drill.setup.files("pairs/*.tsv")[1], b"pre\tpost\n\0\n")
    assert "The table is damaged; delete it and run again" in text
    drill.arm("assemble", KILLED)
    drill.fail()
    shard = drill.setup.files("shards/c0/*.h5")[1]
    raw = shard.read_bytes()
    for damaged in (raw[: len(raw) // 2], b"", raw[:2048] + bytes(1024) + raw[3072:]):
        text = _run_with_damage(drill, shard, damaged)
        assert "this shard cannot be read" in text
        shard.write_bytes(raw)
    shard.unlink()
    assert drill.complete() == (0, 0, 1, 1)


def _run_with_damage(drill: Drill, path: Path, content: bytes) -> str:
    path.write_bytes(content)
    text = drill.setup.run(fails=True).text
    assert f"ERROR: {path.relative_to(drill.setup.folder)}" in text
    assert "Traceback" not in text
    drill.kept.pop(path, None)
    if path.suffix == ".tsv":
        path.unlink()
    return text


def test_two_runs_at_once_on_the_same_results(drill):
    first = drill.setup.start()
    while not drill.setup.files("logs/align/*.log"):
        time.sleep(0.02)
    refused = drill.setup.run(fails=True).text
    assert "Directory cannot be locked" in refused
    # From another folder, Snakemake doesn't see that there are two.
    second = drill.setup.start("--nolock")
    for process in (first, second):
        text = process.communicate()[0]
        assert process.returncode == 0, text
    assert drill.complete() == (0, 0, 0, 0)


def test_clocks_differ_and_results_are_of_the_future(drill):
    drill.arm("stitch", KILLED)
    drill.fail()
    now = time.time()
    for i, path in enumerate(sorted(drill.setup.results().rglob("*"))):
        date = now + (86400, -86400, 5, 10**8)[i % 4]
        os.utime(path, (date, date))
    drill.kept.clear()
    drill.remember()
    assert drill.complete() == (0, 0, 1, 1)
