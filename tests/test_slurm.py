"""The workflow on a real SLURM cluster, through the profile that people use, undisturbed and not.

As in `test_failures`, jobs of every stage are struck; docs/failures.md has what is seen of it.
"""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import slurm
from tests.acquisition import ROOT, Setup, different, read_volume, same
from tests.realdata import write_sheet
from tests.test_failures import STAGES, Drill
from tests.workflow import run, write_config

# One worker takes them all, so that one cluster serves them.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]

# The profile, but for asking sooner: these jobs are short.
SLURM = (
    *("--profile", str(ROOT / "profiles" / "slurm")),
    *("--slurm-init-seconds-before-status-checks", "2"),
)

STRUCK = """\
import os, pathlib, signal, subprocess, time
dataset = pathlib.Path(sys.argv[1]).parts[1]
mark = pathlib.Path('struck', f'{dataset}-{pathlib.Path(sys.argv[0]).stem}')
first = not mark.exists()
if first:
    mark.parent.mkdir(exist_ok=True)
    job = os.environ['SLURM_JOB_ID']
    asked = subprocess.check_output(['squeue', '-h', '-o', '%m', '-j', job], text=True).strip()
    asked = float(asked[:-1]) * {'M': 1, 'G': 1024}[asked[-1]]
    new = pathlib.Path(f'{mark}~')
    new.write_text(f"{job} {os.environ['SLURMD_NODENAME']} {asked}")
    new.rename(mark)
    if dataset == 'killed':
        os.kill(os.getpid(), signal.SIGKILL)
if dataset == 'memory':
    held = b'1' * int(float(mark.read_text().split()[2]) * 2**20 * 5 / 4)
    time.sleep(60 if first else 2)
    del held
elif first:
    time.sleep(600)
"""
"""A job is struck when it comes first. Memory that was too much then is taken again."""

HELD = """\
import pathlib, time
pathlib.Path('held').touch()
while not pathlib.Path('released').exists():
    time.sleep(0.2)
"""
"""Jobs go on when the test says so."""


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Cluster]:
    problem = slurm.why_not()
    if problem:
        pytest.skip(problem)
    made = slurm.Cluster(tmp_path_factory.mktemp("slurm") / "cluster")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def cluster(
    running_cluster: slurm.Cluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[slurm.Cluster]:
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, running_cluster.environment[name])
    return running_cluster


def undisturbed(folder: Path, *datasets: str) -> Setup:
    """Make two tiles, a pair, two shards a dataset, without SLURM."""
    setup = Setup.make(folder, (2, 1), ("c0",), datasets)
    setup.set(output={"shard": 64})
    assert setup.run().counts == tuple(n * len(datasets) for n in (1, 1, 2, 1))
    return setup


def accounted(cluster: slurm.Cluster, since: float) -> list[tuple[str, str]]:
    """Return rule and state of the jobs since a time, those that SLURM requeued more than once."""
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since))
    lines = cluster.command(
        *("sacct", "-X", "-D", "-n", "-P", "-S", start, "--format=comment%100,state")
    ).splitlines()
    found = [re.match(r"rule_([a-z]+).*\|([A-Z_]+)", line) for line in lines]
    return [match.groups() for match in found]


def test_real_tiles_stitched_on_slurm_are_those_of_a_local_run(cluster, tmp_path, monkeypatch):
    names = {"cortexb_ch0": "c0", "cortexb_ch1": "c1"}
    for name in ("slurm", "local"):
        (tmp_path / name).mkdir()
        write_sheet("cut_cortexb_2ch_2x2", tmp_path / name / "tiles.tsv", names)
        write_config(
            tmp_path / name,
            tiles="tiles.tsv",
            align={"overlap": {"x": 0.18, "y": 0.18}, "max_shift": {"x": 12, "y": 12, "z": 5}},
        )
    local = run(tmp_path / "local")
    since = time.time()
    scratch = tmp_path / "scratch"
    for node in slurm.NODES:
        (scratch / node).mkdir(parents=True)
    monkeypatch.setenv("STITCHLIB_SCRATCH", f"{scratch}/$SLURMD_NODENAME")
    outcome = run(tmp_path / "slurm", *SLURM)
    assert outcome.jobs == local.jobs
    assert Counter(accounted(cluster, since)) == {
        (rule, "COMPLETED"): count for rule, count in local.jobs.items()
    }
    volumes = [read_volume(tmp_path / n / "results/stitch/stitch.h5") for n in ("slurm", "local")]
    assert same(*volumes), different(*volumes)
    assert not list(scratch.glob("*/*"))


