"""The protocol behind which every image format stands, and how a file finds its reader.

Axes are (x, y[, z]): files that hold (z, y, x) are given as transposed views. A new format is one
module with a reader class and one line in `_READERS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box
from stitchlib.errors import InputError
from stitchlib.io.parts import WHOLE, Part

DECODING_PLANES = 3
"""So many planes, with all their colours, decoding takes at most beside what it returns: one as it
is encoded, one as it comes out of its strips or tiles, one whole."""


class Reader(Protocol):
    """An image that is opened lazily: its header is known, its voxels are read on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent per axis (x, y[, z]) in voxels."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels, in the machine's byte order."""

    @property
    def order(self) -> str:
        """'F' where x runs fastest in the file, 'C' where the last axis does."""

    def read(self, box: Box) -> NDArray[Any]:
        """Read the voxels of ``box`` (inside the image) as an array of ``box.shape``."""


class FileReader(Reader, Protocol):
    """A reader of a file; it is made from a path and a part."""

    @property
    def rgb(self) -> bool:
        """Whether the part is an RGB image, of which no voxels are read before one is chosen."""

    def read_boxes(self, boxes: Sequence[Box]) -> list[NDArray[Any]]:
        """Read several boxes, and what they share of the file once."""

    def read_in_turn(self, boxes: Iterable[Box]) -> Iterator[NDArray[Any]]:
        """Read one box after another, and what the file says of itself once."""

    @property
    def planewise(self) -> bool:
        """Whether the least part of a plane costs decoding all of it."""


class InTurn:
    """Reads one box after another as it reads any: for readers to which they are all the same."""

    def read_in_turn(self: Reader, boxes: Iterable[Box]) -> Iterator[NDArray[Any]]:
        """Read one box after another."""
        return map(self.read, boxes)


_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
"""Types whose blends are exact and that the formats written here hold."""

_READERS = {
    ".npy": "stitchlib.io.npy:NpyReader",
    ".tif": "stitchlib.io.tiff:TiffReader",
    ".tiff": "stitchlib.io.tiff:TiffReader",
}

_PLANES = "stitchlib.io.planes:PlanesReader"
"""Of paths with the tag <Z>: a stack with one file per plane."""


def open_image(path: Path, part: Part = WHOLE) -> FileReader:
    """Open the header of an image file.

    Parameters
    ----------
    path : Path
        The file.
    part : Part, optional
        Which of its series, channels, … is the image; default the first series, which must then be
        one plane or stack.

    Raises
    ------
    InputError
        Where there is no such file, no reader for it, its content is not what its name says, or the
        part is not there or not one image.
    """
    reader = _opened(path, part)
    if reader.rgb:
        raise InputError(
            f"{path}: holds the colours of an RGB image, and one image is wanted; in a tile sheet "
            "they become three channels, or column 'select' takes one of them, e.g. S=0"
        )
    return reader


def read_header(path: Path, part: Part) -> tuple[tuple[int, ...], str, bool]:
    """Return the shape (x, y[, z]) and type of a part of an image, and whether it is RGB.

    Raises
    ------
    InputError
        As `open_image`, but RGB is fine.
    """
    reader = _opened(path, part)
    return tuple(map(int, reader.shape)), str(reader.dtype), reader.rgb


def known_suffixes() -> list[str]:
    """Return the endings of files that can be read."""
    return sorted(_READERS)


def _opened(path: Path, part: Part) -> FileReader:
    if path.is_dir():
        raise InputError(f"{path}: is a directory, not an image file")
    target = _READERS.get(path.suffix.lower())
    if target is None:
        known = ", ".join(sorted(_READERS))
        raise InputError(f"{path}: no reader for files named {path.suffix!r}; known: {known}")
    if "<Z" in str(path):
        target = _PLANES
    elif not path.exists():
        raise InputError(f"{path}: there is no such file")
    module, _, name = target.partition(":")
    reader: FileReader = getattr(import_module(module), name)(path, part)
    if 0 in reader.shape:
        raise InputError(f"{path}: the image is empty, its shape (x, y, z) is {reader.shape}")
    check_dtype(reader.dtype, path)
    return reader


def check_dtype(dtype: np.dtype[Any], name: object) -> None:
    """Refuse voxel types that cannot be blended exactly."""
    if dtype.name not in _DTYPES:
        raise InputError(
            f"{name}: voxels of type {dtype} are not supported; convert them to one of "
            f"{', '.join(_DTYPES)}"
        )


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Return ``array`` in the machine's byte order (the same object where it is already)."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def open_planned(
    path: Path,
    shape: Sequence[int],
    dtype: str,
    part: Part = WHOLE,
) -> FileReader:
    """Open a tile as a stack, and refuse it where it is not what the run was planned for."""
    reader = as_stack(open_image(path, part))
    if reader.shape != tuple(shape) or str(reader.dtype) != dtype:
        raise InputError(
            f"{path}: has shape {reader.shape} and type {reader.dtype}, but {tuple(shape)} and "
            f"{dtype} when the run was planned; it was replaced meanwhile. Start the run again"
        )
    return reader


def as_stack(reader: FileReader) -> FileReader:
    """Return the reader with three axes; a plane has one voxel along z."""
    return reader if len(reader.shape) == 3 else _Plane(reader)


class _Plane(InTurn):
    def __init__(self, reader: FileReader) -> None:
        self._reader = reader
        self.shape = (*reader.shape, 1)
        self.dtype = reader.dtype
        self.order = reader.order
        self.rgb, self.planewise = reader.rgb, reader.planewise

    def read(self, box: Box) -> NDArray[Any]:
        flat = Box(box.lower[:2], box.upper[:2])
        return self._reader.read(flat)[..., np.newaxis]

    def read_boxes(self, boxes: Sequence[Box]) -> list[NDArray[Any]]:
        flat = [Box(box.lower[:2], box.upper[:2]) for box in boxes]
        return [found[..., np.newaxis] for found in self._reader.read_boxes(flat)]
