"""The workflow through profiles/cluster-generic, on the schedulers that `schedulers.py` plays."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import schedulers
from tests.acquisition import ROOT, Setup, different, same

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("scheduler", schedulers.COMMANDS)]

STAGES = ["align", "align", "align", "align", "assemble", "place", *["stitch"] * 4]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    setup = Setup.make(tmp_path_factory.mktemp("local") / "work", (2, 2), ("c0",))
    setup.set(output={"shard": 64})
    assert setup.run().counts == (4, 1, 4, 1)
    return setup


class Facility:
    """A folder of work, a profile set for a scheduler, and the scheduler's commands."""

    def __init__(self, folder: Path, local: Setup, scheduler: str) -> None:
        self.setup = local.copy(folder / "it's my work")
        shutil.rmtree(self.setup.folder / "results")
        shutil.rmtree(self.setup.folder / ".snakemake")
        self.commands = folder / "bin"
        schedulers.install(self.commands, scheduler)
        self.submit, self.list, self.cancel = schedulers.COMMANDS[scheduler]
        self.profile = folder / "profile"
        shutil.copytree(ROOT / "profiles" / "cluster-generic", self.profile)
        settings = self.profile / "schedulers.ini"
        text = settings.read_text()
        for old, new in {
            "scheduler = sge": f"scheduler = {scheduler}",
            "seconds_between_lists = 30": "seconds_between_lists = 3",
            "seconds_until_lost = 60": "seconds_until_lost = 4",
        }.items():
            assert text.count(f"\n{old}\n") == 1
            text = text.replace(old, new)
        settings.write_text(text)

    @property
    def words(self) -> tuple[str, ...]:
        check = ("--seconds-between-status-checks", "1")
        return ("--profile", str(self.profile), *check)

    @property
    def jobs(self) -> list[dict]:
        return list(schedulers.jobs(self.commands).values())

    def memory(self, name: str) -> list[int]:
        """MB that each job of a stage asked for, in order of submission."""
        texts = (str(job["asked"]) for job in self.jobs if job["name"] == name)
        return [int(re.search(r"mem=?(\d+)(?:M|MB|mb)\b", text)[1]) for text in texts]

    def minutes(self, name: str) -> list[int]:
        """Minutes that each job of a stage asked for, in order of submission."""
        texts = (str(job["asked"]) for job in self.jobs if job["name"] == name)
        found = (re.search(r"h_rt=(\d+)|walltime=(\d+)|'W': '(\d+)'", text) for text in texts)
        return [int(f[3] or int(f[1] or f[2]) // 60) for f in found]


@pytest.fixture
def facility(
    tmp_path: Path, local: Setup, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> Facility:
    made = Facility(tmp_path, local, scheduler)
    monkeypatch.setenv(
        "PATH", f"{made.commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    monkeypatch.setenv("FAKE_CLUSTER", str(made.commands))
    return made


def test_a_run_is_that_of_one_machine_though_a_job_is_lost(
    facility: Facility, local: Setup
) -> None:
    (facility.commands / "strike").write_text("stitch")
    begin = time.monotonic()
    said = ("--set-resources", "align:runtime=90", "assemble:runtime=2d", "place:runtime=attempt*7")
    ran = facility.setup.run(*facility.words, *said)
    seconds = time.monotonic() - begin
    volume = facility.setup.volume()
    assert same(volume, local.volume()), different(volume, local.volume())
    assert sorted(job["name"] for job in facility.jobs) == sorted([*STAGES, "stitch"])
    assert ran.text.count("is gone (killed, or its node failed); see ") == 1
    # One list for all jobs, and no more often than is set.
    assert len(schedulers.calls(facility.commands, facility.list)) <= 1 + seconds / 3
    # More memory and time the second time; what a user says is taken as it is.
    *first, again = facility.memory("stitch")
    assert again in {2 * mb for mb in first}
    *first, again = facility.minutes("stitch")
    assert again in {2 * minutes for minutes in first}
    assert set(facility.minutes("align")) == {90}
    assert facility.minutes("assemble") == [2 * 24 * 60]
    assert facility.minutes("place") == [7]
    # Nothing is left but what tells of the job that was lost.
    left = sorted(p.suffix for p in (facility.setup.folder / ".snakemake/cluster").iterdir())
    assert left == [".json", ".log", ".missed", ".sh"]


def test_ctrl_c_cancels_all_jobs(facility: Facility) -> None:
    (facility.commands / "hold").touch()
    process = facility.setup.start(*facility.words, start_new_session=True)
    while len(facility.jobs) < 4:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    time.sleep(1)  # until Snakemake has read the number of the last one
    assert all(map(schedulers.alive, facility.jobs))
    process.send_signal(signal.SIGINT)
    text = process.communicate()[0]
    assert process.returncode != 0
    assert not any(map(schedulers.alive, facility.jobs)), text
    (facility.commands / "hold").unlink()
    # The next run asks first how the jobs ended that it knows of.
    ran = facility.setup.run(*facility.words, "--until", "align")
    assert ran.text.count("ended with 130 (cancelled)") == 4
    assert len(facility.setup.files("pairs/*.tsv")) == 4


def command(facility: Facility, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [facility.profile / f"{name}.py", *arguments],
        cwd=facility.setup.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def submitted(facility: Facility, job: str) -> str:
    """Submit a job for two threads with 900 MB and 90 minutes; return what it is known by."""
    script = facility.setup.folder / "it's a job.sh"
    properties = '{"rule": "align", "threads": 2, "resources": {"mem_mb": 900, "runtime": 90}}'
    script.write_text(f"#!/bin/sh\n# properties = {properties}\n{job}\n")
    done = command(facility, "submit", str(script))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def final(facility: Facility, job: str) -> subprocess.CompletedProcess[str]:
    while (done := command(facility, "status", job)).stdout == "running\n":
        time.sleep(0.2)
    return done


def test_jobs_are_asked_for_in_the_units_of_the_scheduler(
    facility: Facility, scheduler: str
) -> None:
    submitted(facility, "exit 0")
    asked = facility.jobs[0]["asked"]
    wanted = {
        "sge": {"wants": ["h_rt=5400", "h_vmem=450M"], "pe": ["smp", "2"]},
        "lsf": {"wants": ["span[hosts=1]", "rusage[mem=900MB]"], "n": "2", "M": "900MB", "W": "90"},
        "pbs": {"wants": ["walltime=5400", "select=1:ncpus=2:mem=900mb"]},
    }[scheduler]
    assert {key: asked[key] for key in wanted} == wanted


def test_a_job_tells_how_it_ended_and_a_lost_one_is_found(facility: Facility) -> None:
    assert final(facility, submitted(facility, "exit 0")).stdout == "success\n"
    failed = final(facility, submitted(facility, "echo why; exit 3"))
    assert failed.stdout == "failed\n"
    assert "ended with 3; see " in failed.stderr
    assert Path(failed.stderr.rpartition("see ")[2].strip()).read_text() == "why\n"
    (facility.commands / "deaf").touch()
    killed = submitted(facility, "kill -9 $$")
    time.sleep(4)
    silent = command(facility, "status", killed)
    assert (silent.stdout, silent.stderr) == (
        "running\n",
        "There is no list of jobs now: cannot connect to server\n",
    )
    (facility.commands / "deaf").unlink()
    lost = final(facility, killed)
    assert lost.stdout == "failed\n"
    assert "is gone (killed, or its node failed)" in lost.stderr


def test_a_cluster_without_these_commands_is_told(facility: Facility) -> None:
    for path in facility.commands.glob("*sub"):
        path.unlink()
    script = facility.setup.folder / "job.sh"
    script.write_text('# properties = {"rule": "align", "threads": 1, "resources": {}}\n')
    done = command(facility, "submit", str(script))
    assert done.returncode == 1
    assert re.search(r"[qb]sub: No such file .*is `scheduler` in .*schedulers.ini", done.stderr)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            r"^scheduler = .*",
            "scheduler = torque",
            "there is no 'torque'; `scheduler` in .* is one of",
        ),
        (
            r"{name}",
            "{name} -q {queue}",
            "`submit`: {queue} is not known; there are {name}, {threads}",
        ),
        (
            r"{name}",
            "{name} {",
            "`submit`: .*; there are {name}, {threads}, .* and no other braces",
        ),
    ],
)
def test_settings_that_make_no_sense_are_told(
    facility: Facility, old: str, new: str, said: str
) -> None:
    settings = facility.profile / "schedulers.ini"
    text, count = re.subn(old, new, settings.read_text(), flags=re.MULTILINE)
    assert count
    settings.write_text(text)
    script = facility.setup.folder / "job.sh"
    script.write_text('# properties = {"rule": "align", "threads": 1, "resources": {}}\n')
    done = command(facility, "submit", str(script))
    assert done.returncode == 1
    assert re.fullmatch(rf"{re.escape(str(settings))}: {said}.*\n", done.stderr), done.stderr
