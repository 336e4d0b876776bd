"""Fusion: tiles at integer positions become one image, window by window.

`fuse` is the one engine; `Layout.stitch` and the shard jobs execute the same plans with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stitchlib import parallel
from stitchlib.core.blend import (
    Order,
    blend,
    blend_by,
    blend_in_float32,
    converted,
    exact_in_float32,
    heaviest,
    quotient,
    weights,
)
from stitchlib.core.boxes import Box, Point
from stitchlib.errors import InputError
from stitchlib.io.files import replacing_from_scratch
from stitchlib.io.hdf5 import create_dataset, open_hdf5
from stitchlib.io.images import DECODING_PLANES, Reader, open_planned
from stitchlib.io.parts import Part
from stitchlib.io.sinks import Target
from stitchlib.io.spool import DECODED_BYTES, Spool
from stitchlib.levels import level_box, levels_bytes, slab_shape, write_levels
from stitchlib.plans import FusionPlan, ShardPlan, fusion_bytes

if TYPE_CHECKING:
    import h5py

VERSION = 1
"""Version of the algorithm: raising it makes every run stitch again."""

SLAB_VOXELS = 2**21
"""Voxels that are made at one time; what is read of the tiles for them is read once."""

CHUNKS_VOXELS = 2**24
"""Voxels that are made at one time of a sink with chunks: whole ones, so that each is packed once,
and wide, so that few planes of compressed tiles are decoded twice."""

BLOCK_VOXELS = 2**17
"""Voxels that are blended at one time: sums and quotients stay in the processor's caches."""


def fuse(
    plan: FusionPlan,
    sources: Sequence[Reader],
    out: NDArray[Any],
    window: Box | None = None,
    gains: Sequence[float] | None = None,
) -> bool:
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
    gains : sequence of float, optional
        Of every piece, with 'interpolation-adjust-max'; see `gain`.

    Returns
    -------
    bool
        Whether all voxels were written.
    """
    window = window or plan.window
    order: Order = "F" if abs(out.strides[0]) <= abs(out.strides[-1]) else "C"
    written = 0
    for slab in blocks(window, order, SLAB_VOXELS):
        pieces = list(plan.inside(slab))
        read = _read(plan, sources, slab, {i for _, _, covering in pieces for i in covering})
        for number, piece, covering in pieces:
            written += piece.size
            factor = gains[number] if gains else 1.0
            single = len(covering) == 1 or plan.by_function
            for part in (piece,) if single else blocks(piece, order, BLOCK_VOXELS):
                values = [read[i].of(part) for i in covering]
                target = out[part.relative_to(window.lower).slices()]
                target[...] = _fused(plan, values, part, (covering, factor), order, out.dtype)
    return written == window.size


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of a tile."""

    box: Box
    values: NDArray[Any]

    def of(self, part: Box) -> NDArray[Any]:
        return self.values[part.relative_to(self.box.lower).slices()]


def _read(
    plan: FusionPlan, sources: Sequence[Reader], window: Box, tiles: Iterable[int]
) -> dict[int, _Read]:
    """Read what a window needs of the tiles, in one piece each."""
    boxes = {i: plan.boxes[i].intersection(window) for i in tiles}
    return {
        i: _Read(box, sources[i].read(box.relative_to(plan.boxes[i].lower)))
        for i, box in boxes.items()
    }


