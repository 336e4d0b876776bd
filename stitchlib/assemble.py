"""Assembly: the shards of all channels become one HDF5 volume, without recompression."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stitchlib._version import __version__
from stitchlib.core.boxes import Box
from stitchlib.errors import InputError
from stitchlib.io.bdv import cells, describe_setup, write_xml
from stitchlib.io.files import replacing
from stitchlib.io.hdf5 import copy_chunks, create_dataset, read_box
from stitchlib.stitch import level_box, write_levels

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
    ]
    made = card["shard_levels"]
    for shard in shards:
        path = folder / shard["path"]
        corner = Box.at(shard["lower"], (0, 0, 0))
        try:
            with h5py.File(path, "r") as source:
                for level in range(made):
                    lower = level_box(corner, tuple(levels[level]["factor"])).lower
                    copy_chunks(source[str(level)], datasets[level], lower)
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{path}: this shard cannot be read ({error}); delete it and run again"
            ) from error
    for level in range(made, len(levels)):
        _halve_level(datasets[level - 1], datasets[level])


def _halve_level(fine: h5py.Dataset, coarse: h5py.Dataset) -> None:
    factor = tuple(
        2 if a > b else 1 for a, b in zip(fine.shape[::-1], coarse.shape[::-1], strict=True)
    )
    whole = Box.at((0, 0, 0), fine.shape[::-1])
    write_levels(lambda box: read_box(fine, box), whole, [(1, 1, 1), factor], [None, coarse])


def volume_card(volume: Path) -> str | None:
    """Return the digest of the card that a volume was made from; None where it cannot be told."""
    try:
        with h5py.File(volume, "r") as file:
            return str(file.attrs["card"])
    except (OSError, KeyError):
        return None
