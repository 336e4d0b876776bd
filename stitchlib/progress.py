"""Progress on the console, beside Snakemake's own lines, and only where a person is looking.

Snakemake counts jobs of all kinds alike and learns of the shards when the tiles are placed. The run
knows more: how many pairs and voxels a job is worth. A logging handler on Snakemake's logger sees
which job started and which is done; it prints a line of its own to the terminal now and then, and
nothing where standard error is a file or a pipe.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from stitchlib.runs import Run

SECONDS = 5.0
"""At least so long between two lines, but for the last one of a stage."""

_NAMES = {"align": "pairs aligned", "stitch": "shards stitched"}


@dataclass(slots=True)
class _Stage:
    """Jobs of one stage, over all datasets."""

    jobs: dict[str, tuple[int, int]]
    """By the file that a job makes: how many pairs or shards, and how many bytes, it is worth."""
    total: int
    done: int = 0
    size: int = 0
    began: float | None = None
    seen: set[str] = field(default_factory=set)

    def line(self, name: str, now: float) -> str:
        """Return what is to be told of it."""
        text = f"{name}: {self.done} of {self.total} {_NAMES[name]}"
        elapsed = now - (now if self.began is None else self.began)
        if not elapsed or not self.done:
            return text
        rate = self.done / elapsed
        text += f", {rate:.3g}/s" if rate >= 1 else f", {rate * 60:.3g}/min"
        if self.size:
            text += f", {self.size / elapsed / 1e6:.3g} MB/s"
        return f"{text}, {_clock((self.total - self.done) / rate)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class ProgressHandler(logging.Handler):
    """Follows Snakemake's log records.

    Parameters
    ----------
    run : Run
        What is to be done.
    stream : text file
        The terminal.
    clock : callable
        Seconds, for tests.
    """

    def __init__(
        self, run: Run, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._run = run
        self._stream = stream
        self._clock = clock
        self._outputs: dict[int, str] = {}
        self._printed = -SECONDS
        self._placed: set[str] = set()
        tables = {
            str(path): (len(pairs), 0)
            for dataset in run.datasets.values()
            for path, (_, pairs) in zip(dataset.tables, dataset.blocks, strict=True)
        }
        self._stages = {
            "align": _stage(tables),
            "stitch": _Stage({}, 0),
        }
        for name in run.datasets:
            self._add_shards(name)

    def _add_shards(self, name: str) -> None:
        """Count the shards of a dataset, once it is placed."""
        dataset = self._run.datasets[name]
        if name in self._placed or not dataset.place_record.exists():
            return
        self._placed.add(name)
        itemsize = np.dtype(dataset.dataset.dtype).itemsize
        finish = dataset.after(dataset.positions())
        paths = finish.paths(dataset.folder)
        more = _stage(
            {
                str(path): (1, shard.box.size * itemsize)
                for path, (_, shard) in zip(paths, finish.shards, strict=True)
            }
        )
        stage = self._stages["stitch"]
        stage.jobs.update(more.jobs)
        stage.total += more.total

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record of Snakemake's; all but starts and ends of jobs are nothing to it."""
        event: Any = getattr(record, "event", None)
        try:
            if event == "job_info":
                self._start(record.__dict__)
            elif event == "job_finished":
                self._finish(record.__dict__)
        except Exception:  # noqa: BLE001 - a run must not fail because of its progress
            self.handleError(record)

    def _start(self, record: dict[str, Any]) -> None:
        output = str(record["output"][0]) if record["output"] else ""
        self._outputs[record["jobid"]] = output
        if "/shards/" in output:
            self._add_shards(self._dataset(output))
        for stage in self._stages.values():
            if output in stage.jobs and stage.began is None:
                stage.began = self._clock()

    def _dataset(self, output: str) -> str:
        inner = output.removeprefix(f"{self._run.config.results.as_posix()}/")
        return inner.partition("/")[0]

    def _finish(self, record: dict[str, Any]) -> None:
        output = self._outputs.pop(record["job_id"], "")
        for name, stage in self._stages.items():
            if output not in stage.jobs or output in stage.seen:
                continue
            stage.seen.add(output)
            count, size = stage.jobs[output]
            stage.done += count
            stage.total = max(stage.total, stage.done)
            stage.size += size
            now = self._clock()
            if now - self._printed >= SECONDS or stage.done == stage.total:
                self._printed = now
                print(stage.line(name, now), file=self._stream, flush=True)


def _stage(jobs: dict[str, tuple[int, int]]) -> _Stage:
    """Return a stage; of its jobs, those whose file is missing are to be done."""
    missing = {path: worth for path, worth in jobs.items() if not Path(path).exists()}
    return _Stage(jobs, sum(count for count, _ in missing.values()))


def show_progress(run: Run) -> None:
    """Follow the Snakemake run of this process, where standard error is a terminal."""
    if sys.stderr.isatty():
        logging.getLogger("snakemake.logging").addHandler(ProgressHandler(run, sys.stderr))
