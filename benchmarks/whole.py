"""Whole runs, from tiles on disk to a written volume: our workflow, our library, and the peers.

``python -m benchmarks.whole [S M D2 L] [--folder F] [--turns N]``: all of them in turn, so that a
machine whose speed drifts does everybody alike. A peer that cannot be run fails the benchmark.
"""

from __future__ import annotations

import argparse
import compileall
import csv
import json
import os
import platform
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from benchmarks import measure
from benchmarks.peers import HERE, PEERS, command, environment
from benchmarks.stages import Figure
from stitchlib.phantom import Phantom, write_phantom

PROJECT = Path(__file__).resolve().parents[1]

CLEAN = {"photons": 5000.0, "counts_per_photon": 0.5, "read_noise": 1.0}
"""Little noise: what every peer can do."""
SETS = {
    "S": Phantom(grid=(3, 3), tile_shape=(256, 256, 64), jitter=(6, 6, 2), **CLEAN),
    "M": Phantom(grid=(4, 4), tile_shape=(512, 512, 128), jitter=(8, 8, 3), **CLEAN),
    "D2": Phantom(grid=(8, 8), tile_shape=(1024, 1024), jitter=(8, 8), **CLEAN),
    "L": Phantom(grid=(8, 8), tile_shape=(512, 512, 128), jitter=(8, 8, 3), **CLEAN),
}


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one program on one set."""

    name: str
    """The program."""
    cost: measure.Cost
    errors: np.ndarray
    """Distance of every tile from the truth, largest axis, voxels; infinite where it is lost."""
    size: float
    """Of what was written, MB."""


def make(name: str, folder: Path) -> Path:
    """Write a set, unless it is there; return its folder."""
    phantom, data = SETS[name], folder / name
    if not (data / "set.json").exists():
        shutil.rmtree(data, ignore_errors=True)
        files = write_phantom(phantom, data, dataset=name, results="results")
        reach = yaml.safe_load(files.config.read_text())["align"]["max_shift"]
        extent = dict(zip("xyz", phantom.tile_shape, strict=False))
        overlap = round(0.15 * extent["x"])
        about = {
            "dimensions": len(extent),
            "grid": dict(zip("xy", phantom.grid, strict=True)),
            "extent": extent,
            "overlap": overlap,
            "step": {axis: extent[axis] - overlap for axis in "xy"},
            "max_shift": {axis: reach[axis] for axis in extent},
        }
        (data / "set.json").write_text(json.dumps(about))
    return data


def programs(
    data: Path, out: Path, environments: Path, chunk: int | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Yield name and command of everything that can take the set; ours may make other chunks."""
    # As the README installs it: Snakemake loads all plugins that the tests need at every start.
    python = str(environment("stitchlib", ("--editable", f"{PROJECT}[workflow]"), environments))
    # As pip compiles the peers: our jobs import from here, perhaps without leave to write bytecode.
    compileall.compile_dir(PROJECT / "stitchlib", quiet=1)
    workflow = ["-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile")]
    configs = [data / "config.yaml"]
    if chunk is not None:
        configs.append(data / "chunk.yaml")
        configs[-1].write_text(f"output: {{chunk: {chunk}}}\n")
    files = ["--configfile", *map(str, configs), "--cores", "2"]
    yield "stitchlib workflow", [python, *workflow, *files]
    library = [str(HERE / "stitchlib_.py"), str(data), str(out)]
    yield "stitchlib library", [python, *library]
    dimensions = json.loads((data / "set.json").read_text())["dimensions"]
    for peer in PEERS:
        if dimensions in peer.dimensions:
            yield peer.name, command(peer, environments, data, out)


