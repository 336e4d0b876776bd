"""Who is at work on some results: one small file per process in ``{results}/.runs``.

A run takes a lease before it looks at what is there, and gives it up when its process ends.
Cleaning takes one of its own kind: it gives way to every run on the same datasets, and runs that
start meanwhile wait until it is done. Each side writes its own lease *before* it looks for others,
so at least one of the two sees the other.

A lease whose process is dead (killed, or the machine was restarted) counts for nothing. Whether a
process of another machine lives can't be told: its lease counts until it is given up, or a week.
"""

from __future__ import annotations

import atexit
import itertools
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stitchlib.errors import InputError, StitchlibError
from stitchlib.io.files import canonical_json, read_json, write_text

FOREIGN_DAYS = 7
"""So long the lease of a process on another machine counts."""

WAIT_SECONDS = 600
"""So long a run waits for cleaning; it takes seconds."""


_NUMBERS = itertools.count()


class BusyError(StitchlibError):
    """Another process is at work on the same results."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a lease file says."""

    path: Path
    kind: str
    """'run' or 'clean'."""
    host: str
    pid: int
    started: float
    """When the process started, in the machine's own count; tells it from a later one of its
    number."""
    taken: float
    """Seconds since 1970."""
    datasets: frozenset[str]

    def __str__(self) -> str:
        what = "a run" if self.kind == "run" else "cleaning"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.taken))
        return f"{what} of process {self.pid} on {self.host.partition(':')[0]}, since {since}"

    @property
    def alive(self) -> bool:
        """Whether its process may still be at work."""
        if self.host == _host():
            return _process_start(self.pid) == self.started
        return time.time() - self.taken < FOREIGN_DAYS * 86400


def _host() -> str:
    """Return the name of the machine, and of the container where there are some."""
    try:
        return f"{socket.gethostname()}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def _process_start(pid: int) -> float | None:
    """Return when a process started; None where there is none, 0 where that cannot be told."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return float(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return 0.0


def _write(results: Path, kind: str, datasets: Iterable[str]) -> Path:
    path = results / ".runs" / f"{socket.gethostname()}.{os.getpid()}.{kind}{next(_NUMBERS)}.json"
    content: dict[str, Any] = {
        "kind": kind,
        "host": _host(),
        "pid": os.getpid(),
        "started": _process_start(os.getpid()),
        "taken": time.time(),
        "datasets": sorted(datasets),
    }
    write_text(path, canonical_json(content))
    return path


def others(results: Path, datasets: Iterable[str], kind: str | None = None) -> list[Lease]:
    """Return the leases of other living processes on these datasets; forget those of dead ones."""
    wanted = set(datasets)
    found = []
    for path in sorted((results / ".runs").glob("*.json")):
        try:
            value = read_json(path)
            lease = Lease(path, **{**value, "datasets": frozenset(value["datasets"])})
        except (InputError, KeyError, TypeError):
            continue  # given up at this moment
        if not lease.alive:
            path.unlink(missing_ok=True)
        elif (lease.host, lease.pid) != (_host(), os.getpid()) and lease.datasets & wanted:
            found.append(lease)
    return [lease for lease in found if kind in (None, lease.kind)]


def take_for_run(results: Path, datasets: Iterable[str]) -> None:
    """Say until this process ends that it is at work; wait for cleaning that goes on.

    Raises
    ------
    BusyError
        Where cleaning takes longer than `WAIT_SECONDS`.
    """
    names = list(datasets)
    path = _write(results, "run", names)
    owner = os.getpid()

    def give_up() -> None:
        if os.getpid() == owner:  # not a forked child
            path.unlink(missing_ok=True)

    atexit.register(give_up)
    end = time.monotonic() + WAIT_SECONDS
    while cleaning := others(results, names, "clean"):
        if time.monotonic() > end:
            raise BusyError(f"{results}: {cleaning[0]} does not end; stop it or start again later")
        time.sleep(0.1)


@contextmanager
def cleaning(results: Path, datasets: Iterable[str]) -> Iterator[None]:
    """Hold off runs for a moment.

    Raises
    ------
    BusyError
        Where another process is at work on one of the datasets.
    """
    names = list(datasets)
    path = _write(results, "clean", names)
    try:
        busy = others(results, names)
        if busy:
            raise BusyError(
                f"{results}: nothing was removed because of {busy[0]}; clean when it is "
                f"done. If it is not there any more, remove {busy[0].path}"
            )
        yield
    finally:
        path.unlink(missing_ok=True)
