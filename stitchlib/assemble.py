"""Assembly: the shards of all channels become one HDF5 volume, without recompression.

Either their chunks are copied as they are, or (``output.assembly: virtual``) the volume only says
where in which shard its voxels are: HDF5 virtual datasets, with file names relative to the volume,
so that a dataset's folder can be moved as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stitchlib._version import __version__
from stitchlib.core.boxes import Box, Point
from stitchlib.errors import InputError
from stitchlib.io.bdv import cells, describe_setup, write_xml
from stitchlib.io.files import awaited, replacing
from stitchlib.io.hdf5 import MAPPED_BYTES, copy_chunks, create_dataset, open_hdf5, read_box
from stitchlib.levels import level_box, levels_bytes, slab_shape, write_levels

if TYPE_CHECKING:
    import h5py

CHUNK_BYTES = 512
"""What Python keeps of a chunk while it is listed: where it is, and how long."""

REFERENCE_BYTES = 2**14
"""What HDF5 keeps of each level of each shard that a virtual volume refers to."""

VERSION = 1
"""Version of the algorithm: raising it makes every run assemble again."""


def assemble(card: Mapping[str, Any], digest: str, shards: Path, volume: Path) -> None:
    """Make the volume and its XML; an older volume stays readable until the new one is whole.

    Parameters
    ----------
    card : mapping
        Content of the job's card: what the volume is, and which shards it is made of.
    digest : str
        The card's digest, kept in the volume, so that it can be told which card it was made from.
    shards : Path
        Folder of the shards that the card names.
    volume : Path
        The ``.h5`` file; the XML gets the same name with ``.xml``.
    """
    with replacing(volume) as temporary:
        with open_hdf5(temporary, "w") as file:
            file.attrs["origin_xyz"] = np.array(card["corner"], np.int64)
            file.attrs["voxel_size_um_xyz"] = np.array(card["voxel_size"], np.float64)
            file.attrs["channels"] = card["channels"]
            file.attrs["stitchlib_version"] = __version__
            file.attrs["card"] = digest
            for number, channel in enumerate(card["channels"]):
                _write_channel(file, number, card, shards, card["shards"][channel])
        write_xml(
            volume.with_suffix(".xml"),
            volume.name,
            channels=card["channels"],
            shape=tuple(card["levels"][0]["shape"]),
            voxel_size=card["voxel_size"],
            origin=tuple(card["corner"]),
        )


def _write_channel(
    file: h5py.File,
    number: int,
    card: Mapping[str, Any],
    folder: Path,
    shards: list[Mapping[str, Any]],
) -> None:
    dtype = np.dtype(card["dtype"])
    levels = card["levels"]
    describe_setup(file, number, dtype, [(v["factor"], v["chunk"]) for v in levels])
    made = card["shard_levels"]
    virtual = card["assembly"] == "virtual"
    datasets = [
        create_dataset(
            file,
            cells(number, level),
            tuple(v["shape"]),
            tuple(v["chunk"]),
            dtype=dtype,
            compression=card["compression"],
            fill=card["fill"],
        )
        for level, v in enumerate(levels)
        if level >= made or not virtual
    ]
    if virtual:
        coarsest = _refer(file, number, card, folder, shards)
        if datasets:
            _halve_level(coarsest, datasets[0])
            _halve_rest(datasets)
        return
    for shard in shards:
        corner = Box.at(shard["lower"], (0, 0, 0))
        with _opened(folder / shard["path"]) as source:
            lowers = [level_box(corner, tuple(v["factor"])).lower for v in levels[:made]]
            parts = [(source[str(n)], datasets[n], lower) for n, lower in enumerate(lowers)]
            copy_chunks(folder / shard["path"], parts)
    _halve_rest(datasets[made - 1 :])


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open a shard; where it, or what of it is read then, is damaged, it is named."""
    try:
        with open_hdf5(awaited(path)) as source:
            yield source
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        if "write failed" in str(error):  # of the volume
            raise
        raise InputError(
            f"{path}: this shard cannot be read ({error}); delete it and run again"
        ) from error


@dataclass(frozen=True, slots=True)
class _Level:
    """A level to halve, axes x, y, z."""

    shape: Point
    depth: int
    """Of its chunks."""
    read: Callable[[Box], NDArray[Any]]


def _refer(
    file: h5py.File,
    number: int,
    card: Mapping[str, Any],
    folder: Path,
    shards: list[Mapping[str, Any]],
) -> _Level:
    """Make the levels that the shards hold, as virtual datasets; return the coarsest of them."""
    import h5py  # noqa: PLC0415 - see `open_hdf5`

    levels = card["levels"][: card["shard_levels"]]
    relative = folder.relative_to(Path(file.filename).parent)
    boxes: list[Box] = []
    for level, v in enumerate(levels):
        layout = h5py.VirtualLayout(tuple(v["shape"])[::-1], np.dtype(card["dtype"]))
        boxes.clear()
        for shard in shards:
            corner = level_box(Box.at(shard["lower"], (0, 0, 0)), tuple(v["factor"])).lower
            with _opened(folder / shard["path"]) as source:
                values = source[str(level)]
                boxes.append(Box.at(corner, values.shape[::-1]))
                layout[boxes[-1].slices()[::-1]] = h5py.VirtualSource(
                    (relative / shard["path"]).as_posix(), values.name, values.shape, values.dtype
                )
        file.create_virtual_dataset(cells(number, level), layout, fillvalue=card["fill"])
    name, lower = str(len(levels) - 1), np.array([box.lower for box in boxes])
    upper = np.array([box.upper for box in boxes])

    # Through the virtual dataset HDF5 would keep all shards open, and a chunk or two of each.
    def read(box: Box) -> NDArray[Any]:
        voxels = np.full(box.shape, card["fill"], card["dtype"], order="F")
        for i in np.flatnonzero(np.all((lower < box.upper) & (upper > box.lower), axis=1)).tolist():
            part = boxes[i].intersection(box)
            with _opened(folder / shards[i]["path"]) as source:
                own = read_box(source[name], part.relative_to(boxes[i].lower))
            voxels[part.relative_to(box.lower).slices()] = own
        return voxels

    return _Level(tuple(levels[-1]["shape"]), levels[-1]["chunk"][2], read)


