"""The memory that every job states before it runs, from its card alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stitchlib import align, assemble, place, stitch
from stitchlib.io.images import DECODING_PLANES
from stitchlib.io.parts import Part

BASE_MB = 200
"""What a job takes before it has read a voxel: Python and its libraries."""

TOLD_BYTES = 2**15
"""Most that drawing a tile, or telling of it, takes beside its voxels."""

_STAGES = {"align": align, "place": place, "stitch": stitch, "assemble": assemble}


def card_mb(card: Mapping[str, Any]) -> int:
    """Return the memory that a job takes, MB, from its card's content."""
    module = _STAGES.get(card["stage"])
    needed: int = module.memory_needed(card) if module else TOLD_BYTES * len(card["tiles"])
    return BASE_MB + needed // 2**20


def preview_mb(card: Mapping[str, Any]) -> int:
    """Return the memory that drawing a dataset takes, MB, from its place job's card.

    A plane of compressed files is decoded whole, with all its colours, and the sums that make the
    luminance of three have 8 bytes.
    """
    itemsize = np.dtype(card["dtype"]).itemsize
    plane = 0
    for tile in card["tiles"]:
        part = Part.from_json(tile)
        voxel = DECODING_PLANES * itemsize * (3 if part.is_colour else 1)
        voxel += 5 * itemsize + 16 if part.luminance else 0
        plane = max(plane, tile["shape"][0] * tile["shape"][1] * voxel)
    return BASE_MB + (TOLD_BYTES * len(card["tiles"]) + plane) // 2**20