def _fused(
    plan: FusionPlan,
    values: list[NDArray[Any]],
    part: Box,
    how: tuple[Point, float],
    order: Order,
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """Return the voxels of a part of one piece of a plan, in a type and memory layout.

    ``how`` are the tiles that cover the piece, and its `gain`; ``values`` their voxels.
    """
    covering, factor = how
    if len(values) == 1:
        return converted(values[0], dtype)
    values = _alike(values)
    if plan.blending == "function":
        assert plan.function is not None  # noqa: S101 - the plan was made with it
        return blend_by(values, None, plan.function, dtype)
    if plan.blending in ("max", "min", "mean"):
        return blend(values, None, plan.blending, dtype)
    if plan.blending == "interpolation":
        return _interpolated(plan, values, part, covering, order, dtype)
    tile_weights = _weights(plan, covering, part, order)
    if plan.blending == "weighted":
        return blend_by(values, tile_weights, plan.function or np.sum, dtype)
    return converted(quotient(values, tile_weights) * factor, dtype)


def _interpolated(
    plan: FusionPlan,
    values: list[NDArray[Any]],
    part: Box,
    covering: Point,
    order: Order,
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    if values[0].dtype == dtype:
        weight = sum(heaviest(*_in_tile(plan, i, part), planes=plan.planes) for i in covering)
        if exact_in_float32(values, weight):
            return blend_in_float32(values, _weights(plan, covering, part, order, np.float32))
    return blend(values, _weights(plan, covering, part, order), "interpolation", dtype)


def _alike(values: list[NDArray[Any]]) -> list[NDArray[Any]]:
    common = np.result_type(*values)
    return [value.astype(common, copy=False) for value in values]


def _in_tile(plan: FusionPlan, tile: int, part: Box) -> tuple[Point, Box]:
    """Return the shape of a whole tile, and a part of the window in its coordinates."""
    local = part.relative_to(plan.boxes[tile].lower)
    cut = plan.cuts[tile] if plan.cuts else None
    return (plan.boxes[tile].shape, local) if cut is None else (cut.shape, cut.box(local))


def _weights(
    plan: FusionPlan,
    covering: Point,
    part: Box,
    order: Order,
    dtype: type[np.number[Any]] | None = None,
) -> list[NDArray[Any]]:
    """Return the weights of tiles in a part, by default in the least type that holds them."""
    found: list[NDArray[Any]] = []
    for i in covering:
        shape, box = _in_tile(plan, i, part)
        cut = plan.cuts[i] if plan.cuts else None
        if plan.weight_function is None:
            # A function is given integers that it can reckon with.
            narrow = max(shape) < 2**16 and not plan.by_function
            least = np.uint16 if narrow else np.int64
            own: NDArray[Any] = weights(shape, box, order, planes=plan.planes, dtype=dtype or least)
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
    for part in blocks(piece, "F", SLAB_VOXELS):
        read = _read(plan, sources, part, covering)
        values = _alike([read[i].values for i in covering])
        highest.append(max(float(value.max()) for value in values))
        interpolated.append(float(quotient(values, _weights(plan, covering, part, "F")).max()))
    return max(highest) / max(interpolated) if max(interpolated) else 1.0


def blocks(box: Box, order: Order, voxels: int) -> Iterator[Box]:
    """Cut a box into parts of about ``voxels``: along its slowest axis, and the next if needed."""
    axes = range(len(box.lower))
    axis = next((a for a in (axes[::-1] if order == "F" else axes) if box.shape[a] > 1), 0)
    thin = max(1, box.size // max(1, box.shape[axis]))
    step = max(1, voxels // thin)
    for start in range(box.lower[axis], box.upper[axis], step):
        stop = min(start + step, box.upper[axis])
        part = Box(
            (*box.lower[:axis], start, *box.lower[axis + 1 :]),
            (*box.upper[:axis], stop, *box.upper[axis + 1 :]),
        )
        if step == 1 and thin > voxels:
            yield from blocks(part, order, voxels)
        else:
            yield part


def _whole_chunks(box: Box, chunk: Point, voxels: int) -> Iterator[Box]:
    """Cut a box into parts of whole chunks from its corner on, about ``voxels``, x longest."""
    sides = list(chunk)
    for axis, n in enumerate(box.shape):
        sides[axis] *= max(1, min(voxels // prod(sides), -(-n // chunk[axis])))
    ranges = map(range, box.lower, box.upper, sides)
    for corner in product(*tuple(ranges)[::-1]):
        yield Box.at(corner[::-1], tuple(sides)).intersection(box)


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
    gains = parallel.run(
        lambda piece: gain(plan, sources, *piece),
        plan.pieces,
        processes=processes,
        title="scaling",
    )

    def make(slab: Box) -> None:
        box = slab.relative_to(window.lower)
        view = target.view(box)
        if view is not None:
            fuse(plan, sources, view, slab, gains)
            return
        if target.chunk is not None and not plan.covers(slab):
            # What is between the tiles is written again: each chunk is packed once.
            voxels = target.read(box)
            fuse(plan, sources, voxels, slab, gains)
            target.write(box, voxels)
            return
        voxels = np.empty(slab.shape, target.dtype, order)
        if fuse(plan, sources, voxels, slab, gains):
            target.write(box, voxels)
            return
        for _, part, _ in plan.inside(slab):
            own = voxels[part.relative_to(slab.lower).slices()]
            target.write(part.relative_to(window.lower), own)

    if target.chunk is None:
        slabs = list(blocks(window, order, SLAB_VOXELS))
    else:
        slabs = list(_whole_chunks(window, target.chunk, CHUNKS_VOXELS))
    parallel.run(make, slabs, processes=processes, verbose=verbose, title="stitching")


def stitch_shard(plan: ShardPlan, folder: Path, path: Path, threads: int = 1) -> None:
    """Make one shard: fuse its tiles, halve for its pyramid levels, compress, write.

    Parameters
    ----------
    plan : ShardPlan
        From the job's card.
    folder : Path
        Where relative tile paths start.
    path : Path
        HDF5 file that is made: one dataset a level, named '0', '1', …
    threads : int
        Chunks that are compressed at one time.
    """
    images = [
        open_planned(folder / image["path"], box.shape, plan.dtype, Part.from_json(image))
        for image, box in plan.tiles
    ]
    boxes = [box for _, box in plan.tiles]
    fusion = FusionPlan.of(boxes, plan.box, plan.blending, planes=plan.planes)
    factors = [factor for factor, _ in plan.levels]
    with (
        replacing_from_scratch(path) as temporary,
        Spool(temporary.parent) as spool,
        open_hdf5(temporary, "w") as file,
        parallel.mapping(threads) as mapped,
    ):
        # A plane is needed by every column that it reaches.
        parts = [plan.box.intersection(box).relative_to(box.lower) for box in boxes]
        sources = [spool.reader(image, part) for image, part in zip(images, parts, strict=True)]

        out = np.empty(0, plan.dtype)
        filled: tuple[Point, list[Box]] | None = None

        def fused(box: Box) -> NDArray[Any]:
            nonlocal out, filled
            covered = [part.relative_to(box.lower) for _, part, _ in fusion.inside(box)]
            if filled != (box.shape, covered):
                out, filled = np.full(box.shape, plan.fill, plan.dtype, "F"), (box.shape, covered)
            # Else its gaps are where those of the slab before were, and filled.
            fuse(fusion, sources, out, box)
            return out

        write_levels(fused, plan.box, factors, _datasets(plan, file), mapped)


def _datasets(plan: ShardPlan, file: h5py.File) -> list[h5py.Dataset]:
    return [
        create_dataset(
            file,
            str(level),
            level_box(plan.box, factor).shape,
            chunk,
            dtype=np.dtype(plan.dtype),
            compression=plan.compression,
            fill=plan.fill,
        )
        for level, (factor, chunk) in enumerate(plan.levels)
    ]


def memory_needed(card: Mapping[str, Any]) -> int:
    """Return the most bytes that making a shard allocates."""
    plan = ShardPlan.from_json(card)
    itemsize = np.dtype(plan.dtype).itemsize
    factors, chunks = zip(*plan.levels, strict=True)
    slab = slab_shape(factors, chunks, plan.box.shape, itemsize)
    fusing = fusion_bytes([box for _, box in plan.tiles], plan.box, itemsize, slab, BLOCK_VOXELS)
    # Compressed files are decoded by planes, with all their colours, and what the shard needs of
    # some of them is kept at one time.
    pages = (
        box.shape[0] * box.shape[1] * (3 if Part.from_json(image).is_colour else 1)
        for image, box in plan.tiles
    )
    parts = (box.intersection(plan.box) for _, box in plan.tiles)
    planes = ((part.shape[0] * part.shape[1] * itemsize, part.size * itemsize) for part in parts)
    kept = max((min(max(DECODED_BYTES, plane), whole) for plane, whole in planes), default=0)
    decoding = DECODING_PLANES * itemsize * max(pages, default=0) + kept
    making = fusing + decoding
    return 2**20 + levels_bytes(factors, chunks, plan.box.shape, itemsize, making)
