"""Plans: frozen descriptions of what a job will do, made before it starts.

A `VolumePlan` says how the volume is cut into levels, chunks and shards; a `FusionPlan` which tiles
cover which part of a window. Neither knows of files or jobs.

Along each axis, with a chunk of 4 and shards whose two finest levels hold whole chunks::

    level 0   |----|----|----|----|----|----|--    extent 26, chunks of 4
    level 1   |----~~~~|----~~~~|----~~~~|--       each chunk covers 8 voxels of level 0
    shards    [       0       |       1      ]     borders at multiples of 8
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point, disjoint, hull, touching
from stitchlib.core.pyramid import level_factors

SHARD_BYTES = 2**29
"""About the size of a shard: seconds of work for one job, which takes half a second to start."""
LEAST_SHARD_BYTES = 2**27
"""What would be one shard is two, for two cores, where each has so much to do."""

SHARD_LEVELS = 3
"""So many levels are made by the shard jobs; the coarser ones are at most 1/64 of the voxels."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the pyramid; axes x, y, z."""

    factor: Point
    """Voxels of level 0 per voxel."""
    shape: Point
    """Extent in voxels."""
    chunk: Point
    """Chunk in voxels, not larger than the extent."""


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """How the volume of a dataset is laid out; axes x, y, z."""

    corner: Point
    """Voxel (0, 0, 0) in the sheet's frame: the least corner of all tiles, or the region's."""
    levels: tuple[Level, ...]
    """From full resolution to the coarsest."""
    shard: Point
    """Voxels of level 0 per shard; a multiple of the chunk."""
    shard_levels: int
    """Levels whose chunks never cross a shard's border; the shard jobs make them."""

    @property
    def shape(self) -> Point:
        """Extent of level 0."""
        return self.levels[0].shape

    def shards(self, boxes: Sequence[Box]) -> dict[Point, list[int]]:
        """Return the index of every shard that a tile touches, with those tiles in order.

        ``boxes`` are the tiles' boxes relative to the volume's corner.
        """
        found: dict[Point, list[int]] = {}
        whole = Box.at((0, 0, 0), self.shape)
        for i, box in enumerate(boxes):
            inside = box.intersection(whole)
            if inside.empty:
                continue
            ranges = (
                range(a // s, -(-b // s))
                for a, b, s in zip(inside.lower, inside.upper, self.shard, strict=True)
            )
            for index in product(*ranges):
                found.setdefault(index, []).append(i)
        return dict(sorted(found.items(), key=lambda item: item[0][::-1]))

    def shard_box(self, index: Point, boxes: Sequence[Box]) -> Box:
        """Return the voxels of level 0 that a shard makes.

        They end where its tiles do, rounded up to whole voxels of the coarsest level that it makes:
        beyond there is nothing but fill. So a shard depends on the volume's extent only where its
        tiles reach it, and a tile added far away leaves it as it is.

        Parameters
        ----------
        index : tuple of int
            Which shard.
        boxes : sequence of Box
            The tiles that touch it, relative to the volume's corner; at least one.
        """
        lower = tuple(i * s for i, s in zip(index, self.shard, strict=True))
        most = Box.at(lower, self.shard).intersection(Box.at((0, 0, 0), self.shape))
        covered = hull([box.intersection(most) for box in boxes])
        factor = self.levels[self.shard_levels - 1].factor
        upper = tuple(
            min(end, -(-b // f) * f)
            for end, b, f in zip(most.upper, covered.upper, factor, strict=True)
        )
        return Box(lower, upper)


def plan_volume(
    boxes: Sequence[Box],
    voxel_size: tuple[float, float, float],
    *,
    chunk: Point,
    shard: Point,
    levels: int | None,
    region: Sequence[tuple[int, int] | None] | None = None,
) -> VolumePlan:
    """Lay out the volume that holds ``boxes``; see `VolumePlan`.

    ``region`` gives the half-open range of voxels along those axes where it is not all there is.
    """
    whole = hull(boxes)
    for axis, asked in enumerate(region or ()):
        if asked is not None:
            whole = Box(
                (*whole.lower[:axis], asked[0], *whole.lower[axis + 1 :]),
                (*whole.upper[:axis], asked[1], *whole.upper[axis + 1 :]),
            )
    shape = whole.shape
    plan = tuple(
        _level(shape, factor, chunk) for factor in level_factors(shape, voxel_size, levels)
    )
    aligned = 1
    while aligned < min(len(plan), SHARD_LEVELS) and _aligned(shape, shard, plan[aligned]):
        aligned += 1
    return VolumePlan(whole.lower, plan, shard, aligned)


def _level(shape: Point, factor: Point, chunk: Point) -> Level:
    extent = tuple(-(-n // f) for n, f in zip(shape, factor, strict=True))
    return Level(factor, extent, tuple(map(min, chunk, extent)))


def _aligned(shape: Point, shard: Point, level: Level) -> bool:
    """Whether no chunk of ``level`` crosses a border between shards."""
    return all(
        s >= n or s % (c * f) == 0
        for n, s, c, f in zip(shape, shard, level.chunk, level.factor, strict=True)
    )


def auto_shard(
    tile_shape: Point,
    layers: int,
    voxel_size: tuple[float, float, float],
    chunk: Point,
    itemsize: int,
    extent: Point,
) -> Point:
    """Choose the shard: whole stacks along z, square along x and y, of about `SHARD_BYTES`.

    No side is less than a tile's, so that no tile is in more than two shards along x or y: each
    reads the rows of its planes, or decodes all of them where they are compressed. Where that makes
    it too large, it is cut along z, which costs nothing.

    A function of what the sheet and the configuration say alone, not of where tiles were placed
    nor, where there is more than one shard, of how many there are, so that a rerun finds the same
    shards. What would be one shard is two where that is worth it: it is made anew by every change.

    Parameters
    ----------
    tile_shape : tuple of int
        Largest extent of the tiles along x, y, z.
    layers : int
        Number of tiles along z.
    voxel_size : tuple of float
        µm along x, y, z.
    chunk : tuple of int
        Chunk along x, y, z, as configured.
    itemsize : int
        Bytes of a voxel.
    extent : tuple of int
        Nominal extent of the volume along x, y, z.
    """
    endless = tuple(2**40 if n > 1 else 1 for n in tile_shape)
    factor = level_factors(endless, voxel_size, SHARD_LEVELS)[-1]
    unit = [c * f for c, f in zip(chunk, factor, strict=True)]
    # One unit more than a tile needs, so that stacks a few voxels off each other share one shard.
    depth = unit[2] * (-(-tile_shape[2] // unit[2]) + 1)
    plane_bytes = itemsize * (tile_shape[2] if layers == 1 else depth)
    side = (SHARD_BYTES / plane_bytes) ** 0.5
    sides = [u * max(1, int(side // u)) for u in unit[:2]]
    wide = [u * -(-n // u) for u, n in zip(unit[:2], tile_shape[:2], strict=True)]
    if any(n > s for n, s in zip(wide, sides, strict=True)):
        sides = list(map(max, sides, wide))
        thick = unit[2] * max(1, SHARD_BYTES // (prod(sides) * unit[2] * itemsize))
        depth = depth if tile_shape[2] <= thick else thick
    single = all(n <= s for n, s in zip(extent, (*sides, depth), strict=True))
    if single and prod(extent) * itemsize >= 2 * LEAST_SHARD_BYTES:
        # A border along x leaves the rows of the files whole.
        longer = int(extent[1] >= extent[0])
        sides[longer] = unit[longer] * -(-extent[longer] // (2 * unit[longer]))
    return (*sides, depth)


@dataclass(frozen=True, slots=True)
class Cut:
    """Which part of a tile an image is: its voxels weigh what they weigh in the whole tile."""

    shape: Point
    """Extent of the tile."""
    lower: Point
    """First voxel in the tile, per axis of the tile."""
    dropped: Point
    """Axes of the tile that the image lacks; it is one voxel thick along them."""

    def box(self, local: Box) -> Box:
        """Return a box of the image in the tile's coordinates."""
        lower, upper = list(local.lower), list(local.upper)
        for axis in self.dropped:
            lower.insert(axis, 0)
            upper.insert(axis, 1)
        return Box(tuple(lower), tuple(upper)).shifted(self.lower)


@dataclass(frozen=True, slots=True)
class FusionPlan:
    """Which tiles cover which part of a window: what the fusion engine executes."""

    window: Box
    """The voxels that are made."""
    boxes: tuple[Box, ...]
    """Every tile's full box, in the window's coordinates."""
    pieces: tuple[tuple[Box, Point], ...]
    """Disjoint parts of the window, each with the tiles that cover it, in order."""
    blending: str
    """'interpolation', 'max', 'min' or 'mean'; in the library also 'interpolation-adjust-max',
    'function' or 'weighted'."""
    function: Callable[..., Any] | None = None
    """With 'function' and 'weighted': called with a stack of voxels and ``axis=0``."""
    weight_function: Callable[[Point], Any] | None = None
    """With 'weighted': the weights of a tile's voxels from its shape; None = those of
    'interpolation'."""
    planes: bool = False
    """The tiles are planes, given as stacks of one."""
    cuts: tuple[Cut | None, ...] = ()
    """What of its tile each image is; None, or nothing at all, where it is the tile."""
    _corners: tuple[NDArray[np.int64], NDArray[np.int64]] = field(
        init=False, repr=False, compare=False
    )
    """Lower and upper corners of the pieces: a plan may have many thousands."""

    def __post_init__(self) -> None:
        corners = np.array([(box.lower, box.upper) for box, _ in self.pieces], np.int64)
        lower, upper = corners.reshape(-1, 2, len(self.window.lower)).transpose(1, 0, 2)
        object.__setattr__(self, "_corners", (lower, upper))

    @classmethod
    def of(cls, boxes: Sequence[Box], window: Box, blending: str, **more: Any) -> Self:
        """Plan the fusion of tiles at ``boxes`` inside ``window``; ``more`` are other fields."""
        clipped = [box.intersection(window) for box in boxes]
        return cls(window, tuple(boxes), tuple(disjoint(clipped)), blending, **more)

    @property
    def by_function(self) -> bool:
        """Whether a function that was given makes the voxels, or their weights."""
        return self.blending in ("function", "weighted")

    def inside(self, window: Box) -> Iterator[tuple[int, Box, Point]]:
        """Yield the pieces in a part of the window: number, what of it is inside, and its tiles."""
        lower, upper = self._corners
        meets = np.all((lower < window.upper) & (upper > window.lower), axis=1)
        for number in np.flatnonzero(meets).tolist():
            box, sources = self.pieces[number]
            yield number, box.intersection(window), sources

    def covers(self, window: Box) -> bool:
        """Whether tiles cover all of a part of the window."""
        return sum(part.size for _, part, _ in self.inside(window)) == window.size


def fusion_bytes(boxes: Sequence[Box], window: Box, itemsize: int, slab: Point, block: int) -> int:
    """Bound the bytes that fusing a slab allocates: what is read of the tiles, weights and sums.

    A bound from the tiles' boxes alone, because it is asked for every job while the run is planned.

    Parameters
    ----------
    boxes : sequence of Box
        The tiles.
    window : Box
        The window, in the same frame.
    itemsize : int
        Bytes of a voxel.
    slab : tuple of int
        Largest extent that is made at one time.
    block : int
        Most voxels that are blended at one time.
    """

    def voxels(box: Box) -> int:
        return prod(map(min, box.shape, slab))

    clipped = [box.intersection(window) for box in boxes]
    sizes = [voxels(box) for box in clipped]
    most = 0
    for i, others in enumerate(touching(clipped)):
        near = [sizes[j] for j in (i, *others)]
        # Whatever slab it is, tiles that don't reach into it are not read for it, and those that
        # lie side by side share it.
        apart = 1 if len(near) == 1 else len(near)
        reading = min(sum(near), apart * prod(slab))
        blending = 0
        if others:
            shared = max(voxels(clipped[i].intersection(clipped[j])) for j in others)
            # Per tile a weight and its voxels in a common type; sums and quotient are few.
            blending = min(shared, 2 * block) * (len(near) * (itemsize + 8) + 5 * 8)
        most = max(most, reading * itemsize + blending)
    return most


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One stitch job: the part of one channel's volume that it makes; axes x, y, z."""

    box: Box
    """Voxels of level 0, relative to the volume's corner."""
    levels: tuple[tuple[Point, Point], ...]
    """Factor and chunk of every level that it makes."""
    tiles: tuple[tuple[Mapping[str, Any], Box], ...]
    """Image file (as `Image.as_json`) and box of every tile that it touches."""
    dtype: str
    blending: str
    fill: float
    compression: str
    planes: bool = False
    """The tiles are planes, given as stacks of one."""

    def as_json(self) -> dict[str, Any]:
        """Return the plain values that go into a card."""
        return {
            "box": [list(self.box.lower), list(self.box.upper)],
            "levels": [{"factor": list(f), "chunk": list(c)} for f, c in self.levels],
            "tiles": [
                {**image, "lower": list(box.lower), "shape": list(box.shape)}
                for image, box in self.tiles
            ],
            "dtype": self.dtype,
            "blending": self.blending,
            "fill": self.fill,
            "compression": self.compression,
            **({"planes": True} if self.planes else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the plan that `as_json` described."""
        return cls(
            Box(tuple(value["box"][0]), tuple(value["box"][1])),
            tuple((tuple(v["factor"]), tuple(v["chunk"])) for v in value["levels"]),
            tuple((v, Box.at(v["lower"], v["shape"])) for v in value["tiles"]),
            value["dtype"],
            value["blending"],
            value["fill"],
            value["compression"],
            value.get("planes", False),
        )
