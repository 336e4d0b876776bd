"""Which pairs of tiles are searched, where, and by which job: from grid and configuration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from stitchlib.config import Config
from stitchlib.core.boxes import AXES, Point
from stitchlib.core.shifts import SearchRange
from stitchlib.pairs import Pair, reach
from stitchlib.tiles import Dataset, Tile, max_shift, overlap_voxels

BLOCK_VOXELS = 10**8
"""Overlaps of so many voxels are work enough for one align job: seconds, to start it a half."""
LEAST_VOXELS = 2**23
"""What would be one job is two, for two cores, where each has so much to do."""
PAIR_VOXELS = 5 * 10**8
"""A pair whose overlap has so many voxels is a job of its own, because of the memory it takes."""


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


def deal_out(
    dataset: Dataset, pairs: Sequence[Pair], asked: int | None = None
) -> dict[str, list[Pair]]:
    """Return the name and the pairs of every align job.

    Parameters
    ----------
    dataset : Dataset
    pairs : sequence of Pair
    asked : int, optional
        Most pairs of a job. Default: as many as are work enough, and so that no tile is in more
        than two jobs, except where a pair alone is work enough.
    """
    ends = [(min(of), max(of)) for of in zip(*(tile.index for tile in dataset.tiles), strict=True)]
    axes = [axis for axis, (low, high) in enumerate(ends) if low < high]
    index = {tile.name: tile.index for tile in dataset.tiles}
    sides = _sides(dataset, pairs, ends, asked)
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        own = index[pair.pre]
        if sides is None:
            name = (
                "".join(f"{a}{i}" for a, i in zip(AXES, own, strict=True)) + f"-{AXES[pair.axis]}"
            )
        else:
            taker = index[pair.post] if _post_takes(own, pair.axis, axes, sides) else own
            corner = (i // n * n if n else 0 for i, n in zip(taker, sides, strict=True))
            name = "".join(f"{a}{i}" for a, i in zip(AXES, corner, strict=True))
        found.setdefault(name, []).append(pair)
    return found


def _sides(
    dataset: Dataset, pairs: Sequence[Pair], ends: Sequence[tuple[int, int]], asked: int | None
) -> Point | None:
    """Tiles along each grid axis of a block, 0 = all; None = every pair is a job of its own.

    ``ends`` are the least and the highest index along each. A block is as near to a square as may
    be. Where nothing was asked for, layers are not cut, and no side that is cut is one tile.
    """
    axes = [axis for axis, (low, high) in enumerate(ends) if low < high]
    if asked is not None:
        few = asked < max(2, len(axes))
        return None if few else _square(asked, axes, len(axes), [1, 1, 1])
    shape = [max(tile.shape[axis] for tile in dataset.tiles) for axis in range(3)]
    reached = (math.prod(reach(shape, shape, p.axis, p.search.lower)) for p in pairs)
    voxels = max(reached, default=1)
    if voxels >= PAIR_VOXELS:
        return None
    layers = axes[2:]
    each = len(axes) * math.prod(ends[axis][1] - ends[axis][0] + 1 for axis in layers)
    least = [0 if axis in layers else 1 + (axis in axes) for axis in range(3)]
    sides = _square(BLOCK_VOXELS // voxels, axes[:2], each, least)
    work = len(pairs) * voxels
    single = all(not n or low // n == high // n for (low, high), n in zip(ends, sides, strict=True))
    if work >= 2 * LEAST_VOXELS and (single or work <= BLOCK_VOXELS):
        return _halves(ends)
    return sides


def _square(asked: int, axes: Sequence[int], each: int, least: Sequence[int]) -> Point:
    """Return the sides of a block that is as near to a square along ``axes`` as may be.

    Every tile along them makes ``each`` of its ``asked`` pairs; no side is below ``least``.
    """
    side = math.floor((asked / each) ** (1 / len(axes)) + 1e-9) if axes else 1
    sides = [max(n, side) if axis in axes else n for axis, n in enumerate(least)]
    for axis in axes:
        longer = [n + (i == axis) for i, n in enumerate(sides)]
        if each * math.prod(longer[i] for i in axes) <= asked:
            sides = longer
    return tuple(sides)


def _halves(ends: Sequence[tuple[int, int]]) -> Point:
    """Tiles along each grid axis of the blocks where two are work enough for all pairs."""
    axis = max(range(3), key=lambda a: ends[a][1] - ends[a][0])
    # Blocks start at multiples of their side, the grid may start anywhere.
    low, high = ends[axis]
    side = next(n for n in itertools.count(1) if high // n - low // n <= 1)
    return tuple(side if a == axis else 0 for a in range(3))


def _post_takes(pre: Point, axis: int, axes: Sequence[int], sides: Point) -> bool:
    """Whether the block of a pair's post tile has the pair, not that of its pre tile.

    A tile at a border is compared in the block beyond too; one where four blocks meet must not be
    in both of its neighbours. So they deal out the pairs between them in a circle::

        a | b
        --+--    the block of a has a–b, that of b has b–d, that of d has d–c, that of c has c–a
        c | d

    Parameters
    ----------
    pre : tuple of int
        Grid index of the pre tile.
    axis : int
        Grid axis of the pair.
    axes : sequence of int
        Grid axes with more than one tile.
    sides : tuple of int
        Tiles along each grid axis of a block.
    """
    first, second = axes[:2] if len(axes) > 1 else (0, 1)
    if axis not in (first, second) or not sides[first] or not sides[second]:
        return False
    if (pre[axis] + 1) % sides[axis]:
        return False
    if axis == first:
        return pre[second] % sides[second] == 0
    return (pre[first] + 1) % sides[first] == 0
