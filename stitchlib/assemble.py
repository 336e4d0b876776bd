"""Assembly: the shards of all channels become one HDF5 volume, without recompression.

Either their chunks are copied as they are, or (``output.assembly: virtual``) the volume only says
where in which shard its voxels are: HDF5 virtual datasets, with file names relative to the volume,
so that a dataset's folder can be moved as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stitchlib._version import __version__
from stitchlib.core.boxes import Box
from stitchlib.errors import InputError
from stitchlib.io.bdv import cells, describe_setup, write_xml
from stitchlib.io.files import awaited, replacing
from stitchlib.io.hdf5 import copy_chunks, create_dataset, read_box
from stitchlib.levels import level_box, write_levels

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
        with h5py.File(temporary, "w") as file:
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
        _refer(file, number, card, folder, shards)
        if datasets:
            with _finest(file, number, card) as fine:
                _halve_level(fine, datasets[0])
            _halve_rest(datasets)
        return
    for shard in shards:
        corner = Box.at(shard["lower"], (0, 0, 0))
        with _opened(folder / shard["path"]) as source:
            for level in range(made):
                lower = level_box(corner, tuple(levels[level]["factor"])).lower
                copy_chunks(source[str(level)], datasets[level], lower)
    _halve_rest(datasets[made - 1 :])


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open a shard; where it, or what of it is read then, is damaged, it is named."""
    try:
        with h5py.File(awaited(path), "r") as source:
            yield source
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        if "write failed" in str(error):  # of the volume
            raise
        raise InputError(
            f"{path}: this shard cannot be read ({error}); delete it and run again"
        ) from error


def _refer(
    file: h5py.File,
    number: int,
    card: Mapping[str, Any],
    folder: Path,
    shards: list[Mapping[str, Any]],
) -> None:
    """Make the levels that the shards hold, as virtual datasets."""
    layouts = [
        h5py.VirtualLayout(tuple(v["shape"])[::-1], np.dtype(card["dtype"]))
        for v in card["levels"][: card["shard_levels"]]
    ]
    relative = folder.relative_to(Path(file.filename).parent)
    for shard in shards:
        corner = Box.at(shard["lower"], (0, 0, 0))
        with _opened(folder / shard["path"]) as source:
            for level, layout in enumerate(layouts):
                values = source[str(level)]
                lower = level_box(corner, tuple(card["levels"][level]["factor"])).lower
                target = Box.at(lower, values.shape[::-1]).slices()[::-1]
                layout[target] = h5py.VirtualSource(
                    (relative / shard["path"]).as_posix(), values.name, values.shape, values.dtype
                )
    for level, layout in enumerate(layouts):
        file.create_virtual_dataset(cells(number, level), layout, fillvalue=card["fill"])


@contextmanager
def _finest(file: h5py.File, number: int, card: Mapping[str, Any]) -> Iterator[h5py.Dataset]:
    """Open the coarsest virtual level for reading.

    In a file of its own: HDF5 opens the shards the way the volume is open, and a job that is to
    read them must not need, or use, the right to write them.
    """
    name = cells(number, card["shard_levels"] - 1)
    path = Path(file.filename)
    scratch = path.with_name(f"{path.name}.level.tmp")
    try:
        with h5py.File(scratch, "w") as copy:
            file.copy(name, copy, "level")
        with h5py.File(scratch, "r") as copy:
            yield copy["level"]
    finally:
        scratch.unlink(missing_ok=True)


def _halve_rest(datasets: Sequence[h5py.Dataset]) -> None:
    for fine, coarse in pairwise(datasets):
        _halve_level(fine, coarse)


def _halve_level(fine: h5py.Dataset, coarse: h5py.Dataset) -> None:
    factor = tuple(
        2 if a > b else 1 for a, b in zip(fine.shape[::-1], coarse.shape[::-1], strict=True)
    )
    whole = Box.at((0, 0, 0), fine.shape[::-1])
    write_levels(lambda box: read_box(fine, box), whole, [(1, 1, 1), factor], [None, coarse])


def is_virtual(volume: Path) -> bool:
    """Tell whether a volume's voxels are in the shards."""
    try:
        with h5py.File(volume, "r") as file:
            return bool(file[cells(0, 0)].is_virtual)
    except (OSError, KeyError):
        return False


def volume_card(volume: Path) -> str | None:
    """Return the digest of the card that a volume was made from; None where it cannot be told."""
    try:
        with h5py.File(volume, "r") as file:
            return str(file.attrs["card"])
    except (OSError, KeyError):
        return None
