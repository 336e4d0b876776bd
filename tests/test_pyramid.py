from __future__ import annotations

import itertools
import math
from fractions import Fraction

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stitchlib import levels as levels_module
from stitchlib.core.boxes import Box
from stitchlib.core.pyramid import halve, halved_axes, level_factors
from stitchlib.io.hdf5 import create_dataset
from stitchlib.levels import level_box, write_levels

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32")


def slow_halve(array, axes):
    """Halve with Fractions: the mean of the voxels that exist, rounded half up."""
    shape = tuple(-(-n // 2) if h else n for n, h in zip(array.shape, axes, strict=True))
    result = np.empty(shape, array.dtype)
    for voxel in np.ndindex(shape):
        ranges = [
            range(2 * i, min(2 * i + 2, n)) if h else (i,)
            for i, n, h in zip(voxel, array.shape, axes, strict=True)
        ]
        members = [Fraction(array[index].item()) for index in itertools.product(*ranges)]
        mean = sum(members) / len(members)
        if array.dtype.kind == "f":
            result[voxel] = float(mean)
        else:
            result[voxel] = math.floor(mean + Fraction(1, 2))
    return result


def random_array(dtype, shape, seed, order="F"):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return np.asarray(rng.normal(0, 1000, shape), dtype, order=order)
    info = np.iinfo(dtype)
    array = rng.integers(info.min, info.max, shape, endpoint=True, dtype=np.int64)
    small = rng.integers(max(info.min, -3), 3, shape, endpoint=True)
    return np.asarray(np.where(rng.random(shape) < 0.5, array, small), dtype, order=order)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(6, 4, 8), (7, 5, 3), (1, 5, 2), (2, 1, 1), (5, 4), (9,)])
@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
def test_a_level_is_the_mean_of_the_voxels_that_exist(dtype, shape, order):
    array = random_array(dtype, shape, 1, order)
    before = array.copy()
    for axes in itertools.product((False, True), repeat=len(shape)):
        result = halve(array, axes)
        assert result.dtype == dtype
        wanted = slow_halve(array, axes)
        assert result.shape == wanted.shape
        if array.dtype.kind == "f":
            # Sums of eight values in float64.
            np.testing.assert_allclose(result, wanted, rtol=1e-6 if dtype == "float32" else 1e-12)
        else:
            np.testing.assert_array_equal(result, wanted)
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [((0, 1), 1), ((1, 2), 2), ((-1, 0), 0), ((-2, -1), -1), ((-3, -2), -2), ((-3, 0), -1)],
)
def test_halves_are_rounded_up(values, wanted):
    assert halve(np.array(values, np.int16), (True,)).tolist() == [wanted]


def test_the_largest_values_do_not_overflow():
    for dtype in INTEGERS:
        info = np.iinfo(dtype)
        for value in (info.min, info.max):
            array = np.full((5, 3, 4), value, dtype)
            assert np.all(halve(array, (True, True, True)) == value)
            assert np.all(halve(array, (False, False, False)) == value)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_any_largest_voxel_gives_exact_sums(dtype):
    # The type of the sums follows the largest voxel.
    info = np.iinfo(dtype)
    for bits in range(1, info.bits + 1):
        for value in (2**bits - 1, 2**bits - 2, -(2**bits), 1 - 2**bits):
            if info.min <= value <= info.max:
                array = np.full((4, 5, 2), value, dtype)
                array[:2] -= np.sign(array[:2])
                for axes in ((True, True, True), (False, True, False)):
                    np.testing.assert_array_equal(halve(array, axes), slow_halve(array, axes))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinity_and_the_largest_floats_warn_of_nothing(dtype):
    largest = np.finfo(dtype).max
    array = np.array([1, math.inf, -math.inf, math.inf, math.nan, 2, largest], dtype)
    result = halve(array, (True,))
    np.testing.assert_array_equal(result, np.array([math.inf, math.nan, math.nan, largest], dtype))
    assert np.all(halve(np.full((4, 4, 4), largest, dtype), (True,) * 3) == largest)


# Which axes, how many levels


def test_the_axes_of_a_level():
    assert halved_axes((100, 100, 100), (1, 1, 1)) == (True, True, True)
    assert halved_axes((100, 100, 100), (1.6, 1.6, 5.0)) == (True, True, False)
    assert halved_axes((100, 100, 100), (1, 1, 2)) == (True, True, False)  # twice is not less
    assert halved_axes((100, 100, 100), (1, 1, 1.99)) == (True, True, True)
    assert halved_axes((100, 100, 1), (5, 5, 1)) == (True, True, False)
    assert halved_axes((1, 1, 1), (1, 1, 1)) == (False, False, False)
    assert halved_axes((100, 1, 100), (4, 1, 1)) == (False, False, True)


def test_levels_end_when_no_axis_is_over_256():
    assert level_factors((256, 256, 256), (1, 1, 1)) == [(1, 1, 1)]
    assert level_factors((257, 1, 1), (1, 1, 1)) == [(1, 1, 1), (2, 1, 1)]
    assert level_factors((513, 100, 3), (1, 1, 1)) == [(1, 1, 1), (2, 2, 2), (4, 4, 4)]
    assert level_factors((512, 512, 1), (1, 1, 1))[-1] == (2, 2, 1)


