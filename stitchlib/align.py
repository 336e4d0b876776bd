"""Pairwise alignment: the displacement of every pair of neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point
from stitchlib.core.confidence import CERTAIN, UNLIKELY
from stitchlib.core.correlate import reachable
from stitchlib.core.filters import has_content
from stitchlib.core.peaks import Measure
from stitchlib.core.register import Match, Method, register, register_bytes
from stitchlib.core.shifts import SearchRange
from stitchlib.core.signal import Clip
from stitchlib.errors import InputError, NoOverlapError
from stitchlib.io.images import DECODING_PLANES, FileReader, Reader, open_planned
from stitchlib.io.parts import Part
from stitchlib.io.views import Held
from stitchlib.pairs import Link, Pair

VERSION = 9
"""Version of the algorithm: raising it makes every run align again."""

Background = float | Literal["auto"] | None
"""Voxels below a number are background; auto: an image of nothing but noise is; None: none."""


def align_block(card: Mapping[str, Any], folder: Path) -> list[Link]:
    """Measure the pairs of one job.

    Parameters
    ----------
    card : mapping
        Content of the job's card: pairs, their tiles' images, and the measure.
    folder : Path
        Where relative tile paths start.
    """
    images = card["images"]

    def opened(tile: str) -> FileReader:
        image = images[tile]
        path = folder / image["path"]
        return open_planned(path, image["shape"], card["dtype"], Part.from_json(image))

    pairs, shapes = _pairs(card)
    strips = _Strips(pairs, _compared(pairs, shapes), opened)
    clip = Clip.parse(card.get("clip"))
    return [
        align_pair(
            pair,
            *strips.take(number),
            card["measure"],
            clip=clip,
            method=card["method"],
            background=card["background"],
        )
        for number, pair in enumerate(pairs)
    ]


def _pairs(card: Mapping[str, Any]) -> tuple[list[Pair], dict[str, tuple[int, ...]]]:
    """Return the pairs of a card, and the shapes of their tiles."""
    shapes = {name: tuple(image["shape"]) for name, image in card["images"].items()}
    return [Pair.from_json(value) for value in card["pairs"]], shapes


Side = tuple[int, int]
"""Number of a pair in its job, and 0 for its pre or 1 for its post tile."""


def _compared(
    pairs: Sequence[Pair], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, dict[Side, Box]]:
    """Return, for every tile, the parts of it that the pairs compare, in their order."""
    found: dict[str, dict[Side, Box]] = {}
    for number, pair in enumerate(pairs):
        parts = reachable(shapes[pair.pre], shapes[pair.post], pair.search)
        for side, (tile, part) in enumerate(zip((pair.pre, pair.post), parts, strict=True)):
            found.setdefault(tile, {})[number, side] = part
    return found


class _Strips:
    """What pairs compare of their tiles: read with a tile's first pair, dropped after their own.

    So every tile is read once, and a plane of a compressed one decoded once, however many pairs of
    the job it is in.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        parts: Mapping[str, Mapping[Side, Box]],
        opened: Callable[[str], FileReader],
    ) -> None:
        self._pairs, self._parts, self._open = pairs, parts, opened
        self._held: dict[Side, Held] = {}

    def take(self, number: int) -> tuple[Held, Held]:
        """Return what the pair of a number compares of its two tiles; once."""
        pair = self._pairs[number]
        for side, tile in enumerate((pair.pre, pair.post)):
            if (number, side) not in self._held:
                self._read(tile)
        return self._held.pop((number, 0)), self._held.pop((number, 1))

    def _read(self, tile: str) -> None:
        reader, parts = self._open(tile), self._parts[tile]
        arrays = reader.read_boxes(list(parts.values()))
        for (key, box), array in zip(parts.items(), arrays, strict=True):
            self._held[key] = Held(tuple(reader.shape), reader.dtype, reader.order, box, array)


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
    except InputError as error:
        raise InputError(f"tiles {pair.pre} (pre) and {pair.post} (post): {error}") from error
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


def memory_needed(card: Mapping[str, Any]) -> int:
    """Return the most bytes that aligning the pairs of a job allocates, their images included.

    Clipped copies may have 8 bytes a voxel; so have the two sums that make the luminance of three
    colours. A plane is decoded, or read, at a time.
    """
    pairs, shapes = _pairs(card)
    parts = _compared(pairs, shapes)
    itemsize, clipped = np.dtype(card["dtype"]).itemsize, "clip" in card
    luminance = any("luminance" in image for image in card["images"].values())
    most = held = 0
    known: set[str] = set()
    for number, pair in enumerate(pairs):
        for tile in (pair.pre, pair.post):
            if tile in known:
                continue
            known.add(tile)
            sizes = [part.size for part in parts[tile].values()]
            # Once as stored, maybe in another byte order or in three colours, and once as needed.
            copies, sums = (5, 16 * max(sizes)) if luminance else (2, 0)
            plane = shapes[tile][0] * shapes[tile][1] * itemsize * (3 if luminance else 1)
            most = max(most, held + copies * sum(sizes) * itemsize + sums + DECODING_PLANES * plane)
            held += sum(sizes) * itemsize
        own = parts[pair.pre][number, 0], parts[pair.post][number, 1]
        size = sum(part.size for part in own)
        if not any(part.empty for part in own):
            by = tuple(a - b for a, b in zip(own[0].lower, own[1].lower, strict=True))
            search = _moved(pair.search, by)
            needed = register_bytes(own[0].shape, own[1].shape, search, itemsize)
            most = max(most, held + (8 * size if clipped else 0) + needed)
        held -= size * itemsize
    return most
