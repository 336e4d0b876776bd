from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stitchlib.core.blend import (
    BLENDINGS,
    blend,
    blend_in_float32,
    exact_in_float32,
    heaviest,
    ramp,
    weights,
)
from stitchlib.core.boxes import Box

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32")
FLOATS = ("float32", "float64")
DEEP = 5000
"""A weight as large as in the middle of a tile of 10000 voxels."""


def slow_weight(shape, voxel):
    return 1 + min(min(i, n - 1 - i) for i, n in zip(voxel, shape, strict=True))


def exact(values, tile_weights, method):
    """Blend one voxel's values (Fractions) by hand."""
    if method == "max":
        return max(values)
    if method == "min":
        return min(values)
    if method == "mean":
        tile_weights = [1] * len(values)
    total = sum(v * w for v, w in zip(values, tile_weights, strict=True))
    return Fraction(total, sum(tile_weights))


def stacks(dtype, shape, n, seed, order, spread=None):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        arrays = [rng.normal(50, 30, shape) * 10.0 ** rng.integers(-3, 4) for _ in range(n)]
    else:
        info = np.iinfo(dtype)
        low, high = (info.min, info.max) if spread is None else spread
        arrays = [rng.integers(low, high, shape, endpoint=True) for _ in range(n)]
    return [np.asarray(a, dtype, order=order) for a in arrays]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(6, 5), (5, 4, 3)])
@pytest.mark.parametrize("spread", [None, (0, 7)])
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("method", BLENDINGS)
def test_integers_are_the_exact_quotient_rounded_half_to_even(method, dtype, shape, spread, order):
    for n in (1, 2, 3, 4, 6):
        values = stacks(dtype, shape, n, 7 * n, order, spread)
        rng = np.random.default_rng(n)
        # Sums are made in 32 or in 64 bits, by the type of the weights.
        kind = (np.int64, np.uint16)[n % 2]
        ws = [np.asarray(rng.integers(1, DEEP, shape), kind, order=order) for _ in range(n)]
        before = [v.copy() for v in values]
        result = blend(values, ws, method)
        assert result.dtype == dtype
        assert result.shape == shape
        for voxel in np.ndindex(shape):
            here = [Fraction(int(v[voxel])) for v in values]
            # round() of a Fraction rounds ties to even.
            wanted = round(exact(here, [int(w[voxel]) for w in ws], method))
            assert result[voxel] == wanted, (voxel, here)
        for now, then in zip(values, before, strict=True):
            np.testing.assert_array_equal(now, then)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(INTEGERS), st.data())
def test_any_voxel_is_rounded_as_fractions_are(dtype, data):
    info = np.iinfo(dtype)
    value = st.integers(info.min, info.max) | st.integers(0, 5)
    # Sums of 16-bit voxels fit 32 bits up to weights of about 2**16 in all.
    weight = st.integers(1, 10**5) | st.integers(1, 3) | st.integers(2**15 - 2, 2**15 + 1)
    kind = data.draw(st.sampled_from([np.int64, np.uint32]))
    pairs = data.draw(st.lists(st.tuples(value, weight), min_size=1, max_size=6))
    values, ws = zip(*pairs, strict=True)
    arrays = [np.array([v], dtype) for v in values]
    interpolated = blend(arrays, [np.array([w], kind) for w in ws], "interpolation")
    assert interpolated[0] == round(exact([Fraction(v) for v in values], ws, "interpolation"))
    assert blend(arrays, None, "mean")[0] == round(Fraction(sum(values), len(values)))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [((0, 1), 0), ((1, 2), 2), ((2, 3), 2), ((-1, 0), 0), ((-2, -1), -2), ((-3, -2), -2)],
)
def test_ties_go_to_even(values, wanted):
    arrays = [np.array([[v]], np.int16) for v in values]
    assert blend(arrays, None, "mean")[0, 0] == wanted
    ones = [np.array([[3]], np.uint16)] * 2
    assert blend(arrays, ones, "interpolation")[0, 0] == wanted


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(6, 5), (5, 4, 3)])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("method", BLENDINGS)
def test_floats_are_the_exact_quotient_to_the_last_digits(method, dtype, shape, order):
    for n in (1, 2, 3, 5):
        values = stacks(dtype, shape, n, n, order)
        rng = np.random.default_rng(n)
        ws = [rng.integers(1, DEEP, shape) for _ in range(n)]
        result = blend(values, ws, method)
        assert result.dtype == dtype
        for voxel in np.ndindex(shape):
            here = [Fraction(float(v[voxel])) for v in values]
            wanted = exact(here, [int(w[voxel]) for w in ws], method)
            # Sums of n terms in float64, one rounding to the type: in units of the largest value.
            scale = max(abs(v) for v in here)
            error = abs(Fraction(float(result[voxel])) - wanted)
            if method in ("max", "min") or n == 1:
                assert error == 0
            elif dtype == "float32":
                assert error <= abs(wanted) * Fraction(1, 2**24) + scale * Fraction(1, 2**48)
            else:
                assert error <= scale * Fraction(2 * n + 2, 2**53)
            assert min(here) <= Fraction(float(result[voxel])) <= max(here)


