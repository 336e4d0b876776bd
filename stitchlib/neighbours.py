"""Which pairs of tiles are searched, and where: from the grid and the configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stitchlib.config import Config
from stitchlib.core.boxes import AXES
from stitchlib.core.shifts import SearchRange
from stitchlib.pairs import Pair
from stitchlib.tiles import Dataset, Tile, max_shift, overlap_voxels


def neighbours(dataset: Dataset) -> list[tuple[Tile, Tile, int]]:
    """Return all immediate neighbours on the grid as (pre, post, axis), in sheet order."""
    by_index = {tile.index: tile for tile in dataset.tiles}
    found = []
    for tile in dataset.tiles:
        for axis in range(3):
            index = list(tile.index)
            index[axis] += 1
            post = by_index.get((index[0], index[1], index[2]))
            if post is not None:
                found.append((tile, post, axis))
    return found


def plan_pairs(dataset: Dataset, config: Config) -> list[Pair]:
    """Return what is searched for every pair of neighbours, in sheet order."""
    if len(dataset.tiles) < 2:
        return []
    # That it is needed where there are no positions, the sheet's reader has checked.
    reach = list(max_shift(config, has_positions=True))
    if dataset.ndim == 2:
        reach[2] = 0
    return [_plan_pair(*found, config, reach) for found in neighbours(dataset)]


def _plan_pair(pre: Tile, post: Tile, axis: int, config: Config, reach: Sequence[int]) -> Pair:
    nominal = tuple(b - a for a, b in zip(pre.nominal, post.nominal, strict=True))
    lower = [n - m for n, m in zip(nominal, reach, strict=True)]
    upper = [n + m for n, m in zip(nominal, reach, strict=True)]
    overlap = pre.shape[axis] - nominal[axis]
    configured = config.align.overlap.get(AXES[axis])
    if isinstance(configured, tuple):
        least, most = overlap_voxels(configured, pre.shape[axis])
        lower[axis] = pre.shape[axis] - math.ceil(most)
        upper[axis] = pre.shape[axis] - math.floor(least)
    min_overlap = config.align.min_overlap or max(1, overlap // 4)
    return Pair(
        pre.name,
        post.name,
        axis,
        nominal,
        SearchRange(tuple(lower), tuple(upper)),
        min_overlap,
    )
