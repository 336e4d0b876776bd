"""What planning and scheduling cost: many tiles, or many datasets, whose files are holes.

Usage: python -m benchmarks --scale [TILES ...]   (default: 5000 10000; about 10 minutes)

For each number of tiles (a square grid, two channels) and for 384 datasets of four tiles: CPU
seconds and memory of Snakemake's dry runs, before anything was made and with the placement
finished, when all shards are jobs; the same of a job that is run alone, as on a cluster; and of a
whole run whose jobs do nothing. Twice as many tiles should cost twice as much.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from benchmarks.stages import Figure
from stitchlib.pairs import Link, Pair, write_measured
from stitchlib.place import place_dataset, write_placement
from stitchlib.runs import DatasetRun, Run

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (2048, 2048, 32)
OVERLAP = 0.15
STUB = "import sys\nopen(sys.argv[2], 'w').close()\n"
"""A job that does nothing."""
PLACE = (
    "import shutil, sys\n"
    "*_, dataset, _, record = sys.argv[2].split('/')\n"
    "shutil.copy(f'kept/{dataset}/{record}', sys.argv[2])\n"
)
"""A job that finds what was decided before."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process took."""

    cpu: float
    """Seconds."""
    mb: float
    """Most memory resident."""
    text: str
    """What it printed."""

    def __str__(self) -> str:
        return f"{self.cpu:.1f} s CPU, {self.mb:.0f} MB"


DRY_RUN = Spent(60.0, 2000.0, "")
"""Most that Snakemake may take to plan a large run."""


def dry_figure(what: str, dry: Spent, most: Spent | None) -> Figure:
    """Return what a dry run took, and whether it is little enough."""
    if most is None:
        return Figure(what, str(dry))
    met = dry.cpu <= most.cpu and dry.mb <= most.mb
    return Figure(what, str(dry), f"≤ {most.cpu:.0f} s, ≤ {most.mb:.0f} MB", met)


