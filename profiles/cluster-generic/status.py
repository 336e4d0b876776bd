#!/usr/bin/env python3
"""Say how a job is: status.py JOB; prints success, failed or running.

A job leaves its exit status in a file, so that the scheduler need not be asked about it. For those
that can't (killed, out of memory, a node that failed) there is one list of all jobs, asked for now
and then: a job that stays out of it is lost.
"""

import sys

from scheduler import CLUSTER, FOLDER, listed, number


def status(job):
    """Return the status of a job, and take away the files of one that succeeded."""
    name = job.partition(":")[2]
    exit_status = FOLDER / f"{name}.exit"
    if not exit_status.exists() and not lost(job, name):
        return "running"
    # The file may have come while the list was asked for.
    code = exit_status.read_text(encoding="utf-8").strip() if exit_status.exists() else ""
    if code == "0":
        for path in FOLDER.glob(f"{name}.*"):
            path.unlink(missing_ok=True)
        return "success"
    what = f"ended with {code}" if code else "is gone (killed, or its node failed)"
    print(f"Job {job.partition(':')[0]} {what}; see {FOLDER / name}.log", file=sys.stderr)
    return "failed"


def lost(job, name):
    """Tell whether a job was in no list for a while."""
    seconds = CLUSTER.getfloat("seconds_until_lost")
    missed = FOLDER / f"{name}.missed"
    asked, jobs = listed()
    submitted = float(name.partition("-")[0])
    if jobs is None or asked < submitted + 1:
        return False  # not known, or asked before it was there
    if number(job) in jobs:
        missed.unlink(missing_ok=True)
        return False
    if not missed.exists():
        missed.write_text(str(asked), encoding="utf-8")
    return asked - float(missed.read_text(encoding="utf-8")) >= seconds


print(status(sys.argv[1]))
