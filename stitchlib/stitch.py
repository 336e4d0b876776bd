"""Fusion: tiles at integer positions become one image, window by window.

`fuse` is the one engine; `Layout.stitch` and the shard jobs execute the same plans with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stitchlib.core.blend import Order, blend, weights
from stitchlib.core.boxes import Box, Point
from stitchlib.core.pyramid import halve
from stitchlib.io.files import replacing
from stitchlib.io.hdf5 import create_dataset, write_chunks
from stitchlib.io.images import Reader, open_planned
from stitchlib.plans import FusionPlan, ShardPlan, blending_bytes

VERSION = 1
"""Version of the algorithm: raising it makes every run stitch again."""

COLUMN_BYTES = 2**27
"""Most bytes of the chunks that are filled at one time."""

SLAB_PLANES = 16
"""Planes that are blended at one time: small enough for the processor's caches."""


def fuse(
    plan: FusionPlan, sources: Sequence[Reader], out: NDArray[Any], window: Box | None = None
) -> None:
    """Write the voxels of a window that tiles cover; the others stay as they are.

    Parameters
    ----------
    plan : FusionPlan
        What covers what.
    sources : sequence of Reader
        The tiles, in the order of ``plan.boxes``.
    out : array
        Has the window's shape, and the tiles' type.
    window : Box, optional
        A part of the plan's window; default all of it.
    """
    window = window or plan.window
    order: Order = "F" if out.flags.f_contiguous else "C"
    for part, covering in plan.inside(window):
        local = [part.relative_to(plan.boxes[i].lower) for i in covering]
        values = [sources[i].read(box) for i, box in zip(covering, local, strict=True)]
        tile_weights = None
        if len(values) > 1 and plan.blending == "interpolation":
            tile_weights = [
                weights(plan.boxes[i].shape, box, order)
                for i, box in zip(covering, local, strict=True)
            ]
        target = out[part.relative_to(window.lower).slices()]
        target[...] = blend(values, tile_weights, plan.blending)


def stitch_shard(plan: ShardPlan, folder: Path, path: Path) -> None:
    """Make one shard: fuse its tiles, halve for its pyramid levels, compress, write.

    Parameters
    ----------
    plan : ShardPlan
        From the job's card.
    folder : Path
        Where relative tile paths start.
    path : Path
        HDF5 file that is made: one dataset a level, named '0', '1', …
    """
    sources = [
        open_planned(folder / image["path"], box.shape, plan.dtype) for image, box in plan.tiles
    ]
    fusion = FusionPlan.of([box for _, box in plan.tiles], plan.box, plan.blending)
    dtype = np.dtype(plan.dtype)

    def fused(box: Box) -> NDArray[Any]:
        out = np.full(box.shape, plan.fill, dtype, order="F")
        fuse(fusion, sources, out, box)
        return out

    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        datasets = []
        for level, (factor, chunk) in enumerate(plan.levels):
            shape = level_box(plan.box, factor).shape
            datasets.append(
                create_dataset(
                    file,
                    str(level),
                    shape,
                    chunk,
                    dtype=dtype,
                    compression=plan.compression,
                    fill=plan.fill,
                )
            )
        write_levels(fused, plan.box, [factor for factor, _ in plan.levels], datasets)


