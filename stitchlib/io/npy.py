"""NumPy files: their axes are the layout's axes, (x, y[, z])."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box
from stitchlib.errors import InputError
from stitchlib.io import positioned
from stitchlib.io.images import InTurn, native
from stitchlib.io.parts import WHOLE, Part


class NpyReader(InTurn):
    """A ``.npy`` file, memory mapped while it is read: thousands may be open at a time."""

    rgb = False
    planewise = False

    def __init__(self, path: Path, part: Part = WHOLE) -> None:
        if part != WHOLE:
            raise InputError(
                f"{path}: {part} is asked for, but a .npy file is one image; leave the columns "
                "'series' and 'select' empty"
            )
        self._path = path
        try:
            # Never pickles: a file can't run code.
            with np.errstate(over="raise"):
                array = np.lib.format.open_memmap(path, mode="r")
        except MemoryError:
            raise
        except Exception as error:  # NumPy raises many kinds on broken headers
            raise InputError(f"{path}: cannot be read as a NumPy file: {error}") from error
        if array.ndim not in (2, 3):
            raise InputError(f"{path}: {array.ndim} axes, but a tile has 2 (x, y) or 3 (x, y, z)")
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype.newbyteorder("=")
        self.order: Literal["C", "F"] = "F" if array.flags.f_contiguous else "C"
        self._stored: np.dtype[Any] = array.dtype
        self._offset: int = array.offset

    def read_boxes(self, boxes: Sequence[Box]) -> list[NDArray[Any]]:
        """Read several boxes into memory: no byte twice, and no more than needed."""
        turned = slice(None, None, 1 if self.order == "F" else -1)
        shape, item = self.shape[turned], self._stored.itemsize
        plane = shape[0] * shape[1] * item
        planes = range(self._offset, self._offset + math.prod(shape) * item, plane)
        stored = positioned.Stored(self._path, planes, self._stored, shape[0] * item)
        wanted = [Box(box.lower[turned], box.upper[turned]) for box in boxes]
        try:
            found = positioned.read_boxes(stored, wanted)
        except (OSError, EOFError) as error:
            raise InputError(f"{self._path}: cannot be read as a NumPy file: {error}") from error
        return found if self.order == "F" else [part.T for part in found]

    def read(self, box: Box) -> NDArray[Any]:
        """Read the voxels of ``box`` (inside the image) as an array of ``box.shape``."""
        try:
            array = np.memmap(
                self._path, self._stored, "r", self._offset, self.shape, order=self.order
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{self._path}: cannot be read as a NumPy file: {error}") from error
        return native(np.asarray(array)[box.slices()])
