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

from stitchlib import parallel
from stitchlib.core.blend import Order, blend, blend_by, converted, quotient, weights
from stitchlib.core.boxes import Box, Point
from stitchlib.core.pyramid import halve
from stitchlib.errors import InputError
from stitchlib.io.files import replacing
from stitchlib.io.hdf5 import create_dataset, write_chunks
from stitchlib.io.images import Reader, open_planned
from stitchlib.io.parts import Part
from stitchlib.io.sinks import Target
from stitchlib.plans import FusionPlan, ShardPlan, blending_bytes

VERSION = 1
"""Version of the algorithm: raising it makes every run stitch again."""

COLUMN_BYTES = 2**27
"""Most bytes of the chunks that are filled at one time."""

SLAB_VOXELS = 2**21
"""Voxels that one task of `stitch_window` blends."""

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
    for piece, covering in plan.pieces:
        part = piece.intersection(window)
        if not part.empty:
            how = (covering, gain(plan, sources, piece, covering))
            target = out[part.relative_to(window.lower).slices()]
            target[...] = fuse_part(plan, sources, part, how, order, out.dtype)


def fuse_part(
    plan: FusionPlan,
    sources: Sequence[Reader],
    part: Box,
    how: tuple[Point, float],
    order: Order,
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """Return the voxels of a part of one piece of a plan, in a type and memory layout.

    ``how`` are the tiles that cover the piece, and its `gain`.
    """
    covering, factor = how
    values = _values(plan, sources, covering, part)
    if len(values) == 1:
        return converted(values[0], dtype)
    if plan.blending == "function":
        assert plan.function is not None  # noqa: S101 - the plan was made with it
        return blend_by(values, None, plan.function, dtype)
    if plan.blending in ("max", "min", "mean"):
        return blend(values, None, plan.blending, dtype)
    tile_weights = _weights(plan, covering, part, order)
    if plan.blending == "weighted":
        return blend_by(values, tile_weights, plan.function or np.sum, dtype)
    if plan.blending == "interpolation-adjust-max":
        return converted(quotient(values, tile_weights) * factor, dtype)
    return blend(values, tile_weights, plan.blending, dtype)


def _values(
    plan: FusionPlan, sources: Sequence[Reader], covering: Point, part: Box
) -> list[NDArray[Any]]:
    values = [sources[i].read(part.relative_to(plan.boxes[i].lower)) for i in covering]
    common = np.result_type(*values)
    return [value.astype(common, copy=False) for value in values]


def _weights(plan: FusionPlan, covering: Point, part: Box, order: Order) -> list[NDArray[Any]]:
    found: list[NDArray[Any]] = []
    for i in covering:
        local = part.relative_to(plan.boxes[i].lower)
        cut = plan.cuts[i] if plan.cuts else None
        shape, box = (plan.boxes[i].shape, local) if cut is None else (cut.shape, cut.box(local))
        if plan.weight_function is None:
            own: NDArray[Any] = weights(shape, box, order, planes=plan.planes)
        else:
            own = np.asarray(plan.weight_function(shape))
            if own.shape != shape:
                raise InputError(
                    f"the weight function gave weights of shape {own.shape} for {shape} voxels"
                )
            own = own[box.slices()]
        found.append(own if cut is None else own.squeeze(cut.dropped))
    return found


def gain(plan: FusionPlan, sources: Sequence[Reader], piece: Box, covering: Point) -> float:
    """Return what 'interpolation-adjust-max' scales a whole piece by; 1 for other blendings.

    It is the highest voxel of the piece over the highest interpolated one, 1 where that is 0.
    """
    if plan.blending != "interpolation-adjust-max" or len(covering) == 1:
        return 1.0
    highest, interpolated = [], []
    for part in slabs(piece, "F"):
        values = _values(plan, sources, covering, part)
        highest.append(max(float(value.max()) for value in values))
        interpolated.append(float(quotient(values, _weights(plan, covering, part, "F")).max()))
    return max(highest) / max(interpolated) if max(interpolated) else 1.0


def slabs(box: Box, order: Order) -> Iterator[Box]:
    """Cut a box along its slowest axis into parts of about `SLAB_VOXELS`."""
    axis = len(box.lower) - 1 if order == "F" else 0
    step = max(1, SLAB_VOXELS * box.shape[axis] // max(1, box.size))
    for start in range(box.lower[axis], box.upper[axis], step):
        stop = min(start + step, box.upper[axis])
        yield Box(
            (*box.lower[:axis], start, *box.lower[axis + 1 :]),
            (*box.upper[:axis], stop, *box.upper[axis + 1 :]),
        )


def stitch_window(
    plan: FusionPlan,
    sources: Sequence[Reader],
    target: Target,
    window: Box,
    *,
    order: Order,
    processes: Any = "serial",
    verbose: bool = False,
) -> None:
    """Fuse a window into a sink, part by part, on several cores.

    Parameters
    ----------
    plan : FusionPlan
    sources : sequence of Reader
        The tiles, in the order of ``plan.boxes``.
    target : Target
        Its voxel 0 is the window's lower corner; voxels that no tile covers stay as they are.
    window : Box
        What is made, in the plan's coordinates.
    order : {'C', 'F'}
        Memory layout that suits the sink and the tiles.
    processes : int, 'serial' or None
        Parts that are made at one time; None = as many as there are cores.
    verbose : bool
        Show a progress bar.
    """
    pieces = [(p, covering) for p, covering in plan.pieces if not p.intersection(window).empty]
    gains = parallel.run(
        lambda piece: gain(plan, sources, *piece), pieces, processes=processes, title="scaling"
    )
    tasks = [
        (part, (covering, factor))
        for (piece, covering), factor in zip(pieces, gains, strict=True)
        for part in slabs(piece.intersection(window), order)
    ]

    def make(task: tuple[Box, tuple[Point, float]]) -> None:
        part, how = task
        voxels = fuse_part(plan, sources, part, how, order, target.dtype)
        target.write(part.relative_to(window.lower), voxels)

    parallel.run(make, tasks, processes=processes, verbose=verbose, title="stitching")


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
        open_planned(folder / image["path"], box.shape, plan.dtype, Part.from_json(image))
        for image, box in plan.tiles
    ]
    fusion = FusionPlan.of(
        [box for _, box in plan.tiles], plan.box, plan.blending, planes=plan.planes
    )
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
    # Compressed files are decoded by planes, with all their colours.
    pages = (
        box.shape[0] * box.shape[1] * (3 if Part.from_json(image).is_colour else 1)
        for image, box in plan.tiles
    )
    decoding = 2 * itemsize * max(pages, default=0)
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