@pytest.mark.parametrize("method", BLENDINGS)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_where_all_agree_the_result_is_they(dtype, n, method):
    if np.dtype(dtype).kind == "f":
        info = np.finfo(dtype)
        special = [0.0, -0.0, 0.1, math.pi, 1 / 3, info.max, info.min, info.tiny, -info.tiny]
        special += [float(info.smallest_subnormal), math.inf, -math.inf, math.nan]
    else:
        info = np.iinfo(dtype)
        special = [info.min, info.min + 1, 0, 1, 3, info.max - 1, info.max]
    value = np.tile(np.array(special, dtype), 50)
    rng = np.random.default_rng(n)
    ws = [rng.integers(1, DEEP, value.shape) for _ in range(n)]
    # filterwarnings = error: an overflow or an invalid operation would fail too.
    result = blend([value.copy() for _ in range(n)], ws, method)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, value)


@pytest.mark.parametrize("method", BLENDINGS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_infinity_and_nan_among_numbers_warn_of_nothing(dtype, method):
    special = np.array([1.0, math.inf, -math.inf, math.nan, -1e30], dtype)
    a, b = (x.ravel() for x in np.meshgrid(special, special))
    result = blend([a, b], [np.full(a.shape, 3), np.full(a.shape, 5)], method)
    for x, y, z in zip(a.tolist(), b.tolist(), result.tolist(), strict=True):
        if math.isnan(x) or math.isnan(y):
            assert math.isnan(z)
        elif x == y:
            assert z == x
        elif method in ("max", "min"):
            assert z == {"max": max, "min": min}[method](x, y)
        elif math.isinf(x) and math.isinf(y):
            assert math.isnan(z)
        elif math.isinf(x) or math.isinf(y):
            assert math.isinf(z)
            assert z in (x, y)
        else:
            assert min(x, y) <= z <= max(x, y)


@pytest.mark.parametrize("method", ["interpolation", "mean"])
def test_a_sum_beyond_float64_stays_between_the_values(method):
    large, less = np.full(3, np.finfo(np.float64).max), np.full(3, 1e308)
    result = blend([large, less], [np.full(3, 2), np.full(3, 9)], method)
    assert np.all((result >= less) & (result <= large))


@pytest.mark.parametrize("method", BLENDINGS)
def test_tiles_are_not_changed_and_one_tile_is_itself(method):
    value = np.arange(12, dtype=np.uint16).reshape(3, 4)
    value.flags.writeable = False
    np.testing.assert_array_equal(blend([value], None, method), value)
    other = value[::-1]
    blend([value, other], [np.ones((3, 4), np.int64)] * 2, method)
    np.testing.assert_array_equal(value, np.arange(12).reshape(3, 4))


# Weights


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "shape", [(5, 4), (1, 1), (1, 7), (2, 2), (6, 6), (5, 4, 3), (4, 5, 1), (2, 9, 8), (7,)]
)
def test_weights_are_one_more_than_the_distance_to_the_nearest_face(shape, order):
    result = weights(shape, order=order)
    assert result.shape == shape
    assert result.flags[f"{order}_CONTIGUOUS"]
    for voxel in np.ndindex(shape):
        assert result[voxel] == slow_weight(shape, voxel)


def test_the_weights_of_the_documentation():
    rows = ["".join(map(str, row)) for row in weights((5, 4)).tolist()]
    assert rows == ["1111", "1221", "1221", "1221", "1111"]