def memory_needed(plan: ShardPlan) -> int:
    """Return the most bytes that making a shard allocates."""
    itemsize = np.dtype(plan.dtype).itemsize
    factors, chunks = zip(*plan.levels, strict=True)
    column = tuple(map(min, _column_steps(factors, chunks, itemsize), plan.box.shape))
    planes = min(_slab_planes(factors), plan.box.shape[2])
    slab = Box.at((0, 0, 0), (*column, planes))
    # Every level collects the planes of a row of chunks.
    rows = sum(
        Box.at((0, 0), level_box(slab, factor).shape[:2]).size * chunk[2]
        for factor, chunk in plan.levels
    )
    blending = blending_bytes([box for _, box in plan.tiles], plan.box, itemsize, slab.shape)
    halving = slab.size * 12  # sums of 4 or 8 bytes, along one axis and along the next
    packing = 3 * itemsize * max(Box.at((0, 0, 0), chunk).size for chunk in chunks)
    # Compressed files are decoded by planes.
    decoding = 2 * itemsize * max((box.shape[0] * box.shape[1] for _, box in plan.tiles), default=0)
    most = max(blending + decoding, halving, packing)
    return 2**20 + (rows + slab.size) * itemsize + most


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
) -> None:
    """Stream a box, plane by plane and column by column, into the levels of a pyramid.

    Parameters
    ----------
    read : callable
        Gives the voxels of a box of the first level, axes (x, y, z).
    box : Box
        All of it; its lower corner lies at a chunk's corner of every level.
    factors : sequence of tuple of int
        Of every level, relative to the first one.
    datasets : sequence of h5py.Dataset
        Of every level; element 0 is the box's corner. None: that level is not written.
    """
    halvings = [
        tuple(b > a for a, b in zip(low, high, strict=True)) for low, high in pairwise(factors)
    ]
    planes = _slab_planes(factors)
    for column in _columns(box, factors, datasets):
        rows = [
            _ChunkRow(dataset, level_box(column.relative_to(box.lower), factor))
            if dataset is not None
            else None
            for factor, dataset in zip(factors, datasets, strict=True)
        ]
        for z in range(column.lower[2], column.upper[2], planes):
            top = min(z + planes, column.upper[2])
            slab = read(Box((*column.lower[:2], z), (*column.upper[:2], top)))
            for level, row in enumerate(rows):
                if level:
                    slab = halve(slab, halvings[level - 1])
                if row is not None:
                    row.add(slab)


def _columns(
    box: Box, factors: Sequence[Point], datasets: Sequence[h5py.Dataset | None]
) -> Iterator[Box]:
    """Cut a box along x and y at chunk borders of every level, so that few chunks are open."""
    written = [(f, d) for f, d in zip(factors, datasets, strict=True) if d is not None]
    steps = _column_steps(
        [f for f, _ in written],
        [d.chunks[::-1] for _, d in written],
        written[0][1].dtype.itemsize,
    )
    for y in range(box.lower[1], box.upper[1], steps[1]):
        for x in range(box.lower[0], box.upper[0], steps[0]):
            lower = (x, y, box.lower[2])
            upper = (x + steps[0], y + steps[1], box.upper[2])
            yield Box(lower, upper).intersection(box)


def _column_steps(
    factors: Sequence[Point], chunks: Sequence[Point], itemsize: int
) -> tuple[int, int]:
    """Voxels of the first level along x and y of a column, whole chunks of all these levels."""
    units = [
        max(c[axis] * f[axis] for f, c in zip(factors, chunks, strict=True)) for axis in (0, 1)
    ]
    side = (COLUMN_BYTES / (chunks[0][2] * itemsize)) ** 0.5
    x, y = (unit * max(1, int(side // unit)) for unit in units)
    return x, y


def _slab_planes(factors: Sequence[Point]) -> int:
    """Planes of the first level of a slab, a multiple of what makes one of the last level."""
    step = factors[-1][2]
    return step * max(1, SLAB_PLANES // step)


class _ChunkRow:
    """Planes of one column of a dataset, collected until they fill a row of chunks."""

    def __init__(self, dataset: h5py.Dataset, box: Box) -> None:
        self._dataset = dataset
        self._box = box
        depth = dataset.chunks[0]
        self._planes = np.zeros((*box.shape[:2], depth), dataset.dtype, order="F")
        self._filled = 0
        self._z = box.lower[2]

    def add(self, slab: NDArray[Any]) -> None:
        """Take the next planes, axes (x, y, z); write the rows that are full, or the last one."""
        start = 0
        while start < slab.shape[2]:
            count = min(slab.shape[2] - start, self._planes.shape[2] - self._filled)
            stop = self._filled + count
            self._planes[:, :, self._filled : stop] = slab[:, :, start : start + count]
            self._filled, start = stop, start + count
            if stop == self._planes.shape[2] or self._z + stop == self._box.upper[2]:
                corner = (*self._box.lower[:2], self._z)
                write_chunks(self._dataset, corner, self._planes[:, :, :stop])
                self._z, self._filled = self._z + stop, 0
