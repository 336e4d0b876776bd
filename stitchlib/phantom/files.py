"""A phantom on disk: images, tile sheet, configuration and truth."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray

from stitchlib.config import FLAT_CHUNK
from stitchlib.errors import InputError
from stitchlib.io.files import replacing, write_table, write_text
from stitchlib.phantom.acquisition import Phantom, three
from stitchlib.phantom.checks import AXES, check_name, each


@dataclass(frozen=True, slots=True)
class PhantomFiles:
    """Where `write_phantom` put what."""

    sheet: Path
    """The tile sheet, ``tiles.tsv``."""
    config: Path
    """A configuration that stitches it, ``config.yaml``."""
    truth: Path
    """True corners, ``truth.tsv``: tile, x, y, z in voxels (2-D: z = 0)."""
    tiles: tuple[Path, ...]
    """The images, in the order of the sheet's rows."""


def write_phantom(
    phantom: Phantom,
    folder: str | os.PathLike[str],
    *,
    format: Literal["tif", "npy"] = "tif",  # noqa: A002
    compression: Literal["zlib"] | None = None,
    results: str | os.PathLike[str] = "results",
    dataset: str = "phantom",
) -> PhantomFiles:
    """Write a phantom acquisition: images, tile sheet, configuration and truth.

    One tile is in memory at a time. Every file appears whole or not at all, the sheet last.

    Parameters
    ----------
    phantom : Phantom
        What to write.
    folder : path
        Where to; made if needed. The configuration names the sheet by this path, so a relative one
        counts from the working directory of the workflow.
    format : {'tif', 'npy'}
        TIFF with axes (z, y, x) or (y, x); or arrays with axes (x, y[, z]).
    compression : {'zlib'} or None
        Of TIFFs; None can be memory mapped.
    results : path
        Where the configuration has results go.
    dataset : str
        Name of the dataset in the configuration.

    Returns
    -------
    PhantomFiles
        Paths of what was written.

    Raises
    ------
    InputError
        If the folder already has a sheet, configuration or truth, or an argument is none of those
        above.
    """
    _check_writing(format, compression, dataset)
    base = Path(folder)
    sheet, config, truth = (base / name for name in ("tiles.tsv", "config.yaml", "truth.tsv"))
    for file in (sheet, config, truth):
        if file.exists():
            raise InputError(f"{file} is there already; remove it, or give another folder.")
    (base / "tiles").mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str | int, ...]] = []
    files: list[Path] = []
    for index, channel in itertools.product(phantom.indices, phantom.channels):
        name = phantom.name(index)
        file = base / "tiles" / f"{name}_{channel}.{format}"
        _write_image(file, phantom.tile(index, channel), compression)
        rows.append((name, channel, f"tiles/{file.name}", *index))
        files.append(file)
    corners = ((tile, *three(p)) for tile, p in phantom.truth.items())
    _write_rows(truth, ("tile", *AXES), corners)
    text = _configuration(phantom, sheet, Path(results), dataset)
    write_text(config, text)
    columns = ("tile", "channel", "path", *(f"tile_{a}" for a in AXES[: len(phantom.grid)]))
    _write_rows(sheet, columns, rows)
    return PhantomFiles(sheet, config, truth, tuple(files))


def _check_writing(format: str, compression: str | None, dataset: str) -> None:  # noqa: A002
    """Refuse ways of writing that there are not."""
    if format not in ("tif", "npy"):
        raise InputError(f"format={format!r}: give 'tif' or 'npy'.")
    if compression not in (None, "zlib"):
        raise InputError(f"compression={compression!r}: give None or 'zlib'.")
    if compression and format == "npy":
        raise InputError(
            "compression='zlib' with format='npy': arrays are not compressed; use tif."
        )
    check_name("dataset", dataset)


def _write_rows(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    write_table(file, columns, (dict(zip(columns, row, strict=True)) for row in rows))


def _write_image(file: Path, image: NDArray[Any], compression: str | None) -> None:
    """Write a tile (x, y[, z]) as .npy as it is, or as .tif with its axes reversed."""
    with replacing(file) as temporary, temporary.open("wb") as stream:
        if file.suffix == ".npy":
            np.save(stream, image)
            return
        tifffile.imwrite(
            stream,
            image.T,
            compression=compression,
            photometric="minisblack",
            metadata={"axes": "ZYX"[-image.ndim :]},
        )


def _configuration(phantom: Phantom, sheet: Path, results: Path, dataset: str) -> str:
    """Return the YAML that stitches the phantom: the keys whose defaults do not do."""
    wanted: dict[str, Any] = {"tiles": sheet.as_posix()}
    if results != Path("results"):
        wanted["results"] = results.as_posix()
    wanted["dataset"] = dataset
    if any(size != 1 for size in phantom.voxel_size):
        wanted["voxel_size"] = dict(zip(AXES, map(float, phantom.voxel_size), strict=False))
    jitter = each(phantom.jitter, 0)
    wanted["align"] = {
        "overlap": dict(zip(AXES, each(phantom.overlap, 0), strict=False)),
        "max_shift": {axis: 2 * j + 1 for axis, j in zip(AXES, jitter, strict=False)},
    }
    if len(phantom.tile_shape) == 2:
        wanted["output"] = {"chunk": FLAT_CHUNK}
    text: str = yaml.safe_dump(wanted, sort_keys=False, default_flow_style=None)
    note = (
        "# A phantom: made-up tissue, truth in truth.tsv. Keys that are not here: their defaults."
    )
    return f"{note}\n{text}"
