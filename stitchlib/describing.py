"""What a volume, a layout or a tile sheet holds, in a few lines: `stitchlib info`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from stitchlib.clean import size_text
from stitchlib.core.boxes import Box, hull
from stitchlib.core.graph import components
from stitchlib.errors import InputError
from stitchlib.io.bdv import cells
from stitchlib.layouts import read_layout
from stitchlib.sheets import load_sheet


def info_lines(path: Path) -> Iterator[str]:
    """Yield what a file holds.

    Raises
    ------
    InputError
        Where it is none of the files that are known here, or damaged.
    """
    kinds: Mapping[str, Callable[[Path], Iterator[str]]] = {
        ".h5": _volume,
        ".xml": lambda xml: _volume(xml.with_suffix(".h5")),
        ".json": _layout,
        ".tsv": _sheet,
    }
    if path.suffix not in kinds:
        raise InputError(f"{path}: volumes (.h5, .xml), layouts (.json), sheets (.tsv) are known")
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    return kinds[path.suffix](path)


def _volume(path: Path) -> Iterator[str]:
    try:
        with h5py.File(path) as file:
            channels = [str(name) for name in file.attrs["channels"]]
            first = file[cells(0, 0)]
            yield f"volume of {_by(first.shape[::-1])} voxels (x × y × z), {first.dtype}"
            size = [f"{float(v):.6g}" for v in file.attrs["voxel_size_um_xyz"]]
            yield f"voxel: {_by(size)} µm"
            yield f"origin: {tuple(int(v) for v in file.attrs['origin_xyz'])} (x, y, z)"
            yield f"channels: {', '.join(channels)}"
            for level, factor in enumerate(file["s00/resolutions"][:]):
                data = file[cells(0, level)]
                yield (
                    f"level {level}: {_by(data.shape[::-1])}, of {_by(int(f) for f in factor)}"
                    f", chunks {_by(data.chunks[::-1]) if data.chunks else 'in the shards'}"
                )
            bytes_ = first.size * first.dtype.itemsize * len(channels)
            yield (
                f"file: {size_text(path.stat().st_size)}, {size_text(bytes_)} uncompressed at full "
                f"resolution; made by stitchlib {file.attrs['stitchlib_version']}"
            )
    except (OSError, KeyError) as error:
        raise InputError(f"{path}: is not a volume of stitchlib: {error}") from error


def _layout(path: Path) -> Iterator[str]:
    layout = read_layout(path)
    sources = layout.sources
    yield f"layout of {len(sources)} tiles, {len(layout.alignments)} links"
    if not sources:
        return
    whole = hull([Box.at(s.position, s.shape) for s in sources])
    yield f"extent: {_by(whole.shape)} voxels, from {whole.lower}"
    shapes = Counter((s.shape, s.dtype) for s in sources)
    for (shape, dtype), n in shapes.most_common(4):
        yield f"  {n} tiles of {_by(shape)}, {dtype}"
    number = {s.id: i for i, s in enumerate(sources)}
    links = np.array([(number[a.pre], number[a.post]) for a in layout.alignments], np.intp)
    parts = len(set(components(len(sources), *links.reshape(-1, 2).T).tolist()))
    yield f"links connect them to {parts} part{'s' * (parts != 1)}"


def _sheet(path: Path) -> Iterator[str]:
    rows = load_sheet(path, "stitch", None)
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == dataset]
        places = {(row["tile_x"], row["tile_y"], row["tile_z"] or 0) for row in own}
        grid = [max(p[d] for p in places) - min(p[d] for p in places) + 1 for d in range(3)]
        channels = dict.fromkeys(row.channel for row in own)
        gaps = grid[0] * grid[1] * grid[2] - len(places)
        yield (
            f"{dataset}: {len({row['tile'] for row in own})} tiles on a grid of {_by(grid)} "
            f"(x × y × z), {gaps} gaps; channels {', '.join(channels)}"
        )
        for (shape, dtype), n in Counter((row.shape, row.dtype) for row in own).most_common(4):
            yield f"  {n} images of {_by(shape)}, {dtype}"
        placed = own[0]["x"] is not None
        yield f"  positions: {'columns x, y' if placed else 'from grid and overlap'}"


def _by(values: object) -> str:
    return " × ".join(map(str, values))  # type: ignore[call-overload]
