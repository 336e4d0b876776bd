"""Place all tiles of a dataset: place.py CARD RECORD TILES.

CARD names the pair tables and the tiles; pairs.tsv, positions.tsv and layout.json are made in the
dataset's folder, and at last RECORD, which says so. TILES is where relative tile paths start.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stitchlib.cards import read_card
from stitchlib.jobs import run_job
from stitchlib.place import place_dataset, write_placement


def place(card_file: Path, record: Path, tiles: Path) -> None:
    """Read, place, write."""
    card, folder = read_card(card_file), record.parent.parent
    write_placement(place_dataset(card, folder / "pairs"), card, record, tiles)


run_job(place)
