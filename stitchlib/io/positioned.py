"""Boxes of stacks that lie plane after plane in a file, read as few bytes as their places allow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box
from stitchlib.io.images import native

GAP_BYTES = 1 << 14
"""Bytes between two pieces up to which they are read in one: fetching them takes no longer."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A stack in a file, or a plane."""

    path: Path
    planes: Sequence[int]
    """Bytes from the start of the file to the first voxel of every plane along z."""
    dtype: np.dtype[Any]
    """As in the file; x runs fastest, without gaps."""
    row: int
    """Bytes from one row along x to the next."""


def read_boxes(stack: Stored, boxes: Sequence[Box]) -> list[NDArray[Any]]:
    """Read several boxes (x, y[, z]), every byte once, plane after plane, in native byte order.

    Neither a memory map nor the system's reading ahead is used: of a strip along y they would fetch
    most of the file.

    Raises
    ------
    OSError
        Where the file cannot be read.
    EOFError
        Where it is too short.
    """
    solid = [box if len(box.lower) == 3 else Box((*box.lower, 0), (*box.upper, 1)) for box in boxes]
    found = [np.empty(box.shape[::-1], stack.dtype) for box in solid]
    wanted = [(box, part) for box, part in zip(solid, found, strict=True) if not box.empty]
    planes = sorted({z for box, _ in wanted for z in range(box.lower[2], box.upper[2])})
    with stack.path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for z in planes:
            here = [
                (box, part[z - box.lower[2]])
                for box, part in wanted
                if box.lower[2] <= z < box.upper[2]
            ]
            start = stack.planes[z]
            for first, last in _merged(_pieces(stack, [box for box, _ in here])):
                data = os.pread(file.fileno(), last - first, start + first)
                while len(data) < last - first:
                    more = os.pread(
                        file.fileno(), last - first - len(data), start + first + len(data)
                    )
                    if not more:
                        raise EOFError(f"the file ends before byte {start + last}")
                    data += more
                for box, plane in here:
                    _fill(plane, box, stack, data, first)
    return [
        native(part.T if solid_box is box else part[0].T)
        for box, solid_box, part in zip(boxes, solid, found, strict=True)
    ]


def _pieces(stack: Stored, boxes: Sequence[Box]) -> Iterator[tuple[int, int]]:
    """Yield first and end byte, from the start of a plane, of what boxes have in it."""
    item, row = stack.dtype.itemsize, stack.row
    for box in boxes:
        begin, width = box.lower[0] * item, box.shape[0] * item
        if row - width <= GAP_BYTES:
            yield box.lower[1] * row + begin, (box.upper[1] - 1) * row + begin + width
        else:
            for y in range(box.lower[1], box.upper[1]):
                yield y * row + begin, y * row + begin + width


def _merged(pieces: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join pieces that overlap, touch or nearly do."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(pieces):
        if found and first - found[-1][1] <= GAP_BYTES // 4:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _fill(plane: NDArray[Any], box: Box, stack: Stored, data: bytes, first: int) -> None:
    """Copy into a plane (y, x) of a box what the bytes from ``first`` of the plane have of it."""
    item, row = stack.dtype.itemsize, stack.row
    begin, width = box.lower[0] * item, box.shape[0] * item
    # Rows are in the bytes as a whole or not at all.
    low = max(box.lower[1], -((begin - first) // row))
    high = min(box.upper[1], (first + len(data) - begin - width) // row + 1)
    if low < high:
        plane[low - box.lower[1] : high - box.lower[1]] = np.ndarray(
            (high - low, box.shape[0]), stack.dtype, data, low * row + begin - first, (row, item)
        )
