#!/usr/bin/env python3
"""Submit a job: submit.py JOBSCRIPT.

Prints what status.py and cancel.py know it by: the scheduler's number, a colon, and a word that the
job's files are named by.
"""

import json
import re
import shlex
import sys
import time
import uuid
from pathlib import Path

from scheduler import FOLDER, SCHEDULER, run, words

SCRIPT = """\
#!/bin/sh
finish() {{ code=$?; echo $code > {exit}.tmp; mv {exit}.tmp {exit}; }}
trap finish EXIT
{job}"""


def submit(job):
    """Write a script that also leaves the job's exit status, and give it to the scheduler."""
    properties = json.loads(re.search(r"^# properties = (.*)$", job, re.MULTILINE).group(1))
    resources, threads = properties["resources"], int(properties["threads"])
    mem_mb, minutes = int(resources.get("mem_mb", 1000)), int(resources.get("runtime", 60))
    name = f"{int(time.time())}-{uuid.uuid4().hex[:8]}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    script = FOLDER / f"{name}.sh"
    status = shlex.quote(str(FOLDER / f"{name}.exit"))
    script.write_text(SCRIPT.format(exit=status, job=job), encoding="utf-8")
    command = words(
        "submit",
        name=properties.get("rule") or properties["groupid"],
        threads=threads,
        mem_mb=mem_mb,
        mem_mb_per_thread=-(-mem_mb // threads),
        minutes=minutes,
        seconds=60 * minutes,
        log=FOLDER / f"{name}.log",
    )
    quoted = shlex.quote if SCHEDULER.getboolean("shell", fallback=False) else str
    code, text, errors = run([*command, quoted(str(script))])
    found = re.search(r"\d[\w.-]*", text)
    if code or not found:
        sys.exit(f"{shlex.join(command)}: {(errors or text).strip()}")
    print(f"{found.group()}:{name}")


submit(Path(sys.argv[1]).read_text(encoding="utf-8"))