def test_levels_of_the_example_configuration():
    # Voxels of 1.6 × 1.6 × 5 µm: x and y alone until they are as coarse as z.
    factors = level_factors((4000, 3000, 400), (1.6, 1.6, 5.0))
    assert factors == [(1, 1, 1), (2, 2, 1), (4, 4, 2), (8, 8, 4), (16, 16, 8)]
    assert level_factors((4000, 3000, 400), (1.6, 1.6, 5.0), levels=3) == factors[:3]
    assert level_factors((4000, 3000, 400), (1.6, 1.6, 5.0), levels=1) == factors[:1]


def test_more_levels_than_can_be_are_not_made():
    factors = level_factors((5, 3, 1), (1, 1, 1), levels=20)
    # 5 → 3 → 2 → 1 and 3 → 2 → 1, never an axis of extent 1.
    assert factors == [(1, 1, 1), (2, 2, 1), (4, 4, 1), (8, 4, 1)]


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(*[st.integers(1, 5000)] * 3),
    st.tuples(*[st.sampled_from([0.1, 0.4, 1.0, 1.5, 2.0, 5.0, 12.0])] * 3),
)
def test_every_level_follows_from_the_one_before(shape, voxel_size):
    factors = level_factors(shape, voxel_size)
    assert factors[0] == (1, 1, 1)
    sizes = [tuple(-(-n // f) for n, f in zip(shape, factor, strict=True)) for factor in factors]
    for low, high, size in zip(factors, factors[1:], sizes, strict=False):
        voxel = [v * f for v, f in zip(voxel_size, low, strict=True)]
        least = min(v for v, n in zip(voxel, size, strict=True) if n > 1)
        for d in range(3):
            halves = size[d] > 1 and voxel[d] < 2 * least
            assert high[d] == low[d] * (2 if halves else 1)
    assert all(max(size) > 256 for size in sizes[:-1])
    assert max(sizes[-1]) <= 256


# Streaming


def stream(array, factors, chunk, dtype):
    """Write an array's levels through `write_levels` and read them back, axes (x, y, z)."""
    box = Box.at((0, 0, 0), array.shape)
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        datasets = []
        for level, factor in enumerate(factors):
            shape = level_box(box, factor).shape
            small = tuple(map(min, chunk, shape))
            datasets.append(
                create_dataset(
                    file, str(level), shape, small, dtype=np.dtype(dtype), compression="gzip"
                )
            )
        asked = []

        def read(part):
            asked.append(part)
            return np.asfortranarray(array[part.slices()])

        write_levels(read, box, factors, datasets)
        return [dataset[()].T for dataset in datasets], asked


def whole_levels(array, factors):
    levels = [array]
    for low, high in itertools.pairwise(factors):
        levels.append(halve(levels[-1], tuple(b > a for a, b in zip(low, high, strict=True))))
    return levels


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    voxel_size=st.sampled_from([(1, 1, 1), (1, 1, 3), (2, 1, 1), (5, 5, 1), (1, 9, 1)]),
    chunk=st.tuples(*[st.sampled_from([1, 2, 3, 4, 8, 64])] * 3),
    levels=st.integers(1, 4),
    column_bytes=st.sampled_from([1, 1000, 10**4, 10**6]),
    slab_voxels=st.sampled_from([1, 100, 1000, 10**6]),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
)
def test_any_columns_and_slabs_give_the_whole_arrays_levels(
    shape, voxel_size, chunk, levels, column_bytes, slab_voxels, dtype
):
    array = random_array(dtype, shape, 2)
    factors = level_factors(shape, voxel_size, levels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels_module, "COLUMN_BYTES", column_bytes)
        patch.setattr(levels_module, "SLAB_VOXELS", slab_voxels)
        made, asked = stream(array, factors, chunk, dtype)
    for level, wanted in zip(made, whole_levels(array, factors), strict=True):
        np.testing.assert_array_equal(level, wanted)
    # Every voxel is asked for once.
    assert sum(part.size for part in asked) == array.size


def test_small_limits_do_cut_the_array(monkeypatch):
    monkeypatch.setattr(levels_module, "COLUMN_BYTES", 1)
    monkeypatch.setattr(levels_module, "SLAB_VOXELS", 1)
    array = random_array("uint16", (30, 20, 10), 0)
    _, asked = stream(array, [(1, 1, 1), (2, 2, 2)], (4, 4, 4), "uint16")
    assert {part.shape[2] for part in asked} == {2}
    assert len(asked) == 4 * 3 * 5


@pytest.mark.parametrize("factor", [(2, 2, 2), (2, 2, 1), (1, 1, 2)])
def test_a_level_that_is_there_already_is_not_written(factor, monkeypatch):
    monkeypatch.setattr(levels_module, "COLUMN_BYTES", 1000)
    array = random_array("uint16", (21, 13, 35), 4)
    box = Box.at((0, 0, 0), array.shape)
    shape = level_box(box, factor).shape
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        coarse = create_dataset(file, "1", shape, (4, 4, 4), dtype=array.dtype, compression="none")
        write_levels(lambda part: array[part.slices()], box, [(1, 1, 1), factor], [None, coarse])
        np.testing.assert_array_equal(
            coarse[()].T, slow_halve(array, tuple(f == 2 for f in factor))
        )


def test_a_box_in_a_coarser_level():
    assert level_box(Box((8, 0, 4), (13, 1, 9)), (4, 2, 1)) == Box((2, 0, 4), (4, 1, 9))
