"""Embedding, blending, windows and sinks, tested from semantics.md alone with exact fractions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray

import stitchlib as st
from stitchlib.errors import StitchlibError

Array = NDArray[Any]
Point = tuple[int, ...]
Tile = tuple[Point, Array]
REFUSED = (StitchlibError, ValueError)

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32"]
FLOATS = ["float32", "float64"]
METHODS = ["interpolation", "max", "min", "mean"]
ALL_METHODS = [*METHODS, "interpolation-adjust-max"]


# --- slow references --------------------------------------------------------------------------


def noise(shape: Sequence[int], seed: int = 0, dtype: str = "uint16") -> Array:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (rng.normal(size=tuple(shape)) * 100).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, tuple(shape), dtype=dtype, endpoint=True)


def layout_of(tiles: Sequence[Tile], **window: Any) -> st.Layout:
    return st.Layout([st.Source(a, position=p) for p, a in tiles], **window)


def hull(tiles: Sequence[Tile]) -> tuple[Point, Point]:
    """Return position and shape of the smallest box around the tiles."""
    lower = np.min([p for p, _ in tiles], axis=0)
    upper = np.max([np.add(p, a.shape) for p, a in tiles], axis=0)
    return tuple(map(int, lower)), tuple(map(int, upper - lower))


def covering(tiles: Sequence[Tile], voxel: Point) -> list[tuple[int, Any, int]]:
    """Return tile index, value and weight of every tile that covers a voxel."""
    found = []
    for k, (position, a) in enumerate(tiles):
        local = tuple(v - p for v, p in zip(voxel, position, strict=True))
        if all(0 <= i < n for i, n in zip(local, a.shape, strict=True)):
            weight = 1 + min(min(i, n - 1 - i) for i, n in zip(local, a.shape, strict=True))
            found.append((k, a[local], weight))
    return found


def voxels(position: Point, shape: Point) -> Iterator[tuple[Point, Point]]:
    """Yield index in the array and coordinates of every voxel of a box."""
    for index in itertools.product(*map(range, shape)):
        yield index, tuple(i + p for i, p in zip(index, position, strict=True))


def exact(value: Any) -> Fraction:
    return Fraction(value.item())


def blend(method: str, found: list[tuple[int, Any, int]]) -> Fraction:
    values = [exact(v) for _, v, _ in found]
    if method == "interpolation":
        weights = [w for _, _, w in found]
        return sum(w * v for w, v in zip(weights, values, strict=True)) / Fraction(sum(weights))
    if method == "mean":
        return sum(values) / Fraction(len(values))
    return max(values) if method == "max" else min(values)


def reference(
    tiles: Sequence[Tile], method: str, fill: Array | None = None
) -> tuple[Array, NDArray[np.bool_]]:
    """Return the stitch of the whole, rounded once, and which voxels are covered."""
    position, shape = hull(tiles)
    dtype = tiles[0][1].dtype
    result = np.zeros(shape, dtype) if fill is None else fill.copy()
    covered = np.zeros(shape, bool)
    for index, voxel in voxels(position, shape):
        found = covering(tiles, voxel)
        if found:
            covered[index] = True
            value = blend(method, found)
            result[index] = round(value) if dtype.kind in "iu" else float(value)
    return result, covered


def assert_same(got: Array, expected: Array) -> None:
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if expected.dtype.kind in "iu":
        assert np.array_equal(got, expected)
    else:
        scale = float(np.abs(expected).max()) + 1
        tolerance = 1e-6 if expected.dtype == np.float32 else 1e-12
        assert np.allclose(got, expected, rtol=tolerance, atol=tolerance * scale)


@some.composite
def layouts(draw: some.DrawFn, dtypes: Sequence[str], largest: int = 4) -> list[Tile]:
    ndim = draw(some.integers(2, 3))
    n = draw(some.integers(1, largest))
    extent = 6 if ndim == 2 else 4
    dtype = draw(some.sampled_from(list(dtypes)))
    seed = draw(some.integers(0, 999))
    tiles = []
    for k in range(n):
        position = tuple(draw(some.integers(-4, 4)) for _ in range(ndim))
        shape = tuple(draw(some.integers(1, extent)) for _ in range(ndim))
        order = draw(some.sampled_from("CF"))
        tiles.append((position, np.asarray(noise(shape, seed + k, dtype), order=order)))
    return tiles


# --- embedding --------------------------------------------------------------------------------


def owners(tiles: Sequence[Tile], regions: Any, sources: Sequence[Any]) -> dict[Point, set[int]]:
    """Return which sources every voxel has, checking that no two regions share one."""
    number = {id(s): k for k, s in enumerate(sources)}
    seen: dict[Point, set[int]] = {}
    for region in regions:
        assert isinstance(region, st.Overlap)
        members = {number[id(s)] for s in region.sources}
        assert len(members) == len(region.sources) > 0
        for _, voxel in voxels(tuple(region.position), tuple(region.shape)):
            assert voxel not in seen
            seen[voxel] = members
    return seen


@settings(deadline=None, max_examples=50)
@given(layouts(["uint8"], largest=5))
def test_embedding_is_disjoint_exact_and_has_all_and_only_its_sources(tiles: list[Tile]) -> None:
    layout = layout_of(tiles)
    shape, position, regions = st.embedding(layout.sources)
    assert (tuple(position), tuple(shape)) == hull(tiles)
    seen = owners(tiles, regions, layout.sources)
    expected = {}
    for _, voxel in voxels(*hull(tiles)):
        if found := covering(tiles, voxel):
            expected[voxel] = {k for k, _, _ in found}
    assert seen == expected


@settings(deadline=None, max_examples=40)
@given(layouts(["uint8"], largest=4), some.data())
def test_a_window_restricts_the_embedding(tiles: list[Tile], data: some.DataObject) -> None:
    layout = layout_of(tiles)
    ndim = layout.ndim
    position = tuple(data.draw(some.integers(-7, 5)) for _ in range(ndim))
    shape = tuple(data.draw(some.integers(1, 9)) for _ in range(ndim))
    result = st.embedding(layout.sources, shape=shape, position=position)
    assert tuple(result.shape) == shape
    assert tuple(result.position) == position
    expected = {}
    for _, voxel in voxels(position, shape):
        if found := covering(tiles, voxel):
            expected[voxel] = {k for k, _, _ in found}
    assert owners(tiles, result.regions, layout.sources) == expected


def test_embedding_is_a_named_tuple_in_the_documented_order() -> None:
    layout = layout_of([((-3, 5), noise((4, 4))), ((-1, 5), noise((4, 4)))])
    for result in (st.embedding(layout.sources), layout.embedding()):
        assert isinstance(result, tuple)
        assert result._fields == ("shape", "position", "regions")
        assert result[0] == result.shape == (6, 4)
        assert result[1] == result.position == (-3, 5)
        assert result[2] is result.regions
        found = {tuple(r.position): (tuple(r.shape), len(r.sources)) for r in result.regions}
        assert found == {(-3, 5): ((2, 4), 1), (-1, 5): ((2, 4), 2), (1, 5): ((2, 4), 1)}


@settings(deadline=None, max_examples=40)
@given(layouts(["uint8"], largest=5))
def test_neighbours_with_the_same_sources_are_merged(tiles: list[Tile]) -> None:
    layout = layout_of(tiles)
    regions = layout.embedding().regions
    for one, two in itertools.combinations(regions, 2):
        if {id(s) for s in one.sources} != {id(s) for s in two.sources}:
            continue
        differs = [
            d
            for d in range(layout.ndim)
            if (one.lower[d], one.upper[d]) != (two.lower[d], two.upper[d])
        ]
        if len(differs) == 1:  # they would be one box if they touched
            d = differs[0]
            assert one.upper[d] != two.lower[d]
            assert two.upper[d] != one.lower[d]


def test_neighbours_with_the_same_sources_are_merged_across_other_edges() -> None:
    tiles = [((0, 0), noise((10, 10))), ((2, 3), noise((3, 3))), ((5, 3), noise((3, 3)))]
    found = layout_of(tiles).embedding().regions
    assert len(found) == 6  # the two small tiles, and four boxes around them
    assert sorted(len(r.sources) for r in found) == [1, 1, 1, 1, 2, 2]


def test_embedding_of_regions_and_of_a_single_source() -> None:
    regions = [st.Region(position=(0, 0), shape=(4, 4)), st.Region(position=(9, -9), shape=(2, 2))]
    result = st.embedding(regions)
    assert (result.position, result.shape) == ((0, -9), (11, 13))
    assert len(result.regions) == 2
    single = st.embedding(regions[:1])
    assert (single.position, single.shape, len(single.regions)) == ((0, 0), (4, 4), 1)


def test_embedding_of_a_grid_of_144_tiles() -> None:
    sources = [
        st.Source(np.zeros((10, 10), np.uint8), position=(8 * i, 8 * j))
        for i in range(12)
        for j in range(12)
    ]
    regions = st.embedding(sources).regions
    assert sum(int(np.prod(r.shape)) for r in regions) == 98 * 98
    counts = np.zeros((98, 98), int)
    for r in regions:
        cut = tuple(slice(a, b) for a, b in zip(r.lower, r.upper, strict=True))
        counts[cut] += len(r.sources)
    assert counts.max() == 4
    assert counts.sum() == 144 * 100
    assert len(regions) == 23 * 23  # 12 own and 11 shared intervals per axis


# --- weights ----------------------------------------------------------------------------------


def test_stitch_weights_are_the_minimum_of_ramps() -> None:
    expected = [[1, 1, 1, 1], [1, 2, 2, 1], [1, 2, 2, 1], [1, 2, 2, 1], [1, 1, 1, 1]]
    assert np.array_equal(st.stitch_weights((5, 4)), expected)


@pytest.mark.parametrize("shape", [(1,), (6,), (7,), (1, 5), (3, 4, 5), (6, 5, 7), (2, 2, 2)])
def test_stitch_weights_in_every_dimension(shape: Point) -> None:
    got = st.stitch_weights(shape)
    assert got.shape == shape
    for index in np.ndindex(shape):
        assert got[index] == 1 + min(min(i, n - 1 - i) for i, n in zip(index, shape, strict=True))
    assert np.array_equal(st.stitch_weights(np.array(shape)), got)


# --- blending ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(layouts(INTEGERS), some.sampled_from(METHODS))
def test_integers_are_the_exact_quotient_rounded_half_to_even(
    tiles: list[Tile], method: str
) -> None:
    expected, _ = reference(tiles, method)
    assert_same(layout_of(tiles).stitch(method=method), expected)


@settings(deadline=None, max_examples=40)
@given(layouts(FLOATS), some.sampled_from(METHODS))
def test_floats_are_blended_in_float64(tiles: list[Tile], method: str) -> None:
    expected, _ = reference(tiles, method)
    assert_same(layout_of(tiles).stitch(method=method), expected)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("method", METHODS)
def test_the_ends_of_the_integer_range_neither_overflow_nor_wrap(dtype: str, method: str) -> None:
    info = np.iinfo(dtype)
    tiles: list[Tile] = []
    for k, value in enumerate([info.max, info.max - 1, info.min, info.min + 1, info.max]):
        a = np.full((40, 9), value, dtype)
        a[::3] = info.max
        a[1::7] = info.min
        tiles.append(((k, k), a))
    expected, _ = reference(tiles, method)
    assert_same(layout_of(tiles).stitch(method=method), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_means_of_two_are_rounded_to_even(dtype: str) -> None:
    pairs = [(0, 1), (1, 2), (2, 3), (3, 4), (100, 101), (101, 102), (126, 127)]
    if np.dtype(dtype).kind == "i":
        pairs += [(-1, 0), (-2, -1), (-3, -2), (-4, -3), (-128, -127)]
    one, two = (np.array([[p[k] for p in pairs]], dtype) for k in (0, 1))
    expected = [[round(Fraction(a + b, 2)) for a, b in pairs]]
    for method in ("mean", "interpolation"):
        got = layout_of([((0, 0), one), ((0, 0), two)]).stitch(method=method)
        assert got.tolist() == expected


def test_interpolation_over_12_voxels_from_0_to_1000() -> None:
    tiles = [((0, 0), np.zeros((60, 61))), ((48, 0), np.full((60, 61), 1000.0))]
    got = layout_of(tiles).stitch()
    assert got.shape == (108, 61)
    ramp = got[48:60, 30]
    assert np.allclose(ramp, 1000 * np.arange(1, 13) / 13)
    assert [round(float(v), 1) for v in ramp[[0, 1, -1]]] == [76.9, 153.8, 923.1]
    assert (got[:48] == 0).all()
    assert (got[60:] == 1000).all()


def test_weights_come_from_each_full_tile_not_from_the_overlap() -> None:
    tiles = [((0, 0), noise((30, 3), 1)), ((1, 0), noise((9, 3), 2)), ((4, 1), noise((20, 2), 3))]
    expected, _ = reference(tiles, "interpolation")
    assert_same(layout_of(tiles).stitch(), expected)


@pytest.mark.parametrize(("axis", "ndim"), [(0, 3), (1, 3), (2, 3), (0, 2), (1, 2)])
def test_axes_of_extent_1_count_in_the_weights(axis: int, ndim: int) -> None:
    shape = tuple(1 if d == axis else 7 for d in range(ndim))
    tiles = [
        ((0,) * ndim, noise(shape, 1)),
        (tuple(int(d != axis) for d in range(ndim)), noise(shape, 2)),
    ]
    expected, _ = reference(tiles, "interpolation")
    assert np.array_equal(expected, reference(tiles, "mean")[0])  # all weights are 1
    assert_same(layout_of(tiles).stitch(), expected)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_where_all_sources_agree_the_output_equals_them(dtype: str, method: str, n: int) -> None:
    world = noise((24, 20), n, dtype)
    if np.dtype(dtype).kind == "f":
        world[::2] = 0.1
    rng = np.random.default_rng(n)
    tiles: list[Tile] = []
    for _ in range(n):
        x, y = (int(c) for c in rng.integers(0, 9, 2))
        tiles.append(((x - 5, y + 3), world[x : x + 13, y : y + 11]))
    got = layout_of(tiles).stitch(method=method)
    (px, py), shape = hull(tiles)
    expected = np.zeros(shape, dtype)
    for (x, y), a in tiles:
        expected[x - px : x - px + a.shape[0], y - py : y - py + a.shape[1]] = a
    assert got.dtype == np.dtype(dtype)
    assert np.array_equal(got, expected)


@settings(deadline=None, max_examples=40)
@given(layouts([*INTEGERS, *FLOATS]), some.sampled_from(ALL_METHODS))
def test_one_source_voxels_are_bit_equal_and_uncovered_ones_are_0(
    tiles: list[Tile], method: str
) -> None:
    got = layout_of(tiles).stitch(method=method)
    for index, voxel in voxels(*hull(tiles)):
        found = covering(tiles, voxel)
        if len(found) == 1:
            assert got[index].tobytes() == found[0][1].tobytes()
        elif not found:
            assert got[index] == 0


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("method", ALL_METHODS)
def test_cut_and_stitched_is_the_original(ndim: int, method: str) -> None:
    world = noise((17, 15, 9)[:ndim], 1)
    tiles = []
    for corner in itertools.product((0, 7), (0, 6), (0, 3)[: 2 if ndim == 3 else 1]):
        at = corner[:ndim]
        cut = tuple(slice(p, p + n) for p, n in zip(at, (10, 9, 6), strict=False))
        tiles.append((tuple(p - 4 for p in at), world[cut]))
    assert np.array_equal(layout_of(tiles).stitch(method=method), world)


@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (4, 1), (2, 2)])
@pytest.mark.parametrize("method", METHODS)
def test_rows_columns_and_single_tiles_of_a_grid(grid: Point, method: str) -> None:
    cells = list(np.ndindex(grid))
    arrays = [noise((8, 7), k) for k in range(len(cells))]
    layout = st.TiledLayout([st.Source(a) for a in arrays], tile_positions=cells, overlaps=(3, 2))
    tiles = [(s.position, a) for s, a in zip(layout.sources, arrays, strict=True)]
    expected, _ = reference(tiles, method)
    assert_same(layout.stitch(method=method), expected)


FUNCTIONS = {
    "interpolation": "stitch_by_interpolation",
    "max": "stitch_by_max",
    "min": "stitch_by_min",
    "mean": "stitch_by_mean",
    "interpolation-adjust-max": "stitch_by_interpolation_adjust_max",
}


@pytest.mark.parametrize("method", ALL_METHODS)
def test_the_functions_equal_the_method(method: str) -> None:
    tiles = [((k, -2 * k), noise((9, 8), k)) for k in range(3)]
    layout = layout_of(tiles)
    whole = layout.stitch(method=method)
    stitch = getattr(st, FUNCTIONS[method])
    assert np.array_equal(stitch(layout), whole)
    assert np.array_equal(st.stitch_layout(layout, method=method), whole)
    sink = np.zeros(layout.shape, whole.dtype)
    stitch(layout, sink)
    assert np.array_equal(sink, whole)


def test_interpolation_is_the_default_and_array_is_the_stitch() -> None:
    layout = layout_of([((k, -2 * k), noise((9, 8), k)) for k in range(3)])
    whole = layout.stitch(method="interpolation")
    assert np.array_equal(layout.stitch(), whole)
    assert np.array_equal(st.stitch_layout(layout), whole)
    assert np.array_equal(layout.array, whole)


def test_an_unknown_method_is_an_error() -> None:
    layout = layout_of([((0, 0), noise((3, 3)))])
    with pytest.raises(REFUSED):
        layout.stitch(method="magic")


def test_stitching_changes_neither_sources_nor_their_pixels() -> None:
    arrays = [noise((9, 8), k) for k in range(3)]
    before = [a.copy() for a in arrays]
    layout = layout_of([((k, -2 * k), a) for k, a in enumerate(arrays)])
    for method in ALL_METHODS:
        layout.stitch(method=method)[...] = 0
    single = layout_of([((0, 0), arrays[0])])
    single.stitch()[...] = 0  # a copy, even where one tile is the whole
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


@pytest.mark.parametrize("processes", [1, 2, "serial"])
def test_processes_do_not_change_the_stitch(processes: Any) -> None:
    layout = layout_of([((k, -2 * k), noise((9, 8), k)) for k in range(3)])
    assert np.array_equal(layout.stitch(processes=processes), layout.stitch())


# --- functions --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(layouts(["float64"]))
def test_stitch_by_function_gets_the_stack_of_covering_voxels(tiles: list[Tile]) -> None:
    got = st.stitch_by_function(layout_of(tiles), function=np.median)
    for index, voxel in voxels(*hull(tiles)):
        found = [v for _, v, _ in covering(tiles, voxel)]
        assert got[index] == pytest.approx(np.median(found) if found else 0, rel=1e-12)


def test_stitch_by_function_is_called_with_axis_0() -> None:
    calls = []

    def spread(stack: Array, axis: int | None = None) -> Array:
        calls.append((stack.shape[0], axis))
        return np.max(stack, axis=axis)

    tiles = [((0, 0), noise((6, 5), 1)), ((2, 1), noise((6, 5), 2)), ((3, 3), noise((6, 5), 3))]
    got = st.stitch_by_function(layout_of(tiles), None, spread)
    assert {axis for _, axis in calls} == {0}
    assert {n for n, _ in calls} >= {2, 3}
    assert np.array_equal(got, layout_of(tiles).stitch(method="max"))
    assert np.array_equal(st.stitch_by_function(layout_of(tiles)), got)


def test_stitch_by_function_with_weights_and_sum_is_interpolation() -> None:
    tiles = [((0, 0), noise((6, 5), 1)), ((2, 1), noise((6, 5), 2)), ((3, 3), noise((6, 5), 3))]
    layout = layout_of(tiles)
    whole = layout.stitch()
    assert np.array_equal(st.stitch_by_function_with_weights(layout), whole)
    assert np.array_equal(st.stitch_by_function_with_weights(layout, None, np.sum), whole)


@pytest.mark.parametrize("function", [np.sum, np.max, np.mean])
@pytest.mark.parametrize("own", [False, True])
def test_stitch_by_function_with_weights_divides_by_the_function_of_weights(
    function: Any, own: bool
) -> None:
    def halves(shape: Point) -> Array:
        return 0.5 + np.arange(np.prod(shape), dtype=float).reshape(shape)

    tiles = [
        ((0, 0), noise((6, 5), 1, "float64")),
        ((2, -1), noise((6, 5), 2, "float64")),
        ((3, 2), noise((5, 6), 3, "float64")),
    ]
    options = {"weight_function": halves} if own else {}
    got = st.stitch_by_function_with_weights(layout_of(tiles), function=function, **options)
    weights = [halves(a.shape) if own else st.stitch_weights(a.shape) for _, a in tiles]
    for index, voxel in voxels(*hull(tiles)):
        found = covering(tiles, voxel)
        if not found:
            assert got[index] == 0
            continue
        values = np.array([v for _, v, _ in found])
        w = np.array(
            [weights[k][tuple(np.subtract(voxel, tiles[k][0]))] for k, _, _ in found], float
        )
        expected = function(w * values, axis=0) / function(w, axis=0)
        assert got[index] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
@pytest.mark.parametrize("function", [np.mean, np.median])
def test_stitch_by_function_rounds_to_nearest_in_an_integer_dtype(
    dtype: str, function: Any
) -> None:
    tiles = [((k, k), noise((9, 9), k, dtype)) for k in range(4)]
    got = st.stitch_by_function(layout_of(tiles), function=function)
    assert got.dtype == np.dtype(dtype)
    for index, voxel in voxels(*hull(tiles)):
        found = [int(v) for _, v, _ in covering(tiles, voxel)]
        exact_value = float(function(found)) if found else 0.0
        assert abs(int(got[index]) - exact_value) <= 0.5
        if len(found) in (1, 2, 4):  # sums of these are exact in binary
            assert got[index] == round(exact_value)


def test_one_source_voxels_keep_nan_and_infinity() -> None:
    a = noise((8, 7), 1, "float32")
    a[0, 0], a[1, 1], a[2, 2] = np.nan, np.inf, -np.inf
    tiles = [((0, 0), a), ((5, 4), noise((8, 7), 2, "float32"))]
    for method in ALL_METHODS:
        got = layout_of(tiles).stitch(method=method)
        assert got[:5, :4].tobytes() == a[:5, :4].tobytes()


@pytest.mark.parametrize("dtype", [">u2", ">i4", ">f4"])
def test_foreign_byte_order_is_stitched_alike(dtype: str) -> None:
    native = np.dtype(dtype).newbyteorder("=")
    tiles = [((k, -k), noise((9, 8), k, native.name)) for k in range(3)]
    foreign = [(p, a.astype(dtype)) for p, a in tiles]
    for method in METHODS:
        got = layout_of(foreign).stitch(method=method)
        assert np.array_equal(got, layout_of(tiles).stitch(method=method))


def test_the_embedding_of_a_windowed_layout_is_of_its_window() -> None:
    tiles = [((0, 0), noise((9, 9), 1)), ((5, 5), noise((9, 9), 2))]
    window = layout_of(tiles, position=(6, -2), shape=(3, 12))
    result = window.embedding()
    assert (tuple(result.position), tuple(result.shape)) == ((6, -2), (3, 12))
    assert owners(tiles, result.regions, window.sources) == {
        v: {k for k, _, _ in found}
        for _, v in voxels((6, -2), (3, 12))
        if (found := covering(tiles, v))
    }


def adjusted(tiles: Sequence[Tile]) -> Array:
    """Interpolation times max(covering) / max(interpolated), per embedding region."""
    position, shape = hull(tiles)
    layout = layout_of(tiles)
    number = {id(s): k for k, s in enumerate(layout.sources)}
    result = np.zeros(shape)
    for region in layout.embedding().regions:
        members = [number[id(s)] for s in region.sources]
        inside = [v for _, v in voxels(tuple(region.position), tuple(region.shape))]
        blended = {v: float(blend("interpolation", covering(tiles, v))) for v in inside}
        most = max(
            float(tiles[k][1][tuple(np.subtract(v, tiles[k][0]))]) for k in members for v in inside
        )
        top = max(blended.values())
        for v, value in blended.items():
            factor = most / top if top and len(members) > 1 else 1
            result[tuple(np.subtract(v, position))] = value * factor
    return result


@settings(deadline=None, max_examples=30)
@given(layouts(["float64"]))
def test_adjust_max_scales_each_embedding_region(tiles: list[Tile]) -> None:
    positive = [(p, np.abs(a) + 1) for p, a in tiles]
    got = layout_of(positive).stitch(method="interpolation-adjust-max")
    assert np.allclose(got, adjusted(positive), rtol=1e-12)


def test_adjust_max_of_two_tiles_by_hand() -> None:
    tiles = [((0, 0), np.full((30, 40), 10.0)), ((20, 0), np.full((30, 40), 40.0))]
    got = layout_of(tiles).stitch(method="interpolation-adjust-max")
    plain = layout_of(tiles).stitch()
    assert got[20:30].max() == pytest.approx(40)
    assert np.allclose(got[20:30], plain[20:30] * 40 / plain[20:30].max())
    assert np.array_equal(got[:20], plain[:20])
    assert np.array_equal(got[30:], plain[30:])


def test_adjust_max_of_dark_regions_is_dark() -> None:
    tiles = [((0, 0), np.zeros((6, 6), np.uint8)), ((3, 3), np.zeros((6, 6), np.uint8))]
    assert (layout_of(tiles).stitch(method="interpolation-adjust-max") == 0).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_adjust_max_of_integers_reaches_the_maximum(dtype: str) -> None:
    tiles = [((0, 0), np.full((30, 40), 50, dtype)), ((20, 0), np.full((30, 40), 120, dtype))]
    got = layout_of(tiles).stitch(method="interpolation-adjust-max")
    assert got.dtype == np.dtype(dtype)
    assert got[20:30].max() == 120
    reference_float = adjusted([(p, a.astype(float)) for p, a in tiles])
    assert np.abs(got - reference_float).max() <= 1


# --- windows ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(layouts([*INTEGERS, *FLOATS]), some.sampled_from(ALL_METHODS), some.data())
def test_any_window_equals_that_window_of_the_whole(
    tiles: list[Tile], method: str, data: some.DataObject
) -> None:
    ndim = len(tiles[0][0])
    position = tuple(data.draw(some.integers(-7, 5)) for _ in range(ndim))
    shape = tuple(data.draw(some.integers(1, 9)) for _ in range(ndim))
    whole = layout_of(tiles).stitch(method=method)
    lower, _ = hull(tiles)
    expected = np.zeros(shape, whole.dtype)
    for index, voxel in voxels(position, shape):
        there = tuple(v - p for v, p in zip(voxel, lower, strict=True))
        if all(0 <= i < n for i, n in zip(there, whole.shape, strict=True)):
            expected[index] = whole[there]
    window = layout_of(tiles, position=position, shape=shape)
    assert window.position == position
    assert window.shape == shape
    got = window.stitch(method=method)
    assert got.dtype == expected.dtype
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["uint16", "float64"])
def test_any_window_of_adjust_max_equals_that_window_of_the_whole(dtype: str) -> None:
    tiles = [
        ((7 * i - 9, 6 * j - 7), noise((11, 10), 2 * i + j, dtype)) for i in (0, 1) for j in (0, 1)
    ]
    whole = layout_of(tiles).stitch(method="interpolation-adjust-max")
    for x, y in itertools.product(range(-9, 6, 3), range(-7, 6, 2)):
        window = layout_of(tiles, position=(x, y), shape=(4, 3))
        got = window.stitch(method="interpolation-adjust-max")
        assert got.tobytes() == whole[x + 9 : x + 13, y + 7 : y + 10].tobytes()
        part = layout_of(tiles).layout_from_region(position=(x, y), shape=(4, 3))
        assert part.stitch(method="interpolation-adjust-max").tobytes() == got.tobytes()


@pytest.mark.parametrize(
    "stitch",
    [
        lambda lay: st.stitch_by_function(lay, function=np.median),
        lambda lay: st.stitch_by_function_with_weights(lay, function=np.sum),
        lambda lay: st.stitch_by_function_with_weights(lay, function=np.max),
    ],
)
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_any_window_by_functions_equals_that_window_of_the_whole(stitch: Any, dtype: str) -> None:
    tiles = [((5 * k - 9, 3 * k - 7), noise((11, 10), k, dtype)) for k in range(4)]
    whole = stitch(layout_of(tiles))
    for x, y in itertools.product(range(-9, 12, 4), range(-7, 8, 3)):
        got = stitch(layout_of(tiles, position=(x, y), shape=(4, 3)))
        assert got.tobytes() == whole[x + 9 : x + 13, y + 7 : y + 10].tobytes()


def test_layout_from_region_stitches_its_region_alike() -> None:
    tiles = [((6 * i - 9, 5 * j - 7), noise((9, 8), 3 * i + j)) for i in range(3) for j in range(3)]
    layout = layout_of(tiles)
    whole = layout.stitch()
    part = layout.layout_from_region(position=(-5, -3), shape=(7, 6))
    got = part.stitch()
    at = [p - q for p, q in zip((-5, -3), part.position, strict=True)]
    cut = tuple(slice(p, p + n) for p, n in zip(at, (7, 6), strict=True))
    assert np.array_equal(got[cut], whole[4:11, 4:10])


# --- sinks ------------------------------------------------------------------------------------

TILES: list[Tile] = [((-3, 5), noise((6, 7), 1)), ((1, 8), noise((6, 7), 2))]


def test_without_a_sink_a_new_array_is_returned() -> None:
    layout = layout_of(TILES)
    got = layout.stitch(sink=None)
    assert isinstance(got, np.ndarray)
    assert got.shape == (10, 10)
    assert got.dtype == np.uint16


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("extra", [0, 3])
def test_in_an_array_index_0_is_the_position_and_only_covered_voxels_are_written(
    method: str, order: str, extra: int
) -> None:
    layout = layout_of(TILES)
    whole = layout.stitch(method=method)
    _, covered = reference(TILES, "max")
    sink = np.full((10 + extra, 10 + extra), 7, np.uint16, order=order)
    returned = layout.stitch(sink, method)
    assert returned is sink or np.shares_memory(returned, sink)
    assert np.array_equal(sink[:10, :10][covered], whole[covered])
    assert (sink[:10, :10][~covered] == 7).all()
    assert (sink[10:] == 7).all()
    assert (sink[:, 10:] == 7).all()


def test_a_view_is_a_sink() -> None:
    layout = layout_of(TILES)
    volume = np.zeros((40, 40), np.uint16)
    layout.stitch(volume[3:33:3, ::-1][:, 2:12])
    assert np.array_equal(volume[3:33:3, ::-1][:, 2:12], layout.stitch())
    assert np.count_nonzero(volume) == np.count_nonzero(layout.stitch())


@pytest.mark.parametrize("shape", [(9, 10), (10, 9), (10,), (10, 10, 10)])
def test_too_small_a_sink_is_an_error(shape: Point) -> None:
    sink = np.full(shape, 7, np.uint16)
    with pytest.raises(REFUSED):
        layout_of(TILES).stitch(sink)
    assert (sink == 7).all()


def test_a_memmap_is_a_sink(tmp_path: Path) -> None:
    layout = layout_of(TILES)
    _, covered = reference(TILES, "max")
    sink = np.lib.format.open_memmap(tmp_path / "s.npy", "w+", np.uint16, (12, 10))
    sink[:] = 7
    layout.stitch(sink)
    sink.flush()
    stored = np.load(tmp_path / "s.npy")
    assert np.array_equal(stored[:10][covered], layout.stitch()[covered])
    assert (stored[:10][~covered] == 7).all()
    assert (stored[10:] == 7).all()


def test_an_h5py_dataset_is_a_sink_that_holds_the_transpose(tmp_path: Path) -> None:
    tiles = [((-3, 5, 0), noise((6, 7, 4), 1)), ((1, 8, 1), noise((6, 7, 4), 2))]
    layout = layout_of(tiles)
    whole = layout.stitch()
    assert whole.shape == (10, 10, 5)
    _, covered = reference(tiles, "max")
    with h5py.File(tmp_path / "s.h5", "w") as file:
        sink = file.create_dataset("d", data=np.full((5, 10, 10), 7, np.uint16))
        layout.stitch(sink)
        stored = sink[...].T
        assert np.array_equal(stored[covered], whole[covered])
        assert (stored[~covered] == 7).all()
        small = file.create_dataset("s", (4, 10, 10), np.uint16)
        with pytest.raises(REFUSED):
            layout.stitch(small)


def dataset(path: Path) -> Array:
    """The one dataset of a file, with its axes as image axes."""
    found: list[h5py.Dataset] = []
    with h5py.File(path) as file:
        file.visititems(lambda _, x: found.append(x) if isinstance(x, h5py.Dataset) else None)
        assert len(found) == 1
        return found[0][...].T


READERS: dict[str, Callable[[Path], Array]] = {
    ".npy": np.load,
    ".tif": lambda path: tifffile.imread(path).T,
    ".h5": dataset,
}


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_file_name_is_a_sink(tmp_path: Path, suffix: str, kind: Any, ndim: int) -> None:
    shape = (6, 7, 4)[:ndim]
    tiles = [((-3, 5, 0)[:ndim], noise(shape, 1)), ((1, 8, 1)[:ndim], noise(shape, 2))]
    layout = layout_of(tiles)
    path = tmp_path / f"stitched{suffix}"
    layout.stitch(kind(path))
    assert np.array_equal(READERS[suffix](path), layout.stitch())


def test_an_unknown_kind_of_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(REFUSED):
        layout_of(TILES).stitch(str(tmp_path / "stitched.docx"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ((5, 9), (slice(5, 11), slice(9, 16))),
        ((0, 0), (slice(0, 6), slice(0, 7))),
        ((-3, 9), (slice(0, 6), slice(9, 16))),
    ],
)
def test_sink_slicing_is_origin_to_origin_plus_shape(position: Point, expected: Any) -> None:
    layout = layout_of([(position, noise((6, 7)))])
    assert tuple(layout.sink_slicing()) == expected
    volume = np.zeros((20, 20), np.uint16)
    layout.stitch(volume[tuple(layout.sink_slicing())])
    assert np.array_equal(volume[expected], noise((6, 7)))
