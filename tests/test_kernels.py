"""The inner loops; measured with ``pytest tests/test_kernels.py -n 0 --benchmark-enable``.

Each result is compared with the plain way; there are no limits of time.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from stitchlib.core.blend import blend, weights
from stitchlib.core.boxes import Box
from stitchlib.core.pyramid import halve
from stitchlib.io.deflate import deflated
from stitchlib.io.hdf5 import ChunkRow, copy_chunks, create_dataset

SHAPE = (192, 128, 32)


@pytest.fixture(scope="module")
def slab():
    rng = np.random.default_rng(0)
    return np.asfortranarray(rng.poisson(300, SHAPE).astype(np.uint16))


def test_blend(benchmark, slab):
    other = np.asfortranarray(slab[::-1])
    ws = [
        weights((400, 300, 60), Box.at(corner, SHAPE), "F", dtype=np.uint16)
        for corner in ((200, 9, 3), (0, 20, 5))
    ]
    found = benchmark(blend, [slab, other], ws, "interpolation")
    total = sum(v.astype(np.float64) * w for v, w in zip((slab, other), ws, strict=True))
    np.testing.assert_array_equal(found, np.rint(total / (ws[0].astype(np.int64) + ws[1])))


def test_weights(benchmark):
    box = Box.at((200, 9, 3), SHAPE)
    found = benchmark(weights, (400, 300, 60), box, "F", dtype=np.uint16)
    np.testing.assert_array_equal(found, weights((400, 300, 60))[box.slices()])


def test_halve(benchmark, slab):
    found = benchmark(halve, slab, (True, True, True))
    x, y, z = SHAPE
    blocks = slab.reshape(x // 2, 2, y // 2, 2, z // 2, 2).astype(np.int64)
    np.testing.assert_array_equal(found, (blocks.sum(axis=(1, 3, 5)) + 4) // 8)


def test_deflate(benchmark):
    rng = np.random.default_rng(0)
    voxels = rng.poisson(3000, 64**3).astype("<u2")
    planes = np.ascontiguousarray(voxels.view(np.uint8).reshape(-1, 2).T)
    assert zlib.decompress(benchmark(deflated, planes)) == planes.tobytes()


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "kernels.h5", "w") as file:
        yield file


def made(file, name):
    return create_dataset(
        file, name, SHAPE, (64, 64, 32), dtype=np.dtype(np.uint16), compression="gzip"
    )


def test_write_chunks(benchmark, slab, file):
    dataset = made(file, "a")
    row = ChunkRow(dataset, SHAPE)

    def write():
        row.start(Box.at((0, 0, 0), SHAPE))
        row.add(slab)

    benchmark(write)
    np.testing.assert_array_equal(dataset[()].T, slab)


def test_copy_chunks(benchmark, slab, file):
    source, target = made(file, "a"), made(file, "b")
    row = ChunkRow(source, SHAPE)
    row.start(Box.at((0, 0, 0), SHAPE))
    row.add(slab)
    file.flush()
    benchmark(copy_chunks, Path(file.filename), [(source, target, (0, 0, 0))])
    np.testing.assert_array_equal(target[()].T, slab)
