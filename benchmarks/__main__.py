"""All benchmarks: ``python -m benchmarks [FOLDER]``; needs about 2 GB in FOLDER."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.aligning import align_figures
from benchmarks.place import place_figures
from benchmarks.stages import Figure, fusion_figures


def figures(folder: Path) -> Iterator[Figure]:
    """Measure everything."""
    yield from align_figures(folder / "align")
    yield from place_figures()
    yield from fusion_figures(folder)


def main() -> None:
    """Print the table as it grows."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as folder:
        print(f"| {'':45} | measured | goal |\n|---|---|---|")
        for figure in figures(Path(folder) / "bench"):
            print(f"| {figure.what:45} | {figure.value} | {figure.goal} |", flush=True)


if __name__ == "__main__":
    main()