def test_a_plane_as_a_stack_of_one_is_weighted_as_the_plane():
    np.testing.assert_array_equal(weights((6, 5, 1), planes=True)[..., 0], weights((6, 5)))
    assert (weights((6, 5, 1)) == 1).all()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_weights_of_a_part_are_that_part_of_all_weights(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    ends = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shape]
    box = Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))
    for order in ("C", "F"):
        part = weights(shape, box, order, dtype=np.uint16)
        assert part.dtype == np.uint16
        np.testing.assert_array_equal(part, weights(shape)[box.slices()])
    for n, (a, b) in zip(shape, ends, strict=True):
        np.testing.assert_array_equal(ramp(n, a, b), ramp(n)[a:b])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["uint8", "int8", "uint16", "int16"]), st.data())
def test_where_float32_is_said_to_be_exact_it_is(dtype, data):
    info = np.iinfo(dtype)
    bits = data.draw(st.integers(1, info.bits))
    least, most = max(info.min, -(2**bits) + 1), min(info.max, 2**bits - 1)
    n = data.draw(st.integers(2, 4))
    heavy = data.draw(st.integers(1, max(1, 2**24 // (2**bits * n))))
    # Next to ties, and next to the bounds.
    value = st.integers(least, most) | st.integers(max(least, most - 2), most)
    weight = st.integers(1, heavy) | st.integers(max(1, heavy - 2), heavy)
    drawn = [[data.draw(kind) for _ in range(20)] for kind in [value] * n + [weight] * n]
    values = [np.array(v, dtype) for v in drawn[:n]]
    ws = [np.array(w) for w in drawn[n:]]
    if exact_in_float32(values, sum(int(w.max()) for w in ws)):
        wanted = blend(values, ws, "interpolation")
        found = blend_in_float32(values, [w.astype(np.float32) for w in ws])
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, wanted)


def test_float32_is_exact_up_to_its_bound_and_not_said_to_be_beyond():
    lower = np.arange(2**15, 2**16 - 1, dtype=np.uint16)
    values = [lower + np.uint16(1), lower]
    # Ties, and quotients as near to ties as any.
    for weight in (254, 255):
        ws = [np.full(lower.shape, w) for w in (weight // 2, weight - weight // 2)]
        assert exact_in_float32(values, weight)
        found = blend_in_float32(values, [w.astype(np.float32) for w in ws])
        np.testing.assert_array_equal(found, blend(values, ws, "interpolation"))
    assert not exact_in_float32(values, 256)
    assert exact_in_float32([np.array([4095], np.uint16)], 4095)
    assert not exact_in_float32([np.array([4096], np.uint16)], 4095)
    assert not exact_in_float32([np.array([1], np.uint32)], 2)
    assert not exact_in_float32([np.array([1], np.float32)], 2)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_weight_is_heavier_than_said(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=3)))
    ends = [sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
            for n in shape]  # fmt: skip
    box = Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))
    for planes in (False, True):
        most = weights(shape, box, planes=planes).max()
        assert most == heaviest(shape, box, planes=planes)


def test_two_tiles_with_an_overlap_of_12_fade_linearly():
    shape, overlap = (40, 41), 12
    left, right = Box((28, 0), (40, 41)), Box((0, 0), (12, 41))
    ws = [weights(shape, left), weights(shape, right)]
    facts = [76.9, 153.8, 230.8, 307.7, 384.6, 461.5, 538.5, 615.4, 692.3, 769.2, 846.2, 923.1]
    for dtype, wanted in (("float64", facts), ("uint16", [round(f) for f in facts])):
        values = [np.zeros((overlap, 41), dtype), np.full((overlap, 41), 1000, dtype)]
        middle = blend(values, ws, "interpolation")[:, 20]
        assert [round(float(v), 1) for v in middle] == wanted


def test_the_order_of_the_tiles_does_not_matter_to_integers():
    values = stacks("uint16", (4, 5, 3), 3, 0, "F")
    ws = [np.random.default_rng(i).integers(1, 90, (4, 5, 3)) for i in range(3)]
    for method in BLENDINGS:
        results = [
            blend([values[i] for i in order], [ws[i] for i in order], method)
            for order in itertools.permutations(range(3))
        ]
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])
