"""What a run reads of its tiles from disk, and what decoding them costs; see docs/benchmarks.md.

``python -m benchmarks.reading [FOLDER]`` takes four minutes of CPU, and 1 GB in FOLDER for a while.
Before every job the system forgets the tiles, as it does where they are more than its memory.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray

from benchmarks import measure
from benchmarks.stages import align_and_place, cpu_seconds
from stitchlib import align
from stitchlib.core.boxes import Box
from stitchlib.io.images import open_image
from stitchlib.phantom import Phantom, PhantomFiles, write_phantom
from stitchlib.runs import Run
from stitchlib.stitch import stitch_shard

SHAPE = (256, 256, 32)
GRIDS = ((2, 2), (4, 4), (8, 8))
OPTIONS = {
    "align": {"pairs_per_job": 12},
    "output": {"shard": {"x": 512, "y": 512, "z": 256}},
}
"""Jobs and shards that are to these small tiles what the automatic ones are to usual tiles."""


def _tiff(path: Path, stack: NDArray[Any], **options: Any) -> None:
    tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "ZYX"}, **options)


def _apart(path: Path, stack: NDArray[Any]) -> None:
    with tifffile.TiffWriter(path) as writer:
        for plane in stack:
            writer.write(plane, photometric="minisblack", metadata=None)


def _array(path: Path, stack: NDArray[Any], order: Any) -> None:
    np.save(path, np.asarray(stack.T, order=order))


Write = Callable[[Path, NDArray[Any]], None]

COMPRESSED: dict[str, Write] = {
    "zlib": partial(_tiff, compression="zlib"),
    "zlib with predictor": partial(_tiff, compression="zlib", predictor=True),
    "zlib, strips of 16 rows": partial(_tiff, compression="zlib", rowsperstrip=16),
    "zlib, tiles of 128 × 128": partial(_tiff, compression="zlib", tile=(128, 128)),
    "LZW, strips of 16 rows": partial(_tiff, compression="lzw", rowsperstrip=16),
}
KINDS: dict[str, Write] = {
    "TIFF": _tiff,
    "OME-TIFF": partial(_tiff, ome=True),
    "TIFF, planes apart": _apart,
    ".npy, x fastest": partial(_array, order="F"),
    ".npy, z fastest": partial(_array, order="C"),
    **COMPRESSED,
}
"""Kinds of files, and what writes a stack (z, y, x) as one."""


def show_reading(folder: Path) -> None:
    """Print bytes from disk per byte of the tiles, for every kind of file."""
    rows: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for grid in GRIDS:
        phantom = Phantom(grid=grid, tile_shape=SHAPE, jitter=(4, 4, 2))
        files = write_phantom(phantom, folder / "data", results=folder / "results")
        stacks = {path: tifffile.imread(path) for path in files.tiles}
        sheet = files.sheet.read_text(encoding="utf-8")
        for kind, write in KINDS.items():
            suffix = ".npy" if kind.startswith(".npy") else ".tif"
            files.sheet.write_text(sheet.replace(".tif", suffix), encoding="utf-8")
            tiles = {path.with_suffix(suffix): stack for path, stack in stacks.items()}
            for path, stack in tiles.items():
                write(path, stack)
            planned, *others = _costs(files, list(tiles), fused=grid == GRIDS[-1])
            rows[kind] = [planned, *rows[kind][1:], *others]
            shutil.rmtree(folder / "results")
        shutil.rmtree(folder / "data")
    print("| tiles | planned | " + " | ".join(f"aligned, {x} × {y}" for x, y in GRIDS), end="")
    print(" | fused |\n|---" + "|---" * (len(GRIDS) + 2) + "|")
    for kind, row in rows.items():
        print(f"| {kind} | " + " | ".join(f"{value:.2f}" for value in row) + " |")


def _costs(files: PhantomFiles, tiles: Sequence[Path], *, fused: bool) -> list[float]:
    """Bytes from disk, per byte of the tiles, of planning, of aligning, and of fusing."""
    size = sum(path.stat().st_size for path in tiles)
    config = yaml.safe_load(files.config.read_text(encoding="utf-8"))
    for section, values in OPTIONS.items():
        config.setdefault(section, {}).update(values)

    def read(job: Callable[[], object]) -> float:
        _forget(tiles)
        before = _from_disk()
        job()
        return (_from_disk() - before) / size

    def align_job(card: Mapping[str, Any]) -> float:
        return read(lambda: align.align_block(card, files.sheet.parent))

    planned = read(lambda: Run.of(config))
    run = Run.of(config)
    run.prepare()
    (dataset,) = run.datasets.values()
    costs = [planned, sum(align_job(card.content) for card, _ in dataset.blocks)]
    if fused:
        align_and_place(dataset, files.sheet.parent)
        shards = dataset.after(dataset.positions()).shards
        made = dataset.folder / "made.h5"
        costs.append(
            sum(read(partial(stitch_shard, plan, files.sheet.parent, made)) for _, plan in shards)
        )
    return costs


def _forget(paths: Sequence[Path]) -> None:
    """Have the system forget what it holds of files."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _from_disk() -> int:
    """Bytes that were fetched from disk for this process so far, mapped ones too."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def show_decoding(folder: Path) -> None:
    """Print what reading compressed stacks costs, beside tifffile reading all of them."""
    phantom = Phantom(grid=(1, 1), tile_shape=(512, 512, 32))
    stack = phantom.tile(phantom.indices[0], "c0").T
    whole = [Box((0, 0, 0), (512, 512, 32))]
    along = {
        axis: [Box.at(at, size) for at in ((0, 0, 0), (512 - size[0], 512 - size[1], 0))]
        for axis, size in (("x", (97, 512, 32)), ("y", (512, 97, 32)))
    }
    cases = {"whole": whole, "4 strips": along["x"] + along["y"], "1 along y": along["y"][:1]}
    print(
        "| tiles | tifffile, MB/s of CPU | "
        + " | ".join(f"{case}, of its time" for case in cases)
        + " |"
    )
    print("|---" * (2 + len(cases)) + "|")
    path = folder / "tile.tif"
    for kind, write in COMPRESSED.items():
        write(path, stack)
        reader = open_image(path)
        theirs, *ours = cpu_seconds(
            lambda: tifffile.imread(path, maxworkers=1),
            *(partial(reader.read_boxes, boxes) for boxes in cases.values()),
            turns=5,
        )
        print(f"| {kind} | {stack.nbytes / 1e6 / theirs:.0f} | ", end="")
        print(" | ".join(f"{own / theirs:.2f}" for own in ours) + " |")


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=__doc__)
    parser.add_argument("folder", nargs="?", help="where files are made for a while")
    with measure.scratch(parser.parse_args().folder) as folder:
        show_reading(folder)
        print()
        show_decoding(folder)


if __name__ == "__main__":
    main()
