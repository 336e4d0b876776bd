"""What the three commands share: the settings, the jobs' files, the list of jobs."""

import configparser
import getpass
import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

SETTINGS_FILE = Path(__file__).with_name("schedulers.ini")
SETTINGS = configparser.ConfigParser(interpolation=None)
SETTINGS.read(SETTINGS_FILE, encoding="utf-8")
try:
    CLUSTER = SETTINGS["cluster"]
    SCHEDULER = SETTINGS[CLUSTER["scheduler"]]
except KeyError as error:
    known = ", ".join(name for name in SETTINGS.sections() if name != "cluster")
    sys.exit(f"{SETTINGS_FILE}: there is no {error}; `scheduler` in [cluster] is one of {known}")

FOLDER = Path(".snakemake", "cluster").resolve()
"""For every job a script, what it printed, and its exit status; all nodes see it."""


def words(command, **values):
    """Return a command of the scheduler as a list of words."""
    try:
        return [word.format(**values) for word in shlex.split(SCHEDULER[command])]
    except (KeyError, IndexError, ValueError) as error:
        what = f"{{{error.args[0]}}} is not known" if isinstance(error, KeyError) else error
        known = ", ".join(f"{{{name}}}" for name in values)
        sys.exit(f"{SETTINGS_FILE}: `{command}`: {what}; there are {known}, and no other braces")


def run(command):
    """Run a command; return its exit status, what it printed, and its errors."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        sys.exit(
            f"{command[0]}: {error.strerror}; is `scheduler` in {SETTINGS_FILE} the right one?"
        )
    return done.returncode, done.stdout, done.stderr


def number(text):
    """Return a job's number, as it stands in the list."""
    return re.search(r"\d+", text).group()


def listed():
    """Return when the scheduler was asked last, and the numbers of all jobs that wait or run.

    None instead of the numbers where it gave no answer.
    """
    cache = FOLDER / "list.json"
    if cache.exists():
        known = json.loads(cache.read_text(encoding="utf-8"))
        if time.time() - known["asked"] < CLUSTER.getfloat("seconds_between_lists"):
            return known["asked"], known["jobs"]
    asked = time.time()
    code, text, errors = run(words("list", user=getpass.getuser()))
    jobs = re.findall(SCHEDULER["alive"], text, re.MULTILINE)
    if code and not ("none" in SCHEDULER and SCHEDULER["none"] in text + errors):
        print(f"There is no list of jobs now: {(errors or text).strip()}", file=sys.stderr)
        jobs = None
    temporary = cache.with_suffix(".tmp")
    temporary.write_text(json.dumps({"asked": asked, "jobs": jobs}), encoding="utf-8")
    temporary.replace(cache)
    return asked, jobs
