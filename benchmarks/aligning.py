"""Alignment of one realistic overlap: CPU by method, bytes read, and what reading alone costs."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import tifffile
from numpy.typing import NDArray

from benchmarks.stages import Figure, cpu_seconds
from stitchlib.align import align_pair
from stitchlib.core.boxes import Box, Point
from stitchlib.core.correlate import bytes_needed, reachable, search
from stitchlib.core.register import Method
from stitchlib.core.shifts import SearchRange
from stitchlib.io.images import FileReader, open_image
from stitchlib.io.views import Held
from stitchlib.pairs import Pair
from stitchlib.phantom import Phantom

SHAPE = (512, 512, 128)
REACH = (20, 20, 8)
METHODS: tuple[Method, ...] = ("auto", "mip", "exact")
NOISY = {"photons": 10.0, "read_noise": 3.0}
"""Ten photons at a bright voxel: the correlation of the overlap is 0.26."""


@dataclass(frozen=True, slots=True)
class Case:
    """Two tiles in files, what is searched, and the truth."""

    readers: tuple[FileReader, FileReader]
    pair: Pair
    truth: Point

    @classmethod
    def make(cls, folder: Path, **noise: float) -> Case:
        """Write two neighbours of a phantom as uncompressed stacks into a folder of their own."""
        folder.mkdir(parents=True)
        phantom = Phantom(grid=(2, 1), tile_shape=SHAPE, jitter=(8, 8, 3), **noise)
        paths = [folder / f"{name}.tif" for name in "ab"]
        for path, index in zip(paths, phantom.indices, strict=True):
            tifffile.imwrite(path, phantom.tile(index, "c0").T, photometric="minisblack")
        nominal = phantom.nominal["x1_y0"]
        pair = Pair("a", "b", 0, nominal, _around(nominal), 19)
        truth = np.subtract(phantom.truth["x1_y0"], phantom.truth["x0_y0"])
        first, second = (open_image(path) for path in paths)
        return cls((first, second), pair, tuple(truth.tolist()))

    @property
    def voxels(self) -> int:
        """Voxels of the nominal overlap."""
        return math.prod(n - k for n, k in zip(SHAPE, self.pair.nominal, strict=True))

    def parts(self) -> tuple[Box, Box]:
        """Return what of the tiles is compared."""
        return reachable(SHAPE, SHAPE, self.pair.search)

    def read(self) -> list[Held]:
        """Read it."""
        return [
            Held(r.shape, r.dtype, r.order, box, r.read_boxes([box])[0])
            for r, box in zip(self.readers, self.parts(), strict=True)
        ]

    def check(self, found: Any) -> None:
        """Make sure that a displacement is right."""
        if np.abs(np.subtract(found, self.truth)).max() > 1:
            raise RuntimeError(f"found {found}, the truth is {self.truth}")


def align_figures(folder: Path) -> Iterator[Figure]:
    """Measure every method on clean and on noisy tiles, beside reading them and eight FFTs."""
    clean = Case.make(folder / "clean")
    yield from _search_figures(clean)
    each = _cold(clean, folder / "clean") / clean.voxels * 1e9
    yield Figure("align: reading the overlaps, cold", f"{each:.1f} ns of wall time per voxel")
    noisy = Case.make(folder / "noisy", **NOISY)
    for name, case in (("clean", clean), ("noisy", noisy)):
        for method in METHODS:
            spent = _method(case, method) / case.voxels * 1e9
            goal = 2.5 * each if method == "auto" else None
            what = f"align, {method}, {name}: CPU per overlap voxel"
            yield Figure.most(what, spent, goal, "ns")
    for axis in (0, 1):
        read = _read(clean.readers, axis) / (2 * 2 * clean.voxels)
        what = f"align, any method: bytes read per byte of both overlaps, along {'xy'[axis]}"
        yield Figure(what, f"{read:.2f}")


def _search_figures(case: Case) -> Iterator[Figure]:
    """Measure the exact search against eight complex128 FFTs of the padded size."""
    images = [held.array for held in case.read()]
    parts, nominal = case.parts(), case.pair.nominal
    padded = [
        scipy.fft.next_fast_len(n + 2 * m) for n, m in zip(parts[0].shape, REACH, strict=True)
    ]

    def ours() -> None:
        peak = search(
            images[0], images[1], case.pair.search, measure="ncc", nominal=nominal,
            min_overlap=(19, 1, 1), offset_pre=parts[0].lower, offset_post=parts[1].lower,
            shape_pre=SHAPE, shape_post=SHAPE,
        )  # fmt: skip
        case.check(peak.displacement)

    ones: NDArray[Any] = np.ones(padded, np.complex128)
    mine, one = cpu_seconds(ours, lambda: scipy.fft.fftn(ones), turns=5)
    memory = bytes_needed(SHAPE, SHAPE, case.pair.search, 2) / 2**20
    half = max(64.0, case.voxels / 2**20)  # of an overlap in 16 bits
    yield Figure.most("exact search: CPU per overlap voxel", mine / case.voxels * 1e9, 40, "ns")
    yield Figure.least("exact search: less CPU than eight FFTs", 8 * one / mine, 15, "×")
    what = "exact search: memory (64 MiB, or half an overlap where that is more)"
    yield Figure.most(what, memory, half, "MiB")


def _method(case: Case, method: Method) -> float:
    """CPU seconds of a link, its images in memory."""
    pre, post = case.read()

    def run() -> None:
        case.check(align_pair(case.pair, pre, post, "ncc", method=method).displacement)

    return cpu_seconds(run)[0]


def _read(readers: Sequence[FileReader], axis: int) -> int:
    """Bytes that are read for one pair of neighbours along an axis."""
    nominal = tuple(round(0.85 * n) if d == axis else 0 for d, n in enumerate(SHAPE))
    before = _bytes_read()
    for reader, box in zip(readers, reachable(SHAPE, SHAPE, _around(nominal)), strict=True):
        reader.read_boxes([box])
    return _bytes_read() - before


def _around(nominal: Point) -> SearchRange:
    """Return what is searched."""
    lower, upper = (tuple(n + s * m for n, m in zip(nominal, REACH, strict=True)) for s in (-1, 1))
    return SearchRange(lower, upper)


def _cold(case: Case, folder: Path) -> float:
    """Wall seconds of reading what is compared, out of the system's cache."""
    times = []
    for _ in range(3):
        for name in "ab":
            with (folder / f"{name}.tif").open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        case.read()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _bytes_read() -> int:
    """Bytes that this process had read from files so far."""
    with Path("/proc/self/io").open(encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("rchar")).split()[1])
