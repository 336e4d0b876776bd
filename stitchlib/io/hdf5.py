"""HDF5 datasets that are written chunk by chunk: shuffle and deflate here, any gzip reader there.

Axes are (x, y, z) here and (z, y, x) in the file.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from operator import add, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point
from stitchlib.io.deflate import deflated, stored_planes

if TYPE_CHECKING:
    import h5py

MAPPED_BYTES = 2**24
"""So much of a file is mapped at one time, or a chunk where that is more."""


def open_hdf5(path: Path, mode: str = "r") -> h5py.File:
    """Open an HDF5 file. What plans a run knows how volumes are made, and makes none."""
    import h5py  # noqa: PLC0415 - so only who opens one pays for loading it

    return h5py.File(path, mode)


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
    """Create an empty dataset of (x, y, z) ``shape`` that `ChunkRow` fills.

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


class ChunkRow:
    """A row of chunks of a dataset: takes planes until it is full, then packs and writes it.

    Planes are laid out as the file wants them while they come: chunk by chunk, and in each the
    lowest byte of all voxels, then the next byte of all, …, which is HDF5's shuffle filter. So a
    chunk is compressed where it lies.

    Parameters
    ----------
    dataset : h5py.Dataset
        From `create_dataset`.
    shape : tuple of int
        Extent (x, y, …) of the widest and highest box that comes.
    mapped : callable
        Calls a function for every chunk, in series or in a pool, like `map`.
    """

    def __init__(
        self, dataset: h5py.Dataset, shape: Point, mapped: Callable[..., Iterable[Any]] = map
    ) -> None:
        self._dataset, self._mapped = dataset, mapped
        fill = np.full(1, dataset.fillvalue, dataset.dtype)
        self._fill = (fill.view(np.uint8) if dataset.shuffle else fill).reshape(-1, 1, 1, 1)
        self._chunks = np.empty(
            (*self._counts(shape), len(self._fill), *dataset.chunks), self._fill.dtype
        )
        self._constant: dict[bytes, bytes] = {}

    def _counts(self, shape: Point) -> Point:
        """Chunks along y and x."""
        sides = self._dataset.chunks[1:]
        return tuple(-(-n // side) for n, side in zip(shape[1::-1], sides, strict=True))

    def start(self, box: Box) -> None:
        """Begin with the planes of a box (x, y, z) of the dataset, from a chunk's corner on.

        Where it ends inside a chunk, the rest of that chunk must lie outside the dataset, and
        becomes fill: a volume that the chunk is copied to may be larger.
        """
        self._box, self._z, self._filled = box, box.lower[2], 0
        rows, columns = self._counts(box.shape)
        self._row = self._chunks[:rows, :columns]
        # The rest of the last chunks is written once, here: no plane reaches it.
        if box.shape[1] % self._dataset.chunks[1]:
            self._row[-1] = self._fill
        if box.shape[0] % self._dataset.chunks[2]:
            self._row[:, -1] = self._fill

    def add(self, slab: NDArray[Any]) -> None:
        """Take the next planes, axes (x, y, z); write the row when it is full, or was the last."""
        depth, start = self._dataset.chunks[0], 0
        while start < slab.shape[2]:
            count = min(slab.shape[2] - start, depth - self._filled)
            self._put(slab[:, :, start : start + count].T)
            start += count
            if self._filled == depth or self._z + self._filled == self._box.upper[2]:
                self._write()

    def _put(self, stack: NDArray[Any]) -> None:
        planes = slice(self._filled, self._filled + len(stack))
        shuffle = self._dataset.shuffle
        values = stack.view(f"<u{stack.dtype.itemsize}") if shuffle else stack
        for number in range(len(self._fill)):
            # Axes: z, chunk along y, y in it, chunk along x, x in it.
            row = self._row[:, :, number].transpose(2, 0, 3, 1, 4)[planes]
            for y, y_chunks, height in _parts(stack.shape[1], row.shape[2]):
                for x, x_chunks, width in _parts(stack.shape[2], row.shape[4]):
                    target = row[:, y_chunks, :height, x_chunks, :width]
                    part = values[:, y, x].reshape(target.shape)
                    # Of wider integers the cast takes the lowest byte.
                    if number:
                        np.right_shift(part, 8 * number, out=target, casting="unsafe")
                    else:
                        np.copyto(target, part, casting="unsafe")
        self._filled = planes.stop

    def _write(self) -> None:
        self._row[:, :, :, self._filled :] = self._fill
        _, height, width = self._dataset.chunks
        chunks = [chunk for row in self._row for chunk in row]
        packed: Iterable[Any] = chunks
        if self._dataset.compression == "gzip":
            pack = partial(self._pack, stored=stored_planes(chunks))
            packed = self._mapped(pack, zip(chunks, self._perhaps_constant(), strict=True))
        (x, y, _), (rows, columns) = self._box.lower, self._row.shape[:2]
        places = product(range(y, y + rows * height, height), range(x, x + columns * width, width))
        write = self._dataset.id.write_direct_chunk
        for place, data in zip(places, packed, strict=True):
            write((self._z, *place), data)
        self._z, self._filled = self._z + self._filled, 0

    def _perhaps_constant(self) -> list[bool]:
        """Tell of every chunk whether a few of its voxels are alike."""
        voxels = self._row.reshape(*self._row.shape[:3], -1)
        few = voxels[..., [0, voxels.shape[-1] // 2, -1]]
        alike: list[bool] = np.all(few == few[..., :1], axis=(2, 3)).ravel().tolist()
        return alike

    def _pack(self, item: tuple[NDArray[Any], bool], stored: int | None) -> bytes:
        chunk, perhaps_constant = item
        voxels = chunk.reshape(len(chunk), -1)
        # Chunks of one value are many where a mosaic has gaps.
        if not perhaps_constant or np.any(voxels != voxels[:, :1]):
            return deflated(chunk, stored)
        value = voxels[:, 0].tobytes()
        if value not in self._constant:
            self._constant[value] = deflated(chunk)
        return self._constant[value]


def row_bytes(chunk: Point, shape: Point, itemsize: int) -> int:
    """Return the bytes that a `ChunkRow` takes for a box of ``shape``, axes (x, y, z)."""
    columns, rows = (-(-n // side) for n, side in zip(shape[:2], chunk[:2], strict=True))
    return columns * rows * math.prod(chunk) * itemsize


def _parts(n: int, side: int) -> Iterator[tuple[slice, slice, int]]:
    """Cut ``n`` voxels into whole chunks and the rest: which voxels, chunks, voxels per chunk."""
    whole = n // side
    if whole:
        yield slice(0, whole * side), slice(0, whole), side
    if n % side:
        yield slice(whole * side, n), slice(whole, whole + 1), n % side


def copy_chunks(path: Path, parts: Sequence[tuple[h5py.Dataset, h5py.Dataset, Point]]) -> None:
    """Copy chunks as they are, in the order in which they stand in the file ``path``.

    Parameters
    ----------
    path : Path
        The file of all sources; what was written to it is flushed.
    parts : sequence of (h5py.Dataset, h5py.Dataset, tuple of int)
        Source, target, and where in the target its corner goes, (x, y, z), at a chunk's corner.
        Both have the same chunk, type and filters.

    Raises
    ------
    ValueError
        Where they have not, or chunks are missing.
    """
    stored: list[tuple[int, int, int, Point, Any]] = []
    for source, target, lower in parts:
        if (source.chunks, source.dtype, source.compression, source.shuffle) != (
            target.chunks, target.dtype, target.compression, target.shuffle,
        ):  # fmt: skip
            raise ValueError(f"{path}: {source.name} has other chunks or filters")
        chunks: list[Any] = []
        source.id.chunk_iter(chunks.append)
        wanted = math.prod(-(-n // c) for n, c in zip(source.shape, source.chunks, strict=True))
        if len(chunks) != wanted:
            raise ValueError(f"{source.name} has {len(chunks)} chunks instead of {wanted}")
        write, corner = target.id.write_direct_chunk, lower[::-1]
        for chunk in chunks:
            place = tuple(map(add, chunk.chunk_offset, corner))
            stored.append((chunk.byte_offset, chunk.size, chunk.filter_mask, place, write))
    stored.sort(key=itemgetter(0))
    for (_, _, mask, place, write), raw in zip(stored, _mapped(path, stored), strict=True):
        write(place, raw, filter_mask=mask)


def _mapped(path: Path, places: Iterable[Sequence[Any]]) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes at places of a file, (start, length, …), where the system has them.

    Reading them would copy them once more, and to copy them is all the work there is. They are
    mapped a piece at a time, at once: a page that is mapped when it is needed costs as much.
    """
    flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    first = last = 0
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for start, length, *_ in places:
            if start + length > size:
                raise ValueError(f"a chunk ends at byte {start + length} of {size}; truncated?")
            if not first <= start <= start + length <= last:
                first = start - start % mmap.ALLOCATIONGRANULARITY
                last = min(max(start + length, first + MAPPED_BYTES), size)
                piece = mmap.mmap(file.fileno(), last - first, flags, mmap.PROT_READ, offset=first)
                mapped = np.frombuffer(piece, np.uint8)
            yield mapped[start - first : start - first + length]


def read_box(dataset: h5py.Dataset, box: Box) -> NDArray[Any]:
    """Read a box (x, y, z) of a dataset as an array with axes (x, y, z)."""
    array: NDArray[Any] = dataset[box.slices()[::-1]]
    return array.T
