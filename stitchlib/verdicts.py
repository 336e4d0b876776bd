"""What was decided about links and tiles, in words and plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stitchlib.core.graph import adjacency, way_around
from stitchlib.core.links import structure
from stitchlib.core.placement import Problem, Solution
from stitchlib.core.robust import closure
from stitchlib.pairs import Link
from stitchlib.positions import Position

WORST = 20
"""So many loops and links are listed, the worst first."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tiles of a problem."""

    names: tuple[str, ...]
    """In the problem's order."""
    axes: str
    """Names of the image axes."""

    def voxels(self, values: Any) -> str:
        """Say a vector: ``x +12.0, y −3.1``."""
        pairs = zip(self.axes, np.asarray(values).tolist(), strict=True)
        return ", ".join(f"{axis} {value:+.1f}" for axis, value in pairs)

    def by_axis(self, values: Any) -> dict[str, float | None]:
        """Return a vector as plain values by axis name; None where unknown."""
        pairs = zip(self.axes, np.asarray(values, float).tolist(), strict=True)
        return {axis: round(v, 3) if np.isfinite(v) else None for axis, v in pairs}


def reasons(tiles: Tiles, problem: Problem, solution: Solution) -> dict[int, str]:
    """Say why links were rejected: by how many voxels each is off, and against what."""
    links = problem.links
    around = adjacency(links.pre, links.post, np.flatnonzero(solution.good))
    off = links.residual(solution.x)
    rejected = np.flatnonzero(~solution.good).tolist()
    return {k: _reason(tiles, problem, solution, off[k], around, k) for k in rejected}


def _reason(
    tiles: Tiles,
    problem: Problem,
    solution: Solution,
    residual: Any,
    around: Mapping[int, list[tuple[int, int]]],
    k: int,
) -> str:
    links = problem.links
    pre, post = int(links.pre[k]), int(links.post[k])
    if solution.implausible[k]:
        deviation = solution.stage.deviation(*links.steps)[k]
        return (
            f"{np.linalg.norm(deviation):.1f} voxels ({tiles.voxels(deviation)}) from what the "
            f"stage does elsewhere (scatter {tiles.voxels(solution.stage.width)}), and no other "
            "link supports it"
        )
    off = f"off by {np.linalg.norm(residual):.1f} voxels ({tiles.voxels(residual)})"
    if not solution.placed[pre] or not solution.placed[post]:
        return f"{off} against the stage's model, and contradicted by the tile's other links"
    way = way_around(around, pre, post)
    reason = f"{off} against {' – '.join(tiles.names[i] for i in way) or 'the other links'}"
    if any(k == other for other, _ in solution.doubts.undecided):
        reason += "; nothing tells which is wrong"
    return reason


def describe(
    tiles: Tiles,
    problem: Problem,
    solution: Solution,
    links: Sequence[Link],
    positions: Sequence[Position],
) -> dict[str, Any]:
    """Return the report of a placement: plain values, voxels."""
    stage, prediction = solution.stage, solution.prediction
    used = problem.links
    single = structure(used, solution.good).single & ~used.sure
    checked = np.zeros(used.n, bool)
    for end in used.some(solution.good & ~single):
        checked[end] = True
    stepped = (solution.doubts.step != 0).any(axis=1)
    return {
        "method": "links",
        "stage": {
            "shift_per_grid_axis": {
                axis: tiles.by_axis(stage.typical[d])
                for d, axis in enumerate("xyz")
                if (used.axis == d).any()
            },
            "change_of_shift_per_tile": {
                axis: {i: tiles.by_axis(stage.gradient[d, e]) for e, i in enumerate("xyz")}
                for d, axis in enumerate("xyz")
                if stage.gradient[d].any()
            },
            "odd_steps_more_even_less": {
                axis: tiles.by_axis(stage.alternation[d])
                for d, axis in enumerate("xyz")
                if stage.alternation[d].any()
            },
            "scatter_of_links": tiles.by_axis(stage.scatter),
            "links": stage.links,
            "terms": dict(zip(tiles.axes, prediction.terms, strict=True)),
            "scatter_of_tiles": tiles.by_axis(prediction.scatter),
        },
        "residual_over_error": tiles.by_axis(solution.scale),
        "links": {
            status: sum(link.status == status for link in links)
            for status in dict.fromkeys(link.status for link in links)
        },
        "worst_loops": _worst_loops(tiles, problem, solution),
        "stage_tiles": [p.tile for p in positions if p.status == "stage"],
        "islands": [
            {
                "first": tiles.names[mine[0]],
                "tiles": len(mine),
                "pinned": bool(problem.pinned[mine].any()),
                "stage_would_move": tiles.by_axis(move),
            }
            for mine, move in solution.islands().values()
        ],
        "components": len({p.component for p in positions if p.status != "excluded"}),
        "undecided": [
            [f"{tiles.names[used.pre[k]]} – {tiles.names[used.post[k]]}" for k in pair]
            for pair in solution.doubts.undecided
        ],
        "off_the_stage": {
            tiles.names[i]: tiles.by_axis(solution.doubts.step[i]) for i in np.flatnonzero(stepped)
        },
        "hang_on_one_link": [
            tiles.names[i] for i in np.flatnonzero(solution.placed & ~checked & ~problem.pinned)
            if used.n > 1
        ],
    }  # fmt: skip


def _worst_loops(tiles: Tiles, problem: Problem, solution: Solution) -> list[dict[str, Any]]:
    """Smallest loops of believed links that close worst."""
    links = problem.links
    loops = solution.loops[solution.good[solution.loops].all(axis=1)]
    error = closure(links.displacement, loops)
    size = np.linalg.norm(error, axis=1)
    found = []
    for i in np.lexsort((np.arange(len(size)), -np.round(size, 9)))[:WORST].tolist():
        a, b, _, d = loops[i]
        corners = (links.pre[a], links.post[a], links.post[b], links.pre[d])
        found.append({"tiles": [tiles.names[c] for c in corners], "error": tiles.by_axis(error[i])})
    return found


def remarks(report: Mapping[str, Any], positions: Sequence[Position]) -> list[str]:
    """Return what a person should know, a line each."""
    lines = []
    stage = report["stage_tiles"]
    if stage and len(positions) > 1:
        lines.append(
            f"{_tiles(stage)} without any trusted link, placed by the stage's model: "
            f"{', '.join(stage)}"
        )
    rejected = report["links"].get("rejected", 0)
    if rejected:
        lines.append(f"{rejected} {'link' if rejected == 1 else 'links'} rejected; see pairs.tsv")
    for island in report["islands"]:
        if not island["pinned"]:
            move = ", ".join(f"{a} {v:+.1f}" for a, v in island["stage_would_move"].items())
            lines.append(
                f"no trusted link joins {island['first']} and {island['tiles'] - 1} further tiles "
                f"to the others; they stand with {island['first']} at its nominal position, the "
                f"stage's model would move them by {move} voxels"
            )
    if report["undecided"]:
        pairs = dict.fromkeys(" against ".join(pair) for pair in report["undecided"])
        lines.append(f"links that contradict each other, and nothing decides: {'; '.join(pairs)}")
    if report["off_the_stage"]:
        names = list(report["off_the_stage"])
        lines.append(
            f"{_tiles(names)} consistently off what the stage does elsewhere; are their links "
            f"right? {', '.join(names)}"
        )
    return lines


def _tiles(names: Sequence[str]) -> str:
    return f"{len(names)} {'tile' if len(names) == 1 else 'tiles'}"
