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
    solid = [_solid(box) for box in boxes]
    found = [np.empty(box.shape[::-1], stack.dtype) for box in solid]
    scratch = np.empty(0, np.uint8)
    with stack.path.open("rb", buffering=0) as file:
        for piece in _soon(file.fileno(), _in_order(stack, solid)):
            parts = [(solid[n], found[n][piece.z - solid[n].lower[2]]) for n in piece.boxes]
            size = piece.stop - piece.start
            if size == parts[0][1].nbytes and len(parts) == 1:
                # Whole rows go where they belong.
                _read(file.fileno(), parts[0][1].reshape(-1).view(np.uint8), piece.start)
                continue
            if size > scratch.size:
                scratch = np.empty(size, np.uint8)
            _read(file.fileno(), scratch[:size], piece.start)
            for box, plane in parts:
                _fill(plane, box, stack, scratch[:size], piece.start - stack.planes[piece.z])
    return [
        native(part.T if len(box.lower) == 3 else part[0].T)
        for box, part in zip(boxes, found, strict=True)
    ]


def _solid(box: Box) -> Box:
    return box if len(box.lower) == 3 else Box((*box.lower, 0), (*box.upper, 1))


class _Piece(NamedTuple):
    """Bytes of one plane that are read at one time."""

    z: int
    start: int
    """From the start of the file."""
    stop: int
    boxes: list[int]
    """Numbers of those that have voxels in the plane."""


def _in_order(stack: Stored, boxes: Sequence[Box]) -> Iterator[_Piece]:
    """Yield what is read, plane after plane."""
    wanted = [number for number, box in enumerate(boxes) if not box.empty]
    for z in sorted({z for n in wanted for z in range(boxes[n].lower[2], boxes[n].upper[2])}):
        here = [n for n in wanted if boxes[n].lower[2] <= z < boxes[n].upper[2]]
        for first, last in _merged(_pieces(stack, [boxes[n] for n in here])):
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


def _read(file: int, data: NDArray[np.uint8], start: int) -> None:
    """Fill ``data`` with the bytes of a file from ``start`` on."""
    done = 0
    while done < data.size:
        count = os.preadv(file, [data[done:].data], start + done)
        if not count:
            raise EOFError(f"the file ends before byte {start + data.size}")
        done += count


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


def _fill(
    plane: NDArray[Any], box: Box, stack: Stored, data: NDArray[np.uint8], first: int
) -> None:
    """Copy into a plane (y, x) of a box what the bytes from ``first`` of the plane have of it."""
    item, row = stack.dtype.itemsize, stack.row
    begin, width = box.lower[0] * item, box.shape[0] * item
    # Rows are in the bytes as a whole or not at all.
    low = max(box.lower[1], -((begin - first) // row))
    high = min(box.upper[1], (first + data.size - begin - width) // row + 1)
    if low < high:
        plane[low - box.lower[1] : high - box.lower[1]] = np.ndarray(
            (high - low, box.shape[0]), stack.dtype, data, low * row + begin - first, (row, item)
        )
