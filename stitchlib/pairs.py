"""Pairs of neighbouring tiles: what is searched, and what was found (pairs.tsv)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from stitchlib.core.boxes import AXES, Point
from stitchlib.core.shifts import SearchRange
from stitchlib.errors import InputError
from stitchlib.io.files import read_table, table_text, write_text

MEASURED_COLUMNS = (
    "pre", "post", "axis",
    "displacement_x", "displacement_y", "displacement_z",
    "shift_x", "shift_y", "shift_z",
    "quality", "measure", "error_x", "error_y", "error_z", "confidence", "status", "reason",
)  # fmt: skip
COLUMNS = (*MEASURED_COLUMNS[:-1], "residual_x", "residual_y", "residual_z", "reason")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two neighbours on the grid and the displacements that are searched."""

    pre: str
    """The tile with the lower index."""
    post: str
    """The tile with the higher index."""
    axis: int
    """Grid axis along which they are neighbours: 0, 1, 2 = x, y, z."""
    nominal: Point
    """Nominal displacement post − pre, voxels."""
    search: SearchRange
    """Displacements that are searched, inclusive."""
    min_overlap: int
    """Least overlap along the axis, voxels."""

    def as_json(self) -> dict[str, Any]:
        """Return the plain values that go into a card."""
        return {
            "pre": self.pre,
            "post": self.post,
            "axis": AXES[self.axis],
            "nominal": list(self.nominal),
            "lower": list(self.search.lower),
            "upper": list(self.search.upper),
            "min_overlap": self.min_overlap,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the pair that `as_json` described."""
        return cls(
            value["pre"],
            value["post"],
            AXES.index(value["axis"]),
            tuple(value["nominal"]),
            SearchRange(tuple(value["lower"]), tuple(value["upper"])),
            value["min_overlap"],
        )


def reach(pre: Sequence[int], post: Sequence[int], axis: int, lower: Sequence[int]) -> list[int]:
    """Return the extent of the part of a post tile that the pre tile reaches, voxels.

    ::

        pre    |--------------------|
        post             |--------------------|     least displacement, ``lower``
                         |  reach   |
    """
    found = list(post)
    found[axis] = max(1, pre[axis] - lower[axis])
    return found


@dataclass(frozen=True, slots=True)
class Link:
    """What was measured of a pair, and what `place` decided about it."""

    pre: str
    post: str
    axis: int
    """0, 1, 2 = x, y, z."""
    displacement: tuple[float, ...]
    """post − pre along x, y, z, voxels."""
    shift: tuple[float, ...]
    """Displacement − nominal, voxels."""
    quality: float
    """NCC, or −MSE; −inf = no signal."""
    measure: str
    """'ncc', 'ssd', or 'manual' for a link made by hand."""
    error: tuple[float, ...]
    """Standard error along x, y, z, voxels."""
    confidence: float
    """Probability that the displacement is within 1 voxel."""
    status: str
    """ok, background, no-overlap, low-confidence, rejected or manual."""
    reason: str = ""
    """Why it is not ok."""
    residual: tuple[float, ...] | None = None
    """Displacement − (fit of post − fit of pre), voxels; None before placement."""

    def as_row(self) -> dict[str, Any]:
        """Return the fields of a table's row."""
        row: dict[str, Any] = {
            "pre": self.pre,
            "post": self.post,
            "axis": AXES[self.axis],
            "quality": _digits(self.quality, 8),
            "measure": self.measure,
            "confidence": _digits(self.confidence, 6),
            "status": self.status,
            "reason": self.reason,
        }
        for d, axis in enumerate(AXES):
            row[f"displacement_{axis}"] = _digits(self.displacement[d], 8)
            row[f"shift_{axis}"] = _digits(self.shift[d], 8)
            row[f"error_{axis}"] = _digits(self.error[d], 3)
            row[f"residual_{axis}"] = (
                None if self.residual is None else f"{round(self.residual[d], 3) + 0.0:.3f}"
            )
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, str], table: Path) -> Self:
        """Return the link of a table's row."""
        try:
            displacement, shift, error = (
                tuple(float(row[f"{name}_{axis}"]) for axis in AXES)
                for name in ("displacement", "shift", "error")
            )
            return cls(
                row["pre"],
                row["post"],
                AXES.index(row["axis"]),
                displacement,
                shift,
                float(row["quality"]),
                row["measure"],
                error,
                float(row["confidence"]),
                row["status"],
                row["reason"],
            )
        except (KeyError, ValueError) as problem:
            where = f"{table}, line {row['#']}"
            raise InputError(f"{where}: not a row of pairs: {problem!r}") from None


def _digits(value: float, digits: int) -> str:
    return str(value) if math.isinf(value) else f"{value:.{digits}g}"


def write_measured(path: Path, links: Iterable[Link]) -> None:
    """Write the table of one align job."""
    write_text(path, table_text(MEASURED_COLUMNS, (link.as_row() for link in links)))


def pairs_text(links: Iterable[Link]) -> str:
    """Return the text of pairs.tsv."""
    return table_text(COLUMNS, (link.as_row() for link in links))


def read_measured(path: Path) -> list[Link]:
    """Read the table of one align job."""
    return [Link.from_row(row, path) for row in read_table(path)[1]]
