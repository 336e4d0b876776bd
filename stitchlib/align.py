"""Pairwise alignment: the displacement of every pair of neighbours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stitchlib.core.correlate import bytes_needed, reachable, search
from stitchlib.core.peaks import Measure
from stitchlib.core.signal import Clip
from stitchlib.errors import NoOverlapError
from stitchlib.io.images import Reader, open_planned
from stitchlib.pairs import Link, Pair

VERSION = 1
"""Version of the algorithm: raising it makes every run align again."""


def align_block(card: Mapping[str, Any], folder: Path) -> list[Link]:
    """Measure the pairs of one job.

    Parameters
    ----------
    card : mapping
        Content of the job's card: pairs, their tiles' images, and the measure.
    folder : Path
        Where relative tile paths start.
    """
    readers: dict[str, Reader] = {}

    def reader(tile: str) -> Reader:
        if tile not in readers:
            image = card["images"][tile]
            readers[tile] = open_planned(folder / image["path"], image["shape"], card["dtype"])
        return readers[tile]

    pairs = [Pair.from_json(value) for value in card["pairs"]]
    clip = Clip.parse(card.get("clip"))
    return [
        align_pair(pair, reader(pair.pre), reader(pair.post), card["measure"], clip)
        for pair in pairs
    ]


def align_pair(
    pair: Pair, pre: Reader, post: Reader, measure: Measure, clip: Clip | None = None
) -> Link:
    """Measure one pair, reading only what its displacements can reach."""
    part_pre, part_post = reachable(pre.shape, post.shape, pair.search)
    min_overlap = tuple(pair.min_overlap if d == pair.axis else 1 for d in range(3))
    if part_pre.empty or part_post.empty:
        return _no_overlap(pair, measure, "no displacement in the searched range overlaps")

    def clipped(voxels: NDArray[Any]) -> NDArray[Any]:
        return clip.apply(voxels) if clip else voxels

    try:
        peak = search(
            clipped(pre.read(part_pre)),
            clipped(post.read(part_post)),
            pair.search,
            measure=measure,
            nominal=pair.nominal,
            min_overlap=min_overlap,
            offset_pre=part_pre.lower,
            offset_post=part_post.lower,
            shape_pre=pre.shape,
            shape_post=post.shape,
        )
    except NoOverlapError as error:
        return _no_overlap(pair, measure, str(error))
    return Link(
        pair.pre,
        pair.post,
        pair.axis,
        tuple(map(float, peak.displacement)),
        tuple(float(a - b) for a, b in zip(peak.displacement, pair.nominal, strict=True)),
        peak.quality,
        measure,
        peak.error,
        peak.confidence,
        "ok",
    )


def _no_overlap(pair: Pair, measure: str, reason: str) -> Link:
    nominal = tuple(map(float, pair.nominal))
    unknown = (math.inf,) * 3
    return Link(
        pair.pre, pair.post, pair.axis, nominal, (0.0,) * 3, -math.inf, measure, unknown, 0.0,
        "no-overlap", " ".join(reason.split()),
    )  # fmt: skip


def memory_needed(
    shapes: Mapping[str, tuple[int, ...]],
    pairs: list[Pair],
    itemsize: int,
    *,
    clipped: bool = False,
) -> int:
    """Return the most bytes that aligning one of the pairs allocates, its inputs included.

    Clipped copies of the inputs may have 8 bytes a voxel.
    """
    each = itemsize + 8 if clipped else itemsize
    most = 0
    for pair in pairs:
        pre, post = shapes[pair.pre], shapes[pair.post]
        inputs = sum(part.size for part in reachable(pre, post, pair.search)) * each
        most = max(most, inputs + bytes_needed(pre, post, pair.search, itemsize))
    return most
