"""Each stage beside the plain way of doing the same, in one run.

Figures are medians of several turns that alternate between the two, so that a machine whose speed
drifts does both alike.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import yaml

from stitchlib import align, place
from stitchlib.assemble import assemble
from stitchlib.cards import read_card
from stitchlib.core.boxes import Box, hull
from stitchlib.core.pyramid import halve
from stitchlib.core.solve import least_squares
from stitchlib.io.images import open_image
from stitchlib.pairs import write_measured
from stitchlib.phantom import Phantom, write_phantom
from stitchlib.plans import FusionPlan
from stitchlib.runs import DatasetRun, Run
from stitchlib.stitch import fuse, stitch_shard


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    what: str
    """What was measured."""
    value: str
    """With its unit."""
    goal: str
    """What design asks for, or empty."""


def cpu_seconds(*functions: Callable[[], object], turns: int = 3) -> list[float]:
    """Median CPU seconds of each function, taken in turns."""
    spent: list[list[float]] = [[] for _ in functions]
    for _ in range(turns):
        for times, function in zip(spent, functions, strict=True):
            start = time.process_time()
            function()
            times.append(time.process_time() - start)
    return [statistics.median(times) for times in spent]


def place_figures() -> Iterator[Figure]:
    """Solve grids of ten and a hundred thousand tiles."""
    for n, goal in ((100, "≤ 50 ms"), (316, "≤ 1 s")):
        index = np.arange(n * n).reshape(n, n)
        pre = np.concatenate([index[:-1].ravel(), index[:, :-1].ravel()])
        post = np.concatenate([index[1:].ravel(), index[:, 1:].ravel()])
        wanted = np.random.default_rng(0).normal(size=(len(pre), 3))
        (seconds,) = cpu_seconds(lambda w=wanted, a=pre, b=post, m=n: least_squares(m * m, a, b, w))
        yield Figure(f"place: {n * n} tiles", f"{seconds * 1e3:.0f} ms CPU", goal)


def planned(folder: Path) -> DatasetRun:
    """Align and place a phantom of four tiles, and plan its shards."""
    shutil.rmtree(folder, ignore_errors=True)
    phantom = Phantom(grid=(2, 2), tile_shape=(512, 512, 128), jitter=(6, 6, 3))
    files = write_phantom(phantom, folder / "data", results=folder / "results")
    run = Run.of(yaml.safe_load(files.config.read_text()))
    run.prepare()
    (dataset,) = run.datasets.values()
    for table, (card, _) in zip(dataset.tables, dataset.blocks, strict=True):
        write_measured(table, align.align_block(json.loads(card.text), files.sheet.parent))
    card = json.loads(dataset.place_card.text)
    placement = place.place_dataset(card, dataset.folder / "pairs")
    place.write_placement(placement, card, dataset.place_record, files.sheet.parent)
    dataset.finish()
    return dataset


def fusion_figures(folder: Path) -> Iterator[Figure]:
    """Make the volume, against the same through stock h5py gzip; assemble, against cp."""
    dataset = planned(folder)
    positions = dataset.positions()
    finish = dataset.after(positions)
    (card,) = (dataset.folder / "cards" / "assemble").glob("*.json")
    tiles, made = folder / "data", folder / "made.h5"

    def stitch_all() -> None:
        for shard_card, shard in finish.shards:
            path = dataset.folder / "shards" / f"{shard_card.stem}.h5"
            stitch_shard(shard, tiles, path)

    def assemble_all() -> None:
        assemble(read_card(card), card.stem, dataset.folder / "shards", made)

    def ours() -> None:
        stitch_all()
        assemble_all()

    def stock() -> None:
        _stock(dataset, positions, tiles, folder / "stock.h5")

    tracemalloc.start()
    ours()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    megabytes = np.prod(finish.plan.shape) * 2 / 1e6
    mine, theirs, copying, assembling = cpu_seconds(
        ours, stock, lambda: shutil.copyfile(made, folder / "copy.h5"), assemble_all
    )
    yield Figure("stitch + assemble: speed", f"{megabytes / mine:.0f} MB/s CPU", "≥ 250 MB/s")
    yield Figure("stitch + assemble: against stock h5py", f"{theirs / mine:.1f}×", "≥ 9×")
    yield Figure("stitch + assemble: peak of allocations", f"{peak:.0f} MB", "≤ 150 MB")
    yield Figure("assemble: CPU against a copy's", f"{copying / assembling:.2f}×", "")


def _stock(dataset: DatasetRun, positions: list[tuple[int, ...]], tiles: Path, path: Path) -> None:
    """Write the same voxels and levels through h5py's own gzip filter."""
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
                str(level), image.T.shape, image.dtype, chunks=chunks, compression="gzip",
                compression_opts=1, shuffle=True,
            )  # fmt: skip
            for corner in product(*map(range, (0, 0, 0), cells.shape, chunks)):
                part = tuple(slice(c, c + n) for c, n in zip(corner, chunks, strict=True))
                cells[part] = image.T[part]
