"""What a command and all its children cost: seconds, CPU seconds, peak memory, disk."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

POLL = 0.1
"""Seconds between two looks at the memory."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run of a command."""

    wall: float
    """Seconds."""
    cpu: float
    """CPU seconds of all processes."""
    memory: float
    """Largest sum over all processes alive at one time, pages that they share counted once, MB."""


class CommandError(RuntimeError):
    """A command that failed; the text is the end of what it said."""


@contextmanager
def scratch(folder: str | None) -> Iterator[Path]:
    """Yield a folder that is there for a while: in ``folder``, by default in the system's own."""
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        yield Path(temporary)


def run(
    command: Sequence[str], folder: Path, log: Path, environment: Mapping[str, str] | None = None
) -> Cost:
    """Run a command in a folder; its output goes to ``log``.

    Raises
    ------
    CommandError
        If it does not end with 0.
    """
    before = os.times()
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})},
        )  # fmt: skip
        peak = _Peak(process.pid)
        code = process.wait()
        wall = time.perf_counter() - start
        memory = peak.stop()
    after = os.times()
    cpu = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    if code:
        tail = log.read_text(errors="replace")[-2000:]
        raise CommandError(f"{' '.join(map(str, command))} ended with {code}:\n{tail}")
    return Cost(wall, cpu, memory / 1e6)


class _Peak:
    """Watches the memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Return the most bytes seen."""
        self._done.set()
        self._thread.join()
        return self._most

    def _watch(self) -> None:
        while not self._done.wait(POLL):
            try:
                family = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:
                return
            self._most = max(self._most, sum(map(_bytes, family)))


def _bytes(process: psutil.Process) -> int:
    """Return the proportional share of a process, 0 where it is gone."""
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, FileNotFoundError, AttributeError):
        return 0
