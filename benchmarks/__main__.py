"""Every stage against its goal, as the table of docs/benchmarks.md.

``python -m benchmarks [FOLDER]`` takes three minutes of CPU, and 2 GB in FOLDER for a while.
``python -m benchmarks --scale [TILES ...]`` measures planning and scheduling instead.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks import measure
from benchmarks.aligning import align_figures
from benchmarks.calibration import exactness_figures
from benchmarks.overhead import workflow_figures
from benchmarks.place import place_figures
from benchmarks.scale import scale_figures
from benchmarks.stages import Figure, fusion_figures


def stage_figures(folder: Path) -> Iterator[Figure]:
    """Measure every stage."""
    yield from exactness_figures()
    yield from align_figures(folder / "align")
    yield from place_figures(robust=(10_000,))
    yield from fusion_figures(folder / "fusion")
    yield from workflow_figures(folder / "workflow")


def show(figures: Iterable[Figure]) -> None:
    """Print the table as it grows."""
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| | measured | goal | met |\n|---|---|---|---|")
    for figure in figures:
        print(figure.row(), flush=True)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("folder", nargs="?", help="where files are made for a while")
    parser.add_argument("--scale", nargs="*", type=int, metavar="TILES", default=None)
    args = parser.parse_args()
    with measure.scratch(args.folder) as temporary:
        folder = temporary / "bench"
        if args.scale is None:
            show(stage_figures(folder))
        else:
            folder.mkdir()
            show(scale_figures(folder, args.scale or (5000, 10000)))


if __name__ == "__main__":
    main()
