"""TIFF stacks and planes, (z, y, x) in the file and (x, y[, z]) here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from stitchlib.core.boxes import Box
from stitchlib.errors import InputError
from stitchlib.io.images import native


class TiffReader:
    """The first series of a TIFF file: one plane, or planes along one further axis taken as z.

    Uncompressed contiguous files are memory mapped; of others, only the needed planes are decoded.
    """

    order = "F"

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with tifffile.TiffFile(path) as file:
                series = file.series[0]
                axes, shape, dtype = series.axes, series.shape, series.dtype
                self._offset: int | None = series.dataoffset
                self._byteorder = file.byteorder
                n_pages = len(series.pages)
                whole = _whole_chain(file)
        except Exception as error:  # tifffile raises many kinds on broken files
            raise InputError(f"{path}: cannot be read as TIFF: {error}") from error
        if not whole:
            raise InputError(f"{path}: pages are missing at the end of the file; truncated?")
        if dtype is None:
            raise InputError(f"{path}: the planes of this TIFF have different types")
        shape = self._stack_shape(axes, tuple(map(int, shape)))
        self.shape: tuple[int, ...] = shape[::-1]
        self.dtype: np.dtype[Any] = dtype.newbyteorder("=")
        if self._offset is None:
            if n_pages != (shape[0] if len(shape) == 3 else 1):
                raise InputError(f"{path}: {n_pages} pages for the shape (z, y, x) = {shape}")
        elif path.stat().st_size < self._offset + int(np.prod(shape)) * dtype.itemsize:
            raise InputError(f"{path}: the file is shorter than its {shape} voxels; truncated?")

    def _stack_shape(self, axes: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape as (y, x) or (z, y, x); anything else than planes along one axis is refused."""
        kept = [(a, n) for a, n in zip(axes, shape, strict=True) if n > 1 or a in "YXZ"]
        names = "".join(a for a, _ in kept)
        if names[-2:] == "YX" and len(names) <= 3 and names[0] not in "CTS":
            return tuple(n for _, n in kept)
        raise InputError(
            f"{self._path}: axes {axes} with shape {shape}; a tile is one plane (YX) or one stack "
            "(ZYX). Split colours, channels and times into files of their own"
        )

    def read(self, box: Box) -> NDArray[Any]:
        """Read the voxels of ``box`` (inside the image) as an array of ``box.shape``."""
        index = box.slices()[::-1]
        if self._offset is not None:
            dtype = self.dtype.newbyteorder(self._byteorder)
            try:
                stack = np.memmap(self._path, dtype, "r", self._offset, self.shape[::-1])
            except (OSError, ValueError) as error:
                raise InputError(f"{self._path}: cannot be read as TIFF: {error}") from error
            return native(np.asarray(stack[index])).T
        return self._decode(index).T

    def _decode(self, index: tuple[slice, ...]) -> NDArray[Any]:
        try:
            with tifffile.TiffFile(self._path) as file:
                pages = file.series[0].pages
                if len(index) == 2:
                    return native(_decoded(pages[0])[index])
                shape = tuple(s.stop - s.start for s in index)
                stack = np.empty(shape, self.dtype)
                for out, z in zip(stack, range(index[0].start, index[0].stop), strict=True):
                    out[...] = _decoded(pages[z])[index[1:]]
                return stack
        except Exception as error:  # decoders raise many kinds on broken files
            raise InputError(f"{self._path}: cannot be decoded: {error}") from error


def _decoded(page: tifffile.TiffPage | tifffile.TiffFrame | None) -> NDArray[Any]:
    if page is None:
        raise ValueError("a page is missing")
    # Some decoders make do with what is there of a segment.
    ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
    if max(ends, default=0) > page.parent.filehandle.size:
        raise ValueError("the file ends before its voxels; truncated?")
    return page.asarray()


def _whole_chain(file: tifffile.TiffFile) -> bool:
    """Whether the chain of pages ends inside the file: of a truncated one, tifffile reads less."""
    if file.is_ndpi or file.is_lsm:  # their offsets are not what TIFF says where files are large
        return True
    handle, form = file.filehandle, file.tiff
    where, seen = form.offsetsize, set[int]()  # the header is twice as long as its last offset
    while where + form.offsetsize <= handle.size:
        handle.seek(where)
        page = int.from_bytes(handle.read(form.offsetsize), _ENDIAN[form.byteorder])
        if page == 0 or page in seen:
            return True
        seen.add(page)
        handle.seek(page)
        tags = int.from_bytes(handle.read(form.tagnosize), _ENDIAN[form.byteorder])
        where = page + form.tagnosize + tags * form.tagsize
    return False


_ENDIAN: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
