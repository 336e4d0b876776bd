"""Pairwise alignment: the displacement of every pair of neighbours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.confidence import CERTAIN
from stitchlib.core.correlate import reachable
from stitchlib.core.filters import has_content
from stitchlib.core.peaks import Measure
from stitchlib.core.register import Match, Method, register, register_bytes
from stitchlib.core.shifts import SearchRange
from stitchlib.core.signal import Clip
from stitchlib.errors import NoOverlapError
from stitchlib.io.images import Reader, open_planned
from stitchlib.io.parts import Part
from stitchlib.pairs import Link, Pair

VERSION = 3
"""Version of the algorithm: raising it makes every run align again."""

Background = float | Literal["auto"] | None
"""Voxels below a number are background; auto: an image of nothing but noise is; None: none."""

UNLIKELY = 0.5
"""Confidence below which a link is not ok, however little confidence is asked for."""


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
            readers[tile] = open_planned(
                folder / image["path"], image["shape"], card["dtype"], Part.from_json(image)
            )
        return readers[tile]

    pairs = [Pair.from_json(value) for value in card["pairs"]]
    clip = Clip.parse(card.get("clip"))
    return [
        align_pair(
            pair,
            reader(pair.pre),
            reader(pair.post),
            card["measure"],
            clip=clip,
            method=card["method"],
            background=card["background"],
        )
        for pair in pairs
    ]


def align_pair(
    pair: Pair,
    pre: Reader,
    post: Reader,
    measure: Measure,
    *,
    clip: Clip | None = None,
    method: Method = "auto",
    background: Background = "auto",
) -> Link:
    """Measure one pair, reading only what its displacements can reach."""
    part_pre, part_post = reachable(pre.shape, post.shape, pair.search)
    if part_pre.empty or part_post.empty:
        return _nothing(
            pair, measure, "no-overlap", "no displacement in the searched range overlaps"
        )
    images = pre.read(part_pre), post.read(part_post)
    if clip:
        images = clip.apply(images[0]), clip.apply(images[1])
    dark = _dark(images, background)
    if dark:
        return _nothing(pair, measure, "background", dark)
    by = tuple(a - b for a, b in zip(part_pre.lower, part_post.lower, strict=True))
    try:
        match = register(
            *images,
            _moved(pair.search, by),
            least=tuple(pair.min_overlap if d == pair.axis else 1 for d in range(3)),
            nominal=tuple(n - k for n, k in zip(pair.nominal, by, strict=True)),
            method=method,
            measure=measure,
        )
    except NoOverlapError as error:
        return _nothing(pair, measure, "no-overlap", str(error))
    if background == "auto" and match.confidence < CERTAIN:
        empty = [name for name, image in zip(_SIDES, images, strict=True) if not has_content(image)]
        if empty:
            reason = f"{' and '.join(empty)} tile: nothing but noise in the overlap"
            return _nothing(pair, measure, "background", reason)
    return _link(pair, measure, match, by)


_SIDES = ("pre", "post")


def _dark(images: tuple[NDArray[Any], NDArray[Any]], background: Background) -> str:
    """Say which image has no voxel that reaches a given background; nothing where both have."""
    if background is None or background == "auto":
        return ""
    dark = [
        name
        for name, image in zip(_SIDES, images, strict=True)
        if not np.any(np.asarray(image) >= background)
    ]
    return f"{' and '.join(dark)} tile: all voxels are below {background:g}" if dark else ""


def _moved(search: SearchRange, by: Point) -> SearchRange:
    """Return a range in coordinates of parts whose corners differ by ``by``."""
    lower, upper = (
        tuple(v - k for v, k in zip(end, by, strict=True)) for end in (search.lower, search.upper)
    )
    return SearchRange(lower, upper)


def _link(pair: Pair, measure: Measure, match: Match, by: Point) -> Link:
    found = tuple(round(r + k, 4) for r, k in zip(match.refined, by, strict=True))
    return Link(
        pair.pre,
        pair.post,
        pair.axis,
        found,
        tuple(round(a - b, 4) for a, b in zip(found, pair.nominal, strict=True)),
        match.quality,
        measure,
        match.error,
        match.confidence,
        "ok" if match.confidence >= UNLIKELY else "low-confidence",
        match.reason,
    )


def _nothing(pair: Pair, measure: str, status: str, reason: str) -> Link:
    """Return the link of a pair that cannot be measured."""
    nominal = tuple(map(float, pair.nominal))
    unknown = (math.inf,) * 3
    return Link(
        pair.pre, pair.post, pair.axis, nominal, (0.0,) * 3, -math.inf, measure, unknown, 0.0,
        status, " ".join(reason.split()),
    )  # fmt: skip


def memory_needed(
    shapes: Mapping[str, tuple[int, ...]],
    pairs: list[Pair],
    itemsize: int,
    *,
    clipped: bool = False,
    luminance: bool = False,
) -> int:
    """Return the most bytes that aligning one of the pairs allocates, its inputs included.

    Clipped copies of the inputs may have 8 bytes a voxel; so have the two sums that make the
    luminance of three colours.
    """
    each = itemsize + (8 if clipped else 0) + (2 * itemsize + 16 if luminance else 0)
    most = 0
    for pair in pairs:
        parts = reachable(shapes[pair.pre], shapes[pair.post], pair.search)
        if any(part.empty for part in parts):
            continue
        by = tuple(a - b for a, b in zip(parts[0].lower, parts[1].lower, strict=True))
        needed = register_bytes(parts[0].shape, parts[1].shape, _moved(pair.search, by), itemsize)
        most = max(most, sum(part.size for part in parts) * each + needed)
    return most