def write_case(folder: Path, tiles: int, datasets: int, channels: int) -> None:
    """Write a sheet, its files (headers, then nothing) and a configuration."""
    side = round(math.sqrt(tiles))
    (folder / "raw").mkdir(parents=True)
    lines = ["dataset\ttile\tchannel\tpath\ttile_x\ttile_y"]
    for name in [f"d{i:03}" for i in range(datasets)]:
        for c in range(channels):
            for i in range(side * side):
                x, y = i % side, i // side
                path = f"raw/{name}-x{x}y{y}-c{c}.npy"
                write_hole(folder / path)
                lines.append(f"{name}\tx{x}y{y}\tc{c}\t{path}\t{x}\t{y}")
    (folder / "tiles.tsv").write_text("\n".join(lines) + "\n")
    config = {
        "tiles": "tiles.tsv",
        "align": {"overlap": {"x": OVERLAP, "y": OVERLAP}, "max_shift": {"x": 20, "y": 20, "z": 8}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def write_hole(path: Path) -> None:
    """Write a .npy file that has its size, but no block on the disk beside its header."""
    with path.open("wb") as file:
        header = {"descr": "<u2", "fortran_order": False, "shape": SHAPE}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 2 * math.prod(SHAPE))


def place_all(folder: Path) -> None:
    """Make all tables and placements as if the tiles had been aligned."""
    os.chdir(folder)  # paths in cards are what Snakemake makes of them
    run = Run.of(yaml.safe_load(Path("config.yaml").read_text()))
    run.prepare()
    for dataset in run.datasets.values():
        _place(dataset)


def _place(dataset: DatasetRun) -> None:
    rng = np.random.default_rng(0)
    names = [tile.name for tile in dataset.dataset.tiles]
    truth = dict(zip(names, rng.integers(-4, 5, (len(names), 3)), strict=True))
    for (_, pairs), table in zip(dataset.blocks, dataset.tables, strict=True):
        write_measured(table, [_link(pair, truth) for pair in pairs])
    card = dataset.place_card.content
    placement = place_dataset(card, dataset.folder / "pairs")
    write_placement(placement, card, dataset.place_record, Path())
    kept = Path("kept") / dataset.dataset.name
    kept.mkdir(parents=True)
    shutil.copy(dataset.place_record, kept)


def _link(pair: Pair, truth: dict[str, np.ndarray]) -> Link:
    shift = tuple(map(float, truth[pair.post] - truth[pair.pre]))
    found = tuple(a + b for a, b in zip(pair.nominal, shift, strict=True))
    error = (0.1, 0.1, 0.1)
    return Link(pair.pre, pair.post, pair.axis, found, shift, 0.9, "ncc", error, 1.0, "ok")


def stubbed(folder: Path) -> Path:
    """Copy the workflow with jobs that do nothing."""
    for name in ("workflow", "stitchlib", "profiles"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, folder / name)
    for script in (folder / "workflow" / "scripts").glob("*.py"):
        script.write_text(PLACE if script.stem == "place" else STUB)
    return folder


def snakemake(folder: Path, code: Path, *arguments: str) -> Spent:
    """Run Snakemake and take its own costs, not those of its jobs."""
    command = [
        *(sys.executable, str(ROOT / "benchmarks" / "own_costs.py"), "snakemake"),
        *("-s", str(code / "Snakefile"), "--configfile", "config.yaml", *arguments),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    cpu, kilobytes = map(float, done.stderr.splitlines()[-1].split())
    return Spent(cpu, kilobytes / 1000, done.stdout + done.stderr)


def figures_of(what: str, folder: Path, code: Path, most: Spent | None) -> Iterator[Figure]:
    """Measure one case that was written to ``folder``."""
    dry = snakemake(folder, code, "-n", "--quiet", "all")
    yield dry_figure(f"{what}: dry run, nothing made", dry, most)
    subprocess.run([sys.executable, "-m", "benchmarks.scale", str(folder)], cwd=ROOT, check=True)
    dry = snakemake(folder, code, "-n", "--quiet", "all")
    yield dry_figure(f"{what}: dry run, placed", dry, most)
    for stage in ("align", "place", "stitch", "assemble"):
        yield Figure(f"{what}: one {stage} job alone", str(_alone(folder, code, stage)))
    shutil.rmtree(folder / "results")
    whole = snakemake(folder, code, "--cores", "2", "--scheduler", "greedy", "--quiet", "all")
    jobs = sum(1 for _ in folder.glob("results/*/logs/**/*.log"))
    yield Figure(f"{what}: {jobs} empty jobs", f"{whole}, {1000 * whole.cpu / jobs:.1f} ms/job")


def _alone(folder: Path, code: Path, stage: str) -> Spent:
    """Run a job as an executor on a cluster node does."""
    card = min(folder.glob(f"results/*/cards/{stage}/**/*.json"))
    dataset = folder / "results" / card.relative_to(folder / "results").parts[0]
    made, wildcards = target_of(card.relative_to(dataset / "cards" / stage), stage)
    (dataset / made).unlink(missing_ok=True)
    return snakemake(
        folder, code, "--cores", "1", "--quiet", "all",
        *alone(stage, dataset.name, wildcards), "--", str((dataset / made).relative_to(folder)),
    )  # fmt: skip


def alone(stage: str, dataset: str, wildcards: str) -> tuple[str, ...]:
    """Return the options by which an executor has a cluster node run one job."""
    job = f"{stage}:dataset={dataset},{wildcards}"
    return (
        *("--mode", "remote", "--force", "--nolock"),
        *("--allowed-rules", stage, "--target-jobs", job),
    )


def target_of(card: Path, stage: str) -> tuple[str, str]:
    """Return the file that a card's job makes, in the dataset's folder, and its wildcards.

    ``card`` is relative to the folder of the stage's cards.
    """
    name, _, digest = card.stem.rpartition(".")
    if stage == "align":
        return f"pairs/{card.stem}.tsv", f"block={name},digest={digest}"
    if stage == "stitch":
        channel = f"channel={card.parent},shard={name},digest={digest}"
        return f"shards/{card.with_suffix('.h5')}", channel
    return f"records/{stage}.{digest}.json", f"digest={digest}"


def scale_figures(folder: Path, sizes: Sequence[int]) -> Iterator[Figure]:
    """Measure everything."""
    code = stubbed(folder / "code")
    cases = [(f"{n} tiles x 2 channels", n, 1, 2, DRY_RUN) for n in sizes]
    cases += [(f"{n} datasets of 4 tiles", 4, n, 1, None) for n in (192, 384)]
    for number, (what, tiles, datasets, channels, most) in enumerate(cases):
        case = folder / str(number)
        write_case(case, tiles, datasets, channels)
        yield from figures_of(what, case, code, most)
        shutil.rmtree(case)


if __name__ == "__main__":
    place_all(Path(sys.argv[1]))
