"""Streams with stored blocks are what every inflater reads."""

from __future__ import annotations

import zlib

import h5py
import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stitchlib.core.boxes import Box
from stitchlib.io import deflate
from stitchlib.io.deflate import deflated, stored_planes
from stitchlib.io.hdf5 import ChunkRow, create_dataset

PLANE = deflate.LEAST_PLANE


def plane(kind, size, seed):
    rng = np.random.default_rng(seed)
    if kind == "noise":
        return rng.integers(0, 256, size, dtype=np.uint8)
    if kind == "few values":
        return rng.integers(0, 7, size, dtype=np.uint8)
    return (np.arange(size) * seed >> 4).astype(np.uint8)


def inflaters():
    yield zlib.decompress
    yield deflate.codec.decompress
    yield imagecodecs.zlib_decode
    yield imagecodecs.deflate_decode


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def codec(request, monkeypatch):
    if request.param == "zlib":
        monkeypatch.setattr(deflate, "codec", zlib)


@given(
    kinds=st.lists(st.sampled_from(["noise", "few values", "ramp"]), min_size=1, max_size=8),
    size=st.sampled_from([1, 100, PLANE - 1, PLANE, PLANE + 1, 2**17, 2 * (2**16 - 1)]),
    seed=st.integers(0, 100),
    stored=st.none() | st.integers(0, 7),
)
def test_every_inflater_gives_the_bytes_back(kinds, size, seed, stored):
    planes = np.stack([plane(kind, size, seed + i) for i, kind in enumerate(kinds)])
    stored = None if stored is None else min(stored, len(kinds) - 1)
    stream = deflated(planes, stored)
    for inflate in inflaters():
        assert bytes(inflate(stream)) == planes.tobytes()
    assert deflated(planes.copy(), stored) == stream


def test_noise_is_stored_and_what_gains_is_not():
    noise, few = plane("noise", PLANE, 1), plane("few values", PLANE, 2)
    stream = deflated(np.stack([noise, few]))
    assert stream[2] == 0  # a stored block, not the last
    assert noise[:1000].tobytes() in stream
    assert len(stream) < 1.5 * PLANE
    for planes in ([few, noise], [noise]):
        whole = deflate.codec.compress(np.stack(planes), deflate.LEVEL)
        assert deflated(np.stack(planes)) == whole


@pytest.mark.parametrize("sigma", [1, 5, 20, 40, 80, 1000])
def test_a_chunk_of_noisy_voxels_grows_little(tmp_path, sigma):
    rng = np.random.default_rng(sigma)
    voxels = (3000 + rng.normal(0, sigma, (64, 64, 64))).astype(np.uint16)
    planes = np.stack([voxels & 255, voxels >> 8]).astype(np.uint8).reshape(2, -1)
    whole = len(deflate.codec.compress(planes, deflate.LEVEL))
    assert len(deflated(planes)) <= whole * (1 + deflate.LEAST_GAIN)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = create_dataset(
            file, "a", voxels.shape, voxels.shape, dtype=voxels.dtype, compression="gzip"
        )
        row = ChunkRow(dataset, voxels.shape)
        row.start(Box.at((0, 0, 0), voxels.shape))
        row.add(voxels.T)
        np.testing.assert_array_equal(dataset[()], voxels)
        assert dataset.id.get_storage_size() == len(deflated(planes))


def small(low, value=7):
    """A chunk of 64 × 64 voxels of two bytes with a plane of lowest bytes."""
    return np.stack([low, np.full(len(low), value, np.uint8)])


def test_small_chunks_are_judged_together():
    gap = small(np.zeros(4096, np.uint8))
    noise = [small(plane("noise", 4096, seed)) for seed in range(5)]
    few = [small(plane("few values", 4096, seed)) for seed in range(5)]
    assert stored_planes(noise) == 1
    assert stored_planes([gap, gap, *noise, gap]) == 1
    assert stored_planes(few) == 0
    assert stored_planes([gap]) == 0
    assert stored_planes([c[:, :500] for c in noise]) == 0
    assert stored_planes([c[:1] for c in noise]) == 0
    assert stored_planes([np.zeros((2, PLANE), np.uint8)]) is None


@pytest.mark.parametrize("chunk", [(1, 64, 64), (16, 16, 16)])
def test_noise_of_small_chunks_is_stored(tmp_path, chunk):
    rng = np.random.default_rng(1)
    voxels = (3000 + rng.normal(0, 200, (chunk[0], 256, 192))).astype(np.uint16)
    voxels[:, :64, :64] = 0
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = create_dataset(
            file, "a", voxels.shape[::-1], chunk[::-1], dtype=voxels.dtype, compression="gzip"
        )
        row = ChunkRow(dataset, voxels.T.shape)
        row.start(Box.at((0, 0, 0), voxels.T.shape))
        row.add(voxels.T)
        np.testing.assert_array_equal(dataset[()], voxels)
        _, stream = dataset.id.read_direct_chunk((0, 64, 64))
        assert stream[2:7] == b"\0\x00\x10\xff\xef"  # 4096 bytes as they are