def _halve_rest(datasets: Sequence[h5py.Dataset]) -> None:
    for fine, coarse in pairwise(datasets):
        _halve_level(_Level(fine.shape[::-1], fine.chunks[0], partial(read_box, fine)), coarse)


def _halve_level(fine: _Level, coarse: h5py.Dataset) -> None:
    factor = tuple(2 if a > b else 1 for a, b in zip(fine.shape, coarse.shape[::-1], strict=True))
    whole = Box.at((0, 0, 0), fine.shape)
    write_levels(_Layers(fine).read, whole, [(1, 1, 1), factor], [None, coarse])


class _Layers:
    """Reads slabs of a level, upwards, whole chunks along z at a time: each is unpacked once."""

    def __init__(self, level: _Level) -> None:
        self._level = level
        self._box = Box((0, 0, 0), (0, 0, 0))
        self._voxels = np.empty((0, 0, 0))

    def read(self, slab: Box) -> NDArray[Any]:
        (x0, y0, z0), (x1, y1, z1) = slab.lower, slab.upper
        if not self._box.contains(Box((x0, y0, z0), (x1, y1, z0 + 1))):
            self._box, self._voxels = Box(slab.lower, (x1, y1, z0)), self._voxels[:0]
        start = self._box.upper[2]
        if start < z1:
            depth = self._level.depth
            upper = min(-(-z1 // depth) * depth, self._level.shape[2])
            more = self._level.read(Box((x0, y0, start), (x1, y1, upper)))
            left = self._voxels[..., z0 - self._box.lower[2] :]
            self._voxels = np.concatenate((left, more), axis=2) if left.size else more
            self._box = Box(slab.lower, (x1, y1, upper))
        return self._voxels[..., z0 - self._box.lower[2] : z1 - self._box.lower[2]]


def memory_needed(card: Mapping[str, Any]) -> int:
    """Return the most bytes that making a volume allocates: copying shards, or halving a level."""
    itemsize = np.dtype(card["dtype"]).itemsize
    made, shards = card["shard_levels"], sum(map(len, card["shards"].values()))
    virtual = card["assembly"] == "virtual"
    halvings = pairwise(card["levels"][made - 1 :])
    halving = (_halving_bytes(fine, coarse, itemsize) for fine, coarse in halvings)
    copying = 0 if virtual else _copying_bytes(card, itemsize)
    return 2**20 + (REFERENCE_BYTES * made * shards if virtual else 0) + max(copying, *halving, 0)


def _copying_bytes(card: Mapping[str, Any], itemsize: int) -> int:
    """Bound what is mapped of a shard, a chunk at least, and the list of a shard's chunks."""
    shape: Point = tuple(card["levels"][0]["shape"])
    chunk: Point = tuple(card["levels"][0]["chunk"])
    chunks = 1
    for axis in range(3):
        lowers = {s["lower"][axis] for shards in card["shards"].values() for s in shards}
        ends = [*sorted(lowers), shape[axis]]
        chunks *= -(-max(b - a for a, b in pairwise(ends)) // chunk[axis])
    return max(MAPPED_BYTES, 2 * itemsize * Box.at((0, 0, 0), chunk).size) + CHUNK_BYTES * chunks


def _halving_bytes(fine: Mapping[str, Any], coarse: Mapping[str, Any], itemsize: int) -> int:
    factor = tuple(b // a for a, b in zip(fine["factor"], coarse["factor"], strict=True))
    chunk, shape = tuple(coarse["chunk"]), tuple(fine["shape"])
    slab = Box.at((0, 0, 0), slab_shape([factor], [chunk], shape, itemsize))
    # A slab may begin and end inside a layer; what is left of one is put before the next.
    depth: int = min(slab.shape[2] + 2 * (fine["chunk"][2] - 1), shape[2])
    reading = 2 * itemsize * (slab.size // slab.shape[2]) * depth
    halving = 12 * slab.size
    return reading + levels_bytes([factor], [chunk], shape, itemsize, halving)


def is_virtual(volume: Path) -> bool:
    """Tell whether a volume's voxels are in the shards."""
    try:
        with open_hdf5(volume) as file:
            return bool(file[cells(0, 0)].is_virtual)
    except (OSError, KeyError):
        return False


def volume_card(volume: Path) -> str | None:
    """Return the digest of the card that a volume was made from; None where it cannot be told."""
    try:
        with open_hdf5(volume) as file:
            return str(file.attrs["card"])
    except (OSError, KeyError):
        return None
