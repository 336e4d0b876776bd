"""A few overlaps are tried on the pixels: is the grid the right way round, and how much overlaps?

Neighbours on the grid are compared at low resolution, in the range of overlaps that are in use.
Where the side on which the sheet says that they meet does not fit, the other three are tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point
from stitchlib.core.correlate import reachable
from stitchlib.core.filters import binned
from stitchlib.core.register import register
from stitchlib.core.shifts import SearchRange
from stitchlib.errors import NoOverlapError
from stitchlib.io.images import Reader
from stitchlib.io.views import whole
from stitchlib.tiling.found import Found

PIXELS = 512
"""Tiles are binned to about this extent."""
PLANES = 9
"""Planes of a large stack of which the maximum is taken."""
SMALL = 1 << 23
"""Stacks of at most so many voxels at the low resolution are compared as they are."""
DEEP = 8
"""Planes up or down that small stacks are moved."""
SURE = 0.99
"""Confidence from which a comparison counts."""
WANTED = 3
"""Comparisons that count, along each axis, and then it is enough."""
MOST = 8
"""Pairs tried along each axis."""
OVERLAPS = (0.02, 0.6)
"""Overlaps that are tried, fractions of the tile."""
SIDEWAYS = 0.08
"""How far off sideways, fraction of the tile."""

Side = tuple[int, int]
"""Image axis and direction, 1 or −1, along which the second tile lies."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A pair of neighbours whose overlap was found."""

    pre: Found
    post: Found
    axis: int
    """Grid axis, 0 or 1."""
    side: Side
    """Where on the pixels the second one lies."""
    displacement: tuple[float, ...]
    """post − pre along the image's x, y, z, voxels; z = 0 where it was not looked for."""
    shape: Point
    """Of the tiles."""

    @property
    def overlap(self) -> float:
        """Overlap along the image axis of the side, voxels."""
        return self.shape[self.side[0]] - abs(self.displacement[self.side[0]])


@dataclass(frozen=True, slots=True)
class Trial:
    """What the pixels say."""

    pairs: tuple[Tried, ...]
    """Those that agree."""
    tried: int
    """How many were looked at."""
    precision: int
    """Voxels that were one at the low resolution."""

    def side(self, axis: int) -> Side | None:
        """Return where neighbours along a grid axis lie on the pixels; None where unknown."""
        sides = [pair.side for pair in self.pairs if pair.axis == axis]
        return max(set(sides), key=sides.count) if sides else None

    def along(self, axis: int) -> list[Tried]:
        """Return the pairs along a grid axis that lie on its usual side."""
        return [p for p in self.pairs if p.axis == axis and p.side == self.side(axis)]


def try_overlaps(found: Sequence[Found]) -> Trial:
    """Compare a few pairs of neighbours; ``found`` has one image for each tile."""
    views = _Views()
    pairs: list[Tried] = []
    tried = 0
    for axis in (0, 1):
        expected: Side = (axis, 1)
        failed: list[tuple[Found, Found]] = []
        agreed: list[Tried] = []
        for pre, post in _pairs(found, axis)[:MOST]:
            if len(agreed) >= WANTED:
                break
            tried += 1
            pair = views.compare(pre, post, axis, expected)
            if pair is None:
                failed.append((pre, post))
            else:
                agreed.append(pair)
        if len(agreed) < WANTED:
            agreed += _elsewhere(views, failed[:WANTED], axis, expected)
        pairs += agreed
    return Trial(tuple(pairs), tried, views.factor)


def _elsewhere(
    views: _Views, failed: Iterable[tuple[Found, Found]], axis: int, expected: Side
) -> list[Tried]:
    sides = [(a, s) for a in (0, 1) for s in (1, -1) if (a, s) != expected]
    tried = (views.compare(pre, post, axis, side) for pre, post in failed for side in sides)
    return [pair for pair in tried if pair is not None]


def _pairs(found: Sequence[Found], axis: int) -> list[tuple[Found, Found]]:
    """Return neighbours along a grid axis, those in the middle of the grid first."""
    at = {(f.dataset, f.place): f for f in found}
    middle = np.mean([f.place for f in found], axis=0)
    pairs = []
    for (dataset, place), f in at.items():
        other = at.get((dataset, tuple(i + (d == axis) for d, i in enumerate(place))))
        if other is not None:
            pairs.append((f, other))
    pairs.sort(key=lambda pair: float(np.abs(np.array(pair[0].place) - middle).sum()))
    return pairs


class _Views:
    """Low-resolution projections of tiles, read once each."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Point], tuple[NDArray[Any], Point]] = {}
        self.factor = 1

    def _view(self, f: Found) -> tuple[NDArray[Any], Point]:
        key = (f.dataset, f.place)
        if key not in self._known:
            reader = f.read()
            if not self._known:
                self.factor = max(1, round(max(reader.shape[:2]) / PIXELS))
            by = (min(self.factor, reader.shape[0]), min(self.factor, reader.shape[1]), 1)
            small = math.prod(reader.shape) // (by[0] * by[1]) <= SMALL
            image = reader.read(whole(reader)) if small else _projected(reader)
            self._known[key] = (binned(image, by), tuple(reader.shape))
        return self._known[key]

    def compare(self, pre: Found, post: Found, axis: int, side: Side) -> Tried | None:
        """Look for the overlap of two tiles at one side of the first; None where it is not sure."""
        (a, shape), (b, _) = self._view(pre), self._view(post)
        if side[1] < 0:
            a, b = b, a
        along, across = side[0], 1 - side[0]
        extent = a.shape[along]
        reach = math.ceil(SIDEWAYS * a.shape[across])
        near, far = extent - int(OVERLAPS[1] * extent), extent - int(OVERLAPS[0] * extent) - 1
        deep = min(DEEP, a.shape[2] // 4, b.shape[2] // 4)
        lower, upper = [0, 0, -deep], [0, 0, deep]
        lower[along], upper[along] = near, far
        lower[across], upper[across] = -reach, reach
        search = SearchRange(tuple(lower), tuple(upper))
        least = (*(max(2, int(OVERLAPS[0] * n / 2)) for n in a.shape[:2]), 1)
        parts = reachable(a.shape, b.shape, search)
        by = [p - q for p, q in zip(parts[0].lower, parts[1].lower, strict=True)]
        moved = SearchRange(
            tuple(v - k for v, k in zip(search.lower, by, strict=True)),
            tuple(v - k for v, k in zip(search.upper, by, strict=True)),
        )
        try:
            match = register(a[parts[0].slices()], b[parts[1].slices()], moved, least=least)
        except NoOverlapError:
            return None
        if match.confidence < SURE:
            return None
        scale = (self.factor, self.factor, 1)
        found = tuple(
            side[1] * f * (r + k) for f, r, k in zip(scale, match.refined, by, strict=True)
        )
        return Tried(pre, post, axis, side, found, shape)


def _projected(reader: Reader) -> NDArray[Any]:
    """Return the maximum of a few planes from the middle half of a stack, as a stack of one."""
    x, y, planes = reader.shape
    chosen = {planes // 4 + round(k * (planes // 2) / PLANES) for k in range(PLANES)}
    result: NDArray[Any] | None = None
    for z in sorted(c for c in chosen if c < planes):
        plane = reader.read(Box((0, 0, z), (x, y, z + 1)))
        result = plane if result is None else np.maximum(result, plane)
    assert result is not None  # noqa: S101 - images are not empty
    return result
