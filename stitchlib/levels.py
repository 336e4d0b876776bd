"""Streams of voxels into the levels of a pyramid, a column of few chunks at a time.

A column is as wide as possible and as high as one chunk of the coarsest level: so tiles are read in
few long pieces, and the chunks that are open at one time take little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point
from stitchlib.core.pyramid import halve
from stitchlib.io.hdf5 import ChunkRow, row_bytes

if TYPE_CHECKING:
    import h5py

COLUMN_BYTES = 2**26
"""Most bytes of the chunks of the first level that are open at one time."""

SLAB_VOXELS = 2**21
"""Most voxels that pass at one time: small enough for the processor's caches."""


def level_box(box: Box, factor: Point) -> Box:
    """Return a box of level 0 in the voxels of a coarser level; its lower corner is a multiple."""
    return Box(
        tuple(a // f for a, f in zip(box.lower, factor, strict=True)),
        tuple(-(-b // f) for b, f in zip(box.upper, factor, strict=True)),
    )


def write_levels(
    read: Callable[[Box], NDArray[Any]],
    box: Box,
    factors: Sequence[Point],
    datasets: Sequence[h5py.Dataset | None],
    mapped: Callable[..., Iterable[Any]] = map,
) -> None:
    """Stream a box, slab by slab and column by column, into the levels of a pyramid.

    Parameters
    ----------
    read : callable
        Gives the voxels of a box of the first level, axes (x, y, z). They need not outlive the next
        call.
    box : Box
        All of it; its lower corner lies at a chunk's corner of every level.
    factors : sequence of tuple of int
        Of every level, relative to the first one.
    datasets : sequence of h5py.Dataset
        Of every level; element 0 is the box's corner. None: that level is not written.
    mapped : callable
        Calls a function for every chunk, in series or in a pool, like `map`.
    """
    halvings = [
        tuple(b > a for a, b in zip(low, high, strict=True)) for low, high in pairwise(factors)
    ]
    written = [(f, d) for f, d in zip(factors, datasets, strict=True) if d is not None]
    most = slab_shape(
        [f for f, _ in written],
        [d.chunks[::-1] for _, d in written],
        box.shape,
        written[0][1].dtype.itemsize,
    )
    # Memory that is used again costs nothing; fresh memory, as much as filling it.
    rows = [
        dataset and ChunkRow(dataset, level_box(Box.at((0, 0, 0), most), factor).shape, mapped)
        for factor, dataset in zip(factors, datasets, strict=True)
    ]
    for column in _columns(box, most):
        for factor, row in zip(factors, rows, strict=True):
            if row is not None:
                row.start(level_box(column.relative_to(box.lower), factor))
        for z in range(column.lower[2], column.upper[2], most[2]):
            top = min(z + most[2], column.upper[2])
            slab = read(Box((*column.lower[:2], z), (*column.upper[:2], top)))
            for level, row in enumerate(rows):
                if level:
                    slab = halve(slab, halvings[level - 1])
                if row is not None:
                    row.add(slab)


def _columns(box: Box, most: Point) -> Iterator[Box]:
    """Cut a box along x and y at chunk borders of every level."""
    for y in range(box.lower[1], box.upper[1], most[1]):
        for x in range(box.lower[0], box.upper[0], most[0]):
            upper = (x + most[0], y + most[1], box.upper[2])
            yield Box((x, y, box.lower[2]), upper).intersection(box)


def slab_shape(
    factors: Sequence[Point], chunks: Sequence[Point], shape: Point, itemsize: int
) -> Point:
    """Return the extent of the largest slab: the columns' width and height, and the planes.

    Parameters
    ----------
    factors, chunks : sequence of tuple of int
        Of the levels that are written.
    shape : tuple of int
        Extent of the whole box, voxels of the first level.
    itemsize : int
        Bytes of a voxel.
    """
    # What makes whole chunks of all levels, and whole voxels of the last one.
    width, height = (
        max(c[axis] * f[axis] for f, c in zip(factors, chunks, strict=True)) for axis in (0, 1)
    )
    step = factors[-1][2]
    most = min(COLUMN_BYTES // (chunks[0][2] * itemsize), SLAB_VOXELS // step)
    width *= max(1, most // (width * height))
    width, height = min(width, shape[0]), min(height, shape[1])
    planes = step * max(1, SLAB_VOXELS // (width * height * step))
    return width, height, min(planes, shape[2])


def levels_bytes(
    factors: Sequence[Point], chunks: Sequence[Point], shape: Point, itemsize: int, making: int
) -> int:
    """Bound the bytes that `write_levels` allocates; ``read`` takes ``making`` while it runs."""
    slab = Box.at((0, 0, 0), slab_shape(factors, chunks, shape, itemsize))
    rows = sum(
        row_bytes(chunk, level_box(slab, factor).shape, itemsize)
        for factor, chunk in zip(factors, chunks, strict=True)
    )
    # Sums of 4 or 8 bytes, along one axis and along the next.
    halving = slab.size * 12 if len(factors) > 1 else 0
    packing = 2 * itemsize * max(Box.at((0, 0, 0), chunk).size for chunk in chunks)
    return rows + slab.size * itemsize + max(making, halving, slab.size * itemsize, packing)
