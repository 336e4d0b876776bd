"""Stacks of one file per plane, named by a pattern such as ``x0_y1_z<Z,4>.tif``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box
from stitchlib.errors import InputError
from stitchlib.io.files import digest_text
from stitchlib.io.images import FileReader, InTurn, open_image
from stitchlib.io.parts import Part
from stitchlib.tags import Expression

PLANE = "Z"
"""The tag of the plane's number."""


def is_pattern(path: Path) -> bool:
    """Whether a path names the planes of a stack, not one file."""
    return f"<{PLANE}" in str(path)


def plane_files(path: Path) -> list[Path]:
    """Return the files of a stack in the order of their numbers.

    Raises
    ------
    InputError
        Where there is none, one is missing between others, or two have one number.
    """
    expression = Expression.of(path)
    if expression.tags != [PLANE]:
        raise InputError(f"{path}: <{PLANE}> is the only tag that a tile's path may have")
    numbered = sorted((int(values[PLANE]), file) for file, values in expression.files())
    numbers = [number for number, _ in numbered]
    steps = {b - a: a for a, b in pairwise(numbers)}
    if 0 in steps:
        raise InputError(
            f"{path}: several files are plane {steps[0]}; give the tag its number of digits, as in "
            f"<{PLANE},4>"
        )
    if len(steps) > 1:
        step = min(steps)
        gap = steps[next(size for size in steps if size != step)]
        raise InputError(
            f"{path}: plane {gap + step} is missing, between {gap} and others; put it there, or "
            "number the planes anew"
        )
    return [file for _, file in numbered]


def stamp(path: Path) -> tuple[int, int, str]:
    """Return size and date of an image, and for a stack of planes the digest of all theirs.

    Raises
    ------
    OSError
        Where there is no such file.
    InputError
        As `plane_files`.
    """
    if not is_pattern(path):
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns, ""
    stats = [(file.name, file.stat()) for file in plane_files(path)]
    lines = [f"{name}|{stat.st_size}|{stat.st_mtime_ns}" for name, stat in stats]
    return (
        sum(stat.st_size for _, stat in stats),
        max(stat.st_mtime_ns for _, stat in stats),
        digest_text("\n".join(lines)),
    )


class PlanesReader(InTurn):
    """A stack whose planes are files of one shape and type.

    Only the first is opened at once; another one that differs is refused when it is read.
    """

    rgb = False

    def __init__(self, path: Path, part: Part) -> None:
        self._files = plane_files(path)
        self._part = part
        first = open_image(self._files[0], part)
        if len(first.shape) != 2:
            raise InputError(
                f"{self._files[0]}: has shape (x, y, z) = {first.shape}, but is one of several "
                f"planes by its name, {path.name}"
            )
        self._plane = tuple(first.shape)
        self.shape: tuple[int, ...] = (*self._plane, len(self._files))
        self.dtype: np.dtype[Any] = first.dtype
        self.order = "F"
        self.planewise = first.planewise

    def read(self, box: Box) -> NDArray[Any]:
        """Read the voxels of ``box`` (inside the stack) as an array of ``box.shape``."""
        return self.read_boxes([box])[0]

    def read_boxes(self, boxes: Sequence[Box]) -> list[NDArray[Any]]:
        """Read several boxes, every file once."""
        found = [np.empty(box.shape, self.dtype, order="F") for box in boxes]
        for z in sorted({z for box in boxes for z in range(box.lower[2], box.upper[2])}):
            here = [
                (Box(box.lower[:2], box.upper[:2]), stack[..., z - box.lower[2]])
                for box, stack in zip(boxes, found, strict=True)
                if box.lower[2] <= z < box.upper[2]
            ]
            reader = self._open(self._files[z])
            read = reader.read_boxes([flat for flat, _ in here])
            for (_, plane), voxels in zip(here, read, strict=True):
                plane[...] = voxels
        return found

    def _open(self, file: Path) -> FileReader:
        reader = open_image(file, self._part)
        if (tuple(reader.shape), reader.dtype) != (self._plane, self.dtype):
            raise InputError(
                f"{file}: has shape {tuple(reader.shape)} and type {reader.dtype}, but the first "
                f"plane of its stack, {self._files[0].name}, {self._plane} and {self.dtype}"
            )
        return reader
