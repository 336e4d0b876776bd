"""Draw a dataset before and after placement: preview.py CARD RECORD TILES.

CARD is that of the dataset's last job; preview.png is made in the dataset's folder, and at last
RECORD, which says so. TILES is where relative tile paths start.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stitchlib.cards import read_card
from stitchlib.io.files import write_record
from stitchlib.jobs import run_job
from stitchlib.preview import draw_finished


def preview(card: Path, record: Path, tiles: Path) -> None:
    """Read, draw, write."""
    write_record(record, [draw_finished(read_card(card), record.parent.parent, tiles)])


run_job(preview)
