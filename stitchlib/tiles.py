"""The tile sheet, and the datasets it describes: tiles on a grid with their image files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stitchlib.config import Config, Overlap
from stitchlib.core.boxes import AXES, Box, Point, touching
from stitchlib.errors import InputError, Problems
from stitchlib.sheets import Image, Row, load_sheet


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile with its place on the grid and its channels."""

    name: str
    index: tuple[int, int, int]
    """Grid index along x, y, z."""
    nominal: Point
    """Nominal lower corner (x, y, z) in voxels."""
    shape: Point
    """Extent (x, y, z) in voxels; z = 1 in 2-D."""
    images: Mapping[str, Image]
    """One image per channel that the tile has."""
    aligned: Image
    """What is aligned: the reference channel, or the luminance where that is RGB."""

    @property
    def box(self) -> Box:
        """The voxels it covers at its nominal position."""
        return Box.at(self.nominal, self.shape)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Tiles that are stitched together."""

    name: str
    tiles: tuple[Tile, ...]
    """In sheet order."""
    channels: tuple[str, ...]
    """In order of first appearance in the sheet."""
    reference: str
    """The channel that is aligned; where it is RGB, its name in the sheet."""
    dtype: str
    """NumPy name of the voxels' type."""
    ndim: int
    """2 or 3."""


def load_datasets(
    config: Config, headers: Path | None = None, problems: Problems | None = None
) -> tuple[Dataset, ...]:
    """Read the sheet and the headers of all its images, and check everything about them.

    Parameters
    ----------
    config : Config
        Names the sheet; gives overlaps for nominal positions.
    headers : Path, optional
        A JSON file that remembers shapes and types, so that only new or changed images are opened.
        It may be deleted at any time.
    problems : Problems, optional
        Gathers what is wrong; datasets with errors are left out then.

    Raises
    ------
    InputError
        For the first thing that is wrong with the sheet, a file, or their agreement.
    """
    groups: dict[str, list[Row]] = {}
    problems = problems or Problems()
    for row in load_sheet(config.tiles, config.dataset, headers, problems):
        groups.setdefault(row["dataset"], []).append(row)
    datasets = []
    for name, group in groups.items():
        with problems.each():
            datasets.append(_Builder(config.tiles, config, name, group, problems).dataset())
    return tuple(datasets)


