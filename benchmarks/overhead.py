"""What the workflow costs beside the library, what a change makes it do, what planning costs."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from benchmarks import measure, scale
from benchmarks.stages import Figure, align_and_place, prepared
from stitchlib.assemble import assemble
from stitchlib.cards import read_card
from stitchlib.core.boxes import Box
from stitchlib.phantom import Phantom
from stitchlib.preview import draw_finished
from stitchlib.runs import DatasetRun
from stitchlib.stitch import stitch_shard

COSTS = Phantom(grid=(4, 4), tile_shape=(256, 256, 64), jitter=(6, 6, 2))
CHANGES = Phantom(grid=(3, 2), tile_shape=(160, 160, 32), jitter=(4, 4, 1), channels=("c0", "c1"))
TILES = 10_000
STAGES = ("align", "place", "stitch", "assemble")


def workflow_figures(folder: Path) -> Iterator[Figure]:
    """Measure all three."""
    yield from cost_figures(folder / "costs")
    yield from change_figures(folder / "changes")
    case = folder / "planning"
    scale.write_case(case, TILES, 1, 2)
    dry = scale.snakemake(case, scale.ROOT, "-n", "--quiet", "all")
    yield scale.dry_figure(f"workflow: dry run of {TILES} tiles × 2 channels", dry, scale.DRY_RUN)


def cost_figures(folder: Path) -> Iterator[Figure]:
    """CPU of Snakemake and of starting jobs: what a run takes beyond the library in one process."""
    dataset, tiles = prepared(COSTS, folder / "library")
    spent = time.process_time()
    align_and_place(dataset, tiles)
    _make(dataset, tiles)
    library = time.process_time() - spent
    prepared(COSTS, folder / "workflow")
    first, jobs = _run(folder / "workflow")
    again, none = _run(folder / "workflow")
    if none:
        raise RuntimeError(f"a run without a change has executed {none}")
    count = sum(jobs.values())
    each = (first - again - library) / count
    yield Figure("workflow: Snakemake with nothing to do", f"{again:.1f} s CPU", "about 2–3 s")
    what = f"workflow: CPU over the library's {library:.1f} s, per job ({count} jobs)"
    yield Figure.most(what, each, 0.6, "s")


def _make(dataset: DatasetRun, tiles: Path) -> None:
    """Do what the jobs after placement do."""
    finish = dataset.after(dataset.positions())
    shards = dataset.folder / "shards"
    for card, shard in finish.shards:
        stitch_shard(shard, tiles, shards / f"{card.stem}.h5")
    (card,) = (dataset.folder / "cards" / "assemble").glob("*.json")
    assemble(read_card(card), card.stem, shards, dataset.folder / f"{dataset.dataset.name}.h5")
    (card,) = (dataset.folder / "cards" / "dataset").glob("*.json")
    draw_finished(read_card(card), dataset.folder, tiles)


def _run(folder: Path, *options: str) -> tuple[float, Counter[str]]:
    """Run the workflow on one core; return CPU seconds of everything, and jobs by rule."""
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(scale.ROOT / "Snakefile")),
        *("--configfile", str(folder / "data" / "config.yaml"), "--cores", "1", "--nocolor"),
    ]
    log = folder / "log"
    cost = measure.run([*command, *options], folder, log, {"PYTHONPATH": str(scale.ROOT)})
    rules = re.findall(r"^Finished jobid: .*\(Rule: (\w+)\)", log.read_text(), re.MULTILINE)
    return cost.cpu, Counter(rule for rule in rules if rule != "all")


def change_figures(folder: Path) -> Iterator[Figure]:
    """Count the jobs after a tile was taken again, beside the ones that it concerns."""
    output = {"chunk": 32, "shard": 160, "levels": 1}
    dataset, tiles = prepared(CHANGES, folder, align={"pairs_per_job": 1}, output=output)
    _, every = _run(folder)
    positions = dataset.positions()  # and so they stay
    tile = dataset.dataset.tiles[0]
    path = tiles / tile.images["c0"].path
    tifffile.imwrite(path, tifffile.imread(path) + np.uint16(1), photometric="minisblack")
    _, done = _run(folder)
    box = Box.at(positions[0], tile.shape)
    expected = {
        "align": sum(tile.name in (p.pre, p.post) for _, pairs in dataset.blocks for p in pairs),
        "place": 1,
        "stitch": sum(
            card.name.startswith("c0/") and not box.intersection(shard.box).empty
            for card, shard in dataset.after(positions).shards
        ),
        "assemble": 1,
    }
    yield Figure(
        "rerun after a tile changed: " + ", ".join(STAGES),
        ", ".join(f"{done[stage]} of {every[stage]}" for stage in STAGES),
        ", ".join(str(expected[stage]) for stage in STAGES),
        all(done[stage] == expected[stage] for stage in STAGES),
    )
