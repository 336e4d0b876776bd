"""Running the real workflow from a test."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Outcome:
    """How a run of Snakemake ended."""

    returncode: int
    text: str
    """All it printed."""
    jobs: Counter[str]
    """Executed jobs by rule, without the trivial ones."""


def snakemake(folder: Path, *arguments: str, configfile: str = "config.yaml") -> Outcome:
    """Run the workflow in ``folder`` on two cores."""
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile")),
        *("--configfile", configfile, "--cores", "2", "--nocolor", *arguments),
    ]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, text=True, capture_output=True, check=False, env=environment
    )
    text = done.stdout + done.stderr
    rules = (
        line.rsplit("(Rule: ", 1)[1].rstrip(")")
        for line in text.splitlines()
        if line.startswith("Finished jobid") and "(Rule: " in line
    )
    jobs = Counter(rule for rule in rules if rule not in ("all", "preview", "dataset"))
    return Outcome(done.returncode, text, jobs)


def run(folder: Path, *arguments: str, configfile: str = "config.yaml") -> Outcome:
    """Run the workflow and insist that it succeeds."""
    outcome = snakemake(folder, *arguments, configfile=configfile)
    assert outcome.returncode == 0, outcome.text
    return outcome


def write_config(folder: Path, **keys: object) -> Path:
    """Write ``config.yaml`` into ``folder``."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(keys))
    return path


def table(path: Path) -> list[dict[str, str]]:
    """Read a tab-separated table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def positions(path: Path) -> dict[str, tuple[int, int, int]]:
    """Read the integer corners of a positions.tsv."""
    return {r["tile"]: (int(r["x"]), int(r["y"]), int(r["z"])) for r in table(path)}
