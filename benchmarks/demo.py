"""The demo: a phantom of several tiles and two channels through the real workflow.

Prints, last, the largest error of a tile's position against the known truth, and where the volume
and a picture of the tiles are.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

from stitchlib.core.boxes import Point
from stitchlib.phantom import Phantom, position_error, write_phantom

PROJECT = Path(__file__).resolve().parents[1]
DATA = Path("results/demo-data")
RESULTS = Path("results")


def main() -> None:
    """Make the phantom, run the workflow, compare."""
    shutil.rmtree(DATA, ignore_errors=True)
    phantom = Phantom(grid=(3, 3), tile_shape=(200, 160, 48), channels=("nuclei", "vessels"))
    files = write_phantom(phantom, DATA, results=str(RESULTS), dataset="demo")
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile")),
        *("--configfile", str(files.config), "--cores", "all"),
    ]
    subprocess.run(command, check=True)
    folder = RESULTS / "demo"
    error = position_error(_positions(folder / "positions.tsv"), _positions(files.truth))
    print(f"position_error_max_voxels={error:g}")
    print(f"volume={folder / 'demo.h5'}")
    print(f"report={folder / 'preview.png'}")


def _positions(path: Path) -> dict[str, Point]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {row["tile"]: (int(row["x"]), int(row["y"]), int(row["z"])) for row in rows}


if __name__ == "__main__":
    main()
