"""How long a job may take, from its card: schedulers end a job that takes longer than it asked for.

Generous, because a job that is ended has worked for nothing; still in proportion to the work,
because short jobs start sooner. What is assumed is several times slower than the worst that was
measured: images of noise alone, which are searched in every way there is, take 1 µs a voxel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, prod
from typing import Any

import numpy as np

from stitchlib.core.boxes import AXES
from stitchlib.pairs import reach

START_SECONDS = 600
"""To start Python on a node, from a file system that many jobs start from."""

ALIGN_SECONDS = 2e-6
"""To compare a voxel of a pair."""

PLACE_SECONDS = 0.1
"""To place a tile, and to read a table of pairs."""

SHARED_BYTES = 10**7
"""Read, decoded, blended or written in a second, where many jobs share a file system."""

COPIED_BYTES = 5 * 10**7
"""Copied from shards to the volume in a second, uncompressed."""


def card_minutes(card: Mapping[str, Any]) -> int:
    """Return the minutes that a job may take, from its card's content."""
    return ceil((START_SECONDS + _STAGES[card["stage"]](card)) / 60)


def _align(card: Mapping[str, Any]) -> float:
    shapes = {name: image["shape"] for name, image in card["images"].items()}
    compared = sum(_compared(pair, shapes) for pair in card["pairs"])
    # Of compressed tiles, all is decoded.
    return ALIGN_SECONDS * compared + _bytes(shapes.values(), card) / SHARED_BYTES


def _compared(pair: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> int:
    """Return the voxels of what the pre tile reaches of the post tile, and of the range."""
    lower, upper = pair["lower"], pair["upper"]
    extent = reach(shapes[pair["pre"]], shapes[pair["post"]], AXES.index(pair["axis"]), lower)
    return prod(n + b - a for n, a, b in zip(extent, lower, upper, strict=True))


def _place(card: Mapping[str, Any]) -> float:
    return PLACE_SECONDS * (len(card["tiles"]) + len(card["tables"]))


def _stitch(card: Mapping[str, Any]) -> float:
    lower, upper = card["box"]
    made = [[b - a for a, b in zip(lower, upper, strict=True)]]
    return _bytes([*made, *(tile["shape"] for tile in card["tiles"])], card) / SHARED_BYTES


def _assemble(card: Mapping[str, Any]) -> float:
    levels = (level["shape"] for level in card["levels"])
    return len(card["channels"]) * _bytes(levels, card) / COPIED_BYTES


def _bytes(shapes: Iterable[Sequence[int]], card: Mapping[str, Any]) -> int:
    return int(np.dtype(card["dtype"]).itemsize) * sum(map(prod, shapes))


_STAGES = {"align": _align, "place": _place, "stitch": _stitch, "assemble": _assemble}
