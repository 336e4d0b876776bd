"""Global placement: one position per tile from all links that can be believed.

See docs/placement.md for the method, and `stitchlib.core.placement` for the arithmetic.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stitchlib.core.boxes import AXES, Point
from stitchlib.core.confidence import UNLIKELY
from stitchlib.core.links import Links
from stitchlib.core.placement import Problem, Solution, follow_tree, optimise
from stitchlib.core.solve import round_half_even
from stitchlib.corrections import Corrections, HandLink
from stitchlib.errors import InputError
from stitchlib.inputs import links_from_json
from stitchlib.io.files import awaited, canonical_json, write_record, write_text
from stitchlib.io.parts import Part
from stitchlib.layouts import AlignmentRecord, LayoutRecord, SourceRecord, relative_location
from stitchlib.pairs import Link, pairs_text, read_measured
from stitchlib.positions import Position, positions_text
from stitchlib.verdicts import Tiles, describe, reasons, remarks

TILE_BYTES = 2**15
"""Most that placing takes for a tile: a quarter of it for ten thousand tiles in a grid."""

VERSION = 4
"""Version of the algorithm: raising it makes every run place again."""

_LEAST_ERROR, _MOST_ERROR = 0.02, 1.0
"""Standard errors of links are taken to be within these, voxels: what is not known better."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where every tile lies, and what was decided about every link."""

    positions: tuple[Position, ...]
    """One per tile, in sheet order."""
    links: tuple[Link, ...]
    """All links, in sheet order, with their residuals."""
    report: Mapping[str, Any]
    """The stage's model, its residuals, the worst loops and what is in doubt; plain values."""
    remarks: tuple[str, ...] = ()
    """What a person should know, a line each."""


def place(
    tiles: Sequence[str],
    nominal: Sequence[Point],
    links: Sequence[Link],
    min_confidence: float,
    *,
    index: Sequence[Point],
    ndim: int = 3,
    method: str = "optimization",
    corrections: Corrections | None = None,
) -> Placement:
    """Place tiles by the links that are sure enough and that agree with one another.

    Every group of tiles that such links connect, with those without links that follow it, stands so
    that its first tile is at its nominal position, or as its pinned tiles say. A tile without
    such a link lies where the stage's model expects it and gets status 'stage'.

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
    index : sequence of tuple of int
        Grid indices x, y, z of the tiles.
    ndim : int
        2 or 3: axes of the images.
    method : {'optimization', 'tree'}
        Robust least squares; or along the tree of least variance, which believes every link.
    corrections : Corrections, optional
        A person's decisions.
    """
    by_hand = corrections or Corrections()
    number = {name: i for i, name in enumerate(tiles)}
    corner = np.array(nominal, np.int64).reshape(-1, 3)
    judged = _judge_all(links, min_confidence, by_hand, number, corner)
    active = [name for name in tiles if name not in by_hand.excluded]
    rows = [number[name] for name in active]
    used = [i for i, link in enumerate(judged) if link.status in ("ok", "manual")]
    problem = _problem(
        active, corner[rows], np.array(index)[rows], [judged[i] for i in used], by_hand, ndim
    )
    solution = (optimise if method == "optimization" else follow_tree)(problem)
    names = Tiles(tuple(active), AXES[:ndim])
    for k, reason in reasons(names, problem, solution).items():
        judged[used[k]] = replace(judged[used[k]], status="rejected", reason=reason)
    positions = _positions(tiles, corner, names, problem, solution, by_hand)
    fit = {p.tile: p.fit for p in positions}
    final = tuple(_with_residual(link, fit) for link in judged)
    report = describe(names, problem, solution, final, positions)
    lines = remarks(report, positions)
    for line in lines:
        log.warning("%s", line)
    return Placement(positions, final, report, tuple(lines))


def _judge_all(
    links: Sequence[Link],
    min_confidence: float,
    by_hand: Corrections,
    number: Mapping[str, int],
    corner: Any,
) -> list[Link]:
    """Say which links may be used; those made by hand come in. In sheet order."""
    manual = {frozenset((k.pre, k.post)): k for k in by_hand.links}
    judged = []
    for link in links:
        hand = manual.pop(frozenset((link.pre, link.post)), None)
        if hand is not None:
            judged.append(_by_hand(hand, link))
        else:
            judged.append(_judge(link, min_confidence, by_hand))
    judged += [_by_hand(hand, None) for hand in manual.values()]
    judged.sort(key=lambda link: (number[link.pre], link.axis, number[link.post]))
    found = []
    for link in judged:
        step = corner[number[link.post]] - corner[number[link.pre]]
        shift = tuple((np.array(link.displacement) - step).tolist())
        found.append(replace(link, shift=shift))
    return found


