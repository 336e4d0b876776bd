"""Global placement: one position per tile from all accepted links."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stitchlib.core.boxes import Point
from stitchlib.core.solve import least_squares, round_half_even
from stitchlib.io.files import write_record, write_text
from stitchlib.layouts import AlignmentRecord, LayoutRecord, SourceRecord, relative_location
from stitchlib.pairs import Link, pairs_text, read_measured
from stitchlib.positions import Position, positions_text

VERSION = 1
"""Version of the algorithm: raising it makes every run place again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where every tile lies, and what was decided about every link."""

    positions: tuple[Position, ...]
    """One per tile, in sheet order."""
    links: tuple[Link, ...]
    """All links, in sheet order, with their residuals."""


def place(
    tiles: Sequence[str], nominal: Sequence[Point], links: Sequence[Link], min_confidence: float
) -> Placement:
    """Place tiles by least squares over the links that are sure enough.

    Every group of tiles that such links connect stands so that its first tile is at its nominal
    position; a tile without such a link stays at its nominal position and gets status 'stage'.

    Parameters
    ----------
    tiles : sequence of str
        Names, in sheet order.
    nominal : sequence of tuple of int
        Their nominal corners x, y, z, voxels.
    links : sequence of Link
        What was measured.
    min_confidence : float
        Links below are not used.
    """
    number = {name: i for i, name in enumerate(tiles)}
    links = sorted(
        (_judge(link, min_confidence) for link in links),
        key=lambda link: (number[link.pre], link.axis),
    )
    used = [link for link in links if link.status == "ok"]
    pre = np.array([number[link.pre] for link in used], np.int64)
    post = np.array([number[link.post] for link in used], np.int64)
    wanted = np.array([link.displacement for link in used]).reshape(-1, 3)
    relative, component = least_squares(len(tiles), pre, post, wanted)
    first = np.unique(component, return_index=True)[1][component]
    anchor = np.array(nominal, np.int64).reshape(-1, 3)[first]
    fit = anchor + relative
    corner = anchor + round_half_even(relative)
    n_links = np.bincount(np.concatenate([pre, post]), minlength=len(tiles))
    for name, n in zip(tiles, n_links, strict=True):
        if not n and len(tiles) > 1:
            log.warning("tile %s has no accepted link: it stays at its nominal position", name)
    positions = tuple(
        Position(
            name,
            tuple(corner[i].tolist()),
            tuple(fit[i].tolist()),
            int(component[i]),
            "placed" if n_links[i] or len(tiles) == 1 else "stage",
            int(n_links[i]),
        )
        for i, name in enumerate(tiles)
    )
    return Placement(positions, tuple(_with_residual(link, number, fit) for link in links))


def _judge(link: Link, min_confidence: float) -> Link:
    if link.status == "ok" and link.confidence < min_confidence:
        reason = f"confidence {link.confidence:.3g} is below {min_confidence:g}"
        reason += f": {link.reason}" if link.reason else ""
        return replace(link, status="low-confidence", reason=reason)
    return link


def _with_residual(link: Link, number: Mapping[str, int], fit: Any) -> Link:
    difference = fit[number[link.post]] - fit[number[link.pre]]
    residual = tuple((np.array(link.displacement) - difference).tolist())
    return replace(link, residual=residual)


def place_dataset(card: Mapping[str, Any], tables: Path) -> Placement:
    """Place the tiles that the place job's card names, from its tables in the folder ``tables``."""
    links = [link for name in card["tables"] for link in read_measured(tables / name)]
    return place(
        [tile["tile"] for tile in card["tiles"]],
        [tuple(tile["nominal"]) for tile in card["tiles"]],
        links,
        card["min_confidence"],
    )


def write_placement(
    placement: Placement, card: Mapping[str, Any], record: Path, tiles: Path
) -> None:
    """Write pairs.tsv, positions.tsv and layout.json, and at last the record that says so.

    Parameters
    ----------
    placement : Placement
        What was decided.
    card : mapping
        Content of the place job's card.
    record : Path
        ``{dataset's folder}/records/…json``.
    tiles : Path
        Folder where relative tile paths start.
    """
    folder = record.parent.parent
    texts = {
        folder / "pairs.tsv": pairs_text(placement.links),
        folder / "positions.tsv": positions_text(placement.positions),
        folder / "layout.json": layout_record(placement, card, folder, tiles).as_text(),
    }
    for path, text in texts.items():
        write_text(path, text)
    write_record(record, texts, positions={p.tile: list(p.corner) for p in placement.positions})


def layout_record(
    placement: Placement, card: Mapping[str, Any], folder: Path, tiles: Path
) -> LayoutRecord:
    """Return the layout of the reference channel, with the links that were used."""
    ndim = card["ndim"]
    number = {tile["tile"]: i for i, tile in enumerate(card["tiles"])}
    sources = tuple(
        SourceRecord(
            i,
            relative_location(tiles / tile["path"], folder),
            tuple(tile["shape"][:ndim]),
            card["dtype"],
            position.corner[:ndim],
            tuple(tile["index"][:ndim]),
        )
        for i, (tile, position) in enumerate(zip(card["tiles"], placement.positions, strict=True))
    )
    alignments = tuple(
        AlignmentRecord(
            number[link.pre],
            number[link.post],
            tuple(round_half_even(np.array(link.displacement[:ndim])).tolist()),
            link.quality,
        )
        for link in placement.links
        if link.status == "ok"
    )
    return LayoutRecord(sources, alignments)
