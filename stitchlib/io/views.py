"""Images that are not (yet) in memory: handles of files, and parts and projections of images.

All are readers (see `stitchlib.io.images`), picklable, and hold no voxels but `ArrayImage`.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point
from stitchlib.errors import InputError
from stitchlib.io.images import Reader, native, open_image
from stitchlib.io.parts import WHOLE, Part

PROJECTED_PLANES = 32
"""Planes of which the maximum is taken at one time."""


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImage:
    """An array in memory; its axes are the layout's axes."""

    array: NDArray[Any]

    @property
    def shape(self) -> Point:
        """Extent per axis in voxels."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels, in the machine's byte order."""
        return self.array.dtype.newbyteorder("=")

    @property
    def order(self) -> str:
        """'F' where the first axis runs fastest in memory, else 'C'."""
        flags = self.array.flags
        return "F" if flags.f_contiguous and not flags.c_contiguous else "C"

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of ``box``: a view."""
        return native(self.array[box.slices()])


@lru_cache(maxsize=64)
def _opened(path: Path, part: Part, _modified: int, _size: int) -> Reader:
    return open_image(path, part)


def opened(path: Path, part: Part) -> Reader:
    """Open an image, or return the reader that was opened before if the file is still the same."""
    try:
        stat = path.stat()
    except OSError:
        return open_image(path, part)  # which says what is wrong
    return _opened(path, part, stat.st_mtime_ns, stat.st_size)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file, opened when it is read; it must then be what it was."""

    path: Path
    """Absolute path."""
    shape: Point
    dtype: np.dtype[Any]
    part: Part = WHOLE
    """Which series, channel, … of the file it is."""

    @classmethod
    def of(cls, path: Path) -> ImageFile:
        """Read the header of a file that holds one image."""
        reader = opened(path.absolute(), WHOLE)
        return cls(path.absolute(), tuple(map(int, reader.shape)), np.dtype(reader.dtype))

    @property
    def order(self) -> str:
        """'F' where x runs fastest in the file, 'C' where the last axis does."""
        return self._reader().order

    def _reader(self) -> Reader:
        reader = opened(self.path, self.part)
        if tuple(reader.shape) != self.shape or reader.dtype != self.dtype:
            raise InputError(
                f"{self.path}: has shape {tuple(reader.shape)} and type {reader.dtype}, but was "
                f"{self.shape} and {self.dtype} in the layout; it was replaced meanwhile"
            )
        return reader

    def read(self, box: Box) -> NDArray[Any]:
        """Read the voxels of ``box`` as an array of ``box.shape``."""
        return self._reader().read(box)


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A part of a raw file that a memmap showed: enough to map it again, read-only."""

    path: Path
    shape: Point
    dtype: np.dtype[Any]
    offset: int
    """Bytes from the start of the file to the first voxel."""
    strides: Point
    order: str

    @classmethod
    def of(cls, array: NDArray[Any]) -> MappedFile | None:
        """Return the handle of a memmap or of a view of one; None for any other array."""
        root: Any = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        if not isinstance(root, np.memmap) or not isinstance(root.base, mmap.mmap):
            return None
        if root.filename is None or root.mode == "c":  # pixels changed in memory only must stay
            return None
        start: int = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
        return cls(
            Path(root.filename).absolute(),
            array.shape,
            array.dtype,
            root.offset + start,
            array.strides,
            ArrayImage(array).order,
        )

    def read(self, box: Box) -> NDArray[Any]:
        """Map the voxels of ``box``."""
        try:
            whole = np.memmap(self.path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: cannot be mapped: {error}") from error
        view: NDArray[Any] = np.ndarray(self.shape, self.dtype, whole, self.offset, self.strides)
        return native(view[box.slices()])


@dataclass(frozen=True, slots=True)
class Missing:
    """An image of which only the shape and type are known."""

    shape: Point
    dtype: np.dtype[Any]
    why: str
    order: str = "C"

    def read(self, box: Box) -> NDArray[Any]:  # noqa: ARG002 - as every reader
        """Raise `InputError`: there is nothing to read."""
        raise InputError(self.why)


@dataclass(frozen=True, slots=True)
class Cropped:
    """A part of an image."""

    image: Reader
    box: Box

    @property
    def shape(self) -> Point:
        """Extent per axis in voxels."""
        return self.box.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return self.image.dtype

    @property
    def order(self) -> str:
        """As the whole image."""
        return self.image.order

    def read(self, box: Box) -> NDArray[Any]:
        """Read the voxels of ``box`` as an array of ``box.shape``."""
        return self.image.read(box.shifted(self.box.lower))


@dataclass(frozen=True, slots=True)
class Held:
    """An image of which one box was read and is in memory; nothing else of it can be read."""

    shape: Point
    dtype: np.dtype[Any]
    order: str
    box: Box
    """What is in memory."""
    array: NDArray[Any]
    """Its voxels."""

    @classmethod
    def of(cls, image: Reader, box: Box) -> Held:
        """Read a box."""
        return cls(image.shape, image.dtype, image.order, box, image.read(box))

    def read(self, box: Box) -> NDArray[Any]:
        """Return the voxels of ``box``, inside what is in memory: a view."""
        if not self.box.contains(box):
            raise InputError(f"{box} is not inside of what was read, {self.box}")
        return self.array[box.relative_to(self.box.lower).slices()]


@dataclass(frozen=True, slots=True)
class Dropped:
    """An image without the axes along which it has one voxel."""

    image: Reader
    axes: Point
    """The axes that are dropped."""
    shape: Point = field(init=False)

    def __post_init__(self) -> None:
        kept = tuple(n for d, n in enumerate(self.image.shape) if d not in self.axes)
        object.__setattr__(self, "shape", kept)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return self.image.dtype

    @property
    def order(self) -> str:
        """As the whole image."""
        return self.image.order

    def read(self, box: Box) -> NDArray[Any]:
        """Read the voxels of ``box`` as an array of ``box.shape``."""
        lower, upper = list(box.lower), list(box.upper)
        for axis in self.axes:
            lower.insert(axis, 0)
            upper.insert(axis, 1)
        return self.image.read(Box(tuple(lower), tuple(upper))).squeeze(self.axes)


@dataclass(frozen=True, slots=True)
class Projected:
    """The maximum of an image over some planes across one axis, which is dropped."""

    image: Reader
    axis: int
    planes: tuple[int, int]
    """First plane and the one after the last."""
    shape: Point = field(init=False)

    def __post_init__(self) -> None:
        kept = tuple(n for d, n in enumerate(self.image.shape) if d != self.axis)
        object.__setattr__(self, "shape", kept)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return self.image.dtype

    @property
    def order(self) -> str:
        """As the whole image."""
        return self.image.order

    def read(self, box: Box) -> NDArray[Any]:
        """Read the planes of ``box`` and return their maximum, an array of ``box.shape``."""
        result: NDArray[Any] | None = None
        for start in range(*self.planes, PROJECTED_PLANES):
            stop = min(start + PROJECTED_PLANES, self.planes[1])
            part = self.image.read(Box(self._with(box.lower, start), self._with(box.upper, stop)))
            one = part.shape[self.axis] == 1
            highest = part.squeeze(self.axis) if one else part.max(axis=self.axis)
            result = highest if result is None else np.maximum(result, highest)
        if result is None:
            raise InputError(f"there is no plane from {self.planes[0]} to {self.planes[1]}")
        return result

    def _with(self, corner: Sequence[int], coordinate: int) -> Point:
        return (*corner[: self.axis], coordinate, *corner[self.axis :])


def whole(reader: Reader) -> Box:
    """Return the box of all voxels of an image."""
    return Box((0,) * len(reader.shape), tuple(reader.shape))
