"""NumPy files: their axes are the layout's axes, (x, y[, z])."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box
from stitchlib.errors import InputError
from stitchlib.io.images import native


class NpyReader:
    """A ``.npy`` file, memory mapped."""

    def __init__(self, path: Path) -> None:
        try:
            # Not pickle: allow_pickle stays False, so that a file can't run code.
            self._array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: cannot be read as a NumPy file: {error}") from error
        if self._array.ndim not in (2, 3):
            raise InputError(
                f"{path}: {self._array.ndim} axes, but a tile has 2 (x, y) or 3 (x, y, z)"
            )
        self.shape: tuple[int, ...] = self._array.shape
        self.dtype: np.dtype[Any] = self._array.dtype.newbyteorder("=")
        self.order = "F" if self._array.flags.f_contiguous else "C"

    def read(self, box: Box) -> NDArray[Any]:
        """Read the voxels of ``box`` (inside the image) as an array of ``box.shape``."""
        return native(self._array[box.slices()])