def test_jobs_are_lost_at_every_stage(cluster, tmp_path):
    drill = Drill(tmp_path, undisturbed(tmp_path / "whole", "cancelled", "killed", "memory"))
    since = time.time()
    text = struck(drill, lambda job, _: cluster.command("scancel", job), "cancelled")
    assert Counter(accounted(cluster, since)) == {
        **{(stage, "CANCELLED"): 1 for stage in STAGES},
        **{(stage, "FAILED"): 2 for stage in STAGES},
        **{(stage, "COMPLETED"): 6 if stage == "stitch" else 3 for stage in STAGES},
    }
    assert Counter(re.findall(r"SLURM status is: '(\w+)'", text)) == {"CANCELLED": 4, "FAILED": 8}
    logs = (drill.setup.folder / ".snakemake/slurm_logs").glob("rule_*/memory_*/*.log")
    assert ["Exceeded job memory limit" in log.read_text() for log in logs] == [True] * 4


def test_nodes_vanish_at_every_stage(cluster, tmp_path):
    drill = Drill(tmp_path, undisturbed(tmp_path / "whole", "d"))
    since = time.time()

    def vanish(_: str, node: str) -> None:
        cluster.kill_node(node)
        slurm.until(lambda: cluster.states()[node].startswith("down"), f"{node} to be missed")
        cluster.start_node(node)

    text = struck(drill, vanish, "d")
    # SLURM started the jobs elsewhere, and Snakemake saw nothing of it.
    states = accounted(cluster, since)
    assert {stage for stage, state in states if state == "NODE_FAIL"} == {*STAGES}
    assert {state for _, state in states} == {"NODE_FAIL", "COMPLETED"}
    assert "Error in rule" not in text


def struck(drill: Drill, blow: Callable[[str, str], object], dataset: str) -> str:
    """Run with a blow to a job of every stage of a dataset; return what is said."""
    for stage in STAGES:
        drill.arm(stage, STRUCK, "x0y0z0" if stage == "stitch" else "")
    waiting = {f"{dataset}-{stage}" for stage in STAGES}
    marks = drill.setup.folder / "struck"
    console = drill.setup.folder / "console"
    with console.open("w") as file:
        process = drill.setup.start(*SLURM, stdout=file)
        while process.poll() is None:
            for name in waiting & {path.name for path in marks.glob("*")}:
                waiting.remove(name)
                job, node, _ = (marks / name).read_text().split()
                blow(job, node)
            time.sleep(0.2)
    text = console.read_text()
    assert process.returncode == 0, text
    assert not waiting
    assert len(list(marks.iterdir())) == len(STAGES) * len(drill.setup.datasets)
    drill.disarm()
    assert drill.complete() == (0, 0, 0, 0)
    return text


def test_snakemake_is_killed_with_jobs_queued_and_running(cluster, tmp_path):
    drill = Drill(tmp_path, undisturbed(tmp_path / "whole", "a", "b", "c"))
    cluster.command("scontrol", "update", "nodename=n2", "state=drain", "reason=test")
    try:
        interrupt_every_stage(cluster, drill)
    finally:
        cluster.command("scontrol", "update", "nodename=n2", "state=resume")
    drill.setup.run(*SLURM)
    assert drill.complete() == (0, 0, 0, 0)


def interrupt_every_stage(cluster: slurm.Cluster, drill: Drill) -> None:
    hows = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT)
    held, released = (drill.setup.folder / name for name in ("held", "released"))
    for stage, how in zip(STAGES, hows, strict=True):
        drill.arm(stage, HELD, "")
        for path in (held, released):
            path.unlink(missing_ok=True)
        with (drill.setup.folder / f"console.{stage}").open("w") as console:
            process = drill.setup.start(*SLURM, stdout=console)
        slurm.until(held.exists, f"a job of {stage}")
        # What waits may be of an earlier stage: the node has room for two jobs, of any.
        slurm.until(
            lambda stage=stage: (
                ("RUNNING", stage) in (jobs := queue(cluster))
                and states(jobs) == {"PENDING", "RUNNING"}
            ),
            f"jobs of {stage}",
        )
        process.send_signal(how)
        if how == signal.SIGTERM:
            released.touch()
        process.wait()
        # Only a Snakemake that had no time to do something about them leaves jobs behind.
        assert states(queue(cluster)) == (
            {"PENDING", "RUNNING"} if how == signal.SIGKILL else set()
        )
        drill.remember()
        drill.disarm()
        released.touch()
        if how == signal.SIGKILL:
            assert "--unlock" in drill.setup.run(*SLURM, fails=True).text
            drill.setup.run("--unlock")


def states(jobs: set[tuple[str, str]]) -> set[str]:
    """Return the states in a queue."""
    return {state for state, _ in jobs}


def queue(cluster: slurm.Cluster) -> set[tuple[str, str]]:
    """Return states and rules of the jobs that wait or run."""
    entries = (entry.split(maxsplit=1) for entry in cluster.jobs().values())
    return {(state, re.match("rule_([a-z]+)", what)[1]) for state, what in entries}
