"""Everything that a run makes, made by calling the library in order: fresh.py CONFIG RESULTS.

Plans anew, makes every table and shard in this process, and knows nothing of earlier results.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from stitchlib.align import align_block
from stitchlib.assemble import assemble
from stitchlib.pairs import write_measured
from stitchlib.place import place_dataset, write_placement
from stitchlib.runs import Run
from stitchlib.stitch import stitch_shard


def fresh(config: dict) -> None:
    run = Run.of(config)
    tiles = Path(config["tiles"]).parent
    for dataset in run.datasets.values():
        for (card, _), table in zip(dataset.blocks, dataset.tables, strict=True):
            write_measured(table, align_block(card.content, tiles))
        card = dataset.place_card.content
        placement = place_dataset(card, dataset.folder / "pairs")
        write_placement(placement, card, dataset.place_record, tiles)
        finish = dataset.after(dataset.positions())
        for (_, shard), path in zip(finish.shards, finish.paths(dataset.folder), strict=True):
            stitch_shard(shard, tiles, path)
        last = finish.last.content
        assemble(last, finish.last.digest, dataset.folder / "shards", dataset.volume)


if __name__ == "__main__":
    given = yaml.safe_load(Path(sys.argv[1]).read_text())
    fresh({**given, "results": sys.argv[2]})
