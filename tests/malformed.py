"""Acquisitions that are broken in many ways: malformed.py FOLDER FIRST LAST.

Makes the cases with these numbers, plans each and reads its tiles, within limits of memory and
time, and prints a line for everything that is neither right nor one clear error.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
import yaml

from stitchlib.core.boxes import Box
from stitchlib.errors import InputError
from stitchlib.io.images import open_image
from stitchlib.runs import Run

MEMORY = 2 * 2**30
"""Bytes of address space; a run of two small tiles needs a third of it."""
SECONDS = 300
"""CPU time of all cases together; a hang takes more."""

NASTY = [
    "", " ", "../../evil", "/etc/passwd", "a b", "$(touch pwned)", "`touch pwned`", "; touch pwned",
    "a'b", 'a"b', "ä-µ", "\u202e", "😀", "NaN", "inf", "-1", "1e400", "99999999999999999999",
    "0x10", "--help", "-", ".", "..", "{dataset}", "%s", "a\\b", "*", "~", "None", "x" * 5000,
    "\x7f", "|", "\ufeff", "1,5", "٣", "true", "null", "con", "a/../../b",
]  # fmt: skip
VALUES = [
    *NASTY, None, True, -1, 0, 1, 10**30, -(10**30), 1e308, float("nan"), float("inf"), [], {},
    [[]], {"x": []}, {"x": {"x": 1}}, [1, 2, 3], [None, None], {"x": -5}, {"": 1}, {1: 2},
    [float("nan")],
]  # fmt: skip
KEYS = [
    "tiles", "results", "dataset", "voxel_size", "voxel_size.x", "reference_channel", "align",
    "align.method", "align.overlap", "align.overlap.x", "align.max_shift", "align.max_shift.x",
    "align.min_overlap", "align.clip", "align.background", "align.pairs_per_job", "align.preset",
    "place", "place.method", "place.min_confidence", "place.positions", "place.corrections",
    "stitch.blending", "stitch.fill", "stitch.region", "stitch.region.x", "output", "output.chunk",
    "output.shard", "output.levels", "output.formats", "output.keep_old", "resources.mem_mb", "odd",
]  # fmt: skip


def write_good(folder: Path, ending: str, rng: random.Random) -> None:
    """Two tiles, and all that belongs to them."""
    values = np.random.default_rng(0).integers(0, 999, (4, 30, 30)).astype(np.uint16)
    (folder / "raw").mkdir(parents=True)
    for x in (0, 1):
        path = folder / "raw" / f"t{x}{ending}"
        if ending == ".npy":
            np.save(path, values.T)
        else:
            compression = rng.choice([None, "zlib", "lzw"])
            options = {"compression": compression, "bigtiff": rng.random() < 0.3}
            tifffile.imwrite(path, values, photometric="minisblack", **options)
    rows = [["tile", "channel", "path", "tile_x", "tile_y"]]
    rows += [[f"t{x}", "c0", f"raw/t{x}{ending}", str(x), "0"] for x in (0, 1)]
    (folder / "tiles.tsv").write_text("\n".join(map("\t".join, rows)) + "\n")
    align = {"overlap": {"x": 8, "y": 8}, "max_shift": {"x": 2, "y": 2, "z": 1}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"tiles": "tiles.tsv", "align": align}))


def truncate(path: Path, rng: random.Random) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: rng.choice([0, 1, 7, 8, 60, rng.randrange(len(raw)), len(raw) - 1])])


def flip_bits(path: Path, rng: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    reach = rng.choice([16, 400, len(raw)])
    for _ in range(rng.choice([1, 3, 30])):
        raw[rng.randrange(min(reach, len(raw)))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(raw))


def huge_numbers(path: Path, rng: random.Random) -> None:
    """Offsets, counts and sizes near the front or the end of the file become enormous."""
    raw = bytearray(path.read_bytes())
    near = rng.choice([0, max(0, len(raw) - 400)])
    for _ in range(rng.choice([1, 4])):
        at = near + rng.randrange(min(400, max(1, len(raw) - near - 8)))
        raw[at : at + 4] = rng.choice([b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0" * 4])
    path.write_bytes(bytes(raw))


def npy_header(path: Path, rng: random.Random) -> None:
    """A NumPy header that promises what is not there, or what must never be read."""
    header = rng.choice([
        {"descr": "<u2", "fortran_order": False, "shape": (10**9, 10**9, 10**9)},
        {"descr": "<u2", "fortran_order": False, "shape": (2**62, 4)},
        {"descr": "<u2", "fortran_order": False, "shape": (-5, 5)},
        {"descr": "<u2", "fortran_order": False, "shape": (0, 5, 5)},
        {"descr": "|O", "fortran_order": False, "shape": (30, 30, 4)},
        {"descr": "<f2", "fortran_order": False, "shape": (30, 30, 4)},
        {"descr": "<c16", "fortran_order": False, "shape": (30, 30, 4)},
        {"descr": [("a", "<u2")], "fortran_order": False, "shape": (30, 30, 4)},
        {"descr": "<u2", "fortran_order": 7, "shape": (30, 30)},
        {"descr": "<u2", "shape": (30, 30)},
        {"descr": "<u2", "fortran_order": False, "shape": (1,) * 40},
        "__import__('os').system('touch pwned')",
    ])  # fmt: skip
    text = (repr(header) if isinstance(header, dict) else header).encode() + b"\n"
    size = len(text).to_bytes(2, "little")
    path.with_suffix(".npy").write_bytes(b"\x93NUMPY\x01\0" + size + text + bytes(7200))


def sheet(folder: Path, rng: random.Random) -> None:
    """One or two fields of the sheet, of its header too, become something nasty."""
    path = folder / "tiles.tsv"
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    extra = rng.choice(
        ["", "", "x", "y", "z", "tile_z", "dataset", "series", "select", "timepoint"]
    )
    if extra:
        for row in rows:
            row.append(extra if row is rows[0] else rng.choice(NASTY))
    for _ in range(rng.choice([0, 1, 2]) if extra else rng.choice([1, 2])):
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = rng.choice(NASTY)
    text = "\n".join(map("\t".join, rows)).encode("utf-8")
    path.write_bytes(
        rng.choice([text, text, text, text[: rng.randrange(len(text))], text + b"\xff"])
    )


def configuration(folder: Path, rng: random.Random) -> None:
    path = folder / "config.yaml"
    value = yaml.safe_load(path.read_text())
    for _ in range(rng.choice([1, 1, 2])):
        at, (*outer, last) = value, rng.choice(KEYS).split(".")
        for part in outer:
            inner = at[part] if isinstance(at.get(part), dict) else {}
            at[part] = inner
            at = inner
        at[last] = rng.choice(VALUES)
    path.write_text(yaml.safe_dump(value, allow_unicode=True))


def make(folder: Path, number: int) -> str:
    """Make a case and tell what is wrong with it."""
    rng = random.Random(number)
    ending = rng.choice([".npy", ".tif", ".tif"])
    write_good(folder, ending, rng)
    image = folder / "raw" / f"t1{ending}"
    kinds: list[tuple[Callable[..., None], Path]] = [
        (truncate, image), (flip_bits, image), (huge_numbers, image), (sheet, folder),
        (configuration, folder), (npy_header if ending == ".npy" else huge_numbers, image),
    ]  # fmt: skip
    kind, what = kinds[number % len(kinds)]
    kind(what, rng)
    return f"{number} ({kind.__name__}, {ending})"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def read_all(run: Run, folder: Path) -> None:
    for dataset in run.datasets.values():
        for tile in dataset.dataset.tiles:
            for image in tile.images.values():
                reader = open_image(folder / image.path, image.part)
                reader.read(Box.at((0,) * len(reader.shape), reader.shape))


def check(folder: Path) -> str:
    """Plan and read; an `InputError` is as good as a result. Return the folder of the results."""
    results = "results"
    try:
        text = (folder / "config.yaml").read_text()
        value = yaml.safe_load(text)
        results = str(value.get("results", results))
        run = Run.of(value)
        read_all(run, run.config.tiles.parent)
    except InputError as error:
        message = str(error)
        assert 10 < len(message) < 20000, f"a message of {len(message)} characters"
    return results


def main() -> None:
    top = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        folder = top / "case"
        shutil.rmtree(folder, ignore_errors=True)
        name = make(folder, number)
        os.chdir(folder)
        before = files(top)
        try:
            results = check(folder)
            more = {f for f in files(top) - before if not f.startswith(f"case/{results}/")}
            assert not more, f"written outside the results: {more}"
        except BaseException:  # noqa: BLE001 - that is what is looked for
            print(f"{name}: {traceback.format_exc()}")
        os.chdir(top)
    print("done")


if __name__ == "__main__":
    main()
