"""Boxes of stacks that lie plane after plane in a file, read as few bytes as their places allow."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box
from stitchlib.io.images import native

GAP_BYTES = 1 << 14
"""Bytes between two pieces up to which they are read in one: fetching them takes no longer."""

AHEAD_BYTES = 1 << 22
"""Bytes that are asked for before they are read, or the next plane where that is more."""


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
    with stack.path.open("rb", buffering=0) as file:
        for piece in _soon(file.fileno(), _in_order(stack, wanted)):
            data = _read(file.fileno(), piece.start, piece.stop)
            for box, plane in piece.parts:
                _fill(plane, box, stack, data, piece.start - stack.planes[piece.z])
    return [
        native(part.T if solid_box is box else part[0].T)
        for box, solid_box, part in zip(boxes, solid, found, strict=True)
    ]


_Part = tuple[Box, NDArray[Any]]
"""A box, and the array (z, y, x), or one plane (y, x) of it, that its voxels come to."""


class _Piece(NamedTuple):
    """Bytes of one plane that are read at one time."""

    z: int
    start: int
    """From the start of the file."""
    stop: int
    parts: list[_Part]
    """What has voxels in the plane."""


def _in_order(stack: Stored, wanted: Sequence[_Part]) -> Iterator[_Piece]:
    """Yield what is read, plane after plane."""
    for z in sorted({z for box, _ in wanted for z in range(box.lower[2], box.upper[2])}):
        here = [
            (box, part[z - box.lower[2]])
            for box, part in wanted
            if box.lower[2] <= z < box.upper[2]
        ]
        for first, last in _merged(_pieces(stack, [box for box, _ in here])):
            yield _Piece(z, stack.planes[z] + first, stack.planes[z] + last, here)


def _soon(file: int, pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    """Yield pieces, of which the system is told ahead, so that it need not wait for the disk."""
    if not hasattr(os, "posix_fadvise"):
        yield from pieces
        return
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # not what follows in the file
    told: deque[_Piece] = deque()
    ahead = 0
    for piece in pieces:
        size = piece.stop - piece.start
        os.posix_fadvise(file, piece.start, size, os.POSIX_FADV_WILLNEED)
        told.append(piece)
        ahead += size
        while ahead > AHEAD_BYTES and len(told) > 1:
            ahead -= told[0].stop - told[0].start
            yield told.popleft()
    yield from told


def _read(file: int, start: int, stop: int) -> bytes:
    data = os.pread(file, stop - start, start)
    while len(data) < stop - start:
        more = os.pread(file, stop - start - len(data), start + len(data))
        if not more:
            raise EOFError(f"the file ends before byte {stop}")
        data += more
    return data


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
