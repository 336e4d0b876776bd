"""What each stage makes of a small fixed input, as digests: python -m tests.versions [--write].

The inputs are computed from integers alone, so that no other part of the library, and no library's
random numbers, can change them. A stage sees fixed results of the stage before it.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from stitchlib import align, assemble, place, stitch
from stitchlib.core.boxes import Box
from stitchlib.core.shifts import SearchRange
from stitchlib.corrections import Corrections
from stitchlib.inputs import Inputs
from stitchlib.pairs import Link, Pair, pairs_text, write_measured
from stitchlib.plans import ShardPlan
from stitchlib.positions import positions_text

FILE = Path(__file__).with_name("versions.json")
SHAPE = (40, 36, 8)
TRUE = {"a": (0, 0, 0), "b": (29, 1, 1), "c": (1, 27, 0)}
MODULES = {"align": align, "place": place, "stitch": stitch, "assemble": assemble}


def picture(corner: tuple[int, int, int], channel: int) -> np.ndarray:
    """Return grains of 2 voxels: a function of the voxel's place and nothing else."""
    grid = np.meshgrid(
        *(np.arange(c, c + n) // 2 for c, n in zip(corner, SHAPE, strict=True)), indexing="ij"
    )
    x, y, z = (axis.astype(np.uint64) for axis in grid)
    mixed = (x * 73856093) ^ (y * 19349663) ^ (z * 83492791) ^ np.uint64(channel * 2654435761)
    mixed = (mixed * np.uint64(2654435761)) >> np.uint64(7)
    return (mixed % np.uint64(4001)).astype(np.uint16)


def digest(*parts: bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()[:16]


def write_tiles(folder: Path, *, agree: bool) -> dict[str, dict]:
    """Write tiles that show the same where they overlap, or not, so that blending matters."""
    images = {}
    for number, (name, corner) in enumerate(TRUE.items()):
        path = folder / f"{name}.npy"
        np.save(path, picture(corner, 0 if agree else number))
        images[name] = {"path": path.name, "size": 0, "mtime_ns": 0, "shape": list(SHAPE)}
    return images


def result_of_align(folder: Path) -> str:
    images = write_tiles(folder, agree=True)
    search = [SearchRange((25, -3, -2), (31, 3, 2)), SearchRange((-3, 24, -2), (3, 30, 2))]
    pairs = [
        Pair("a", "b", 0, (28, 0, 0), search[0], 3),
        Pair("a", "c", 1, (0, 27, 0), search[1], 3),
    ]
    parts = []
    for measure in ("ncc",):
        card = {
            "measure": measure,
            "method": "auto",
            "background": "auto",
            "pairs": [pair.as_json() for pair in pairs],
            "dtype": "uint16",
            "images": images,
        }
        write_measured(folder / "pairs.tsv", align.align_block(card, folder))
        parts.append((folder / "pairs.tsv").read_bytes())
    return digest(*parts)


def result_of_place(folder: Path) -> str:
    def link(pre: str, post: str, axis: int, displacement: tuple, confidence: float) -> Link:
        return Link(
            pre, post, axis, displacement, (1.0, 0.0, 0.0), 0.9, "ncc", (0.1,) * 3, confidence, "ok"
        )

    links = [
        link("a", "b", 0, (29.0, 1.0, 1.0), 1.0),
        link("a", "c", 1, (1.0, 27.0, 0.0), 1.0),
        link("b", "d", 1, (1.0, 27.0, 0.0), 0.995),
        link("c", "d", 0, (28.0, 2.0, 1.0), 0.999),
        link("d", "e", 0, (20.0, 0.0, 0.0), 0.1),
    ]
    write_measured(folder / "t.tsv", links)
    nominal = {"a": [0, 0, 0], "b": [28, 0, 0], "c": [0, 27, 0], "d": [28, 27, 0], "e": [56, 27, 0]}
    card = {
        "tables": ["t.tsv"],
        "min_confidence": 0.99,
        "ndim": 3,
        **Inputs("optimization", Corrections(), None, None).as_json(),
        "tiles": [
            {"tile": name, "nominal": corner, "index": [corner[0] // 28, corner[1] // 27, 0]}
            for name, corner in nominal.items()
        ],
    }
    placement = place.place_dataset(card, folder)
    return digest(
        positions_text(placement.positions).encode(), pairs_text(placement.links).encode()
    )


def make_shards(folder: Path, blending: str) -> list[dict]:
    images = write_tiles(folder, agree=False)
    tiles = tuple((images[n], Box.at(corner, SHAPE)) for n, corner in TRUE.items())
    levels = (((1, 1, 1), (16, 16, 9)), ((2, 2, 1), (16, 16, 9)))
    shards = []
    for x in (0, 32, 64):
        box = Box((x, 0, 0), (min(x + 32, 69), 63, 9))
        plan = ShardPlan(box, levels, tiles, "uint16", blending, 7, "gzip")
        stitch.stitch_shard(plan, folder, folder / "shards" / f"{x}.h5")
        shards.append({"path": f"{x}.h5", "lower": [x, 0, 0]})
    return shards


def voxels(path: Path) -> bytes:
    """Return names, shapes, types, attributes and voxels of a file; not how they are compressed."""
    parts: list[bytes] = []

    def visit(name: str, item: object) -> None:
        parts.append(name.encode())
        parts.extend(f"{k}={np.array(v).tolist()}".encode() for k, v in sorted(item.attrs.items()))
        if isinstance(item, h5py.Dataset):
            parts.append(f"{item.shape}{item.chunks}{item.dtype}{item.fillvalue}".encode())
            parts.append(item[()].tobytes())

    with h5py.File(path) as file:
        kept = {k: v for k, v in file.attrs.items() if k != "stitchlib_version"}
        parts.extend(f"{k}={np.array(v).tolist()}".encode() for k, v in sorted(kept.items()))
        file.visititems(visit)
    return b"\0".join(parts)


def result_of_stitch(folder: Path) -> str:
    parts = []
    for blending in ("interpolation", "max", "min", "mean"):
        shards = make_shards(folder, blending)
        parts += [voxels(folder / "shards" / shard["path"]) for shard in shards]
    return digest(*parts)


def result_of_assemble(folder: Path) -> str:
    shards = make_shards(folder, "max")
    # Not what the shards' stage made of the tiles: the same places, filled by hand.
    for number, shard in enumerate(shards):
        with h5py.File(folder / "shards" / shard["path"], "r+") as file:
            for level in ("0", "1"):
                shape = file[level].shape
                values = np.arange(int(np.prod(shape)), dtype=np.uint64) * 40503 + number
                file[level][...] = (values % 4001).astype(np.uint16).reshape(shape)
    level = {"factor": [1, 1, 1], "shape": [69, 63, 9], "chunk": [16, 16, 9]}
    levels = [
        level,
        {"factor": [2, 2, 1], "shape": [35, 32, 9], "chunk": [16, 16, 9]},
        {"factor": [4, 4, 1], "shape": [18, 16, 9], "chunk": [16, 16, 9]},
    ]
    parts = []
    for assembly in ("copy", "virtual"):
        card = {
            "channels": ["c0"], "dtype": "uint16", "corner": [-2, 3, 0], "fill": 7,
            "voxel_size": [1.0, 1.0, 4.0], "levels": levels, "shard_levels": 2,
            "compression": "gzip", "assembly": assembly, "shards": {"c0": shards},
        }  # fmt: skip
        volume = folder / f"{assembly}.h5"
        assemble.assemble(card, "0" * 12, folder / "shards", volume)
        parts += [voxels(volume), volume.with_suffix(".xml").read_bytes()]
    return digest(*parts)


def current() -> dict[str, dict]:
    """Return version and digest of every stage as the code is now."""
    makers = {
        "align": result_of_align,
        "place": result_of_place,
        "stitch": result_of_stitch,
        "assemble": result_of_assemble,
    }
    found = {}
    for stage, maker in makers.items():
        with tempfile.TemporaryDirectory() as folder:
            found[stage] = {"version": MODULES[stage].VERSION, "digest": maker(Path(folder))}
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    text = json.dumps(current(), indent=1) + "\n"
    if "--write" in sys.argv:
        FILE.write_text(text)
    else:
        sys.stdout.write(text)
