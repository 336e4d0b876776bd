"""Each stage beside the plain way of doing the same, in one run.

Figures are medians of several turns that alternate between the two, so that a machine whose speed
drifts does both alike.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import yaml

from stitchlib import align, place
from stitchlib.assemble import assemble
from stitchlib.cards import read_card
from stitchlib.core.boxes import Box, hull
from stitchlib.core.pyramid import halve
from stitchlib.io.images import open_image
from stitchlib.pairs import write_measured
from stitchlib.phantom import Phantom, write_phantom
from stitchlib.plans import FusionPlan, ShardPlan
from stitchlib.runs import DatasetRun, Run
from stitchlib.stitch import fuse, stitch_shard


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    what: str
    """What was measured."""
    value: str
    """With its unit."""
    goal: str = ""
    """What was asked for, if anything was."""
    met: bool | None = None
    """Whether it is; None without a goal."""

    @classmethod
    def most(cls, what: str, value: float, goal: float | None, unit: str) -> Self:
        """Return one that should be at most so large."""
        if goal is None:
            return cls(what, _number(value, unit))
        return cls(what, _number(value, unit), f"≤ {_number(goal, unit)}", value <= goal)

    @classmethod
    def least(cls, what: str, value: float, goal: float, unit: str) -> Self:
        """Return one that should be at least so large."""
        return cls(what, _number(value, unit), f"≥ {_number(goal, unit)}", value >= goal)

    def row(self) -> str:
        """Return the row of a table."""
        met = {None: "", True: "yes", False: "**no**"}[self.met]
        return f"| {self.what} | {self.value} | {self.goal} | {met} |"


def _number(value: float, unit: str) -> str:
    return (f"{value:.0f} {unit}" if abs(value) >= 100 else f"{value:.3g} {unit}").strip()


def cpu_seconds(
    *functions: Callable[[], object], turns: int = 3, made: Sequence[Path] = ()
) -> list[float]:
    """Median CPU seconds of each function, taken in turns.

    The files that they make are removed before each: to give back an old file's space takes time
    that a new one does not.
    """
    spent: list[list[float]] = [[] for _ in functions]
    for _ in range(turns):
        for times, function in zip(spent, functions, strict=True):
            for path in made:
                path.unlink(missing_ok=True)
            start = time.process_time()
            function()
            times.append(time.process_time() - start)
    return [statistics.median(times) for times in spent]


def prepared(phantom: Phantom, folder: Path, **keys: Any) -> tuple[DatasetRun, Path]:
    """Write a phantom and plan its run; return that and the folder of the tiles.

    ``keys`` are added to the sections of the configuration.
    """
    shutil.rmtree(folder, ignore_errors=True)
    files = write_phantom(phantom, folder / "data", results=folder / "results")
    config = yaml.safe_load(files.config.read_text())
    for section, values in keys.items():
        config.setdefault(section, {}).update(values)
    files.config.write_text(yaml.safe_dump(config))
    run = Run.of(config)
    run.prepare()
    (dataset,) = run.datasets.values()
    return dataset, files.sheet.parent


def align_and_place(dataset: DatasetRun, tiles: Path) -> None:
    """Do what the jobs up to placement do, and plan the shards."""
    for table, (card, _) in zip(dataset.tables, dataset.blocks, strict=True):
        write_measured(table, align.align_block(card.content, tiles))
    card = dataset.place_card.content
    placement = place.place_dataset(card, dataset.folder / "pairs")
    place.write_placement(placement, card, dataset.place_record, tiles)
    dataset.finish()


def fusion_figures(folder: Path) -> Iterator[Figure]:
    """Make the volume, against the same through stock h5py gzip; assemble, against cp."""
    phantom = Phantom(grid=(2, 2), tile_shape=(512, 512, 128), jitter=(6, 6, 3))
    dataset, tiles = prepared(phantom, folder)
    align_and_place(dataset, tiles)
    positions = dataset.positions()
    finish = dataset.after(positions)
    (card,) = (dataset.folder / "cards" / "assemble").glob("*.json")
    made = folder / "made.h5"

    shards = [dataset.folder / "shards" / f"{c.stem}.h5" for c, _ in finish.shards]

    def stitch_all() -> None:
        for (_, shard), path in zip(finish.shards, shards, strict=True):
            stitch_shard(shard, tiles, path)

    def assemble_all() -> None:
        assemble(read_card(card), card.stem, dataset.folder / "shards", made)

    def ours() -> None:
        stitch_all()
        assemble_all()

    def stock() -> None:
        _stock(dataset, positions, tiles, folder / "stock.h5")

    def tuned() -> None:
        _stock(dataset, positions, tiles, folder / "tuned.h5", compression_opts=1, shuffle=True)

    growth = _growth(finish.shards[0][1], tiles, folder / "growth.h5")
    megabytes = np.prod(finish.plan.shape) * 2 / 1e6
    others = [folder / "stock.h5", folder / "tuned.h5"]
    mine, theirs, fast = cpu_seconds(ours, stock, tuned, made=[*shards, made, *others])
    stitch_all()
    assemble_all()
    original, copy = folder / "original.h5", folder / "copy.h5"
    made.rename(original)
    copying, assembling = cpu_seconds(
        lambda: shutil.copyfile(original, copy), assemble_all, turns=5, made=[copy, made]
    )
    yield Figure.least("stitch + assemble, with pyramid", megabytes / mine, 250, "MB/s of CPU")
    what = "stitch + assemble: faster than stock h5py"
    yield Figure.least(f"{what}, gzip as it comes (level 4)", theirs / mine, 9, "×")
    yield Figure.most(f"{what}, gzip level 1 with shuffle", fast / mine, None, "×")
    yield Figure.most("stitch: growth of resident memory", growth, 150, "MB")
    speed = 100 * copying / assembling
    yield Figure.least("assemble: speed, CPU, of a copy's", speed, 75, "%")


def _growth(plan: ShardPlan, tiles: Path, path: Path) -> float:
    """Return by how many MB a process grows at most while it makes a shard."""
    card = path.with_suffix(".json")
    card.write_text(json.dumps(plan.as_json()), encoding="utf-8")
    command = [sys.executable, "-c", _GROWTH, *map(str, (card, tiles, path))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


_GROWTH = """
import json, sys
from pathlib import Path
from stitchlib.io import images, npy, tiff
from stitchlib.plans import ShardPlan
from stitchlib.stitch import stitch_shard