def run(name: str, words: list[str], data: Path, out: Path) -> Result:
    """Run a program, and compare with the truth."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    log = out.parent / f"{data.name}-{name.replace(' ', '-')}.log"
    environment = {"PYTHONPATH": str(PROJECT)} if name.startswith("stitchlib") else {}
    cost = measure.run(words, out, log, environment)
    size = sum(f.stat().st_size for f in _written(out))
    result = Result(name, cost, errors(data, out), size / 1e6)
    shutil.rmtree(out)
    return result


def _written(out: Path) -> Iterator[Path]:
    """Yield the files of the volume: not tables, links to tiles, or what makes reruns exact."""
    working = {"tiles", "shards", "cards", ".snakemake"}
    for path in out.rglob("*"):
        if path.is_file() and not working & set(path.relative_to(out).parts):
            yield path


def errors(data: Path, out: Path) -> np.ndarray:
    """Return how far every tile is from the truth, the median difference taken off, voxels."""
    truth = _table(data / "truth.tsv")
    mine = out / "positions.json"
    if mine.exists():
        found = {t: tuple(p) for t, p in json.loads(mine.read_text()).items()}
    else:
        found = _table(next(out.glob("results/*/positions.tsv")))
    off = np.array([np.subtract(found.get(t, (np.nan,) * 3), p) for t, p in truth.items()])
    off -= np.nanmedian(off, axis=0)  # a stitch has no absolute origin
    return np.nan_to_num(np.abs(off).max(axis=1), nan=np.inf)


def _table(path: Path) -> dict[str, tuple[float, ...]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {row["tile"]: tuple(float(row[axis]) for axis in "xyz") for row in rows}


def middle(results: list[Result], figure: str) -> float:
    """Return the median of a cost over the turns of one program."""
    return statistics.median(getattr(r.cost, figure) for r in results)


def line(results: list[Result]) -> str:
    """Return the row of a table for the turns of one program."""
    errors = results[0].errors
    return (
        f"| {results[0].name} | {middle(results, 'wall'):.1f} | {middle(results, 'cpu'):.1f} "
        f"| {middle(results, 'memory'):.0f} | {errors.max():.2f} | {np.median(errors):.2f} "
        f"| {results[0].size:.0f} |"
    )


def goals(name: str, results: dict[str, list[Result]]) -> Iterator[Figure]:
    """Return what was asked for of the programs on a set, as far as they ran."""
    workflow, library = (results.get(f"stitchlib {what}") for what in ("workflow", "library"))
    peers = [rows for program, rows in results.items() if not program.startswith("stitchlib")]
    if workflow and library and name == "L":
        more = 100 * (middle(workflow, "wall") / middle(library, "wall") - 1)
        yield Figure.most(f"{name}: workflow, time over the library's", more, 15, "%")
    if workflow:
        memory = middle(workflow, "memory")
        yield Figure.most(f"{name}: workflow, memory", memory, 1000, "MB")
    if not peers:
        return
    fastest = min(middle(rows, "wall") for rows in peers)
    if library and name == "S":
        ratio = fastest / middle(library, "wall")
        yield Figure.least(f"{name}: library, times as fast as the fastest peer", ratio, 1, "×")
    elif workflow:
        ratio = fastest / middle(workflow, "wall")
        yield Figure.least(f"{name}: workflow, times as fast as the fastest peer", ratio, 2, "×")
        worst, best = (min(r[0].errors.max() for r in them) for them in ([workflow], peers))
        yield Figure.most(f"{name}: workflow, largest error, of the best peer's", worst, best, "")


def compare(
    name: str,
    folder: Path,
    environments: Path,
    turns: int,
    without: Sequence[str] = (),
    chunk: int | None = None,
) -> dict[str, str]:
    """Run everything on a set, in turns, print the table, and return what failed, and how."""
    data = make(name, folder)
    found = programs(data, folder / "out", environments, chunk)
    every = [program for program in found if program[0] not in without]
    results: dict[str, list[Result]] = {}
    failed: dict[str, str] = {}
    for _ in range(turns):
        for program, words in every:
            try:
                result = run(program, words, data, folder / "out")
            except measure.CommandError as error:
                failed[program] = str(error)
            else:
                results.setdefault(program, []).append(result)
    phantom = SETS[name]
    shape = "×".join(map(str, reversed(phantom.tile_shape)))
    print(f"\n{name}: {'×'.join(map(str, phantom.grid))} tiles of {shape}\n")
    print("| program | s | CPU s | peak MB | max error | median error | written MB |")
    print("|---|---|---|---|---|---|---|")
    for rows in results.values():
        print(line(rows), flush=True)
    print("\n| | measured | goal | met |\n|---|---|---|---|")
    for figure in goals(name, results):
        print(figure.row(), flush=True)
    return failed


def main() -> None:
    """Compare on the sets asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole", description=__doc__)
    parser.add_argument("sets", nargs="*", default=["S", "M", "D2"], help=f"of {', '.join(SETS)}")
    parser.add_argument("--folder", type=Path, default=Path("results/bench"))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], help="programs to leave out, by name")
    parser.add_argument(
        "--chunk", type=int, help="of our volume, instead of the set's (64, planes 256)"
    )
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    failed = {
        f"{program} on {name}": how
        for name in given.sets
        for program, how in compare(
            name, folder, folder / "environments", given.turns, given.without, given.chunk
        ).items()
    }
    if failed:
        sys.exit("\n".join(f"\n{which} failed: {how}" for which, how in failed.items()))


if __name__ == "__main__":
    main()
