"""Make the volume of a dataset from its shards: assemble.py CARD RECORD VOLUME.

CARD names the shards; VOLUME (.h5) and its XML are made in the dataset's folder, and at last
RECORD, which says so.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stitchlib.assemble import assemble as assemble_volume
from stitchlib.cards import read_card
from stitchlib.io.files import write_record
from stitchlib.jobs import run_job


def assemble(card: Path, record: Path, volume: Path) -> None:
    """Read, copy, write."""
    assemble_volume(read_card(card), card.stem, volume.parent / "shards", volume)
    write_record(record, [volume.with_suffix(".xml")])


run_job(assemble)