def status(name):
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1000

plan = ShardPlan.from_json(json.loads(Path(sys.argv[1]).read_text()))
before = status("VmRSS")
stitch_shard(plan, Path(sys.argv[2]), Path(sys.argv[3]))
print(status("VmHWM") - before)
"""


def _stock(
    dataset: DatasetRun, positions: list[tuple[int, ...]], tiles: Path, path: Path, **options: Any
) -> None:
    """Write the same voxels and levels through h5py's own gzip filter, with these options."""
    boxes = [Box.at(p, t.shape) for p, t in zip(positions, dataset.dataset.tiles, strict=True)]
    whole = hull(boxes)
    fusion = FusionPlan.of(boxes, whole, "interpolation")
    sources = [open_image(tiles / t.images["c0"].path) for t in dataset.dataset.tiles]
    image = np.zeros(whole.shape, np.uint16, order="F")
    fuse(fusion, sources, image)
    with h5py.File(path, "w") as file:
        for level, v in enumerate(dataset.volume_plan(positions).levels):
            if level:
                image = halve(image, (True, True, True))
            chunks = v.chunk[::-1]
            cells = file.create_dataset(
                str(level), image.T.shape, image.dtype, chunks=chunks, compression="gzip", **options
            )
            for corner in product(*map(range, (0, 0, 0), cells.shape, chunks)):
                part = tuple(slice(c, c + n) for c, n in zip(corner, chunks, strict=True))
                cells[part] = image.T[part]