def _judge(link: Link, min_confidence: float, by_hand: Corrections) -> Link:
    out = [tile for tile in (link.pre, link.post) if tile in by_hand.excluded]
    if out:
        return replace(link, status="rejected", reason=f"tile {out[0]} is excluded")
    if (link.pre, link.post) in by_hand.forbidden:
        return replace(link, status="rejected", reason="forbidden")
    if link.status == "low-confidence" and link.confidence < UNLIKELY:
        # Alignment has refused it, and says why.
        return link
    if link.status in ("ok", "rejected", "low-confidence"):
        # What an earlier placement decided about a link is decided anew.
        if link.confidence < min_confidence:
            reason = f"confidence {link.confidence:.3g} is below {min_confidence:g}"
            reason += f": {link.reason}" if link.reason and link.status == "ok" else ""
            return replace(link, status="low-confidence", reason=reason)
        return replace(link, status="ok", reason="")
    return link


def _by_hand(hand: HandLink, measured: Link | None) -> Link:
    """Return a link made by hand, in the direction of the measured one that it replaces."""
    pre, post, displacement = hand.pre, hand.post, hand.displacement
    if measured is not None and measured.pre != pre:
        pre, post = post, pre
        displacement = (-displacement[0], -displacement[1], -displacement[2])
    reason = "by hand" if measured is None else "by hand, instead of the measured displacement"
    axis = hand.axis if measured is None else measured.axis
    return Link(
        pre, post, axis, displacement, (0.0,) * 3, 1.0, "manual", (0.0,) * 3, 1.0, "manual", reason
    )


def _problem(
    tiles: Sequence[str], nominal: Any, index: Any, used: Sequence[Link], by_hand: Corrections,
    ndim: int,
) -> Problem:  # fmt: skip
    number = {name: i for i, name in enumerate(tiles)}
    n = len(tiles)
    shift = np.array([link.shift for link in used], float).reshape(-1, 3)[:, :ndim]
    error = np.array([link.error for link in used], float).reshape(-1, 3)[:, :ndim]
    sure = np.array([link.status == "manual" for link in used], bool)
    error = np.where(np.isfinite(error) & (error > 0), error, _MOST_ERROR)
    error = np.clip(error, _LEAST_ERROR, _MOST_ERROR)
    error[sure] = _LEAST_ERROR
    links = Links(
        n,
        np.array([number[link.pre] for link in used], np.int64),
        np.array([number[link.post] for link in used], np.int64),
        shift,
        error,
        sure,
        np.array([link.axis for link in used], np.int64),
        index[[number[link.pre] for link in used]].reshape(-1, 3),
    )
    pinned, pins = np.zeros(n, bool), np.zeros((n, ndim))
    for tile, corner in by_hand.pins.items():
        i = number[tile]
        pinned[i] = True
        pins[i] = (np.array(corner) - nominal[i])[:ndim]
    return Problem(links, index, pinned, pins)


def _positions(
    tiles: Sequence[str], nominal: Any, names: Tiles, problem: Problem, solution: Solution,
    by_hand: Corrections,
) -> tuple[Position, ...]:  # fmt: skip
    """Put positions into sheet order; components are numbered by their first tile."""
    n_links = np.bincount(
        np.concatenate(problem.links.some(solution.good)), minlength=len(names.names)
    )
    active = {name: i for i, name in enumerate(names.names)}
    components: dict[tuple[str, int], int] = {}
    found = []
    for row, name in enumerate(tiles):
        i = active.get(name)
        key = (name, -1) if i is None else ("", int(solution.component[i]))
        component = components.setdefault(key, len(components))
        if i is None:
            exact = tuple(map(float, nominal[row]))
            found.append(Position(name, tuple(nominal[row].tolist()), exact, component,
                                  "excluded", 0))  # fmt: skip
            continue
        x = np.pad(solution.x[i], (0, 3 - solution.x.shape[1]))
        sigma = np.pad(solution.sigma[i], (0, 3 - solution.x.shape[1]))
        status = "pinned" if name in by_hand.pins else "placed" if solution.placed[i] else "stage"
        corner = nominal[row] + round_half_even(x)
        found.append(
            Position(
                name, tuple(corner.tolist()), tuple((nominal[row] + x).tolist()), component, status,
                int(n_links[i]), tuple(sigma.tolist()) if np.isfinite(sigma).all() else None,
            )
        )  # fmt: skip
    return tuple(found)


