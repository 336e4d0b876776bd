"""Where the tiles lie: positions.tsv."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stitchlib.core.boxes import AXES, Point
from stitchlib.io.files import table_text

COLUMNS = (
    "tile", "x", "y", "z", "x_fit", "y_fit", "z_fit", "sigma_x", "sigma_y", "sigma_z",
    "component", "status", "n_links",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Position:
    """The place of one tile."""

    tile: str
    corner: Point
    """Lower corner x, y, z in voxels, in the sheet's frame; what fusion uses."""
    fit: tuple[float, ...]
    """The solution before rounding, voxels."""
    component: int
    """Tiles that accepted links connect share it, and tiles without links have that of the tiles
    whose frame they follow; numbered by first tile in the sheet."""
    status: str
    """placed, stage, pinned, given or excluded."""
    n_links: int
    """Accepted links of the tile."""
    sigma: tuple[float, ...] | None = None
    """Standard deviation along x, y, z, voxels, relative to the first tile with links of its
    component; of a tile without links, that of the stage's model; None where unknown."""

    def as_row(self) -> dict[str, Any]:
        """Return the fields of the table's row."""
        row: dict[str, Any] = {
            "tile": self.tile,
            "component": self.component,
            "status": self.status,
            "n_links": self.n_links,
        }
        for d, axis in enumerate(AXES):
            row[axis] = self.corner[d]
            row[f"{axis}_fit"] = _digits(self.fit[d])
            row[f"sigma_{axis}"] = None if self.sigma is None else _digits(self.sigma[d])
        return row


def _digits(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # never -0.000


def positions_text(positions: Iterable[Position]) -> str:
    """Return the text of positions.tsv."""
    return table_text(COLUMNS, (position.as_row() for position in positions))
