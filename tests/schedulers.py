"""The commands of SGE, LSF and PBS, played: jobs really run, in the background of this machine.

`install` makes qsub, qstat, qselect, qdel, bsub, bjobs and bkill in a folder, all of them this
file. They refuse options that the real ones don't have, and keep there what they were asked for.

Files beside them change what happens: `hold` (jobs are accepted, but don't start), `strike` (the
job with this name is killed once, as the kernel or a node that fails would), `deaf` (lists fail).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "sge": ("qsub", "qstat", "qdel"),
    "lsf": ("bsub", "bjobs", "bkill"),
    "pbs": ("qsub", "qselect", "qdel"),
}


def install(folder: Path, scheduler: str) -> None:
    """Make the commands of a scheduler in a folder."""
    folder.mkdir(parents=True)
    for name in COMMANDS[scheduler]:
        path = folder / name
        path.write_text(
            f"#!/bin/sh\nexec {sys.executable} -S {Path(__file__).resolve()} {scheduler} {name}"
            ' "$@"\n'
        )
        path.chmod(0o755)


def calls(folder: Path, name: str) -> list[list[str]]:
    """Return the arguments of all calls of a command."""
    path = folder / f"{name}.calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def jobs(folder: Path) -> dict[int, dict]:
    """Return all jobs ever submitted, by number, in that order."""
    found = (json.loads(path.read_text()) for path in sorted(folder.glob("*.job")))
    return {job["number"]: job for job in found}


def alive(job: dict) -> bool:
    """Whether a process still runs; it is nobody's child, so it may be dead and still listed."""
    try:
        stat = Path(f"/proc/{job['pid']}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def options(scheduler: str) -> argparse.ArgumentParser:
    """Return what qsub or bsub understands."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    flags, values = {
        "sge": (("-terse", "-V"), ("-S", "-N", "-j", "-o")),
        "lsf": ((), ("-J", "-o", "-n", "-M", "-W")),
        "pbs": (("-V",), ("-S", "-N", "-j", "-o")),
    }[scheduler]
    for name in flags:
        parser.add_argument(name, action="store_true")
    for name in values:
        parser.add_argument(name)
    parser.add_argument("-R" if scheduler == "lsf" else "-l", dest="wants", action="append")
    if scheduler == "sge":
        parser.add_argument("-pe", nargs=2)
    parser.add_argument("command", nargs="+" if scheduler == "lsf" else 1)
    return parser


def submit(scheduler: str, folder: Path, arguments: list[str]) -> None:
    asked = vars(options(scheduler).parse_args(arguments))
    number = 1000 + len(list(folder.glob("*.job")))
    name = asked.get("N") or asked.get("J")
    script = asked["command"][-1]
    command = ["/bin/sh", script]
    if scheduler == "lsf":  # gives the words to a shell
        command = ["/bin/sh", "-c", " ".join(asked["command"])]
    if (folder / "hold").exists():
        command = ["sleep", "1000"]
    if scheduler == "sge":  # enforces what was asked for, as the real one does
        mem = int(next(w for w in asked["wants"] if w.startswith("h_vmem"))[7:-1])
        command = ["/bin/sh", "-c", f'ulimit -v {mem * 1024}; exec "$@"', "sh", *command]
    with Path(asked["o"]).open("w") as log:
        process = subprocess.Popen(
            command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    strike = folder / "strike"
    if strike.exists() and strike.read_text() == name:
        strike.unlink()
        os.killpg(process.pid, signal.SIGKILL)
    job = {"number": number, "name": name, "pid": process.pid, "asked": asked, "time": time.time()}
    (folder / f"{number}.job").write_text(json.dumps(job))
    print({
        "sge": f"{number}",
        "lsf": f"Job <{number}> is submitted to default queue <normal>.",
        "pbs": f"{number}.server-1",
    }[scheduler])  # fmt: skip


def show(scheduler: str, folder: Path) -> None:
    if (folder / "deaf").exists():
        sys.exit("cannot connect to server")
    state = "PEND" if (folder / "hold").exists() else "RUN"
    running = [job for job in jobs(folder).values() if alive(job)]
    if scheduler == "sge" and running:
        print(f"job-ID  prior   name       user         state\n{'-' * 60}")
    if scheduler == "lsf" and not running:
        print("No unfinished job found", file=sys.stderr)
        sys.exit(255)
    for job in running:
        print({
            "sge": f"{job['number']:7} 0.55500 {job['name'][:10]:10} me           r     11/28/2026",
            "lsf": f"{job['number']} {state}",
            "pbs": f"{job['number']}.server-1",
        }[scheduler])  # fmt: skip


def cancel(folder: Path, words: list[str]) -> None:
    known = jobs(folder)
    for word in words:
        job = known[int(word.partition(".")[0])]
        if alive(job):
            os.killpg(job["pid"], signal.SIGKILL)
        while alive(job):  # a busy machine takes a moment
            time.sleep(0.01)


def main(scheduler: str, name: str, *arguments: str) -> None:
    folder = Path(os.environ["FAKE_CLUSTER"])
    with (folder / f"{name}.calls").open("a") as log:
        log.write(json.dumps(arguments) + "\n")
    if name.endswith("sub"):
        submit(scheduler, folder, list(arguments))
    elif name in ("qdel", "bkill"):
        cancel(folder, list(arguments))
    else:
        show(scheduler, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
