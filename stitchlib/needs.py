"""What a run will need, and all that it would refuse: `stitchlib check`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from stitchlib.clean import size_text
from stitchlib.errors import InputError, Problems
from stitchlib.memory import card_mb, preview_mb
from stitchlib.parallel import cores
from stitchlib.runs import DatasetRun, Run


def check_run(config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Check a configuration, and tell what its run needs.

    Parameters
    ----------
    config : mapping
        The configuration.

    Returns
    -------
    needs : list of str
        Lines for a person; empty where something is refused.
    refused : list of str
        All that the workflow would refuse.
    """
    problems = Problems(gather=True)
    try:
        run = Run.of(config, problems)
        needs = [] if problems.found else list(_needs(run))
    except InputError as error:
        return [], str(error).splitlines()
    return needs, [str(problem) for problem in problems.found]


def _needs(run: Run) -> Iterator[str]:
    most, disk = 0, 0
    for dataset in run.datasets.values():
        memory, size, lines = _of_dataset(dataset)
        most, disk = max(most, memory), disk + size
        yield from lines
    yield f"memory: up to {most} MB a job, {most * cores()} MB for {cores()} at a time" + _of_all()
    folder = _existing(run.config.results)
    free = shutil.disk_usage(folder).free
    note = "" if disk < free else ": NOT ENOUGH if nothing compresses"
    yield f"disk: at most {size_text(disk)} in {run.config.results}, {size_text(free)} free{note}"


def _of_dataset(run: DatasetRun) -> tuple[int, int, list[str]]:
    """Return the memory of the largest job (MB), bytes on the disk, and what to tell."""
    finish = run.after([tile.nominal for tile in run.drawn])
    cards = [card for card, _ in (*run.blocks, *finish.shards)]
    placing = run.place_card.content
    memory = [card_mb(c.content) for c in (*cards, finish.last)]
    memory += [card_mb(placing), preview_mb(placing)]
    itemsize = np.dtype(run.dataset.dtype).itemsize
    levels = sum(prod(level.shape) for level in finish.plan.levels)
    volume = levels * itemsize * len(run.dataset.channels)
    copies = 2 if run.config.output.assembly == "copy" else 1
    shape = " × ".join(map(str, finish.plan.shape))
    dataset = run.dataset
    shards = "in its shards" if copies == 1 else "and as much for the shards"
    lines = [f"{dataset.name}: {len(dataset.tiles)} tiles, {', '.join(dataset.channels)}"]
    lines[0] += f", {dataset.dtype}; about {shape} voxels"
    lines.append(f"  jobs: align {len(run.blocks)} ({len(run.pairs)} pairs), place 1")
    lines[1] += f", stitch {len(finish.shards)}, assemble 1"
    lines.append(f"  uncompressed: volume {size_text(volume)}, {shards}")
    return max(memory), copies * volume, lines


def _of_all() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # not every system tells
        return ""
    return f" ({size_text(total)} in this machine)"


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
