"""Write down how a dataset was made: dataset.py CARD RECORD.

CARD holds the whole configuration and all tiles; provenance.json is made in the dataset's folder,
and at last RECORD, which says so.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from stitchlib.cards import read_card
from stitchlib.io.files import write_record
from stitchlib.jobs import run_job
from stitchlib.provenance import write_provenance


def dataset(card: Path, record: Path) -> None:
    """Read, add the versions, write."""
    provenance = record.parent.parent / "provenance.json"
    write_provenance(provenance, read_card(card))
    write_record(record, [provenance])


run_job(dataset)
