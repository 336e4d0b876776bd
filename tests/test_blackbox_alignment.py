"""Pairwise alignment, tested from semantics.md alone against brute force."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import stitchlib as st
from stitchlib.errors import StitchlibError

Array = NDArray[Any]
Shift = tuple[int, ...]
REFUSED = (StitchlibError, ValueError)
INF = math.inf


# --- brute force ------------------------------------------------------------------------------


def common(a: Array, b: Array, displacement: Shift) -> tuple[Array, Array] | None:
    """Return the pixels that both see where b's corner is `displacement` from a's."""
    lower = [max(0, d) for d in displacement]
    upper = [min(n, d + m) for n, m, d in zip(a.shape, b.shape, displacement, strict=True)]
    if any(lo >= hi for lo, hi in zip(lower, upper, strict=True)):
        return None
    in_a = tuple(slice(lo, hi) for lo, hi in zip(lower, upper, strict=True))
    in_b = tuple(
        slice(lo - d, hi - d) for lo, hi, d in zip(lower, upper, displacement, strict=True)
    )
    return a[in_a].ravel(), b[in_b].ravel()


def minus_mse(x: Array, y: Array) -> Fraction | float:
    if x.dtype.kind in "iu":
        squares = sum((int(p) - int(q)) ** 2 for p, q in zip(x, y, strict=True))
        return -Fraction(squares, x.size)
    difference = x.astype(float) - y.astype(float)
    return -math.fsum(difference**2) / x.size


def ncc(x: Array, y: Array) -> float:
    p = x.astype(float) - math.fsum(x.astype(float)) / x.size
    q = y.astype(float) - math.fsum(y.astype(float)) / y.size
    if (x == x[0]).all() or (y == y[0]).all():
        return 0.0
    return float((p @ q) / math.sqrt((p @ p) * (q @ q)))


def scores(
    a: Array,
    b: Array,
    ranges: Sequence[tuple[int, int]],
    offset: Shift | None = None,
    measure: Callable[[Array, Array], Any] = minus_mse,
) -> dict[Shift, Any]:
    """Return the quality of every feasible shift; `offset` = position of b minus that of a."""
    offset = offset or (0,) * a.ndim
    found = {}
    for shift in itertools.product(*(range(lo, hi + 1) for lo, hi in ranges)):
        both = common(a, b, tuple(o + s for o, s in zip(offset, shift, strict=True)))
        if both is not None:
            found[shift] = measure(*both)
    return found


def assert_best(result: tuple[Any, ...], qualities: dict[Shift, Any], rel: float = 1e-6) -> None:
    shift, quality = tuple(int(s) for s in result[0]), result[1]
    top = max(qualities.values())
    near = 1e-9 * max(1.0, abs(float(top))) if isinstance(top, float) else 0
    best = {s for s, q in qualities.items() if q >= top - near}
    assert shift in best
    assert quality == pytest.approx(float(top), rel=rel, abs=1e-9)


def noise(shape: Sequence[int], seed: int = 0, dtype: str = "uint16") -> Array:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=tuple(shape)).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, tuple(shape), dtype=dtype, endpoint=True)


def pixels(source: st.Source) -> Array:
    return st.Layout([source]).stitch(method="max")


def ints(values: Any) -> list[int]:
    return [int(v) for v in values]


# --- align_2_sources --------------------------------------------------------------------------


@some.composite
def pairs(draw: some.DrawFn, dtypes: Sequence[str]) -> tuple[Any, ...]:
    """Two arrays, their positions and a range in which every shift overlaps."""
    ndim = draw(some.integers(1, 3))
    extent = some.integers(1, 6 if ndim < 3 else 4)
    shape_a = tuple(draw(extent) for _ in range(ndim))
    shape_b = tuple(draw(extent) for _ in range(ndim))
    at_a = tuple(draw(some.integers(-9, 9)) for _ in range(ndim))
    at_b = tuple(draw(some.integers(-9, 9)) for _ in range(ndim))
    ranges = []
    for n, m, p, q in zip(shape_a, shape_b, at_a, at_b, strict=True):
        ends = sorted(draw(some.tuples(*[some.integers(1 - m, n - 1)] * 2)))
        ranges.append((ends[0] - (q - p), ends[1] - (q - p)))
    dtype = draw(some.sampled_from(dtypes))
    seed = draw(some.integers(0, 999))
    return noise(shape_a, seed, dtype), noise(shape_b, seed + 1, dtype), at_a, at_b, ranges


@settings(deadline=None, max_examples=60)
@given(pairs(["uint8", "int8", "uint16", "int16", "uint32", "int32"]))
def test_align_2_sources_equals_brute_force_for_integers(case: tuple[Any, ...]) -> None:
    a, b, at_a, at_b, ranges = case
    offset = tuple(q - p for p, q in zip(at_a, at_b, strict=True))
    result = st.align_2_sources(st.Source(a, position=at_a), st.Source(b, position=at_b), ranges)
    assert_best(result, scores(a, b, ranges, offset), rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(pairs(["float32", "float64"]))
def test_align_2_sources_equals_brute_force_for_floats(case: tuple[Any, ...]) -> None:
    a, b, at_a, at_b, ranges = case
    offset = tuple(q - p for p, q in zip(at_a, at_b, strict=True))
    result = st.align_2_sources(st.Source(a, position=at_a), st.Source(b, position=at_b), ranges)
    assert_best(result, scores(a, b, ranges, offset))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_data_are_measured_in_float64_on_a_high_pedestal(dtype: str) -> None:
    a = (noise((17, 15), 1, "float64") + 1e5).astype(dtype)
    b = (noise((17, 15), 2, "float64") + 1e5).astype(dtype)
    assert_best(st.align_2_sources(a, b, 4), scores(a, b, [(-4, 4)] * 2))


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_squares_of_32_bit_extremes_do_not_overflow(dtype: str) -> None:
    info = np.iinfo(dtype)
    a = np.full((4, 4), info.max, dtype)
    b = np.full((4, 4), info.min, dtype)
    a[0, 0] = info.min + 7
    qualities = scores(a, b, [(-1, 1)] * 2)
    assert_best(st.align_2_sources(a, b, 1), qualities, rel=1e-12)


def test_range_is_inclusive_at_both_ends() -> None:
    world = noise((40,))
    for true in (-3, 5):
        a, b = world[10:30], world[10 + true : 30 + true]
        shift, quality = st.align_2_sources(a, b, (-3, 5))
        assert ints(shift) == [true]
        assert quality == 0


def test_shift_is_added_to_the_position_of_src2() -> None:
    world = noise((40, 30))
    pre = st.Source(world[5:25, 3:23], position=(100, -7))
    post = st.Source(world[17:37, 8:28], position=(110, -1))  # true displacement (12, 5)
    shift, quality = st.align_2_sources(pre, post, 4)
    assert ints(shift) == [2, -1]
    assert quality == 0
    assert np.asarray(shift).dtype.kind == "i"


def test_arrays_without_a_position_sit_at_0() -> None:
    world = noise((40,))
    pre = st.Source(world[5:25], position=(3,))
    shift, _ = st.align_2_sources(pre, world[9:29], 8)  # true displacement 4, current -3
    assert ints(shift) == [7]
    shift, _ = st.align_2_sources(world[5:25], world[9:29], 8)
    assert ints(shift) == [4]


def test_max_shifts_is_10_by_default() -> None:
    world = noise((90,))
    assert ints(st.align_2_sources(world[20:60], world[30:70])[0]) == [10]
    shift, quality = st.align_2_sources(world[20:60], world[31:71])
    assert abs(int(shift[0])) <= 10
    assert quality < 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
def test_quality_is_exactly_0_where_the_images_agree(dtype: str) -> None:
    world = noise((30, 30), 3, dtype)
    shift, quality = st.align_2_sources(world[:20, :20], world[3:23, 6:26], 6)
    assert ints(shift) == [3, 6]
    assert quality == 0


def test_quality_has_intensity_squared_units() -> None:
    a = np.zeros((5, 5), np.uint8)
    b = np.full((5, 5), 7, np.uint8)
    assert st.align_2_sources(a, b, 2)[1] == -49


def test_swapping_the_sources_negates_the_shift() -> None:
    a, b = noise((12, 9), 5), noise((11, 10), 6)
    forth, q1 = st.align_2_sources(a, b, [(-3, 2), (-1, 4)])
    back, q2 = st.align_2_sources(b, a, [(-2, 3), (-4, 1)])
    assert ints(forth) == [-s for s in ints(back)]
    assert q1 == q2


def test_sources_of_different_shapes_and_orders() -> None:
    a, b = noise((7, 5, 4), 1), np.asfortranarray(noise((3, 6, 5), 2))
    ranges = [(-2, 4), (-3, 2), (-4, 3)]
    assert_best(st.align_2_sources(a, b, ranges), scores(a, b, ranges), rel=1e-12)
    assert_best(
        st.align_2_sources(a[::-1], b[:, ::-1], ranges),
        scores(a[::-1], b[:, ::-1], ranges),
        rel=1e-12,
    )


# --- feasibility and ties ---------------------------------------------------------------------


def test_infeasible_shifts_are_passed_over() -> None:
    a, b = noise((6, 6), 1), noise((6, 6), 2)
    ranges = [(3, 20), (-30, -2)]
    assert_best(st.align_2_sources(a, b, ranges), scores(a, b, ranges), rel=1e-12)
    assert_best(st.align_2_sources(a, b, 50), scores(a, b, [(-50, 50)] * 2), rel=1e-12)


def test_range_that_has_0_outside_and_is_partly_feasible() -> None:
    a, b = st.Source(noise((8,), 1), position=(0,)), st.Source(noise((8,), 2), position=(20,))
    shift, _ = st.align_2_sources(a, b, (-14, 3))
    qualities = scores(noise((8,), 1), noise((8,), 2), [(-14, 3)], (20,))
    assert set(qualities) == {(-14,), (-13,)}
    assert qualities[tuple(ints(shift))] == max(qualities.values())


def test_nothing_feasible_is_an_error() -> None:
    a = st.Source(noise((5, 5)), position=(0, 0))
    b = st.Source(noise((5, 5)), position=(10, 0))
    with pytest.raises(REFUSED):
        st.align_2_sources(a, b, 5)  # they only touch at best
    shift, _ = st.align_2_sources(a, b, 6)
    assert int(shift[0]) == -6


@pytest.mark.parametrize(
    ("max_shifts", "expected"),
    [
        ([(-3, 3), (-3, 3)], [0, 0]),
        ([(1, 3), (-2, 2)], [1, 0]),
        ([(-3, -1), (-4, 4)], [-1, 0]),
        ([(2, 3), (-3, -1)], [2, -1]),
    ],
)
@pytest.mark.parametrize("dtype", ["uint16", "float64"])
def test_ties_go_to_the_smallest_shift(max_shifts: Any, expected: list[int], dtype: str) -> None:
    a, b = np.full((9, 9), 5, dtype), np.full((9, 9), 3, dtype)
    assert ints(st.align_2_sources(a, b, max_shifts)[0]) == expected


def test_ties_go_to_the_smallest_shift_not_to_the_smallest_displacement() -> None:
    pre = st.Source(np.full((20, 20), 5, np.uint8), position=(100, -50))
    post = st.Source(np.full((20, 20), 5, np.uint8), position=(107, -61))
    for max_shifts, expected in ((12, [0, 0]), ([(-9, -2), (3, 9)], [-2, 3])):
        assert ints(st.align_2_sources(pre, post, max_shifts)[0]) == expected


def test_ties_of_equal_size_are_lexicographic() -> None:
    a = np.zeros((7, 7), np.uint8)
    b = np.zeros((7, 7), np.uint8)
    a[3, 3] = 9
    b[3, 1] = b[3, 5] = b[1, 3] = b[5, 3] = 9
    qualities = scores(a, b, [(-2, 2)] * 2)
    top = max(qualities.values())
    tied = {s for s, q in qualities.items() if q == top}
    least = min(sum(map(abs, s)) for s in tied)
    smallest = {s for s in tied if sum(map(abs, s)) == least}
    assert len(smallest) > 1  # the test has a tie to break
    assert tuple(ints(st.align_2_sources(a, b, 2)[0])) == min(smallest)


def test_periodic_images_tie_deterministically() -> None:
    a = np.tile(np.array([0, 9], np.uint8), 8)
    assert ints(st.align_2_sources(a, a[1:-1], (-4, 4))[0]) == [-1]
    assert ints(st.align_2_sources(a, a, (1, 5))[0]) == [2]


def test_the_smallest_overlap_of_dark_borders_wins_in_plain_mse() -> None:
    a = np.zeros(20, np.uint8)
    a[5:15] = np.arange(10) * 20 + 1
    b = a.copy()
    b[5:15] += 3
    shift, quality = st.align_2_sources(a, b, 19)
    assert_best((shift, quality), scores(a, b, [(-19, 19)]))
    assert quality == 0
    assert abs(int(shift[0])) >= 15


def test_min_overlap_keeps_small_overlaps_out() -> None:
    a = np.zeros(20, np.uint8)
    a[5:15] = np.arange(10) * 20 + 1
    b = a.copy()
    b[5:15] += 3
    shift, quality = st.align_2_sources(a, b, 19, min_overlap=12)
    allowed = {s: q for s, q in scores(a, b, [(-19, 19)]).items() if 20 - abs(s[0]) >= 12}
    assert_best((shift, quality), allowed)
    assert abs(int(shift[0])) <= 8


# --- normalize --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(pairs(["uint8", "int16", "uint16", "float32", "float64"]))
def test_normalize_is_the_zero_mean_ncc_of_each_overlap(case: tuple[Any, ...]) -> None:
    a, b, at_a, at_b, ranges = case
    offset = tuple(q - p for p, q in zip(at_a, at_b, strict=True))
    shift, quality = st.align_2_sources(
        st.Source(a, position=at_a), st.Source(b, position=at_b), ranges, normalize=True
    )
    qualities = scores(a, b, ranges, offset, ncc)
    assert quality == pytest.approx(max(qualities.values()), rel=1e-6, abs=1e-7)
    assert qualities[tuple(ints(shift))] == pytest.approx(quality, rel=1e-6, abs=1e-7)
    assert -1 <= quality <= 1


def test_ncc_does_not_care_for_gain_and_offset() -> None:
    world = noise((40, 40), 1, "uint8").astype(np.uint16)
    a, b = world[:30, :30], 3 * world[4:34, 2:32] + 500
    shift, quality = st.align_2_sources(a, b, 6, normalize=True)
    assert ints(shift) == [4, 2]
    assert quality == pytest.approx(1, rel=1e-9)


def test_ncc_is_0_where_a_side_is_constant() -> None:
    a, b = noise((8, 8), 1), np.full((8, 8), 3, np.uint16)
    shift, quality = st.align_2_sources(a, b, 2, normalize=True)
    assert quality == 0
    assert ints(shift) == [0, 0]
    shift, quality = st.align_2_sources(a.astype(float), np.full((8, 8), 0.1), 2, normalize=True)
    assert quality == 0
    assert ints(shift) == [0, 0]


def test_ncc_is_minus_1_for_a_negative() -> None:
    a = noise((6, 6), 1, "uint8")
    shift, quality = st.align_2_sources(a, 255 - a, 0, normalize=True)
    assert ints(shift) == [0, 0]
    assert quality == pytest.approx(-1)


# --- clip -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clip", "capped"),
    [
        (90, (None, 90)),
        (np.uint8(90), (None, 90)),
        ((None, 90), (None, 90)),
        ((60, None), (60, None)),
        ((60, 130), (60, 130)),
        ([60, 130], (60, 130)),
        ((None, None), (None, None)),
        (None, (None, None)),
        (1000, (None, None)),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_clip_is_an_upper_cap_or_a_range(clip: Any, capped: Any, dtype: str) -> None:
    a, b = noise((9, 8), 1, "uint8").astype(dtype), noise((8, 9), 2, "uint8").astype(dtype)
    if capped == (None, None):
        x, y = a, b
    else:
        x, y = np.clip(a, *capped), np.clip(b, *capped)
    before = a.copy(), b.copy(), copy.copy(clip)
    result = st.align_2_sources(a, b, 3, clip=clip)
    assert_best(result, scores(x, y, [(-3, 3)] * 2))
    assert (a == before[0]).all()
    assert (b == before[1]).all()
    assert clip == before[2]


def test_clip_is_applied_to_copies() -> None:
    a, b = noise((9, 8), 1, "uint8"), noise((8, 9), 2, "uint8")
    a.flags.writeable = b.flags.writeable = False
    pre, post = st.Source(a), st.Source(b)
    layout = st.Layout([pre, post], [st.Alignment(pre, post)])
    layout.align(max_shifts=1, clip=(20, 40), processes="serial")
    layout.stitch()


def test_clip_is_applied_before_background() -> None:
    a, b = noise((9, 9), 1, "uint8"), noise((9, 9), 2, "uint8")
    shift, quality = st.align_2_sources(a, b, 2, clip=50, background=51)
    assert ints(shift) == [0, 0]
    assert quality == -INF
    assert st.align_2_sources(a, b, 2, clip=50, background=50)[1] > -INF
    # a floor that lifts dark pixels above the background makes signal of them
    dark = np.zeros((9, 9), np.uint8)
    assert st.align_2_sources(dark, dark, 2, background=10)[1] == -INF
    assert st.align_2_sources(dark, dark, 2, clip=(10, None), background=10)[1] == 0


# --- background -------------------------------------------------------------------------------


def bright(n: int, *where: int) -> Array:
    a = np.ones(n, np.uint16)
    a[list(where)] = 100
    return a


@pytest.mark.parametrize(
    ("in_a", "in_b", "signal"),
    [
        ((6,), (3,), True),  # a[6:] and b[:4] are reachable
        ((5,), (3,), False),
        ((6,), (4,), False),
        ((), (0,), False),
        ((9,), (), False),
        ((0, 1, 2, 3, 4, 5), (4, 5, 6, 7, 8, 9), False),
    ],
)
def test_background_looks_at_either_sides_reachable_slab(
    in_a: tuple[int, ...], in_b: tuple[int, ...], signal: bool
) -> None:
    a = st.Source(bright(10, *in_a), position=(0,))
    b = st.Source(bright(10, *in_b), position=(7,))
    shift, quality = st.align_2_sources(a, b, 1, background=50)
    assert (quality > -INF) is signal
    if not signal:
        assert ints(shift) == [0]


def test_background_is_below_the_threshold_only() -> None:
    a = np.full((6, 6), 50, np.uint8)
    assert st.align_2_sources(a, a, 1, background=50)[1] == 0
    assert st.align_2_sources(a, a, 1, background=51)[1] == -INF
    assert st.align_2_sources(a, a, 1, background=50.5)[1] == -INF
    assert st.align_2_sources(a, a, 1, background=None)[1] == 0
    assert st.align_2_sources(a, a, 1, background=np.uint8(50))[1] == 0


@pytest.mark.parametrize(
    ("k", "signal"),
    [(3, True), (4, False), (0.3, True), (0.31, False), (np.int64(3), True), (np.int64(4), False)],
)
def test_background_pair_counts_pixels_or_a_fraction_of_each_slab(k: Any, signal: bool) -> None:
    a, b = bright(10, 1, 4, 8), bright(10, 0, 3, 6, 9)
    for first, second in ((a, b), (b, a)):
        shift, quality = st.align_2_sources(first, second, 2, background=(50, k))
        assert (quality > -INF) is signal
        if not signal:
            assert ints(shift) == [0]


def test_background_fraction_is_of_the_slab_not_of_the_tile() -> None:
    a = st.Source(bright(10, 6, 7), position=(0,))  # slab a[6:]: 2 of 4
    b = st.Source(bright(10, 0, 1), position=(7,))  # slab b[:4]: 2 of 4
    assert st.align_2_sources(a, b, 1, background=(50, 0.5))[1] > -INF
    assert st.align_2_sources(a, b, 1, background=(50, 0.51))[1] == -INF


def test_background_gives_shift_0_even_where_the_range_lacks_it() -> None:
    a = np.zeros((9, 9), np.uint8)
    shift, quality = st.align_2_sources(a, a, (2, 3), background=5)
    assert ints(shift) == [0, 0]
    assert quality == -INF


def test_background_also_guards_the_normalised_measure() -> None:
    a, b = noise((9, 9), 1, "uint8"), noise((9, 9), 2, "uint8")
    shift, quality = st.align_2_sources(a, b, 2, background=256, normalize=True)
    assert ints(shift) == [0, 0]
    assert quality == -INF


# --- max_shifts -------------------------------------------------------------------------------

FORMS: list[tuple[Any, list[tuple[int, int]]]] = [
    (3, [(-3, 3), (-3, 3)]),
    (0, [(0, 0), (0, 0)]),
    (np.int32(3), [(-3, 3), (-3, 3)]),
    (np.array(3), [(-3, 3), (-3, 3)]),
    ((-1, 4), [(-1, 4), (-1, 4)]),
    ((np.int8(-1), np.uint16(4)), [(-1, 4), (-1, 4)]),
    ((1, 4), [(1, 4), (1, 4)]),
    ([1, 4], [(-1, 1), (-4, 4)]),
    (np.array([1, 4]), [(-1, 1), (-4, 4)]),
    ([4, 1], [(-4, 4), (-1, 1)]),
    ([(-1, 4), (0, 2)], [(-1, 4), (0, 2)]),
    (((-1, 4), (0, 2)), [(-1, 4), (0, 2)]),
    ([[-1, 4], [0, 2]], [(-1, 4), (0, 2)]),
    (np.array([[-1, 4], [0, 2]]), [(-1, 4), (0, 2)]),
    ([2, (0, 3)], [(-2, 2), (0, 3)]),
    (((-3, -1), 2), [(-3, -1), (-2, 2)]),
    ([np.int64(2), np.array([0, 3])], [(-2, 2), (0, 3)]),
]


@pytest.mark.parametrize(("given_form", "ranges"), FORMS)
def test_max_shifts_takes_every_form(given_form: Any, ranges: list[tuple[int, int]]) -> None:
    before = copy.deepcopy(given_form)
    for seed in range(4):  # several data sets, so that a wrong range shows
        a, b = noise((9, 9), seed), noise((9, 9), seed + 50)
        result = st.align_2_sources(a, b, given_form)
        assert_best(result, scores(a, b, ranges), rel=1e-12)
    assert repr(before) == repr(given_form)


@pytest.mark.parametrize("wrong", [(3, -3), [(3, -3), (0, 1)], [(0, 1), (1, 0)]])
def test_a_range_with_lo_above_hi_is_an_error(wrong: Any) -> None:
    a = noise((9, 9))
    with pytest.raises(REFUSED):
        st.align_2_sources(a, a, wrong)


@pytest.mark.parametrize("wrong", [[1], [1, 2, 3], [(0, 1)], np.zeros((3, 2), int)])
def test_max_shifts_with_a_wrong_number_of_axes_is_an_error(wrong: Any) -> None:
    a = noise((9, 9))
    with pytest.raises(REFUSED):
        st.align_2_sources(a, a, wrong)


# --- along an axis ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "searched"),
    [
        (4, (1, 4)),
        (np.int64(4), (1, 4)),
        ((2, 5), (2, 5)),
        ((5, 2), (2, 5)),
        ((3, 3), (3, 3)),
    ],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_overlap_is_searched_absolutely_along_the_axis(
    overlap: Any, searched: tuple[int, int], axis: int
) -> None:
    for seed in range(3):
        a, b = noise((9, 8), seed), noise((7, 8), seed + 9)
        length = a.shape[axis]
        ranges = [(-2, 1), (-2, 1)]
        ranges[axis] = (length - searched[1], length - searched[0])
        shift, quality = st.align_2_sources_along_axis(
            a, b, axis=axis, overlap=overlap, max_shifts=(-2, 1)
        )
        assert_best((shift, quality), scores(a, b, ranges), rel=1e-12)


def test_overlap_ignores_current_positions_on_its_axis_only() -> None:
    world = noise((60, 40))
    a = st.Source(world[:20, 5:25], position=(0, 0))
    for wrong in (-40, 0, 16, 900):
        b = st.Source(world[16:36, 8:28], position=(wrong, 2))  # true displacement (16, 3)
        shift, quality = st.align_2_sources_along_axis(a, b, axis=0, overlap=6, max_shifts=2)
        assert quality == 0
        assert ints(shift) == [16 - wrong, 1]


def test_max_shifts_of_the_alignment_axis_are_not_used() -> None:
    world = noise((60, 40))
    a, b = world[:20, 5:25], world[16:36, 8:28]
    for max_shifts in (3, [0, 3], [(100, 200), (0, 3)]):
        shift, quality = st.align_2_sources_along_axis(
            a, b, axis=0, overlap=6, max_shifts=max_shifts
        )
        assert ints(shift) == [16, 3]
        assert quality == 0


# --- maximum intensity projections ------------------------------------------------------------


def mip_case(seed: int = 0) -> tuple[Array, Array, Shift]:
    """Two tiles along z that overlap by 5 planes, displaced by (2, -1, 7)."""
    world = noise((20, 20, 30), seed)
    return world[3:15, 4:16, 0:12], world[5:17, 3:15, 7:19], (2, -1, 7)


def test_axis_mip_takes_the_last_planes_of_pre_and_the_first_of_post() -> None:
    a, b, true = mip_case()
    shift, quality, mips = st.align_2_sources_along_axis_mip(
        a, b, axis=2, depth=5, max_shifts=3, with_mip=True
    )
    assert ints(shift) == [true[0], true[1], 0]
    assert quality == 0
    assert np.array_equal(mips[0], a[:, :, -5:].max(axis=2))
    assert np.array_equal(mips[1], b[:, :, :5].max(axis=2))
    assert len(st.align_2_sources_along_axis_mip(a, b, axis=2, depth=5, max_shifts=3)) == 2


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("depth", [1, 3, [2, 3, 4], (2, 3, 4), np.array([2, 3, 4]), 100])
def test_axis_mip_equals_brute_force_on_the_projections(axis: int, depth: Any) -> None:
    a, b = noise((7, 6, 8), 1), noise((6, 7, 8), 2)
    n = depth if isinstance(depth, int) else int(depth[axis])
    last = a.take(range(max(0, a.shape[axis] - n), a.shape[axis]), axis).max(axis)
    first = b.take(range(min(n, b.shape[axis])), axis).max(axis)
    result = st.align_2_sources_along_axis_mip(
        a, b, axis=axis, depth=depth, max_shifts=2, with_mip=True
    )
    rest = [d for d in range(3) if d != axis]
    assert int(result[0][axis]) == 0
    assert_best(
        ([result[0][d] for d in rest], result[1]), scores(last, first, [(-2, 2)] * 2), rel=1e-12
    )
    assert np.array_equal(result[2][0], last)
    assert np.array_equal(result[2][1], first)


def test_axis_mip_shift_is_around_the_current_positions() -> None:
    a, b, true = mip_case()
    pre, post = st.Source(a, position=(50, 60, 70)), st.Source(b, position=(51, 61, 99))
    shift, quality = st.align_2_sources_along_axis_mip(pre, post, axis=2, depth=5, max_shifts=3)
    assert ints(shift) == [true[0] - 1, true[1] - 1, 0]
    assert quality == 0


def test_axis_mip_with_max_shifts_per_axis_and_background() -> None:
    a, b, true = mip_case()
    shift, quality = st.align_2_sources_along_axis_mip(
        a, b, axis=2, depth=5, max_shifts=[(0, 3), (-2, 0), (0, 0)]
    )
    assert ints(shift) == [true[0], true[1], 0]
    assert quality == 0
    shift, quality = st.align_2_sources_along_axis_mip(
        a, b, axis=2, depth=5, max_shifts=3, background=70000
    )
    assert ints(shift) == [0, 0, 0]
    assert quality == -INF


def test_layout_along_axis_mip_is_the_layout_of_the_two_projections() -> None:
    a, b, true = mip_case()
    pre, post = st.Source(a, position=(0, 0, 0)), st.Source(b, position=(1, 0, 8))
    layout = st.layout_along_axis_mip(pre, post, axis=2, depth=5, max_shifts=3)
    assert layout.ndim == 2
    assert layout.n_sources == 2
    assert layout.n_alignments == 1
    assert ints(layout.alignments[0].displacement) == list(true[:2])
    assert layout.alignments[0].quality == 0
    assert [tuple(s.shape) for s in layout.sources] == [(12, 12), (12, 12)]


def test_max_intensity_projection_takes_an_axis_and_a_function() -> None:
    a = noise((4, 5, 6))
    assert np.array_equal(st.max_intensity_projection(a), a.max(axis=0))
    assert np.array_equal(st.max_intensity_projection(a, axis=2), a.max(axis=2))
    assert np.array_equal(st.max_intensity_projection(a, 1, np.min), a.min(axis=1))


def test_mip_axis_is_the_axis_where_the_tile_positions_differ() -> None:
    a = np.zeros((10, 10, 10), np.uint8)
    for axis in range(3):
        there = tuple(int(d == axis) for d in range(3))
        pre = st.Source(a, position=(0, 0, 0), tile_position=(0, 0, 0))
        post = st.Source(a, position=(4, 5, 6), tile_position=there)
        assert st.Alignment(pre, post).mip_axis() == axis


def test_mip_axis_without_tile_positions_is_the_axis_of_the_smallest_overlap() -> None:
    pre = st.Source(np.zeros((10, 20, 12), np.uint8), position=(0, 0, 0))
    post = st.Source(np.zeros((10, 20, 12), np.uint8), position=(3, 15, 6))  # 7, 5, 6 overlap
    assert st.Alignment(pre, post).mip_axis() == 1
    assert st.Alignment(post, pre).mip_axis() == 1


def test_mip_axis_is_not_the_axis_to_measure() -> None:
    a = np.zeros((10, 10, 10), np.uint8)
    pre = st.Source(a, position=(0, 0, 0), tile_position=(0, 0))
    post = st.Source(a, position=(8, 1, 3), tile_position=(1, 0))  # overlaps 2, 9, 7
    alignment = st.Alignment(pre, post)
    assert alignment.mip_axis(axis=0) == 2
    assert alignment.mip_axis(axis=1) == 0
    assert alignment.mip_axis(axis=2) == 0


# --- layouts ----------------------------------------------------------------------------------


def cut_pair(
    true: Sequence[int],
    nominal: Sequence[int],
    shape: Sequence[int] = (16, 14, 12),
    tile: Sequence[int] = (1, 0),
    seed: int = 0,
) -> tuple[st.Source, st.Source]:
    """Two tiles of one noise volume, truly displaced by `true`, placed `nominal` apart."""
    start = [20] * len(shape)
    world = noise([n + 40 for n in shape], seed)
    cut = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    moved = tuple(slice(s + d, s + d + n) for s, n, d in zip(start, shape, true, strict=True))
    pre = st.Source(world[cut], position=(0,) * len(shape), tile_position=(0,) * len(tile))
    post = st.Source(world[moved], position=tuple(nominal), tile_position=tuple(tile))
    return pre, post


def grid_case(jitter: int = 2, seed: int = 0) -> tuple[st.TiledLayout, dict[Shift, Shift]]:
    """A 3 × 2 grid of 2-D tiles of one noise image and the truth."""
    rng = np.random.default_rng(seed)
    world = noise((80, 60), seed)
    sources, truth = [], {}
    for i, j in itertools.product(range(3), range(2)):
        off = rng.integers(-jitter, jitter, 2, endpoint=True)
        x, y = truth[i, j] = 6 + 14 * i + int(off[0]), 6 + 14 * j + int(off[1])
        sources.append(st.Source(world[x : x + 20, y : y + 20]))
    layout = st.TiledLayout(sources, tile_positions=list(truth), overlaps=6)
    return layout, truth


def assert_true(layout: st.Layout, truth: dict[Shift, Shift]) -> None:
    assert layout.n_alignments > 0
    for alignment in layout.alignments:
        pre, post = (truth[tuple(s.tile_position)] for s in (alignment.pre, alignment.post))
        assert ints(alignment.displacement) == [q - p for p, q in zip(pre, post, strict=True)]
        assert alignment.quality == 0


def test_align_layout_measures_around_current_positions() -> None:
    layout, truth = grid_case()
    positions = layout.source_positions()
    assert st.align_layout(layout, max_shifts=5, processes="serial") is layout
    assert_true(layout, truth)
    assert layout.source_positions() == positions  # nothing is moved
    for alignment in layout.alignments:
        moved = np.subtract(alignment.post.position, alignment.pre.position)
        assert ints(alignment.shift) == ints(alignment.displacement - moved)


def test_layout_align_method_does_the_same() -> None:
    layout, truth = grid_case(seed=3)
    layout.align(max_shifts=[5, 5], processes="serial")
    assert_true(layout, truth)


def test_align_layout_without_alignments_and_of_a_single_tile() -> None:
    single = st.Layout([st.Source(noise((5, 5)))])
    st.align_layout(single, processes="serial")
    assert single.n_alignments == 0
    tiled = st.TiledLayout([[st.Source(noise((5, 5)))]], overlaps=2)
    tiled.align_on_tiling(overlaps=2, max_shifts=1, processes="serial")
    assert tiled.n_alignments == 0


@pytest.mark.parametrize("shape", [(1, 4), (4, 1)])
def test_align_on_tiling_of_a_single_row_or_column(shape: tuple[int, int]) -> None:
    world = noise((90, 90))
    cells = list(itertools.product(*map(range, shape)))
    truth = {c: (5 + 13 * c[0] + c[1], 5 + 13 * c[1] - c[0]) for c in cells}
    sources = [st.Source(world[x : x + 18, y : y + 18]) for x, y in truth.values()]
    layout = st.TiledLayout(sources, tile_positions=cells, overlaps=4)
    assert layout.n_alignments == 3
    st.align_layout_on_tiling(layout, overlaps=6, max_shifts=2, processes="serial")
    assert_true(layout, truth)


@pytest.mark.parametrize("far", [0, 100, -77])
def test_align_on_tiling_searches_overlaps_whatever_the_current_positions(far: int) -> None:
    layout, truth = grid_case(jitter=1)
    positions = [(20 * i + far * i, 20 * j - far * j) for i, j in truth]
    layout.set_source_positions(positions)
    # across the tiling axis neighbours lie level, so max_shifts around that finds the jitter
    st.align_layout_on_tiling(layout, overlaps=9, max_shifts=2, processes="serial")
    assert_true(layout, truth)


def two_by_two(overlap_x: int, overlap_y: int) -> tuple[st.TiledLayout, dict[Shift, Shift]]:
    world = noise((60, 60))
    truth = {
        (i, j): (i * (16 - overlap_x), j * (16 - overlap_y)) for i in range(2) for j in range(2)
    }
    sources = [st.Source(world[x : x + 16, y : y + 16]) for x, y in truth.values()]
    return st.TiledLayout(sources, tile_positions=list(truth), overlaps=5), truth


@pytest.mark.parametrize(
    "overlaps",
    [
        7,
        np.int16(7),
        (8, 6),
        [8, 6],
        np.array([8, 6]),
        [(6, 8), (2, 4)],
        ((8, 6), (4, 2)),
        [(6, 8), 5],
        (7, (3, 3)),
    ],
)
def test_overlaps_have_one_entry_per_grid_axis(overlaps: Any) -> None:
    layout, truth = two_by_two(7, 3)
    before = copy.deepcopy(overlaps)
    st.align_layout_on_tiling(layout, overlaps=overlaps, max_shifts=1, processes="serial")
    assert_true(layout, truth)
    assert repr(before) == repr(overlaps)


def test_overlaps_limit_the_search_of_their_axis() -> None:
    layout, _ = two_by_two(7, 3)
    layout.align_on_tiling(overlaps=(6, 3), max_shifts=1, processes="serial")
    for alignment in layout.alignments:
        along_x = alignment.pre.tile_position[0] != alignment.post.tile_position[0]
        assert (alignment.quality < 0) is along_x
        if along_x:
            assert 10 <= alignment.displacement[0] <= 15


@pytest.mark.parametrize("wrong", [(1, 2, 3), [4], [(1, 2)]])
def test_overlaps_with_a_wrong_number_of_entries_are_an_error(wrong: Any) -> None:
    layout, _ = two_by_two(7, 3)
    with pytest.raises(REFUSED):
        st.align_layout_on_tiling(layout, overlaps=wrong, max_shifts=1, processes="serial")


def test_align_on_tiling_of_small_tiles_by_the_documented_defaults() -> None:
    layout, _ = two_by_two(7, 3)
    layout.align_on_tiling(processes="serial")  # overlaps and shifts of 50 exceed the tiles
    for alignment in layout.alignments:
        a, b = (pixels(s) for s in alignment.sources)
        axis = 0 if alignment.pre.tile_position[0] != alignment.post.tile_position[0] else 1
        ranges = [(-50, 50), (-50, 50)]
        ranges[axis] = (16 - 50, 15)
        assert_best((alignment.displacement, alignment.quality), scores(a, b, ranges), rel=1e-12)


@pytest.mark.parametrize("normalize", [True])
@pytest.mark.parametrize(
    "align",
    [
        lambda layout, **k: st.align_layout(layout, max_shifts=4, **k),
        lambda layout, **k: layout.align(max_shifts=4, **k),
        lambda layout, **k: st.align_layout_on_tiling(layout, overlaps=9, max_shifts=4, **k),
        lambda layout, **k: layout.align_on_tiling(overlaps=9, max_shifts=4, **k),
    ],
)
def test_normalize_is_reachable_from_layout_functions(align: Any, normalize: bool) -> None:
    layout, _ = grid_case()
    for alignment in layout.alignments:  # gain and offset that plain MSE cannot take
        assert alignment.quality == -INF
    dim = [pixels(s) // 4 + 9000 * (k % 2) for k, s in enumerate(layout.sources)]
    other = st.TiledLayout(
        [st.Source(d, position=s.position) for d, s in zip(dim, layout.sources, strict=True)],
        tile_positions=layout.tile_positions,
        positions=layout.source_positions(),
    )
    align(other, normalize=normalize, processes="serial")
    for alignment in other.alignments:
        assert 0 < alignment.quality <= 1


def test_align_layout_normalize_equals_brute_force() -> None:
    a, b = noise((10, 10), 1), noise((10, 10), 2)
    pre, post = st.Source(a, position=(0, 0)), st.Source(b, position=(3, 2))
    layout = st.Layout([pre, post], [st.Alignment(pre, post)])
    st.align_layout(layout, max_shifts=2, normalize=True, processes="serial")
    qualities = scores(a, b, [(-2, 2)] * 2, (3, 2), ncc)
    assert layout.alignments[0].quality == pytest.approx(max(qualities.values()), rel=1e-6)


@pytest.mark.parametrize(
    "align",
    [
        lambda layout, **k: st.align_layout_axis(layout, axis=2, depth=5, max_shifts=2, **k),
        lambda layout, **k: layout.align_axis(axis=2, depth=5, max_shifts=2, **k),
        lambda layout, **k: st.align_layout_rigid_mip(layout, depth=5, max_shifts=2, **k),
        lambda layout, **k: st.align_layout_rigid_mips(layout, depth=5, max_shifts=2, **k),
    ],
)
def test_normalize_is_reachable_from_projecting_functions(align: Any) -> None:
    pre, post = cut_pair((11, 1, -2), (11, 0, 0))
    layout = st.Layout([pre, post], [st.Alignment(pre, post)])
    align(layout, normalize=True, processes="serial")
    assert 0 < layout.alignments[0].quality <= 1 + 1e-12


@pytest.mark.parametrize("by", ["function", "method"])
def test_align_layout_axis_writes_only_its_component(by: str) -> None:
    for axis, expected in ((2, [7, 8, -2]), (1, [7, 1, 9])):
        pre, post = cut_pair((11, 1, -2), (11, 0, 0))
        link = st.Alignment(pre, post, displacement=(7, 8, 9))
        layout = st.Layout([pre, post], [link])
        options: dict[str, Any] = {"axis": axis, "depth": 5, "max_shifts": 3, "processes": "serial"}
        if by == "function":
            assert st.align_layout_axis(layout, **options) is layout
        else:
            layout.align_axis(**options)
        assert layout.alignments[0] is link
        assert ints(link.displacement) == expected
        assert link.quality == 0


def test_align_axis_without_axis_measures_the_last() -> None:
    pre, post = cut_pair((11, 1, -2), (11, 0, 0))
    link = st.Alignment(pre, post, displacement=(7, 8, 9))
    st.Layout([pre, post], [link]).align_axis(depth=5, max_shifts=3, processes="serial")
    assert ints(link.displacement) == [7, 8, -2]


def test_align_axis_uses_the_depth_of_the_projected_axis() -> None:
    pre, post = cut_pair((11, 1, -2), (11, 0, 0))
    link = st.Alignment(pre, post)
    st.align_layout_axis(
        st.Layout([pre, post], [link]), axis=2, depth=[5, 1, 1], max_shifts=3, processes="serial"
    )
    assert ints(link.displacement) == [11, 0, -2]
    assert link.quality == 0


def lying_planes(offset: int) -> tuple[st.Source, st.Source]:
    """A pair whose planes at z >= offset + 10 are displaced otherwise than those before."""
    world = noise((40, 40, 40), 5)
    a, b = world[5:21, 5:21, 5:25].copy(), world[16:32, 5:21, 6:26].copy()  # true (11, 0, 1)
    b[:, :, 10:] = world[16:32, 5:21, 13:23]  # lies: (11, 0, -2) there
    pre = st.Source(a, position=(0, 0, offset), tile_position=(0, 0))
    post = st.Source(b, position=(11, 0, offset), tile_position=(1, 0))
    return pre, post


@pytest.mark.parametrize("offset", [0, 100, -50])
def test_axis_range_is_in_absolute_coordinates(offset: int) -> None:
    pre, post = lying_planes(offset)
    link = st.Alignment(pre, post)
    layout = st.Layout([pre, post], [link])
    st.align_layout_axis(
        layout, 2, depth=5, max_shifts=3, axis_range=(offset, offset + 9), processes="serial"
    )
    assert int(link.displacement[2]) == 1
    st.align_layout_axis(
        layout, 2, depth=5, max_shifts=3, axis_range=(offset + 11, offset + 20), processes="serial"
    )
    assert int(link.displacement[2]) == -2


def test_axis_range_is_clipped_to_the_tiles() -> None:
    results = []
    for axis_range in (None, (-1000, 1000)):
        pre, post = lying_planes(30)
        link = st.Alignment(pre, post)
        layout = st.Layout([pre, post], [link])
        layout.align_axis(depth=5, max_shifts=3, axis_range=axis_range, processes="serial")
        results.append((ints(link.displacement), link.quality))
    assert results[0] == results[1]


@pytest.mark.parametrize("axis", [0, 1])
def test_rigid_mip_leaves_the_tiling_axis_nominal(axis: int) -> None:
    true, nominal, tile = [1, -2, 2], [0, 0, 0], [0, 0]
    true[axis], nominal[axis], tile[axis] = 11, 11, 1
    pre, post = cut_pair(true, nominal, shape=(16, 16, 12), tile=tile)
    link = st.Alignment(pre, post)
    layout = st.Layout([pre, post], [link])
    workspace: dict[str, int] = {}
    result = st.align_layout_rigid_mip(
        layout, depth=[5, 5, 5], max_shifts=3, processes="serial", workspace=workspace
    )
    assert result is layout
    assert ints(link.displacement) == true
    assert link.quality == 0
    assert workspace == {}


def test_rigid_mip_nominal_component_is_not_the_truth() -> None:
    pre, post = cut_pair((11, 1, -2), (12, 0, 0))
    link = st.Alignment(pre, post)
    st.align_layout_rigid_mip(
        st.Layout([pre, post], [link]), depth=4, max_shifts=3, processes="serial"
    )
    assert int(link.displacement[0]) == 12


@functools.cache
def smooth_world() -> Array:
    world = gaussian_filter(np.random.default_rng(1).normal(size=(70, 70, 70)), 2)
    return (2000 + 1500 * world / world.std()).clip(0, 65535).astype(np.uint16)


def smooth_pair(axis: int, off: Sequence[int]) -> tuple[st.Source, st.Source, list[int]]:
    """Two tiles of a smooth volume along `axis`, `off` away from where they are placed."""
    world = smooth_world()
    nominal, tile = [0, 0, 0], [0, 0, 0]
    nominal[axis], tile[axis] = 20, 1
    true = [n + o for n, o in zip(nominal, off, strict=True)]
    a = world[8:40, 8:40, 8:40]
    x, y, z = (8 + t for t in true)
    b = world[x : x + 32, y : y + 32, z : z + 32]
    pre = st.Source(a, position=(0, 0, 0), tile_position=(0, 0, 0))
    post = st.Source(b, position=tuple(nominal), tile_position=tuple(tile))
    return pre, post, true


@pytest.mark.parametrize(("axis", "off"), [(0, (2, -3, 3)), (1, (-3, 2, -3)), (2, (3, 3, -2))])
def test_rigid_mips_measure_every_component(axis: int, off: tuple[int, ...]) -> None:
    pre, post, true = smooth_pair(axis, off)
    link = st.Alignment(pre, post)
    layout = st.Layout([pre, post], [link])
    result = st.align_layout_rigid_mips(layout, depth=12, max_shifts=5, processes="serial")
    assert result is layout
    assert layout.alignments[0] is link
    assert max(abs(d - t) for d, t in zip(link.displacement, true, strict=True)) <= 1
    assert link.quality <= 0


def test_ranges_that_exceed_the_tiles_are_clipped() -> None:
    for align in (st.align_layout_rigid_mip, st.align_layout_rigid_mips):
        results = []
        for ranges in (None, [(-500, 500)] * 3, [None, None, None]):
            pre, post, _ = smooth_pair(0, (0, 1, -1))
            link = st.Alignment(pre, post)
            layout = st.Layout([pre, post], [link])
            align(layout, depth=12, max_shifts=3, ranges=ranges, processes="serial")
            results.append((ints(link.displacement), link.quality))
        assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("align", ["align_layout_rigid_mip", "align_layout_rigid_mips"])
@pytest.mark.parametrize("offset", [0, 100, -50])
def test_ranges_are_in_absolute_coordinates(align: str, offset: int) -> None:
    for ranges, expected in (
        ([None, None, (offset, offset + 9)], 1),
        ([None, None, (offset + 11, offset + 20)], -2),
    ):
        pre, post = lying_planes(offset)
        link = st.Alignment(pre, post)
        layout = st.Layout([pre, post], [link])
        getattr(st, align)(layout, depth=5, max_shifts=3, ranges=ranges, processes="serial")
        if align.endswith("mip"):
            assert ints(link.displacement) == [11, 0, expected]
        else:
            assert int(link.displacement[2]) == expected


def test_rigid_mip_without_tile_positions_projects_along_the_smallest_overlap() -> None:
    pre, post = cut_pair((1, 11, -2), (0, 11, 0), shape=(16, 16, 12))
    pre, post = (st.Source(pixels(s), position=s.position) for s in (pre, post))
    link = st.Alignment(pre, post)
    layout = st.Layout([pre, post], [link])
    st.align_layout_rigid_mip(layout, depth=5, max_shifts=3, processes="serial")
    assert ints(link.displacement) == [1, 11, -2]
    assert link.quality == 0


def test_projecting_functions_take_max_shifts_and_depth_per_axis_and_numpy_ints() -> None:
    for options in (
        {"depth": [5, 7, 7], "max_shifts": [0, (0, 2), (-2, 0)]},
        {"depth": np.array([5, 7, 7]), "max_shifts": np.array([3, 3, 3])},
        {"depth": np.int64(5), "max_shifts": np.int64(2)},
    ):
        before = repr(options)
        pre, post = cut_pair((11, 1, -2), (11, 0, 0))
        link = st.Alignment(pre, post)
        layout = st.Layout([pre, post], [link])
        st.align_layout_rigid_mip(layout, processes="serial", **options)
        assert ints(link.displacement) == [11, 1, -2]
        layout.update_alignments_from_sources()
        st.align_layout_axis(layout, np.int64(1), processes="serial", **options)
        assert ints(link.displacement) == [11, 1, 0]
        assert repr(options) == before


@pytest.mark.parametrize(
    "align",
    [
        "align_layout",
        "align_layout_on_tiling",
        "align_layout_axis",
        "align_layout_rigid_mip",
        "align_layout_rigid_mips",
    ],
)
def test_pairs_without_signal_are_minus_infinity_everywhere(align: str) -> None:
    pre, post = cut_pair((11, 1, -2), (11, 0, 0))
    layout = st.TiledLayout(
        [pre, post], tile_positions=[(0, 0), (1, 0)], positions=[(0, 0, 0), (11, 0, 0)]
    )
    getattr(st, align)(layout, max_shifts=2, background=70000, processes="serial")
    assert layout.alignments[0].quality == -INF
    assert ints(layout.alignments[0].displacement) == [11, 0, 0]


def test_align_axis_of_a_2_d_layout() -> None:
    world = noise((60, 40))
    pre = st.Source(world[5:25, 5:25], position=(0, 0), tile_position=(0, 0))
    post = st.Source(world[20:40, 8:28], position=(15, 0), tile_position=(1, 0))
    link = st.Alignment(pre, post)
    layout = st.Layout([pre, post], [link])
    st.align_layout_axis(layout, axis=1, depth=5, max_shifts=4, processes="serial")
    assert ints(link.displacement) == [15, 3]
    assert link.quality == 0
    link.displacement = (15, 0)
    layout.align_axis(depth=5, max_shifts=4, processes="serial")
    assert ints(link.displacement) == [15, 3]


def test_slices_are_aligned_at_their_positions_in_the_layout() -> None:
    world = noise((60, 40, 6))
    pre = st.Source(world[5:25, 5:25], position=(100, 200, 300))
    post = st.Source(world[20:40, 8:28], position=(114, 202, 300))
    flat = [s.slice_along_axis(coordinate=303, axis=2) for s in (pre, post)]
    shift, quality = st.align_2_sources(*flat, 4)
    assert ints(shift) == [1, 1]
    assert quality == 0


@pytest.mark.parametrize("dtype", [">u2", ">i4", ">f4", ">f8"])
def test_foreign_byte_order_is_aligned_alike(dtype: str) -> None:
    world = noise((30, 30), 3, np.dtype(dtype).newbyteorder("=").name).astype(dtype)
    for normalize, best in ((False, 0), (True, 1)):
        shift, quality = st.align_2_sources(
            world[:20, :20], world[3:23, 6:26], 6, normalize=normalize
        )
        assert ints(shift) == [3, 6]
        assert quality == pytest.approx(best)


def test_verbose_and_debug_change_nothing() -> None:
    a, b = noise((9, 9), 1), noise((9, 9), 2)
    shift, quality = st.align_2_sources(a, b, 2)
    for options in ({"verbose": True}, {"debug": True}):
        again = st.align_2_sources(a, b, 2, **options)
        assert ints(again[0]) == ints(shift)
        assert again[1] == quality
    layout, truth = grid_case()
    layout.align(max_shifts=5, processes="serial", verbose=True)
    assert_true(layout, truth)
    layout.align_on_tiling(overlaps=10, max_shifts=5, processes="serial", verbose=True)
    assert_true(layout, truth)
    layout.place(verbose=True)
    layout.stitch(verbose=True)


def test_background_of_a_layout_keeps_the_nominal_displacement() -> None:
    pre, post = cut_pair((11, 1, -2), (12, 3, 4))
    link = st.Alignment(pre, post)
    st.align_layout(
        st.Layout([pre, post], [link]), max_shifts=3, background=70000, processes="serial"
    )
    assert link.quality == -INF
    assert ints(link.shift) == [0, 0, 0]
    assert ints(link.displacement) == [12, 3, 4]


def test_align_replaces_what_an_alignment_said_before() -> None:
    pre, post = cut_pair((11, 1, -2), (12, 0, 0))
    link = st.Alignment(pre, post, displacement=(500, 500, 500), quality=-3.0)
    st.align_layout(st.Layout([pre, post], [link]), max_shifts=3, processes="serial")
    assert ints(link.displacement) == [11, 1, -2]
    assert link.quality == 0


def test_an_argument_of_max_shifts_is_not_changed_by_a_layout_function() -> None:
    layout, _ = grid_case()
    max_shifts = [[-4, 4], 3]
    st.align_layout(layout, max_shifts=max_shifts, processes="serial")
    layout.align_on_tiling(overlaps=[8, 8], max_shifts=max_shifts, processes="serial")
    assert max_shifts == [[-4, 4], 3]


@pytest.mark.parametrize("processes", [1, 2, None])
def test_parallel_equals_serial_and_objects_stay_the_same(processes: int | None) -> None:
    results = []
    for how in ("serial", processes):
        layout, _ = grid_case(seed=8)
        layout.align_on_tiling(overlaps=4, max_shifts=3, background=5, processes="serial")
        sources, alignments = list(layout.sources), list(layout.alignments)
        layout.align(max_shifts=4, processes=how)
        assert all(s is t for s, t in zip(sources, layout.sources, strict=True))
        assert all(a is b for a, b in zip(alignments, layout.alignments, strict=True))
        assert all(any(a.pre is s for s in sources) for a in layout.alignments)
        assert all(any(a.post is s for s in sources) for a in layout.alignments)
        results.append([(ints(a.displacement), a.quality) for a in layout.alignments])
    assert results[0] == results[1]
