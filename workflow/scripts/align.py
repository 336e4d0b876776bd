"""Align the pairs of one job: align.py CARD TABLE TILES.

CARD says which pairs and how; TABLE is made; TILES is the folder where relative tile paths start.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stitchlib.align import align_block
from stitchlib.cards import read_card
from stitchlib.jobs import run_job, unchanged
from stitchlib.pairs import write_measured


def align(card: Path, table: Path, tiles: Path) -> None:
    """Read, measure, write."""
    content = read_card(card)
    with unchanged(content["images"].values(), tiles, table):
        write_measured(table, align_block(content, tiles))


run_job(align)
