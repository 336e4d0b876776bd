"""Properties of the documented functions, on anything that may come."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import stitchlib as sl
from tests import strategies as own
from tests.reference import best_shift, stitched

FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=60)


def ranges(lower, upper):
    return [*zip(lower, upper, strict=True)]


def unique(first, second, lower, upper):
    """Whether one shift is the best, beyond rounding."""
    qualities = []
    for shift in itertools.product(*(range(a, b + 1) for a, b in ranges(lower, upper))):
        try:
            qualities.append(float(best_shift(first, second, shift, shift)[1]))
        except ValueError:
            continue
    best = max(qualities)
    return sum(q >= best - 1e-9 * max(1, abs(best)) for q in qualities) == 1


@MANY
@given(own.pairs(few_values=True))
def test_shift_and_quality_are_those_of_trying_every_shift(pair):
    first, second, lower, upper = pair
    shift, quality = sl.align_2_sources(first, second, ranges(lower, upper))
    wanted, best = best_shift(first, second, lower, upper)
    assert math.isclose(quality, float(best), rel_tol=1e-6, abs_tol=1e-9)
    if first.dtype.kind in "iu":
        assert tuple(shift) == wanted
    else:
        there = best_shift(first, second, shift, shift)[1]
        assert math.isclose(float(there), float(best), rel_tol=1e-9, abs_tol=1e-12)


@FEW
@given(own.pairs())
def test_normalised_quality_is_that_of_trying_every_shift(pair):
    first, second, lower, upper = pair
    _, quality = sl.align_2_sources(first, second, ranges(lower, upper), normalize=True)
    best = best_shift(first, second, lower, upper, "ncc")[1]
    assert math.isclose(quality, float(best), rel_tol=1e-6, abs_tol=1e-7)


@FEW
@given(own.pairs())
def test_a_swapped_pair_has_the_negated_shift(pair):
    first, second, lower, upper = pair
    assume(unique(first, second, lower, upper))
    shift, quality = sl.align_2_sources(first, second, ranges(lower, upper))
    back = [(-b, -a) for a, b in ranges(lower, upper)]
    shift_back, quality_back = sl.align_2_sources(second, first, back)
    assert list(shift_back) == [-s for s in shift]
    assert math.isclose(quality, quality_back, rel_tol=1e-9, abs_tol=1e-12)


@FEW
@given(own.pairs(), st.integers(-50, 50), st.randoms(use_true_random=False))
def test_translation_and_permuted_axes_change_nothing(pair, by, random):
    first, second, lower, upper = pair
    assume(unique(first, second, lower, upper))
    shift, quality = sl.align_2_sources(first, second, ranges(lower, upper))
    corner = (by,) * first.ndim
    moved = sl.align_2_sources(
        sl.Source(first, corner), sl.Source(second, corner), ranges(lower, upper)
    )
    assert (list(moved[0]), moved[1]) == (list(shift), quality)
    axes = list(range(first.ndim))
    random.shuffle(axes)
    turned = sl.align_2_sources(
        first.transpose(axes), second.transpose(axes), [ranges(lower, upper)[d] for d in axes]
    )
    assert list(turned[0]) == [shift[d] for d in axes]
    assert math.isclose(turned[1], quality, rel_tol=1e-9, abs_tol=1e-12)


@MANY
@given(own.layouts(), st.sampled_from(["interpolation", "max", "min", "mean"]))
def test_every_blending_is_that_of_exact_fractions(layout, method):
    tiles = [(source.array, source.position) for source in layout.sources]
    wanted = stitched(tiles, method, layout.position, layout.shape)
    actual = layout.stitch(method=method)
    assert actual.dtype == wanted.dtype
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(actual, wanted, rtol=1e-6 if wanted.itemsize == 4 else 1e-12)
    else:
        np.testing.assert_array_equal(actual, wanted)


@FEW
@given(own.images(most=9), st.data())
def test_cut_and_stitched_is_the_original(image, data):
    sources = []
    corner = [data.draw(st.integers(-20, 20)) for _ in range(image.ndim)]
    cuts = []
    for n in image.shape:  # two intervals that overlap and cover the axis
        end = data.draw(st.integers(1, n))
        cuts.append([slice(0, end), slice(data.draw(st.integers(0, min(end, n - 1))), n)])
    for part in itertools.product(*cuts):
        at = [c + p.start for c, p in zip(corner, part, strict=True)]
        sources.append(sl.Source(image[part], at))
    layout = sl.Layout(sources)
    for method in ("interpolation", "max", "min", "mean", "interpolation-adjust-max"):
        np.testing.assert_array_equal(layout.stitch(method=method), image)


@FEW
@given(own.layouts(), st.data())
def test_any_window_is_that_window_of_the_whole(layout, data):
    whole = layout.box
    corner = [data.draw(st.integers(a - 3, b)) for a, b in ranges(whole.lower, whole.upper)]
    shape = [data.draw(st.integers(1, 8)) for _ in corner]
    method = data.draw(st.sampled_from([*("interpolation", "max", "min", "mean"),
                                        "interpolation-adjust-max"]))  # fmt: skip
    part = layout.layout_from_region(position=corner, shape=shape)
    # Around the whole and the window, so that the window can be cut out of it.
    low = [min(a, c) for a, c in zip(whole.lower, corner, strict=True)]
    high = [max(b, c + n) for b, c, n in zip(whole.upper, corner, shape, strict=True)]
    wide = layout.layout_from_region(lower=low, upper=high).stitch(method=method)
    cut = tuple(slice(c - a, c - a + n) for c, a, n in zip(corner, low, shape, strict=True))
    actual = part.stitch(method=method)
    np.testing.assert_array_equal(actual, wide[cut])
    inner = tuple(slice(p - a, p - a + n) for p, a, n in zip(
        whole.lower, low, whole.shape, strict=True))  # fmt: skip
    np.testing.assert_array_equal(wide[inner], layout.stitch(method=method))


@FEW
@given(st.integers(1, 3).flatmap(lambda d: st.lists(own.boxes(d), min_size=1, max_size=7)))
def test_embedding_is_disjoint_covers_exactly_and_knows_its_sources(places):
    regions = [sl.Region(corner, shape) for corner, shape in places]
    shape, position, parts = sl.embedding(regions)
    count = np.zeros(shape, int)
    for part in parts:
        at = part.local_slicing(position=position)
        count[at] += 1
        for voxel in (part.lower, part.upper - 1):
            covering = [r for r in regions if all(r.lower <= voxel) and all(voxel < r.upper)]
            assert part.sources == covering
        assert all(r.box.contains(part.box) for r in part.sources)
        others = [r for r in regions if r not in part.sources]
        assert all(r.box.intersection(part.box).empty for r in others)
    union = np.zeros(shape, int)
    for region in regions:
        union[region.local_slicing(position=position)] = 1
    np.testing.assert_array_equal(count, union)


@FEW
@given(own.grids())
def test_serial_and_parallel_are_the_same_and_keep_the_objects(layout):
    before = [*layout.sources, *layout.alignments]
    results = []
    for processes in ("serial", 1, 3, None):
        copy = layout.copy()
        objects = [*copy.sources, *copy.alignments]
        copy.align(max_shifts=4, processes=processes).place()
        assert all(a is b for a, b in zip(objects, [*copy.sources, *copy.alignments], strict=True))
        results.append(
            (
                [(tuple(a.displacement), a.quality) for a in copy.alignments],
                copy.source_positions(),
                copy.stitch(processes=processes).tobytes(),
            )
        )
    assert all(result == results[0] for result in results)
    assert all(a is b for a, b in zip(before, [*layout.sources, *layout.alignments], strict=True))


def described(layout):
    return (
        type(layout),
        [(s.id, s.position, s.shape, s.dtype, s.tile_position) for s in layout.sources],
        [
            (a.pre.id, a.post.id, tuple(a.displacement), tuple(a.shift), a.quality)
            for a in layout.alignments
        ],
    )


@FEW
@given(own.grids(), st.lists(st.sampled_from([-math.inf, -2.5, 0.0, 0.875]), min_size=12))
def test_saved_and_loaded_is_the_same(tmp_path_factory, layout, qualities):
    for alignment, quality in zip(layout.alignments, qualities, strict=False):
        alignment.quality = quality
    file = tmp_path_factory.mktemp("layout") / "layout.json"
    sl.save_layout(file, layout)
    assert described(sl.load_layout(file)) == described(layout)


@FEW
@given(own.grids(), st.sampled_from(["optimization", "tree"]))
def test_consistent_displacements_are_placed_exactly(layout, method):
    wanted = layout.source_positions()
    layout.update_alignments_from_sources()
    for source in layout.sources:
        source.position = [0] * layout.ndim
    layout.place(method=method)
    for group in layout.connected_components(with_sources=True)[1]:
        numbers = [layout.source_index(source) for source in group]
        moved = np.subtract([s.position for s in group], [wanted[i] for i in numbers])
        assert len({tuple(row) for row in moved.tolist()}) == 1
    assert all(not a.shift.any() for a in layout.alignments)


def test_the_cost_of_an_embedding_grows_with_the_tiles():
    """144 tiles took the old implementation 41 s."""
    side = range(12)
    regions = [sl.Region((90 * x + y, 90 * y - x), (100, 100)) for x in side for y in side]
    assert len(sl.embedding(regions).regions) < 12 * len(regions)


@pytest.mark.parametrize("dtype", own.DTYPES)
@pytest.mark.parametrize("method", ["interpolation", "max", "min", "mean"])
def test_every_type_and_blending_on_grids(dtype, method):
    for grid, shape in (((1, 1), (5, 4)), ((1, 3), (5, 4)), ((3, 1), (5, 4, 3)), ((2, 2), (4, 4))):
        sources = [
            [own.pixels(shape, dtype, 7 * i + j) for j in range(grid[1])] for i in range(grid[0])
        ]
        layout = sl.TiledLayout(sources, overlaps=2)
        tiles = [(source.array, source.position) for source in layout.sources]
        wanted = stitched(tiles, method, layout.position, layout.shape)
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(layout.stitch(method=method), wanted, rtol=1e-6)
        else:
            np.testing.assert_array_equal(layout.stitch(method=method), wanted)
