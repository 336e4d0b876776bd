"""What a placement decided, for people: the text of ``stitchlib positions``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stitchlib.config import Config
from stitchlib.core.boxes import AXES
from stitchlib.errors import InputError
from stitchlib.io.files import read_json, read_table

SHOWN = 15
"""Lines of every list; the tables have the rest."""

Row = Mapping[str, str]


def positions_report(config: Config) -> list[str]:
    """Return lines on the placement of every dataset whose results stand there.

    Parameters
    ----------
    config : Config
        The run's configuration; its results folder is looked at, nothing is computed.

    Raises
    ------
    InputError
        Where no dataset has been placed.
    """
    folders = sorted(path.parent for path in config.results.glob("*/positions.tsv"))
    if not folders:
        raise InputError(f"{config.results}: no dataset is placed there yet; run snakemake first")
    return [line for folder in folders for line in dataset_report(folder)]


def dataset_report(folder: Path) -> list[str]:
    """Return lines on the placement of one dataset: worst first, and what to do.

    Parameters
    ----------
    folder : Path
        The dataset's results: positions.tsv, pairs.tsv and stage.json.
    """
    positions = read_table(folder / "positions.tsv")[1]
    pairs = read_table(folder / "pairs.tsv")[1]
    report = read_json(folder / "stage.json")
    lines = [f"{folder.name}: {_counts(positions)}; links: {_counts(pairs) or 'none'}"]
    lines += _components(positions, report)
    lines += _residuals(pairs)
    for status in ("rejected", "manual", "low-confidence", "no-overlap", "background"):
        lines += _decided(pairs, status)
    if report.get("method") == "links":
        lines += [*_stage(report), *_doubts(report, positions)]
    lines += _advice(positions, pairs, report)
    return lines


def _counts(rows: Sequence[Row]) -> str:
    found: dict[str, int] = {}
    for row in rows:
        found[row["status"]] = found.get(row["status"], 0) + 1
    return ", ".join(f"{n} {status}" for status, n in found.items())


def _components(positions: Sequence[Row], report: Mapping[str, Any]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for row in positions:
        if row["status"] != "excluded":
            groups.setdefault(row["component"], []).append(row["tile"])
    if len(groups) > 1:
        yield f"  {len(groups)} separate components, which no accepted link joins:"
        for name, tiles in list(groups.items())[:SHOWN]:
            yield f"    {name}: {len(tiles)} tiles, the first {tiles[0]}"
    for island in report.get("islands", [])[:SHOWN]:
        at = "as pinned" if island["pinned"] else "with its first tile at nominal"
        yield (
            f"    the island of {island['first']} stands {at}; the stage's model would move it by "
            f"{_vector(island['stage_would_move'])} voxels, seen from the first component"
        )


def _size(row: Row) -> float:
    return float(np.linalg.norm([float(row[f"residual_{axis}"] or 0) for axis in AXES]))


def _residuals(pairs: Sequence[Row]) -> Iterator[str]:
    used = [row for row in pairs if row["status"] in ("ok", "manual")]
    used.sort(key=lambda row: (-_size(row), row["pre"], row["post"]))
    if used:
        yield "  worst residuals of accepted links (voxels; displacement − fit):"
    for row in used[:SHOWN]:
        by_axis = "  ".join(f"{axis} {float(row[f'residual_{axis}']):+.2f}" for axis in AXES)
        yield f"    {_size(row):6.2f}  {row['pre']} – {row['post']}  {by_axis}"


def _decided(pairs: Sequence[Row], status: str) -> Iterator[str]:
    rows = [row for row in pairs if row["status"] == status]
    rows.sort(key=lambda row: (-_size(row), row["pre"], row["post"]))
    if rows:
        yield f"  {status} links:"
    for row in rows[:SHOWN]:
        yield f"    {row['pre']} – {row['post']}: {row['reason'] or status}"
    if len(rows) > SHOWN:
        yield f"    … and {len(rows) - SHOWN} more in pairs.tsv"


def _vector(values: Mapping[str, float | None]) -> str:
    return ", ".join(f"{a} {v:+.2f}" for a, v in values.items() if v is not None)


def _stage(report: Mapping[str, Any]) -> Iterator[str]:
    stage = report["stage"]
    for axis, shift in stage["shift_per_grid_axis"].items():
        yield f"  the stage, per step along {axis}, from nominal: {_vector(shift)} voxels"
    scatter = _vector(stage["scatter_of_links"])
    if scatter:
        yield f"  scatter of the links about that: {scatter} voxels ({stage['links']} links)"
    for axis, terms in stage["terms"].items():
        if terms:
            yield f"  tiles lie off nominal along {axis} by {_vector(terms)}"
    if report["worst_loops"]:
        worst = report["worst_loops"][0]
        yield f"  worst loop: {' – '.join(worst['tiles'])} closes to {_vector(worst['error'])}"


def _doubts(report: Mapping[str, Any], positions: Sequence[Row]) -> Iterator[str]:
    if report["stage_tiles"]:
        yield f"  without any trusted link, placed by the stage: {_list(report['stage_tiles'])}"
    if report["hang_on_one_link"]:
        yield f"  held by single links that nothing checks: {_list(report['hang_on_one_link'])}"
    for contradicting, believed in report["undecided"][:SHOWN]:
        yield f"  nothing decides between {believed} (used) and {contradicting} (rejected)"
    if report["off_the_stage"]:
        names = list(report["off_the_stage"])
        yield f"  agree among themselves, but lie far from where the stage goes: {_list(names)}"
    unsure = [
        (max(float(row[f"sigma_{a}"] or 0) for a in AXES), row["tile"])
        for row in positions
        if row["status"] == "placed"
    ]
    unsure = sorted((u for u in unsure if u[0] > 1), key=lambda u: (-u[0], u[1]))
    if unsure:
        yield "  least sure tiles (sigma, voxels): " + _list([f"{t} {s:.1f}" for s, t in unsure])


def _list(names: Sequence[str]) -> str:
    more = f" … and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _advice(
    positions: Sequence[Row], pairs: Sequence[Row], report: Mapping[str, Any]
) -> Iterator[str]:
    if any(row["status"] == "stage" for row in positions):
        yield (
            "  to do: look whether the stage tiles hold anything; pin one in corrections.tsv "
            "(kind pin) where you know its place, or exclude it"
        )
    if any(row["status"] == "rejected" and row["reason"] != "forbidden" for row in pairs):
        yield (
            "  to do: where a rejected link is right after all, enter it in corrections.tsv "
            "(kind link), and forbid the wrong one (kind forbid)"
        )
    if report.get("undecided") or report.get("off_the_stage"):
        yield "  to do: look at the tiles in doubt in the volume; link, forbid or pin decides"
    if any(row["status"] == "low-confidence" for row in pairs):
        yield "  to do: place.min_confidence says which links are sure enough"