def _with_residual(link: Link, fit: Mapping[str, Sequence[float]]) -> Link:
    difference = np.subtract(fit[link.post], fit[link.pre])
    return replace(link, residual=tuple((np.array(link.displacement) - difference).tolist()))


def place_given(
    tiles: Sequence[str],
    nominal: Sequence[Point],
    given: Mapping[str, Any],
    corrections: Corrections,
) -> Placement:
    """Take positions from an earlier registration; nothing is measured.

    Parameters
    ----------
    tiles : sequence of str
        Names, in sheet order.
    nominal : sequence of tuple of int
        Nominal corners, where excluded tiles are listed.
    given : mapping
        By tile, ``corner`` (voxels, rounded half to even here), and ``fit`` and ``sigma`` or None.
    corrections : Corrections
        Pinned and excluded tiles.
    """
    components: dict[str, int] = {}
    positions = []
    for name, stage in zip(tiles, nominal, strict=True):
        out = name in corrections.excluded
        entry: Mapping[str, Any] = (
            {"corner": stage, "fit": None, "sigma": None} if out else dict(given[name])
        )
        status = "excluded" if out else "given"
        if name in corrections.pins:
            entry, status = {"corner": corrections.pins[name], "fit": None, "sigma": None}, "pinned"
        corner = round_half_even(np.array(entry["corner"], float))
        positions.append(
            Position(
                name,
                tuple(corner.tolist()),
                tuple(map(float, entry["fit"] or entry["corner"])),
                components.setdefault(name if out else "", len(components)),
                status,
                0,
                tuple(entry["sigma"]) if entry["sigma"] else None,
            )
        )
    return Placement(tuple(positions), (), {"method": "given"})


def place_dataset(card: Mapping[str, Any], tables: Path) -> Placement:
    """Place the tiles that the place job's card names, from its tables in the folder ``tables``."""
    names = [tile["tile"] for tile in card["tiles"]]
    nominal = [tuple(tile["nominal"]) for tile in card["tiles"]]
    corrections = Corrections.from_json(card["corrections"])
    if card["given"] is not None:
        return place_given(names, nominal, card["given"], corrections)
    if card["preset"] is not None:
        links = links_from_json(card["preset"])
    else:
        links = [link for name in card["tables"] for link in _measured(tables / name)]
    return place(
        names,
        nominal,
        links,
        card["min_confidence"],
        index=[tuple(tile["index"]) for tile in card["tiles"]],
        ndim=card["ndim"],
        method=card["method"],
        corrections=corrections,
    )


def _measured(table: Path) -> list[Link]:
    try:
        return read_measured(awaited(table))
    except InputError as error:
        raise InputError(f"{error}. The table is damaged; delete it and run again") from error


def write_placement(
    placement: Placement, card: Mapping[str, Any], record: Path, tiles: Path
) -> None:
    """Write all tables of a placement, and at last the record that says so.

    They are pairs.tsv, positions.tsv, stage.json (the report) and layout.json.

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
        folder / "stage.json": canonical_json(placement.report),
        folder / "layout.json": layout_record(placement, card, folder, tiles).as_text(),
    }
    for path, text in texts.items():
        write_text(path, text)
    write_record(
        record,
        texts,
        positions={p.tile: list(p.corner) for p in placement.positions},
        remarks=list(placement.remarks),
    )


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
            part=Part.from_json(tile),
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
        if link.status in ("ok", "manual")
    )
    return LayoutRecord(sources, alignments)


def memory_needed(card: Mapping[str, Any]) -> int:
    """Return the most bytes that placing takes: a bound by the number of tiles, from measurements.

    Most is the text of the tables, their links, and what the solver adds to its matrix.
    """
    return 2**25 + TILE_BYTES * len(card["tiles"])
