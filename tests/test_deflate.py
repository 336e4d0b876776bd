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
from stitchlib.io.deflate import deflated
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
)
def test_every_inflater_gives_the_bytes_back(kinds, size, seed):
    planes = np.stack([plane(kind, size, seed + i) for i, kind in enumerate(kinds)])
    stream = deflated(planes)
    for inflate in inflaters():
        assert bytes(inflate(stream)) == planes.tobytes()
    assert deflated(planes.copy()) == stream


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
