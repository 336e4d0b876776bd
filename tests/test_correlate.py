"""The fast search against trying every displacement, written anew with exact fractions."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from stitchlib.core import correlate, evidence, peaks, searches, spectra, surface
from stitchlib.core import windows as windows_of_lags
from stitchlib.core.correlate import (
    SearchRange,
    bytes_needed,
    reachable,
    score,
    search,
)
from stitchlib.core.windows import Sums
from stitchlib.errors import InputError, NoOverlapError
from tests.traced import traced

DTYPES = ["u1", "u2", ">u2", "i2", "i4", "u4", "f4", ">f4", "f8"]
LENGTHS = {1: 24, 2: 8, 3: 5}
quick = settings(
    deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow], database=None
)

brief = settings(quick, max_examples=60)


def windows(pre, post, d):
    """Voxels compared at displacement ``d``."""
    lower = [max(0, k) for k in d]
    upper = [min(n, k + m) for k, n, m in zip(d, pre.shape, post.shape, strict=True)]
    a = pre[tuple(slice(x, max(x, y)) for x, y in zip(lower, upper, strict=True))]
    shifted = [(x - k, y - k) for x, y, k in zip(lower, upper, d, strict=True)]
    return a, post[tuple(slice(x, max(x, y)) for x, y in shifted)]


def exact_key(a, b, measure):
    """Signed square of the NCC, or minus the mean squared difference, as a fraction."""
    a = [Fraction(v) for v in a.ravel().tolist()]
    b = [Fraction(v) for v in b.ravel().tolist()]
    if measure == "ssd":
        return -sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    a, b = [x - mean_a for x in a], [y - mean_b for y in b]
    spread = sum(x * x for x in a) * sum(y * y for y in b)
    cross = sum(x * y for x, y in zip(a, b, strict=True))
    return cross * abs(cross) / spread if spread else Fraction(0)


def brute(pre, post, ranges, measure, nominal, min_overlap):
    """Try every displacement; return (displacement, quality, overlap) or None."""
    found = []
    for d in itertools.product(
        *(range(x, y + 1) for x, y in zip(ranges.lower, ranges.upper, strict=True))
    ):
        a, b = windows(pre, post, d)
        if all(n >= max(1, t) for n, t in zip(a.shape, min_overlap, strict=True)):
            distance = sum((x - y) ** 2 for x, y in zip(d, nominal, strict=True))
            found.append((exact_key(a, b, measure), distance, d, a.size))
    if not found:
        return None
    top = max(found)[0]
    # float data are compared in float64, in which these differ by rounding only
    slack = 0 if pre.dtype.kind != "f" else Fraction(1, 10**12) * max(abs(top), Fraction(1, 10**3))
    key, _, d, size = min(
        (entry for entry in found if entry[0] >= top - slack), key=lambda e: (e[1], e[2])
    )
    quality = float(key)
    return d, math.copysign(math.sqrt(abs(quality)), quality) if measure == "ncc" else quality, size


@st.composite
def problems(draw, dtypes=DTYPES, kinds=("random", "few", "periodic", "extreme", "strip")):
    """Two small images, a range that may include infeasible displacements, and the rules."""
    axes = draw(st.integers(1, 3))
    extents = st.tuples(*[st.integers(1, LENGTHS[axes])] * axes)
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    kind = draw(st.sampled_from(kinds))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pre, post = (image(rng, draw(extents), dtype, kind) for _ in range(2))
    if draw(st.booleans()):
        pre = np.asfortranarray(pre)
    lower = draw(st.tuples(*[st.integers(-LENGTHS[axes], LENGTHS[axes])] * axes))
    width = draw(st.tuples(*[st.integers(0, LENGTHS[axes])] * axes))
    ranges = SearchRange(lower, tuple(x + w for x, w in zip(lower, width, strict=True)))
    rules = {
        "measure": draw(st.sampled_from(["ncc", "ssd"])),
        "nominal": draw(st.tuples(*[st.integers(-4, 4)] * axes)),
        "min_overlap": draw(st.tuples(*[st.integers(0, 3)] * axes)),
    }
    return pre, post, ranges, rules


def image(rng, shape, dtype, kind):
    if dtype.kind == "f":
        low, high = -50, 200
    else:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if kind == "random" and dtype.kind == "f":
        return (rng.normal(size=shape) * 30 + 7).astype(dtype)
    values = {
        "random": lambda: rng.integers(max(low, -3000), min(high, 3000), shape),
        "few": lambda: rng.integers(0, 3, shape),
        "periodic": lambda: np.indices(shape).sum(axis=0) % 2 * 100,
        "extreme": lambda: np.where(rng.random(shape) < 0.5, low, high),
        "strip": lambda: np.where(
            np.indices(shape)[0] < 2, min(high, 60000), rng.integers(5, 7, shape)
        ),
    }[kind]()
    return values.astype(dtype)


def agrees(pre, post, ranges, rules):
    expected = brute(pre, post, ranges, **rules)
    if expected is None:
        with pytest.raises(NoOverlapError, match="Widen the range"):
            search(pre, post, ranges, **rules)
        return
    peak = search(pre, post, ranges, **rules)
    assert peak.displacement == expected[0]
    assert peak.overlap == expected[2]
    tight = 1e-12 if pre.dtype.kind != "f" else 1e-6
    assert peak.quality == pytest.approx(expected[1], rel=tight, abs=1e-9 if tight > 1e-9 else 0)
    a, b = windows(pre, post, peak.displacement)
    assert peak.quality == pytest.approx(score(a, b, rules["measure"]), rel=1e-9, abs=1e-9)


@quick
@given(problems())
def test_equals_brute_force(problem):
    agrees(*problem)


@brief
@given(problems(kinds=("few", "periodic", "strip")))
def test_equals_brute_force_when_everything_is_narrowed_in_float64(problem):
    before = correlate._FEW
    correlate._FEW = 0
    try:
        agrees(*problem)
    finally:
        correlate._FEW = before


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("measure", ["ncc", "ssd"])
def test_equals_float64_on_larger_images_with_bright_surroundings(dtype, measure):
    rng = np.random.default_rng(3)
    pre = rng.integers(0, 100, (14, 40, 50)).astype(dtype)
    post = rng.integers(0, 100, (14, 40, 50)).astype(dtype)
    pre[:, :8], post[:, -8:] = 120, 119
    ranges = SearchRange((-2, 18, -4), (2, 24, 4))
    peak = search(pre, post, ranges, measure=measure, nominal=(0, 20, 0), min_overlap=(1, 1, 1))
    values = {}
    for d in itertools.product(range(-2, 3), range(18, 25), range(-4, 5)):
        a, b = (w.astype(float) for w in windows(pre, post, d))
        values[d] = (
            np.corrcoef(a.ravel(), b.ravel())[0, 1] if measure == "ncc" else -((a - b) ** 2).mean()
        )
    best = max(values, key=values.get)
    assert peak.displacement == best
    assert peak.quality == pytest.approx(values[best], rel=1e-9)


@pytest.mark.parametrize("measure", ["ncc", "ssd"])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_ties_go_to_the_nearest_then_the_smallest(measure, dtype):
    stripes = np.tile(np.array([0, 0, 9, 9], dtype), (12, 10))
    rules = {"measure": measure, "min_overlap": (1, 1)}
    ranges = SearchRange((-3, -14), (3, 14))
    for nominal, expected in [
        ((0, 0), (0, 0)),
        ((1, 5), (1, 4)),
        ((2, 6), (2, 4)),
        ((0, -11), (0, -12)),
    ]:
        peak = search(stripes, stripes, ranges, nominal=nominal, **rules)
        assert peak.displacement == expected


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4"])
@pytest.mark.parametrize("measure", ["ncc", "ssd"])
def test_constant_images(dtype, measure):
    pre, post = np.full((9, 8), 7, dtype), np.full((9, 8), 4, dtype)
    peak = search(
        pre,
        post,
        SearchRange((-3, -3), (3, 3)),
        measure=measure,
        nominal=(1, 2),
        min_overlap=(1, 1),
    )
    assert peak.displacement == (1, 2)
    assert peak.quality == (0 if measure == "ncc" else -9)


def test_min_overlap_keeps_small_dark_corners_from_winning():
    pre = np.random.default_rng(0).integers(0, 255, (30, 30)).astype("u1")
    post = np.roll(pre, (-4, 0), (0, 1))
    post[0, 0] = pre[-1, -1]
    ranges = SearchRange((0, 0), (29, 29))
    rules = {"measure": "ssd", "nominal": (0, 0)}
    assert search(pre, post, ranges, min_overlap=(1, 1), **rules).displacement == (29, 29)
    assert search(pre, post, ranges, min_overlap=(10, 10), **rules).displacement == (4, 0)


def pair(shape, truth, *, sigma=1.0, shared=0.8, seed=0, dtype="u2"):
    """Two noisy images of one random texture; the second displaced by ``truth``."""
    rng = np.random.default_rng(seed)
    texture = scipy.ndimage.gaussian_filter(rng.normal(size=[n + 20 for n in shape]), sigma)
    texture /= texture.std()
    noise = math.sqrt(1 / shared - 1)
    images = []
    for d in ((0,) * len(shape), truth):
        part = texture[tuple(slice(10 + k, 10 + k + n) for k, n in zip(d, shape, strict=True))]
        values = 3000 + 300 * (part + noise * rng.normal(size=shape))
        images.append(values.clip(0, 65535).astype(dtype))
    return images


RULES = {"measure": "ncc", "nominal": (0, 0, 0), "min_overlap": (1, 1, 1)}
AROUND = SearchRange((-6, -6, -6), (6, 6, 6))


def test_swapping_the_images_negates_the_displacement():
    pre, post = pair((12, 20, 30), (3, -2, 1))
    forth, back = search(pre, post, AROUND, **RULES), search(post, pre, AROUND, **RULES)
    assert forth.displacement == (3, -2, 1)
    assert back.displacement == (-3, 2, -1)
    assert forth.quality == back.quality
    assert forth.overlap == back.overlap


@pytest.mark.parametrize("dtype", ["i4", "f4"])
def test_ncc_ignores_gain_and_offset(dtype):
    pre, post = pair((12, 20, 30), (3, -2, 1), dtype=dtype)
    plain = search(pre, post, AROUND, **RULES)
    changed = search(pre, (post * 4 + 100000).astype(dtype), AROUND, **RULES)
    assert changed.displacement == plain.displacement
    assert changed.quality == pytest.approx(plain.quality, rel=1e-12 if dtype == "i4" else 1e-5)
    dimmer = search(pre, post // 2, AROUND, measure="ssd", nominal=(0, 0, 0), min_overlap=(1, 1, 1))
    assert dimmer.quality < -100000


@brief
@given(problems())
def test_reachable_parts_give_the_same(problem):
    pre, post, ranges, rules = problem
    box_pre, box_post = reachable(pre.shape, post.shape, ranges)
    try:
        whole = search(pre, post, ranges, **rules)
    except NoOverlapError:
        return
    part = search(
        pre[box_pre.slices()],
        post[box_post.slices()],
        ranges,
        offset_pre=box_pre.lower,
        offset_post=box_post.lower,
        shape_pre=pre.shape,
        shape_post=post.shape,
        **rules,
    )
    assert part == whole


@brief
@given(problems(dtypes=["u1"]))
def test_reachable_is_what_is_compared(problem):
    pre, post, ranges, _ = problem
    seen_pre, seen_post = np.zeros(pre.shape, bool), np.zeros(post.shape, bool)
    for d in itertools.product(
        *(range(x, y + 1) for x, y in zip(ranges.lower, ranges.upper, strict=True))
    ):
        for part in windows(seen_pre, seen_post, d):
            part[...] = True
    for seen, box in zip(
        (seen_pre, seen_post), reachable(pre.shape, post.shape, ranges), strict=True
    ):
        expected = np.zeros_like(seen)
        expected[box.slices()] = True
        assert np.array_equal(expected.any(), seen.any())
        for axis in range(seen.ndim):
            others = tuple(i for i in range(seen.ndim) if i != axis)
            assert np.array_equal(seen.any(axis=others), expected.any(axis=others))


def test_read_only_memmap_is_left_alone(tmp_path):
    pre, post = pair((12, 20, 30), (3, -2, 1), dtype=">u2")
    pre.tofile(tmp_path / "pre")
    mapped = np.memmap(tmp_path / "pre", ">u2", "r", shape=pre.shape)
    keep = post.copy()
    post.flags.writeable = False
    assert search(mapped, post, AROUND, **RULES).displacement == (3, -2, 1)
    assert np.array_equal(mapped, pre)
    assert np.array_equal(post, keep)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_float_data_must_be_finite(bad):
    pre, post = pair((6, 7, 8), (0, 0, 0), dtype="f4")
    post[3, 3, 3] = bad
    with pytest.raises(InputError, match=r"post image has values .* NaN"):
        search(pre, post, AROUND, **RULES)
    with pytest.raises(InputError, match="NaN"):
        score(pre, post, "ncc")


def test_errors_name_the_culprit():
    pre, post = pair((6, 7, 8), (0, 0, 0))
    with pytest.raises(NoOverlapError, match=r"\(6, 7, 8\).*\(9, 0, 0\).*\(1, 1, 1\).*Widen"):
        search(pre, post, SearchRange((9, 0, 0), (12, 0, 0)), **RULES)
    with pytest.raises(NoOverlapError, match="min_overlap"):
        search(pre, post, AROUND, measure="ncc", nominal=(0, 0, 0), min_overlap=(7, 1, 1))
    with pytest.raises(InputError, match="number of axes"):
        search(pre[0], post, AROUND, **RULES)
    with pytest.raises(InputError, match="complex"):
        search(pre.astype(complex), post, AROUND, **RULES)
    with pytest.raises(InputError, match="measure"):
        search(pre, post, AROUND, measure="mi", nominal=(0, 0, 0), min_overlap=(1, 1, 1))
    with pytest.raises(InputError, match="lacks voxels"):
        search(pre[2:], post, AROUND, offset_pre=(2, 0, 0), shape_pre=(6, 7, 8), **RULES)
    with pytest.raises(InputError, match="must not exceed"):
        SearchRange((1,), (0,))
    with pytest.raises(InputError, match="shapes"):
        score(pre, post[1:], "ncc")


def test_float_scales_do_not_matter():
    pre, post = pair((12, 20, 30), (3, -2, 1), dtype="f8")
    plain = search(pre, post, AROUND, **RULES)
    scaled = search(pre * 1e-120, post * 1e120, AROUND, **RULES)
    assert scaled.displacement == plain.displacement
    assert scaled.quality == pytest.approx(plain.quality, rel=1e-9)


MEMORY = [
    ((64, 64, 64), (-8, -8, 40), (8, 8, 56), False),
    ((300, 280), (-20, 250), (20, 275), False),
    ((9, 9, 9), (-2, -2, -2), (2, 2, 2), False),
    ((50000,), (40000,), (41000,), False),
    ((64, 100, 300), (-8, -10, 250), (8, 10, 280), True),
    ((1400, 1400), (-12, 1200), (12, 1250), True),
]


@pytest.mark.parametrize(("shape", "lower", "upper", "large"), MEMORY)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["noise", "ties"])
def test_memory_is_stated_honestly(shape, lower, upper, large, order, kind):
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 3000, shape) if kind == "noise" else np.indices(shape).sum(0) % 2
    pre = np.asarray(texture, "u2", order=order)
    post = np.asarray(texture[::-1], "u2", order=order)
    ranges = SearchRange(lower, upper)
    stated = bytes_needed(shape, shape, ranges, 2)
    zero, one = (0,) * len(shape), (1,) * len(shape)
    rules = {"measure": "ncc", "nominal": zero, "min_overlap": one}
    _, measured = traced(search, pre, post, ranges, **rules)
    assert measured <= stated
    if large:
        assert stated <= 3 * measured


def test_nothing_reachable_needs_nothing():
    ranges = SearchRange((9,), (12,))
    assert bytes_needed((5,), (5,), ranges, 2) == 0
    assert all(box.empty for box in reachable((5,), (5,), ranges))


def test_spectra_in_several_pieces_give_the_same(monkeypatch):
    pre, post = pair((12, 20, 30), (3, -2, 1))
    whole = search(pre, post, AROUND, **RULES)
    monkeypatch.setattr(spectra, "SEARCH_BYTES", 20000)
    parts = search(pre, post, AROUND, **RULES)
    assert (parts.displacement, parts.quality) == (whole.displacement, whole.quality)


@given(
    shapes=st.tuples(*[st.tuples(*[st.integers(1, 12)] * 3)] * 2),
    ends=st.tuples(*[st.tuples(st.integers(-9, 9), st.integers(0, 6))] * 3),
    depth=st.integers(1, 12),
    passes=st.integers(1, 5),
    real=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 9),
)
@brief
def test_slabs_and_passes_correlate_as_the_whole_does(shapes, ends, depth, passes, real, seed):
    rng = np.random.default_rng(seed)
    ranges = SearchRange(tuple(a for a, _ in ends), tuple(a + n for a, n in ends))
    boxes = reachable(*shapes, ranges)
    assume(not boxes[0].empty)
    possible = searches.feasible(*shapes, ranges, (1, 1, 1))
    plan = searches.make_plan(*shapes, possible, (0, 1, 2))
    pre, post = (
        peaks.Image(rng.integers(-99, 99, box.shape).astype(np.int16), 0, 1.0) for box in boxes
    )
    item = np.dtype(real).itemsize * 2
    pieces = spectra.cut_into(plan, item, min(depth, plan.extent_b[0]), passes)
    found, _ = spectra.correlation(pre, post, plan, real, pieces=pieces)
    plain, _ = spectra.correlation(
        pre, post, plan, real, pieces=spectra.cut_into(plan, item, plan.extent_b[0], 1)
    )
    norms = math.sqrt(
        np.square(pre.data, dtype=float).sum() * np.square(post.data, dtype=float).sum()
    )
    assert np.abs(found - plain).max() <= 2 * spectra.fft_error(plan, real) * norms


@pytest.mark.parametrize("order", [(2, 1, 0), (0, 1, 2)])
def test_searches_of_small_overlaps_fit_64_mib_in_one_pass(order):
    # 15 % of 128 × 512 × 512 voxels, whichever axis is the slowest.
    shape, lower, upper = (512, 512, 128), (415, -20, -8), (455, 20, 8)
    assert bytes_needed(shape, shape, SearchRange(lower, upper), 2) <= 64 << 20
    possible = searches.feasible(shape, shape, SearchRange(lower, upper), (1, 1, 1))
    plan = searches.make_plan(shape, shape, possible, order)
    assert len(spectra.cut(plan, 8).parts) == 1


@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    reach=st.tuples(*[st.integers(0, 6)] * 3),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["random", "extreme"]),
    sizes=st.sampled_from([(1, 1), (7, 20), (30, 200)]),
    seed=st.integers(0, 99),
)
@brief
def test_window_sums_are_those_of_the_windows(shape, reach, dtype, kind, sizes, seed):
    data = image(np.random.default_rng(seed), shape, np.dtype(dtype), kind)
    pixels = peaks.centred_images(data, data, "ncc")[0]
    lags = [np.arange(-min(r, n - 1), min(r, n - 1) + 1) for r, n in zip(reach, shape, strict=True)]
    ends = [(np.maximum(0, k), np.minimum(n, k + n)) for k, n in zip(lags, shape, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows_of_lags, "_ROW_VOXELS", sizes[0])
        patch.setattr(windows_of_lags, "BLOCK_VOXELS", sizes[1])
        sums = windows_of_lags.window_sums(pixels, ends)
    for index in np.ndindex(*map(len, lags)):
        box = tuple(slice(a[i], b[i]) for (a, b), i in zip(ends, index, strict=True))
        values = pixels.centred(box)
        values = [int(v) if pixels.exact else float(v) for v in values.ravel()]
        assert abs(sums.plain[index] - math.fsum(values)) <= sums.error_plain
        squares = math.fsum(v * v for v in values)
        assert abs(sums.squares[index] - squares) <= sums.error_squares + squares * 1e-15


def test_large_overlaps_are_searched_in_half_their_size(monkeypatch):
    # As of overlaps of 128 MiB; smaller ones may take 64 MiB.
    monkeypatch.setattr(spectra, "SEARCH_BYTES", 0)
    shape, reach = (97, 640, 300), (20, 20, 8)
    rng = np.random.default_rng(0)
    pre = rng.integers(0, 3000, shape[::-1], np.uint16).T
    post = np.roll(pre.T, (1, -2, 3), (0, 1, 2)).T
    ranges = SearchRange(tuple(-m for m in reach), reach)
    rules = {"measure": "ncc", "nominal": (0, 0, 0), "min_overlap": (1, 1, 1)}
    peak, measured = traced(search, pre, post, ranges, **rules)
    overlap = 2 * 77 * 640 * 300
    assert peak.displacement == (-3, 2, -1)
    assert measured <= bytes_needed(shape, shape, ranges, 2)
    assert measured <= overlap / 2


@pytest.mark.parametrize("order", ["C", "F"])
def test_ties_are_lexicographic_in_the_axes_of_the_caller(order):
    checks = np.indices((12, 12)).sum(axis=0) % 2
    pre, post = np.asarray(checks, "u1", order=order), np.asarray(1 - checks, "u1", order=order)
    peak = search(
        pre, post, SearchRange((-4, -4), (4, 4)), measure="ncc", nominal=(0, 0), min_overlap=(1, 1)
    )
    assert peak.displacement == (-1, 0)


def test_variances_are_exact_beyond_64_bits():
    squares = np.array([2**50 + 1, 2**52, 2**50 + 12345])
    plain = np.array([2**36, 2**37, 2**36 - 5])
    n = np.array([2**22, 2**22, 2**22])
    sums = Sums(plain, squares, 0.0, 0.0, 0.0)
    spread, error = surface.spread_of(n, sums)
    for i in range(3):
        exact = int(n[i]) * int(squares[i]) - int(plain[i]) ** 2
        assert abs(int(spread[i]) - exact) <= max(error[i], 1e-15 * exact)
    assert spread[1] == 0
    assert error[0] == 0


def test_nothing_is_transformed_along_an_axis_of_one_voxel():
    plane = np.zeros((30, 40, 1), np.uint16)
    for image in (plane, np.asfortranarray(plane), plane[::2, ::2], np.zeros((1, 40, 30))):
        slowest, *_ = searches.memory_order(image.shape, image.strides)
        assert image.shape[slowest] == 1
    assert searches.memory_order((5, 5, 5), (50, 2, 10)) == (0, 2, 1)


def test_fast_lengths_are_those_of_the_transforms():
    for least in range(1, 3000):
        assert searches.fast_length(least) == scipy.fft.next_fast_len(least, real=True)


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    width=st.floats(0, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_peaks_and_their_lobes_are_those_of_the_general_filters(shape, width, seed):
    ncc = scipy.ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), width)
    highest = scipy.ndimage.maximum_filter(ncc, size=3, mode="nearest")
    np.testing.assert_array_equal(evidence._highest_around(ncc), highest)
    top = tuple(int(i) for i in np.unravel_index(np.argmax(ncc), shape))
    labels, _ = scipy.ndimage.label(ncc > 0.5 * ncc[top])
    if ncc[top] > 0:
        assert evidence._lobe(ncc, top) == np.count_nonzero(labels == labels[top])
