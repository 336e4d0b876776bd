"""HDF5 datasets that are written chunk by chunk: shuffle and deflate here, any gzip reader there.

Axes are (x, y, z) here and (z, y, x) in the file.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point

try:
    from isal import isal_zlib

    _deflate: Callable[[Any, int], bytes] = isal_zlib.compress
except ImportError:  # a platform without isal's wheels: slower, the voxels are the same
    _deflate = zlib.compress


def create_dataset(
    group: h5py.Group,
    name: str,
    shape: Point,
    chunk: Point,
    *,
    dtype: np.dtype[Any],
    compression: str,
    fill: float = 0,
) -> h5py.Dataset:
    """Create an empty dataset of (x, y, z) ``shape`` that `write_chunks` fills.

    Its largest shape is rounded up to whole chunks, so that the last ones may be written whole.
    """
    gzip = compression == "gzip"
    return group.create_dataset(
        name,
        shape=shape[::-1],
        maxshape=tuple(-(-n // c) * c for n, c in zip(shape, chunk, strict=True))[::-1],
        chunks=chunk[::-1],
        dtype=dtype,
        shuffle=gzip and dtype.itemsize > 1,
        compression="gzip" if gzip else None,
        compression_opts=1 if gzip else None,
        fillvalue=dtype.type(fill),
    )


def write_chunks(dataset: h5py.Dataset, lower: Point, block: NDArray[Any]) -> None:
    """Write whole chunks.

    Parameters
    ----------
    dataset : h5py.Dataset
        From `create_dataset`.
    lower : tuple of int
        Corner (x, y, z) of the block in the dataset, at a chunk's corner.
    block : array, axes (x, y, z)
        Voxels; where it ends inside a chunk, the rest of that chunk must lie outside the dataset.
        That rest is fill: a volume that the chunk is copied to may be larger.
    """
    chunk = dataset.chunks[::-1]
    stack = block.T
    pack = _Packer(dataset)
    for z in range(0, block.shape[2], chunk[2]):
        for y in range(0, block.shape[1], chunk[1]):
            for x in range(0, block.shape[0], chunk[0]):
                part = stack[z : z + chunk[2], y : y + chunk[1], x : x + chunk[0]]
                offset = (lower[2] + z, lower[1] + y, lower[0] + x)
                dataset.id.write_direct_chunk(offset, pack(part))


class _Packer:
    """Makes the bytes of a chunk as HDF5's own shuffle and deflate filters would."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._deflate = dataset.compression == "gzip"
        self._fill = dataset.fillvalue
        self._chunk = np.full(dataset.chunks, self._fill, dataset.dtype)
        voxels = self._chunk.reshape(-1).view(np.uint8).reshape(self._chunk.size, -1)
        # Shuffled, a chunk is the lowest byte of all its voxels, then the next one of all, …
        self._voxels = voxels.T if dataset.shuffle else voxels
        self._bytes = np.empty(self._voxels.shape, np.uint8)

    def __call__(self, part: NDArray[Any]) -> bytes:
        if part.shape != self._chunk.shape:
            self._chunk[...] = self._fill
        self._chunk[tuple(map(slice, part.shape))] = part
        np.copyto(self._bytes, self._voxels)
        return _deflate(self._bytes, 1) if self._deflate else self._bytes.tobytes()


def copy_chunks(source: h5py.Dataset, target: h5py.Dataset, lower: Point) -> None:
    """Copy the chunks of ``source`` as they are, its corner to ``lower`` (x, y, z) of ``target``.

    Both have the same chunk, type and filters; ``lower`` is at a chunk's corner.
    """
    if (source.chunks, source.dtype, source.compression, source.shuffle) != (
        target.chunks, target.dtype, target.compression, target.shuffle,
    ):  # fmt: skip
        raise ValueError(f"{source.file.filename}: {source.name} has other chunks or filters")
    offsets = [range(0, n, c) for n, c in zip(source.shape, source.chunks, strict=True)]
    for z in offsets[0]:
        for y in offsets[1]:
            for x in offsets[2]:
                mask, raw = source.id.read_direct_chunk((z, y, x))
                target.id.write_direct_chunk(
                    (lower[2] + z, lower[1] + y, lower[0] + x), raw, filter_mask=mask
                )


def read_box(dataset: h5py.Dataset, box: Box) -> NDArray[Any]:
    """Read a box (x, y, z) of a dataset as an array with axes (x, y, z)."""
    array: NDArray[Any] = dataset[box.slices()[::-1]]
    return array.T