@dataclass(frozen=True, slots=True)
class _Builder:
    """Puts the rows of one dataset together, refusing what does not agree."""

    sheet: Path
    config: Config
    name: str
    rows: list[Row]
    problems: Problems

    def dataset(self) -> Dataset:
        channels = tuple(dict.fromkeys(row.channel for row in self.rows))
        reference = self._reference(channels)
        tiles: dict[str, list[Row]] = {}
        for row in self.rows:
            tiles.setdefault(row["tile"], []).append(row)
        ndim, dtype = self._common_type()
        aligned = []
        for name, group in tiles.items():
            with self.problems.each():
                aligned.append(self._check_tile(name, group, reference))
        firsts = [group[0] for group in tiles.values()]
        self._check_indices(firsts)
        if ndim == 2:
            self._check_flat(firsts)
        self.problems.stop_if_any()
        shapes = [self._shape(row) for row in firsts]
        corners = self._corners(firsts, shapes)
        dataset = Dataset(
            self.name,
            tuple(
                Tile(
                    name,
                    _index(group[0]),
                    corner,
                    shape,
                    {row.channel: row.image for row in group},
                    image,
                )
                for (name, group), image, corner, shape in zip(
                    tiles.items(), aligned, corners, shapes, strict=True
                )
            ),
            channels,
            reference,
            dtype,
            ndim,
        )
        self._check_reach(dataset)
        return dataset

    def _where(self, row: Row) -> str:
        return f"{self.sheet}, line {row.line} ({row['path']})"

    def _shape(self, row: Row) -> Point:
        return row.shape + (1,) * (3 - len(row.shape))

    def _reference(self, channels: Sequence[str]) -> str:
        """Return the name, in the sheet or in the volume, of the channel that is aligned."""
        rgb: dict[str, Row] = {}
        for row in self.rows:
            other = rgb.setdefault(row["channel"], row)
            if other.is_colour != row.is_colour:
                raise InputError(
                    f"{self._where(row)}: channel {row['channel']!r} is "
                    f"{'RGB' if row.is_colour else 'one colour'} here, but not in line "
                    f"{other.line} ({other['path']}); give it another name, or select a colour"
                )
        reference = self.config.reference_channel or self.rows[0]["channel"]
        if reference not in rgb and reference not in channels:
            raise InputError(
                f"reference_channel = {reference!r}: dataset {self.name!r} of {self.sheet} has "
                f"only {', '.join(dict.fromkeys([*rgb, *channels]))}"
            )
        return reference

    def _common_type(self) -> tuple[int, str]:
        first = self.rows[0]
        shape, dtype = first.shape, first.dtype
        for row in self.rows:
            with self.problems.each():
                self._check_type(row, first)
        return len(shape), dtype

    def _check_type(self, row: Row, first: Row) -> None:
        if row.dtype != first.dtype:
            raise InputError(
                f"{self._where(row)}: voxels are {row.dtype}, but {first.dtype} in line "
                f"{first.line} ({first['path']}); all tiles of a dataset have one type"
            )
        if len(row.shape) != len(first.shape):
            raise InputError(
                f"{self._where(row)}: {len(row.shape)}-D, but line {first.line} "
                f"({first['path']}) is {len(first.shape)}-D"
            )

    def _check_tile(self, name: str, group: list[Row], reference: str) -> Image:
        """Return the image that is aligned of a tile whose channels agree."""
        first = group[0]
        aligned = _aligned(group, reference)
        if aligned is None:
            raise InputError(
                f"{self._where(first)}: tile {name!r} lacks the reference channel {reference!r}; "
                "a tile may lack any channel but that one"
            )
        for row in group[1:]:
            for column in ("tile_x", "tile_y", "tile_z", "x", "y", "z"):
                if row[column] != first[column]:
                    raise InputError(
                        f"{self._where(row)}: {column} = {row[column]}, but {first[column]} in "
                        f"line {first.line}; all channels of a tile have one position"
                    )
            if self._shape(row) != self._shape(first):
                raise InputError(
                    f"{self._where(row)}: shape (x, y, z) = {self._shape(row)}, but "
                    f"{self._shape(first)} in line {first.line}; all channels of a tile have one "
                    "shape"
                )
        return aligned

    def _check_indices(self, firsts: list[Row]) -> None:
        seen: dict[tuple[int, int, int], Row] = {}
        for row in firsts:
            other = seen.setdefault(_index(row), row)
            with self.problems.each():
                if other is not row:
                    raise InputError(
                        f"{self._where(row)}: tile {row['tile']!r} has the grid index (x, y, z) = "
                        f"{_index(row)} of tile {other['tile']!r} in line {other.line}"
                    )

    def _check_flat(self, firsts: list[Row]) -> None:
        """Refuse planes that lie at different heights: they would become a volume."""
        for row in firsts:
            for column in ("z", "tile_z"):
                value = row[column] or 0
                if value != (0 if column == "z" else firsts[0][column] or 0):
                    raise InputError(
                        f"{self._where(row)}: {column} = {value}, but the images are 2-D, and 2-D "
                        "tiles have no z; leave the column out, or make each stack one file"
                    )

    def _corners(self, firsts: list[Row], shapes: Sequence[Point]) -> list[Point]:
        columns = [self._along(d, firsts, shapes) for d in range(3)]
        return [
            tuple(int(v) for v in corner)
            for corner in np.rint(np.array(columns)).T.astype(np.int64).tolist()
        ]

    def _along(self, d: int, firsts: list[Row], shapes: Sequence[Point]) -> list[float]:
        """Nominal corners along an axis, not rounded yet."""
        axis = AXES[d]
        given = [row[axis] is not None for row in firsts]
        if any(given) and not all(given):
            lacking = firsts[given.index(False)]
            raise InputError(f"{self._where(lacking)}: {axis} is empty, but other tiles have it")
        if all(given):
            return [row[axis] for row in firsts]
        if axis in "xy" and any(row[other] is not None for row in firsts for other in "xy"):
            raise InputError(f"{self.sheet}: has x or y without the other; give both or neither")
        indices = [_index(row)[d] for row in firsts]
        if len(set(indices)) == 1:
            return [0.0] * len(indices)
        overlap = self.config.align.overlap.get(axis)
        if overlap is None:
            raise InputError(
                f"align.overlap.{axis} is missing; it is needed because {self.sheet} has several "
                f"tiles along {axis} and no column {axis!r} with their positions"
            )
        extent = max(shape[d] for shape in shapes)
        step = extent - sum(overlap_voxels(overlap, extent)) / 2
        if step <= 0:
            raise InputError(
                f"align.overlap.{axis} = {overlap!r}: not less than the tiles, whose extent along "
                f"{axis} is {extent} voxels"
            )
        return [(index - min(indices)) * step for index in indices]

    def _check_reach(self, dataset: Dataset) -> None:
        """Refuse a tile that no other tile can overlap."""
        if len(dataset.tiles) < 2:
            return
        reach = self.max_shift()
        grown = [
            Box(tile.box.shifted([-m for m in reach]).lower, tile.box.shifted(reach).upper)
            for tile in dataset.tiles
        ]
        for tile, others in zip(dataset.tiles, touching(grown), strict=True):
            with self.problems.each():
                if not others:
                    raise InputError(
                        f"{self.sheet}: tile {tile.name!r} of dataset {dataset.name!r} overlaps "
                        f"no other tile: it lies at (x, y, z) = {tile.nominal} with shape "
                        f"{tile.shape}, and max_shift is {reach}. Correct its position or grid "
                        "index, raise align.max_shift, or make it a dataset of its own"
                    )

    def max_shift(self) -> tuple[int, int, int]:
        """± voxels around nominal, from the configuration; required without positions."""
        return max_shift(self.config, any(row["x"] is not None for row in self.rows))


def max_shift(config: Config, has_positions: bool) -> tuple[int, int, int]:
    """Return ± voxels around nominal along x, y, z.

    Raises
    ------
    InputError
        Where it is not configured although the sheet gives no positions.
    """
    if config.align.max_shift is not None:
        return config.align.max_shift
    if not has_positions:
        raise InputError(
            "align.max_shift is missing; it is needed because the sheet has no columns x, y. "
            "Write how far, in voxels, tiles may lie from where the grid puts them"
        )
    return (20, 20, 8)


def overlap_voxels(overlap: Overlap, extent: int) -> tuple[float, float]:
    """Return the least and largest configured overlap in voxels (equal where it is one number)."""
    lower, upper = overlap if isinstance(overlap, tuple) else (overlap, overlap)
    scale = extent if isinstance(lower, float) else 1
    return lower * scale, upper * scale


def _index(row: Row) -> tuple[int, int, int]:
    return (row["tile_x"], row["tile_y"], row["tile_z"] or 0)


def _aligned(group: Sequence[Row], reference: str) -> Image | None:
    """Return what is aligned of a tile, None where it lacks the reference channel."""
    for row in group:
        if row.channel == reference:
            return row.image
    return next((row.aligned for row in group if row["channel"] == reference), None)
