"""Grids of tiles: the loose forms in which they are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stitchlib.core.boxes import Point
from stitchlib.core.shifts import whole_numbers
from stitchlib.errors import InputError


def place_of(tile_position: Any) -> Point:
    """Return a tile position as a tuple of int."""
    return whole_numbers(tile_position, "tile_position")


def check_grid(places: Sequence[Point], tile_shape: Any) -> None:
    """Check that the tiles' places are places on one grid."""
    if len({len(place) for place in places}) > 1:
        raise InputError("the tile positions have different numbers of axes")
    if len(set(places)) < len(places):
        twice = next(place for i, place in enumerate(places) if place in places[:i])
        raise InputError(f"two tiles are at tile position {twice}")
    if tile_shape is None or not places:
        return
    wanted = whole_numbers(tile_shape, "tile_shape")
    for axis, n in enumerate(wanted[: len(places[0])]):
        along = [place[axis] for place in places]
        if max(along) - min(along) >= n:
            raise InputError(
                f"tile_shape = {wanted}: but the tiles have indices {min(along)} to {max(along)} "
                f"along axis {axis}"
            )
    if len(wanted) != len(places[0]):
        raise InputError(f"tile_shape = {wanted}: but the grid has {len(places[0])} axes")


def on_grid(sources: Any, tile_shape: Any, tile_positions: Any) -> list[tuple[Any, Point]]:
    """Return every tile with its place on the grid."""
    found = list(_leaves(sources, ()))
    if tile_positions is not None:
        # An array of places has one row per tile.
        places = [whole_numbers(place, "tile_positions") for place in tile_positions]
        tiles = [tile for tile, _ in found if tile is not None]
        if len(places) != len(tiles):
            raise InputError(f"{len(places)} tile positions for {len(tiles)} sources")
        return list(zip(tiles, places, strict=True))
    if len({len(place) for _, place in found}) > 1:
        raise InputError("the lists of sources are not nested alike")
    flat = bool(found) and len(found[0][1]) == 1
    if flat and tile_shape is not None:
        shape = whole_numbers(tile_shape, "tile_shape")
        if len(found) != int(np.prod(shape)):
            raise InputError(f"{len(found)} sources (None = no tile) for a grid of {shape}")
        found = [
            (tile, tuple(map(int, np.unravel_index(i, shape)))) for i, (tile, _) in enumerate(found)
        ]
    elif flat:
        own = [getattr(tile, "tile_position", None) for tile, _ in found]
        if None not in own:
            found = [(tile, place_of(place)) for (tile, _), place in zip(found, own, strict=True)]
    return [(tile, place) for tile, place in found if tile is not None]


def _leaves(value: Any, place: Point) -> list[tuple[Any, Point]]:
    nested = isinstance(value, (list, tuple)) or (
        isinstance(value, np.ndarray) and value.dtype == object
    )
    if not nested or isinstance(value, (str, Path)):
        return [(value, place)]
    return [leaf for i, part in enumerate(value) for leaf in _leaves(part, (*place, i))]


def flat_points(positions: Any) -> list[Any]:
    """Return the points of a list that may be nested as the grid is; None = no tile."""
    if positions is None:
        return []
    if isinstance(positions, np.ndarray) and positions.dtype != object:
        return list(positions.reshape(-1, positions.shape[-1]))
    if all(isinstance(v, (int, np.integer)) for v in positions):
        return [positions]
    return [point for part in positions for point in flat_points(part)]
