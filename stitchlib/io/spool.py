"""Decoded voxels of compressed images, kept while a job lasts, so that nothing is decoded twice."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box
from stitchlib.io.images import FileReader, Reader

DECODED_BYTES = 2**24
"""So much is decoded at one time, or one plane where that is more."""


class Spool:
    """A nameless file for the decoded voxels of many images; it is gone when the job is."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._end = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the space back."""
        self._file.close()

    def reader(self, image: FileReader, part: Box) -> Reader:
        """Return a reader of a part of a stack that decodes every plane of it once.

        Images whose voxels are read as they stand in the file are returned as they are.
        """
        if not image.planewise or part.empty:
            return image
        start = self._end
        self._end += part.size * image.dtype.itemsize
        self._file.truncate(self._end)  # without taking space: it is written when asked for
        return _Spooled(self._file, start, image, part)


class _Spooled:
    order = "F"

    def __init__(self, file: Any, start: int, image: FileReader, part: Box) -> None:
        self._file, self._start, self._image, self._part = file, start, image, part
        self.shape, self.dtype = image.shape, image.dtype
        self._decoded = False

    def read(self, box: Box) -> NDArray[Any]:
        """Read the voxels of ``box``, inside the part, as an array of ``box.shape``."""
        inside = box.relative_to(self._part.lower)
        if not self._decoded:
            self._decode()
        stack = np.memmap(self._file, self.dtype, "r", self._start, self._part.shape[::-1])
        return np.asarray(stack)[inside.slices()[::-1]].T

    def _decode(self) -> None:
        lower, upper = self._part.lower, self._part.upper
        plane = self._part.shape[0] * self._part.shape[1] * self.dtype.itemsize
        step = max(1, DECODED_BYTES // plane)
        slabs = (
            Box((*lower[:2], z), (*upper[:2], min(z + step, upper[2])))
            for z in range(lower[2], upper[2], step)
        )
        self._file.seek(self._start)
        for slab in self._image.read_in_turn(slabs):
            self._file.write(np.ascontiguousarray(slab.T))
        self._file.flush()
        self._decoded = True
