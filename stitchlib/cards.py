"""Cards: small immutable files that hold all that decides the outcome of a job.

The digest of a card is part of its name and of the name of what its job makes. A result is current
because the file of that name exists: dates and Snakemake's own memory play no part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stitchlib.errors import InputError
from stitchlib.io.files import canonical_json, digest_text, write_text


@dataclass(frozen=True, slots=True)
class Card:
    """The card of one job."""

    stage: str
    """'align', 'place', 'stitch', 'assemble' or 'dataset'."""
    name: str
    """Which job of the stage, e.g. a block or a channel and shard; may be empty."""
    text: str
    """Its content as canonical JSON."""

    @classmethod
    def of(cls, stage: str, version: int, name: str, content: Mapping[str, Any]) -> Card:
        """Make a card of everything that decides the outcome.

        Parameters
        ----------
        stage, name : str
            Which job it is.
        version : int
            Version of the stage's algorithm.
        content : mapping
            Options and inputs: plain values only.
        """
        return cls(stage, name, canonical_json({"stage": stage, "version": version, **content}))

    @property
    def content(self) -> dict[str, Any]:
        """All that decides the outcome, as `read_card` returns it."""
        content: dict[str, Any] = json.loads(self.text)
        return content

    @property
    def digest(self) -> str:
        """Digest of the content."""
        return digest_text(self.text)

    @property
    def stem(self) -> str:
        """Name and digest, as the card's and the result's file names hold them."""
        return f"{self.name}.{self.digest}" if self.name else self.digest

    def write(self, folder: Path) -> Path:
        """Write it below ``folder`` (a dataset's results) where it is not there yet."""
        path = folder / "cards" / self.stage / f"{self.stem}.json"
        if not path.exists():
            write_text(path, self.text)
        return path


def read_card(path: Path) -> dict[str, Any]:
    """Return the content of a card.

    Raises
    ------
    InputError
        Where it cannot be read, or is not what its name says: what it makes would be wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: this card cannot be read ({error}); run snakemake") from error
    if digest_text(text) != path.stem.rpartition(".")[2]:
        raise InputError(f"{path}: this card was changed; delete it, the next run writes it anew")
    card: dict[str, Any] = json.loads(text)
    return card


def tables_of(folder: str, digest: str) -> list[str]:
    """Return the pair tables that a place job reads."""
    card = read_card(Path(folder, "cards", "place", f"{digest}.json"))
    return [f"{folder}/pairs/{name}" for name in card["tables"]]


def place_of(folder: str, digest: str) -> str:
    """Return the placement that a dataset's last job, and its preview, tell of."""
    return f"{folder}/records/place.{_place_digest(folder, digest)}.json"


def place_card_of(folder: str, digest: str) -> dict[str, Any]:
    """Return the place job's card, for a dataset's last job and its preview."""
    return read_card(Path(folder, "cards", "place", f"{_place_digest(folder, digest)}.json"))


def _place_digest(folder: str, digest: str) -> str:
    return str(read_card(Path(folder, "cards", "dataset", f"{digest}.json"))["place"])


def shards_of(folder: str, digest: str) -> list[str]:
    """Return the shards that an assemble job reads."""
    card = read_card(Path(folder, "cards", "assemble", f"{digest}.json"))
    return [f"{folder}/shards/{s['path']}" for group in card["shards"].values() for s in group]
