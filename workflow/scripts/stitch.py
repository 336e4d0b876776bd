"""Make one shard of one channel: stitch.py CARD SHARD TILES THREADS.

CARD says which voxels of which tiles; SHARD, an HDF5 file, is made; TILES is where relative tile
paths start; THREADS compress.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stitchlib.cards import read_card
from stitchlib.jobs import run_job, unchanged
from stitchlib.plans import ShardPlan
from stitchlib.stitch import stitch_shard


def stitch(card: Path, shard: Path, tiles: Path, threads: Path) -> None:
    """Read, fuse, write."""
    content = read_card(card)
    with unchanged(content["tiles"], tiles, shard):
        stitch_shard(ShardPlan.from_json(content), tiles, shard, int(threads.name))


run_job(stitch)
