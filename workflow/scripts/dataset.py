"""Write down how a dataset was made: dataset.py CARD RECORD TILES.

CARD holds the whole configuration and all tiles; provenance.json and preview.png are made in the
dataset's folder, and at last RECORD, which says so. TILES is where relative tile paths start.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stitchlib.cards import read_card
from stitchlib.io.files import write_record
from stitchlib.jobs import run_job
from stitchlib.preview import draw_finished
from stitchlib.provenance import write_provenance


def dataset(card_file: Path, record: Path, tiles: Path) -> None:
    """Read, add the versions, draw, write."""
    card, folder = read_card(card_file), record.parent.parent
    provenance = folder / "provenance.json"
    write_provenance(provenance, card)
    write_record(record, [provenance, draw_finished(card, folder, tiles)])


run_job(dataset)
