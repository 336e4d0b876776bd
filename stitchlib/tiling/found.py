"""What was found: images with what is known of their tile, and the grid that they lie on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stitchlib.core.boxes import AXES, Point
from stitchlib.errors import InputError
from stitchlib.io.images import Reader, as_stack, open_image, read_header
from stitchlib.io.parts import WHOLE, Part

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Found:
    """An image: one channel of one tile."""

    path: Path
    """The file, or the pattern of a stack's planes."""
    channel: str = "c0"
    dataset: str = ""
    """Sample or well; '' = the only one."""
    index: Mapping[int, int] = field(default_factory=dict, hash=False)
    """Grid index by axis, as far as known."""
    number: int | None = None
    """Running number of the tile, where its name tells only that."""
    corner: Triple | None = None
    """Lower corner along x, y, z, voxels, where known."""
    part: Part = WHOLE
    """Which series, channel, … of the file."""

    def read(self) -> Reader:
        """Open it as a stack; of an RGB image, the luminance."""
        header = read_header(self.path, self.part)
        part = replace(self.part, luminance=True) if header[2] else self.part
        return as_stack(open_image(self.path, part))

    @property
    def place(self) -> Point:
        """Grid index along x, y, z; 0 where there is none."""
        return tuple(self.index.get(d, 0) for d in range(3))

    @property
    def tile(self) -> str:
        """Name of the tile."""
        known = [d for d in range(3) if d < 2 or d in self.index]
        return "_".join(f"{AXES[d]}{self.index.get(d, 0)}" for d in known).replace("-", "m")

    def moved(self, index: Point, corner: Triple | None) -> Found:
        """Return it at another place; axes without an index stay without."""
        known = {d: i for d, i in enumerate(index) if d < 2 or d in self.index}
        return replace(self, index=known, corner=corner)


def channel_name(before: str, text: str) -> str:
    """Return the name of a channel from its digits or word, and what stands before them."""
    if not text.isdigit():
        return re.sub(r"[^A-Za-z0-9._-]", "-", text)
    letters = re.search(r"[A-Za-z]*$", before)
    return f"{(letters and letters.group().lower()) or 'c'}{int(text)}"


def steps(values: Sequence[int]) -> dict[int, int]:
    """Return the grid index of numbers in names: they count on, or go in equal larger steps."""
    distinct = sorted(set(values))
    step = int(np.gcd.reduce(np.diff(distinct))) if len(distinct) > 1 else 1
    if step < 2:
        return {value: value for value in distinct}
    return {value: (value - distinct[0]) // step for value in distinct}


def numbered(found: Sequence[Found], columns: int, rows: int, order: str) -> list[Found]:
    """Put tiles with running numbers on a grid.

    Parameters
    ----------
    found : sequence of Found
        With numbers.
    columns, rows : int
        The grid.
    order : str
        'rows', 'columns', or with '-snake' where every second one runs back.

    Raises
    ------
    InputError
        Where a number is beyond the grid.
    """
    least = min(f.number or 0 for f in found)
    result = []
    for f in found:
        n = (f.number or 0) - least
        if n >= columns * rows:
            raise InputError(
                f"--grid {columns}x{rows} has {columns * rows} tiles, but {f.path.name} is number "
                f"{n + 1}"
            )
        slow, fast = divmod(n, columns if order.startswith("rows") else rows)
        if order.endswith("snake") and slow % 2:
            fast = (columns if order.startswith("rows") else rows) - 1 - fast
        x, y = (fast, slow) if order.startswith("rows") else (slow, fast)
        result.append(replace(f, index={**f.index, 0: x, 1: y}))
    return result


def gridded(found: Sequence[Found], extent: Point) -> list[Found]:
    """Give tiles with positions their grid indices, each dataset for itself.

    Parameters
    ----------
    found : sequence of Found
        With corners.
    extent : tuple of int
        Of a tile along x, y, z, voxels.

    Raises
    ------
    InputError
        Where two tiles of a channel come to one place: they lie on no grid.
    """
    result = list(found)
    for dataset in {f.dataset for f in found}:
        members = [i for i, f in enumerate(found) if f.dataset == dataset]
        corners = np.array([found[i].corner for i in members], float)
        indices = [_along(corners[:, d], extent[d]) for d in range(3)]
        deep = max(indices[2]) > 0
        for k, i in enumerate(members):
            index = {d: indices[d][k] for d in range(3 if deep else 2)}
            result[i] = replace(found[i], index=index)
    seen: dict[Any, Found] = {}
    for f in result:
        other = seen.setdefault((f.dataset, f.channel, f.place), f)
        if other is not f:
            raise InputError(
                f"{other.path.name} at {other.corner} and {f.path.name} at {f.corner} (x, y, z, "
                "voxels) come to one place of the grid; is the voxel size right? (--voxel-size)"
            )
    # Filters may shift the focus a little; all channels of a tile have one position.
    corner = {(f.dataset, f.place): f.corner for f in reversed(result)}
    return [replace(f, corner=corner[f.dataset, f.place]) for f in result]


def _along(values: Any, extent: int) -> list[int]:
    """Return a number for each position along an axis, one for those near each other."""
    order = np.argsort(values, kind="stable")
    steps_ = np.diff(values[order])
    apart = steps_ > max(1, extent / 4)
    usual = float(np.median(steps_[apart])) if apart.any() else 1.0
    index = np.zeros(len(values), int)
    count = np.where(apart, np.maximum(1, np.rint(steps_ / usual)), 0).astype(int)
    index[order[1:]] = np.cumsum(count)
    return [int(i) for i in index]
