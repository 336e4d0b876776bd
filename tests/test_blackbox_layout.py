"""Regions, sources, slices, alignments and layouts, tested from semantics.md alone."""

from __future__ import annotations

import inspect
import itertools
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray

import stitchlib as st
from stitchlib.errors import StitchlibError

Array = NDArray[Any]
REFUSED = (StitchlibError, ValueError)
OUTSIDE = (StitchlibError, ValueError, IndexError)
INF = math.inf


def noise(shape: Any, seed: int = 0, dtype: str = "uint16") -> Array:
    return np.random.default_rng(seed).integers(1, 250, tuple(shape)).astype(dtype)


def blank(*positions: Any, shape: tuple[int, ...] | None = None, **options: Any) -> list[st.Source]:
    return [
        st.Source(np.zeros(shape or (10,) * len(p), np.uint8), position=p, **options)
        for p in positions
    ]


def pixels(source: Any) -> Array:
    """What a source shows, through the documented door."""
    return st.Layout([source]).stitch(method="max")


def ints(values: Any) -> list[int]:
    return [int(v) for v in values]


def is_plain(point: Any) -> bool:
    return isinstance(point, tuple) and all(type(x) is int for x in point)


# --- documented names -------------------------------------------------------------------------

CALLS = """
Alignment(pre=None, post=None, shift=None, displacement=None, quality=None)
Alignment.mip_axis(axis=None, max_shifts=None)
AlignmentBase(pre=None, post=None)
AlignmentBase.copy()
Layout(sources, alignments=None, position=None, shape=None, dtype=None, order=None, location=None)
Layout.align(max_shifts=10, clip=None, background=None, processes=None, verbose=False)
Layout.align_axis(depth=10, max_shifts=10, axis=None, axis_range=None, clip=None, background=None,
    processes=None, verbose=False)
Layout.array_along_axis(sink=None, coordinate=None, axis=2)
Layout.as_real()
Layout.as_virtual()
Layout.change_source_location(expression, substitutions)
Layout.change_sources(sources)
Layout.connected()
Layout.connected_components(min_quality=None, with_sources=False)
Layout.embedding()
Layout.layout_from_region(region=None, position=None, shape=None, lower=None, upper=None)
Layout.load(filename)
Layout.lower_to_origin()
Layout.place(method='optimization', lower_to_origin=False, processes=None, verbose=False,
    min_quality=None)
Layout.place_axis(axis=None, method='optimization', min_quality=None, lower_to_origin=False,
    verbose=False)
Layout.remove_source(source)
Layout.replace_source_location(match, replace, method='expression')
Layout.save(filename)
Layout.set_source_positions(positions=None, sources=None, update_alignments=False)
Layout.sink_slicing()
Layout.slice_along_axis(coordinate, axis=2)
Layout.sort_sources_by_position()
Layout.source_index(source)
Layout.source_positions(sources=None)
Layout.sources_as_real()
Layout.sources_as_virtual()
Layout.stitch(sink=None, method='interpolation', processes=None, verbose=False)
Layout.update_alignments_from_sources()
Layout.update_sources_from_alignments()
Overlap(position=None, shape=None, lower=None, upper=None, sources=None)
Overlap.source_arrays()
Overlap.source_slicings()
Region(position=None, shape=None, lower=None, upper=None)
Region.coordinate_from_local(loacl_coordinate, axis)
Region.coordinate_to_local(coordinate, axis)
Region.copy()
Region.local_slicing(source=None, position=None)
Region.position_from_local(local_position)
Region.position_to_local(position)
Slice(source, position=None, tile_position=None, slicing=None)
Slice.as_real()
Slice.as_virtual()
Source(source=None, position=None, tile_position=None)
Source.as_real()
Source.as_virtual()
Source.slice_along_axis(coordinate=None, local_coordinate=None, axis=2)
SourceRegion(position=None, shape=None, lower=None, upper=None)
TiledLayout(sources=None, expression=None, tile_axes=None, tile_shape=None, tile_positions=None,
    positions=None, overlaps=None, alignments=None, position=None, shape=None, dtype=None,
    order=None, location=None)
TiledLayout.adjust_overlaps(overlaps=None)
TiledLayout.align_on_tiling(overlaps=(50, 50), max_shifts=(-50, 50), clip=None, background=None,
    processes=None, verbose=False)
TiledLayout.alignment_from_tile_positions(tile_position1, tile_position2)
TiledLayout.alignments_from_tile_position(tile_position)
TiledLayout.center_tile_position()
TiledLayout.center_tile_source()
TiledLayout.sort_sources_by_tile_position()
TiledLayout.source_from_tile_position(tile_position)
TiledLayout.source_to_tile_position(source)
align_2_sources(src1, src2, max_shifts=10, clip=None, background=None, normalize=False,
    verbose=False, debug=False)
align_2_sources_along_axis(src1, src2, axis=0, overlap=10, max_shifts=10, clip=None,
    background=None, verbose=False)
align_2_sources_along_axis_mip(src1, src2, axis=2, depth=10, max_shifts=10, clip=None,
    background=None, verbose=False, with_mip=False)
align_layout(layout, max_shifts=10, clip=None, background=None, processes=None, verbose=False)
align_layout_axis(layout, axis=2, depth=10, max_shifts=10, axis_range=None, clip=None,
    background=None, processes=None, verbose=False)
align_layout_on_tiling(layout, overlaps=10, max_shifts=10, clip=None, background=None,
    processes=None, verbose=False)
align_layout_rigid_mip(layout, depth=10, max_shifts=10, ranges=None, clip=None, background=None,
    processes=None, workspace=None, verbose=False)
align_layout_rigid_mips(layout, depth=10, max_shifts=10, ranges=None, clip=None, background=None,
    processes=None, verbose=False)
alignments_from_source_positions(alignments)
check_alignments_and_sources(alignments, sources, verbose=False)
connected(alignments, sources=None)
connected_components(alignments, sources=None, min_quality=None, with_sources=False)
copy_sources_and_alignments(sources, alignments)
embedding(sources, shape=None, position=None)
filter_alignments(alignments, min_quality=-inf)
layout_along_axis_mip(src1, src2, axis=2, depth=10, max_shifts=10, ranges=None, verbose=False)
load_layout(filename)
max_intensity_projection(data, axis=0, function=max)
overlap(region1, region2)
place_layout(layout, method='optimization', min_quality=None, lower_to_origin=False,
    verbose=False)
place_layout_axis(layout, axis=2, method='optimization', min_quality=None, lower_to_origin=False,
    verbose=False)
positions_from_optimization(alignments, sources=None, min_quality=None, fixed_source=None,
    lower_to_origin=False)
positions_from_tree(alignments, sources=None, min_quality=None, fixed_source=None,
    lower_to_origin=False)
save_layout(filename, layout)
slice_layout_along_axis(layout, coordinate, axis=2)
source_index(sources, source)
sources_from_alignments(alignments)
stitch_by_function(layout, sink=None, function=max)
stitch_by_function_with_weights(layout, sink=None, function=sum, weight_function=stitch_weights)
stitch_by_interpolation(layout, sink=None)
stitch_by_interpolation_adjust_max(layout, sink=None)
stitch_by_max(layout, sink=None)
stitch_by_mean(layout, sink=None)
stitch_by_min(layout, sink=None)
stitch_layout(layout, sink=None, method='interpolation', verbose=False)
stitch_weights(shape)
"""

PROPERTIES = {
    "Alignment": "displacement name quality shift ndim post pre sources",
    "AlignmentBase": "ndim post pre sources",
    "Layout": "alignments array dtype location lower n_alignments n_sources ndim order position "
    "shape sources upper extent origin",
    "Overlap": "sources extent lower ndim origin position shape upper",
    "Region": "extent lower ndim origin position shape upper",
    "Slice": "id identifier position position_unsliced tile_position shape lower upper ndim",
    "Source": "counter id identifier location name source tile_position position shape lower upper",
    "TiledLayout": "tile_dim tile_positions",
}

DEFAULTS = {"inf": math.inf, "max": np.max, "sum": np.sum}


@pytest.mark.parametrize("line", CALLS.replace("\n    ", " ").split("\n")[1:-1])
def test_documented_signature(line: str) -> None:
    name, _, rest = line.partition("(")
    weights = getattr(st, "stitch_weights", None)
    thing: Any = st
    for part in name.split("."):
        thing = getattr(thing, part)
    want = inspect.signature(
        eval(f"lambda {rest.removesuffix(')')}: 0", DEFAULTS | {"stitch_weights": weights})
    )
    have = [p for p in inspect.signature(thing).parameters.values() if p.name != "self"]
    documented = list(want.parameters.values())
    for got, wanted in zip(have, documented, strict=False):
        assert got.name == wanted.name
        assert got.default is wanted.default or got.default == wanted.default
        assert got.kind in (got.POSITIONAL_OR_KEYWORD, wanted.kind)
    assert len(have) >= len(documented)
    extra = have[len(documented) :]
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in extra)
    assert all(p.default is not p.empty for p in extra if p.kind == p.KEYWORD_ONLY)


@pytest.mark.parametrize(
    ("owner", "name"), [(c, n) for c, names in PROPERTIES.items() for n in names.split()]
)
def test_documented_property(owner: str, name: str) -> None:
    assert hasattr(getattr(st, owner), name)


def test_documented_bases() -> None:
    assert issubclass(st.Alignment, st.AlignmentBase)
    assert issubclass(st.SourceRegion, st.Region)
    assert issubclass(st.Overlap, st.Region)
    assert issubclass(st.TiledLayout, st.Layout)
    for cls in (st.Source, st.Slice, st.Layout):
        assert issubclass(cls, st.SourceRegion)


# --- regions ----------------------------------------------------------------------------------

boxes = some.integers(1, 3).flatmap(
    lambda n: some.tuples(
        some.tuples(*[some.integers(-5, 5)] * n),
        some.tuples(*[some.integers(0, 5)] * n),
        some.tuples(*[some.integers(-5, 5)] * n),
        some.tuples(*[some.integers(0, 5)] * n),
    )
)


def test_a_region_is_a_half_open_box_of_plain_ints() -> None:
    for point in (tuple, list, np.array, lambda p: tuple(np.int16(x) for x in p)):
        for region in (
            st.Region(position=point([-3, 4]), shape=point([5, 6])),
            st.Region(lower=point([-3, 4]), upper=point([2, 10])),
            st.Region(point([-3, 4]), point([5, 6])),
        ):
            assert region.position == (-3, 4)
            assert region.shape == (5, 6)
            assert region.extent == (5, 6)
            assert region.origin == (0, 4)
            for value in (region.position, region.shape, region.extent, region.origin):
                assert is_plain(value)
            for value, expected in ((region.lower, [-3, 4]), (region.upper, [2, 10])):
                assert isinstance(value, np.ndarray)
                assert value.dtype.kind == "i"
                assert value.tolist() == expected
            assert region.ndim == 2


def test_local_coordinates_of_a_region_are_counted_from_its_position() -> None:
    region = st.Region(position=(-3, 40), shape=(5, 6))
    assert tuple(region.position_to_local((-3, 40))) == (0, 0)
    assert tuple(region.position_to_local((1, 45))) == (4, 5)
    assert tuple(region.position_from_local((4, 5))) == (1, 45)
    assert region.coordinate_to_local(43, 1) == 3
    assert region.coordinate_from_local(3, 1) == 43
    assert region.coordinate_to_local(-1, axis=0) == 2
    assert region.coordinate_from_local(2, axis=0) == -1


def test_local_slicing_of_a_region_in_a_source_or_from_a_position() -> None:
    region = st.Region(position=(-3, 40), shape=(5, 6))
    source = st.Source(np.zeros((9, 9)), position=(-5, 39))
    for slicing in (
        region.local_slicing(source=source),
        region.local_slicing(position=(-5, 39)),
        region.local_slicing(source),
    ):
        assert tuple(slicing) == (slice(2, 7), slice(1, 7))


def test_a_copy_of_a_region_is_another_one() -> None:
    region = st.Region(position=(-3, 40), shape=(5, 6))
    twin = region.copy()
    assert twin is not region
    assert (twin.position, twin.shape) == (region.position, region.shape)


@settings(deadline=None, max_examples=60)
@given(boxes)
def test_overlap_is_the_intersection_or_none(box: Any) -> None:
    p, m, q, n = box
    one, two = st.Region(position=p, shape=m), st.Region(position=q, shape=n)
    cells = [
        set(itertools.product(*(range(a, a + k) for a, k in zip(at, size, strict=True))))
        for at, size in ((p, m), (q, n))
    ]
    both = cells[0] & cells[1]
    result = st.overlap(one, two)
    if not both:
        assert result is None
        return
    assert isinstance(result, st.Overlap)
    inside = itertools.product(
        *(range(a, b) for a, b in zip(result.lower, result.upper, strict=True))
    )
    assert set(inside) == both


def test_touching_regions_do_not_overlap() -> None:
    one = st.Region(position=(0, 0), shape=(5, 5))
    for place in ((5, 0), (0, 5), (5, 5), (-5, 2)):
        assert st.overlap(one, st.Region(position=place, shape=(5, 5))) is None
    assert st.overlap(one, st.Region(position=(4, 4), shape=(5, 5))).shape == (1, 1)


def test_an_overlap_knows_its_sources_and_their_pixels() -> None:
    a, b = noise((6, 5), 1), noise((4, 7), 2)
    one, two = st.Source(a, position=(-2, 3)), st.Source(b, position=(1, 1))
    shared = st.overlap(one, two)
    assert shared.position == (1, 3)
    assert shared.shape == (3, 5)
    assert [s is t for s, t in zip(shared.sources, (one, two), strict=True)] == [True, True]
    assert [tuple(s) for s in shared.source_slicings()] == [
        (slice(3, 6), slice(0, 5)),
        (slice(0, 3), slice(2, 7)),
    ]
    arrays = shared.source_arrays()
    assert np.array_equal(arrays[0], a[3:6, 0:5])
    assert np.array_equal(arrays[1], b[0:3, 2:7])


# --- sources ----------------------------------------------------------------------------------


def test_a_source_covers_its_half_open_box() -> None:
    source = st.Source(np.zeros((4, 5, 6), np.float32), position=[np.int64(-1), 2, np.uint8(3)])
    assert source.position == (-1, 2, 3)
    assert source.shape == (4, 5, 6)
    assert source.extent == (4, 5, 6)
    assert source.origin == (0, 2, 3)
    assert source.ndim == 3
    assert source.dtype == np.float32
    assert source.upper.tolist() == [3, 7, 9]
    for value in (source.position, source.shape, source.extent, source.origin):
        assert is_plain(value)
    source.position = np.array([7, 8, 9])
    assert source.position == (7, 8, 9)
    assert is_plain(source.position)


def test_an_array_in_memory_is_taken_as_it_is() -> None:
    for order in ("C", "F"):
        a = np.asarray(noise((4, 5, 6)), order=order)
        source = st.Source(a, position=(0, 0, 0))
        assert source.shape == (4, 5, 6)
        assert source.order == order
        assert np.array_equal(pixels(source), a)
        assert source.location is None


def test_source_ids_are_unique_and_equality_is_identity() -> None:
    a = np.zeros((3, 3))
    made = [st.Source(a, position=(0, 0)) for _ in range(20)]
    assert len({s.id for s in made}) == 20
    assert all(type(s.id) is int for s in made)
    assert made[0] != made[1]
    assert made[0] == made[0]
    assert len(set(made)) == 20
    assert isinstance(st.Source.counter, int)


def test_identifier_is_the_tile_position_else_the_id() -> None:
    source = st.Source(np.zeros((3, 3)))
    assert source.tile_position is None
    assert source.identifier == source.id
    tiled = st.Source(np.zeros((3, 3)), tile_position=[np.int64(2), 5])
    assert tuple(tiled.tile_position) == (2, 5)
    assert tuple(tiled.identifier) == (2, 5)
    assert is_plain(tiled.tile_position)


def test_a_virtual_source_in_memory_stays_in_memory_and_can_be_pickled() -> None:
    a = noise((4, 5))
    source = st.Source(a, position=(3, -4), tile_position=(1, 2))
    for twin in (source.as_virtual(), pickle.loads(pickle.dumps(source.as_virtual()))):
        assert (twin.id, twin.position, twin.tile_position) == (source.id, (3, -4), (1, 2))
        assert (twin.shape, twin.dtype, twin.order) == ((4, 5), a.dtype, "C")
        assert np.array_equal(pixels(twin), a)
        assert np.array_equal(pixels(twin.as_real()), a)


# --- slices -----------------------------------------------------------------------------------


def test_an_int_in_slicing_drops_the_axis() -> None:
    a = noise((6, 7, 8))
    source = st.Source(a, position=(10, -20, 30), tile_position=(1, 2))
    part = st.Slice(source, slicing=(slice(2, 5), np.int64(3), slice(None)))
    assert part.shape == (3, 8)
    assert part.ndim == 2
    assert part.position == (12, 30)
    assert part.position_unsliced == (12, -17, 30)
    assert is_plain(part.shape)
    assert is_plain(part.position)
    assert is_plain(part.position_unsliced)
    assert part.lower.tolist() == [12, 30]
    assert part.upper.tolist() == [15, 38]
    assert part.dtype == a.dtype
    assert np.array_equal(pixels(part), a[2:5, 3, :])


def test_slicings_of_open_and_negative_bounds() -> None:
    a = noise((6, 7))
    source = st.Source(a, position=(100, 200))
    for slicing in (
        (slice(None, 3), slice(-2, None)),
        (slice(1, 100), slice(0, 7)),
        (slice(-4, -1), slice(None, -3)),
    ):
        part = st.Slice(source, slicing=slicing)
        starts = [s.indices(n)[0] for s, n in zip(slicing, a.shape, strict=True)]
        assert part.shape == a[slicing].shape
        assert part.position == (100 + starts[0], 200 + starts[1])
        assert np.array_equal(pixels(part), a[slicing])


def test_a_slice_follows_its_source() -> None:
    source = st.Source(noise((6, 7, 8)), position=(1, 2, 3))
    part = st.Slice(source, slicing=(slice(None), slice(None), 4))
    assert part.position_unsliced == (1, 2, 7)
    source.position = (10, 20, 30)
    assert part.position == (10, 20)
    assert part.position_unsliced == (10, 20, 34)


def test_a_virtual_slice_keeps_its_slicing() -> None:
    a = noise((6, 7, 8))
    part = st.Slice(st.Source(a, position=(1, 2, 3)), slicing=(slice(1, 4), slice(None), 4))
    twin = pickle.loads(pickle.dumps(part.as_virtual()))
    assert (twin.position, twin.shape, twin.id) == (part.position, part.shape, part.id)
    assert np.array_equal(pixels(twin), a[1:4, :, 4])
    assert np.array_equal(pixels(part.as_real()), a[1:4, :, 4])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_along_axis_of_a_source(axis: int) -> None:
    a = noise((6, 7, 8))
    source = st.Source(a, position=(-4, 10, 20))
    for local in range(a.shape[axis]):
        coordinate = source.position[axis] + local
        for part in (
            source.slice_along_axis(coordinate=coordinate, axis=axis),
            source.slice_along_axis(local_coordinate=local, axis=axis),
        ):
            rest = [p for d, p in enumerate(source.position) if d != axis]
            assert part.position == tuple(rest)
            assert part.position_unsliced[axis] == coordinate
            assert np.array_equal(pixels(part), a.take(local, axis))
    for wrong in (source.position[axis] - 1, source.position[axis] + a.shape[axis]):
        with pytest.raises(OUTSIDE):
            source.slice_along_axis(coordinate=wrong, axis=axis)


# --- alignments -------------------------------------------------------------------------------


def test_neither_shift_nor_displacement_is_the_current_difference() -> None:
    pre, post = blank((1, 2), (30, -40))
    link = st.Alignment(pre, post)
    assert ints(link.displacement) == [29, -42]
    assert ints(link.shift) == [0, 0]
    assert link.quality == -INF
    assert link.pre is pre
    assert link.post is post
    assert list(link.sources) == [pre, post]
    assert link.ndim == 2


def test_the_displacement_is_that_of_the_time_when_the_alignment_was_made() -> None:
    pre, post = blank((1, 2), (30, -40))
    link = st.Alignment(pre, post)  # nothing looks at it before the source moves
    post.position = (0, 0)
    assert ints(link.displacement) == [29, -42]
    assert ints(link.shift) == [30, -40]


def test_displacement_wins_over_shift() -> None:
    pre, post = blank((1, 2), (30, -40))
    assert ints(st.Alignment(pre, post, shift=(1, 1)).displacement) == [30, -41]
    link = st.Alignment(pre, post, shift=(1, 1), displacement=(7, 8), quality=-3)
    assert ints(link.displacement) == [7, 8]
    assert ints(link.shift) == [7 - 29, 8 + 42]
    assert link.quality == -3


def test_setting_the_shift_rewrites_the_displacement() -> None:
    pre, post = blank((1, 2), (30, -40))
    link = st.Alignment(pre, post, displacement=(7, 8))
    link.shift = (2, -3)
    assert ints(link.displacement) == [31, -45]
    assert ints(link.shift) == [2, -3]
    link.displacement = [5, 6]
    assert ints(link.displacement) == [5, 6]
    assert ints(link.shift) == [5 - 29, 6 + 42]


def test_moving_a_source_keeps_the_displacement_and_changes_the_shift() -> None:
    pre, post = blank((1, 2), (30, -40))
    link = st.Alignment(pre, post, shift=(1, 1))
    post.position = (100, 100)
    assert ints(link.displacement) == [30, -41]
    assert ints(link.shift) == [30 - 99, -41 - 98]
    pre.position = (70, 141)
    assert ints(link.shift) == [0, 0]


def test_shift_and_displacement_are_integer_arrays() -> None:
    pre, post = blank((1, 2), (30, -40))
    for values in ((3, 4), [3, 4], np.array([3, 4]), (np.int8(3), np.uint16(4))):
        for link in (
            st.Alignment(pre, post, shift=values),
            st.Alignment(pre, post, displacement=values),
        ):
            for array in (link.shift, link.displacement):
                assert isinstance(array, np.ndarray)
                assert array.dtype.kind == "i"
                assert array.shape == (2,)


def test_changing_a_given_or_returned_array_does_not_change_the_alignment() -> None:
    pre, post = blank((1, 2), (30, -40))
    given_array = np.array([3, 4])
    link = st.Alignment(pre, post, displacement=given_array)
    given_array[0] = 99
    assert ints(link.displacement) == [3, 4]
    link.displacement[0] = 99
    link.shift[0] = 99
    pre.lower[0] = 99
    assert ints(link.displacement) == [3, 4]
    assert ints(link.shift) == [3 - 29, 4 + 42]


def test_quality_can_be_set_and_none_is_minus_infinity() -> None:
    link = st.Alignment(*blank((0, 0), (1, 1)), quality=None)
    assert link.quality == -INF
    link.quality = -5
    assert link.quality == -5
    link.quality = None
    assert link.quality == -INF


def test_a_copy_of_an_alignment_has_the_same_sources() -> None:
    link = st.Alignment(*blank((0, 0), (1, 1)), displacement=(3, 4), quality=-1)
    twin = link.copy()
    assert twin is not link
    assert twin.pre is link.pre
    assert twin.post is link.post
    assert ints(twin.displacement) == [3, 4]
    assert twin.quality == -1
    twin.displacement = (9, 9)
    assert ints(link.displacement) == [3, 4]


# --- layouts ----------------------------------------------------------------------------------


def test_a_layout_without_alignments_has_none() -> None:
    layout = st.Layout(blank((0, 0), (5, 5)))
    assert layout.alignments == []
    assert layout.n_alignments == 0
    assert layout.n_sources == 2


def test_a_layout_covers_its_sources() -> None:
    s = [
        st.Source(np.zeros((4, 5), np.uint8), position=(-3, 2)),
        st.Source(np.zeros((6, 3), np.uint8), position=(10, -7)),
    ]
    layout = st.Layout(s)
    assert layout.position == (-3, -7)
    assert layout.shape == (19, 14)
    assert layout.extent == (19, 14)
    assert layout.origin == (0, 0)
    assert ints(layout.lower) == [-3, -7]
    assert ints(layout.upper) == [16, 7]
    assert layout.ndim == 2
    assert layout.dtype == np.uint8
    assert is_plain(layout.position)
    assert is_plain(layout.shape)
    assert all(x is y for x, y in zip(layout.sources, s, strict=True))
    s[0].position = (0, 0)
    assert layout.position == (0, -7)
    assert layout.shape == (16, 12)


def linked(n: int = 5) -> st.Layout:
    s = blank(*[(8 * k, k) for k in range(n)])
    return st.Layout(s, [st.Alignment(a, b, quality=-1.0) for a, b in itertools.pairwise(s)])


@pytest.mark.parametrize(
    "choose",
    [
        lambda _: 1,
        lambda _: np.int64(1),
        lambda s: s[1],
        lambda _: [1],
        lambda s: (s[1],),
        lambda s: {s[1]},
        lambda _: (k for k in [1]),
        lambda _: np.array([1]),
        lambda _: range(1, 2),
    ],
)
def test_remove_source_takes_its_alignments_too(choose: Any) -> None:
    layout = linked()
    s = list(layout.sources)
    layout.remove_source(choose(s))
    assert [x.id for x in layout.sources] == [s[k].id for k in (0, 2, 3, 4)]
    assert [(a.pre.id, a.post.id) for a in layout.alignments] == [
        (s[2].id, s[3].id),
        (s[3].id, s[4].id),
    ]
    assert st.check_alignments_and_sources(layout.alignments, layout.sources)


def test_remove_source_takes_several_by_their_index_before() -> None:
    layout = linked()
    s = list(layout.sources)
    layout.remove_source([0, s[1], np.int32(4)])
    assert [x.id for x in layout.sources] == [s[2].id, s[3].id]
    assert layout.n_alignments == 1


def test_remove_source_of_a_stranger_is_an_error() -> None:
    for wrong in (5, blank((0, 0))[0], [0, 77]):
        layout = linked()
        with pytest.raises(OUTSIDE):
            layout.remove_source(wrong)
        assert layout.n_sources == 5


def test_remove_source_does_not_change_the_callers_lists() -> None:
    s = blank((0, 0), (5, 5))
    links = [st.Alignment(*s)]
    layout = st.Layout(s, links)
    layout.remove_source(0)
    assert len(s) == 2
    assert len(links) == 1


def test_change_sources_takes_over_positions_and_alignments() -> None:
    layout = st.TiledLayout([[*blank((0, 0), (0, 0))]], overlaps=2)
    positions, links = layout.source_positions(), list(layout.alignments)
    displacement = ints(links[0].displacement)
    new = [st.Source(noise((10, 10), k), position=(999, 999)) for k in range(2)]
    layout.change_sources(new)
    assert layout.source_positions() == positions
    assert [tuple(s.tile_position) for s in layout.sources] == [(0, 0), (0, 1)]
    assert layout.alignments[0].pre is layout.sources[0]
    assert layout.alignments[0].post is layout.sources[1]
    assert ints(layout.alignments[0].displacement) == displacement
    assert np.array_equal(pixels(layout.sources[0]), noise((10, 10), 0))
    assert st.check_alignments_and_sources(layout.alignments, layout.sources)


def test_change_sources_wants_the_same_number() -> None:
    layout = linked(3)
    with pytest.raises(REFUSED):
        layout.change_sources(blank((0, 0), (0, 0)))
    assert layout.n_sources == 3


def test_sources_as_virtual_and_real_keep_the_layout() -> None:
    a, b = noise((5, 5), 1), noise((5, 5), 2)
    one, two = st.Source(a, position=(0, 0)), st.Source(b, position=(5, 0))
    layout = st.Layout([one, two], [st.Alignment(one, two)])
    whole = layout.stitch(method="max")
    for twin in (pickle.loads(pickle.dumps(layout.as_virtual())), layout.as_real()):
        assert np.array_equal(twin.stitch(method="max"), whole)
        assert [s.id for s in twin.sources] == [one.id, two.id]
        assert st.check_alignments_and_sources(twin.alignments, twin.sources)
    layout.sources_as_virtual()
    layout.sources_as_real()
    assert np.array_equal(layout.stitch(method="max"), whole)


@pytest.mark.parametrize(
    "region",
    [
        {"region": None},
        {"position": (10, -5), "shape": (12, 8)},
        {"lower": (10, -5), "upper": (22, 3)},
    ],
)
def test_layout_from_region_has_the_sources_it_needs(region: Any) -> None:
    layout = linked(5)  # x from 0, 8, 16, 24, 32 with 10 each, y from 0, 1, 2, 3, 4
    if "region" in region:
        region = {"region": st.Region(position=(10, -5), shape=(12, 8))}
    part = layout.layout_from_region(**region)
    ids = [s.id for s in layout.sources]
    assert [s.id for s in part.sources] == ids[1:3]
    assert [(a.pre.id, a.post.id) for a in part.alignments] == [(ids[1], ids[2])]
    assert layout.n_sources == 5  # the layout itself stays
    assert layout.n_alignments == 4


# --- slices of layouts ------------------------------------------------------------------------


def stack() -> st.Layout:
    """Three 3-D tiles; z from -3 to 5, 0 to 8 and 4 to 12."""
    s = [
        st.Source(noise((6, 5, 8), k), position=p, tile_position=(k,))
        for k, p in enumerate([(-2, 0, -3), (4, 1, 0), (10, -1, 4)])
    ]
    links = [
        st.Alignment(s[0], s[1], displacement=(5, 6, 7), quality=-1.5),
        st.Alignment(s[1], s[2], displacement=(8, 9, 10), quality=None),
    ]
    return st.Layout(s, links)


@pytest.mark.parametrize(
    ("coordinate", "inside"),
    [(-3, [0]), (-1, [0]), (0, [0, 1]), (3, [0, 1]), (4, [0, 1, 2]), (5, [1, 2]), (11, [2])],
)
@pytest.mark.parametrize("by", ["function", "method"])
def test_slice_layout_has_the_sources_that_contain_the_coordinate(
    coordinate: int, inside: list[int], by: str
) -> None:
    layout = stack()
    if by == "function":
        flat = st.slice_layout_along_axis(layout, coordinate)
    else:
        flat = layout.slice_along_axis(coordinate, axis=2)
    assert flat.ndim == 2
    assert flat.n_sources == len(inside)
    for part, k in zip(flat.sources, inside, strict=True):
        source = layout.sources[k]
        assert part.position == source.position[:2]
        assert part.shape == (6, 5)
        assert np.array_equal(pixels(part), pixels(source)[:, :, coordinate - source.position[2]])
    wanted = [k for k in (0, 1) if k in inside and k + 1 in inside]
    assert [ints(a.displacement) for a in flat.alignments] == [[[5, 6], [8, 9]][k] for k in wanted]
    assert [a.quality for a in flat.alignments] == [[-1.5, -INF][k] for k in wanted]
    assert st.check_alignments_and_sources(flat.alignments, flat.sources)
    assert layout.n_sources == 3
    assert layout.n_alignments == 2


@pytest.mark.parametrize("axis", [0, 1])
def test_slices_along_the_other_axes(axis: int) -> None:
    layout = stack()
    coordinate = 2
    flat = layout.slice_along_axis(coordinate, axis=axis)
    inside = [
        s for s in layout.sources if s.lower[axis] <= coordinate < s.lower[axis] + s.shape[axis]
    ]
    assert flat.n_sources == len(inside)
    for part, source in zip(flat.sources, inside, strict=True):
        assert part.position == tuple(p for d, p in enumerate(source.position) if d != axis)
        assert np.array_equal(
            pixels(part), pixels(source).take(coordinate - source.position[axis], axis)
        )


@pytest.mark.parametrize("coordinate", [-4, 12, 1000])
def test_a_slice_out_of_range_is_an_error(coordinate: int) -> None:
    for slicing in (
        lambda: stack().slice_along_axis(coordinate),
        lambda: st.slice_layout_along_axis(stack(), coordinate, axis=2),
        lambda: stack().array_along_axis(coordinate=coordinate),
    ):
        with pytest.raises(OUTSIDE):
            slicing()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_array_along_axis_is_the_stitched_slice(axis: int) -> None:
    world = noise((14, 12, 10), 3)
    corners = [(0, 0, 0), (6, 1, 1), (1, 5, 0), (6, 5, 2)]
    s = [
        st.Source(world[x : x + 8, y : y + 7, z : z + 8], position=(x - 100, y + 100, z - 3))
        for x, y, z in corners
    ]
    layout = st.Layout(s)
    whole = layout.stitch(method="max")  # all agree, so every method gives the same
    for k in range(whole.shape[axis]):
        coordinate = layout.position[axis] + k
        flat = layout.array_along_axis(coordinate=coordinate, axis=axis)
        view = layout.slice_along_axis(coordinate, axis=axis)
        lower = [
            p - q for p, q in zip(view.position, np.delete(layout.position, axis), strict=True)
        ]
        cut = tuple(slice(p, p + n) for p, n in zip(lower, view.shape, strict=True))
        assert np.array_equal(flat, whole.take(k, axis)[cut])
        sink = np.zeros(view.shape, whole.dtype)
        layout.array_along_axis(sink, coordinate, axis)
        assert np.array_equal(sink, flat)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_plane_is_interpolated_with_the_weights_of_the_full_tiles(axis: int) -> None:
    s = [
        st.Source(noise((9, 8, 7), k), position=p)
        for k, p in enumerate([(-4, 0, 2), (1, 1, 0), (0, 4, 5), (-2, -3, 3)])
    ]
    layout = st.Layout(s)
    whole = layout.stitch()
    for k in range(whole.shape[axis]):
        coordinate = layout.position[axis] + k
        view = layout.slice_along_axis(coordinate, axis)
        lower = np.subtract(view.position, np.delete(layout.position, axis))
        cut = tuple(slice(p, p + n) for p, n in zip(lower, view.shape, strict=True))
        flat = layout.array_along_axis(coordinate=coordinate, axis=axis)
        assert np.array_equal(flat, whole.take(k, axis)[cut])


# --- tiled layouts ----------------------------------------------------------------------------


def grid(n: int, m: int, first: int = 0, **options: Any) -> st.TiledLayout:
    cells = [(i + first, j + first) for i in range(n) for j in range(m)]
    s = [st.Source(np.zeros((20, 30), np.uint8)) for _ in cells]
    return st.TiledLayout(s, tile_positions=cells, **{"overlaps": 4, **options})


def pairs_of(layout: st.TiledLayout) -> set[tuple[Any, Any]]:
    return {(tuple(a.pre.tile_position), tuple(a.post.tile_position)) for a in layout.alignments}


@pytest.mark.parametrize("first", [0, 1, 7, -2])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (4, 1), (3, 2)])
def test_a_tiled_layout_pairs_each_tile_with_its_next_neighbours(
    n: int, m: int, first: int
) -> None:
    layout = grid(n, m, first)
    cells = {(i + first, j + first) for i in range(n) for j in range(m)}
    expected = {((i, j), (i + 1, j)) for i, j in cells if (i + 1, j) in cells}
    expected |= {((i, j), (i, j + 1)) for i, j in cells if (i, j + 1) in cells}
    assert pairs_of(layout) == expected
    assert layout.n_alignments == len(expected)
    for a in layout.alignments:
        along_x = a.pre.tile_position[0] != a.post.tile_position[0]
        assert ints(a.displacement) == ([16, 0] if along_x else [0, 26])
        assert ints(a.shift) == [0, 0]
        assert a.quality == -INF
    base = layout.source_from_tile_position((first, first)).position
    for s in layout.sources:
        i, j = s.tile_position
        assert s.position == (base[0] + 16 * (i - first), base[1] + 26 * (j - first))


def test_overlaps_of_a_tiled_layout_are_per_grid_axis() -> None:
    for overlaps in ((4, 10), [4, 10], np.array([4, 10]), (np.int64(4), np.uint8(10))):
        layout = grid(2, 2, overlaps=overlaps)
        for a in layout.alignments:
            along_x = a.pre.tile_position[0] != a.post.tile_position[0]
            assert ints(a.displacement) == ([16, 0] if along_x else [0, 20])


def test_a_grid_of_two_axes_tiles_the_first_two_image_axes() -> None:
    s = [st.Source(np.zeros((20, 30, 7), np.uint8)) for _ in range(4)]
    layout = st.TiledLayout(s, tile_positions=[(0, 0), (0, 1), (1, 0), (1, 1)], overlaps=(4, 10))
    assert layout.tile_dim == 2
    assert layout.ndim == 3
    base = layout.sources[0].position
    assert [tuple(np.subtract(x.position, base)) for x in layout.sources] == [
        (0, 0, 0),
        (0, 20, 0),
        (16, 0, 0),
        (16, 20, 0),
    ]


def test_given_positions_define_the_displacements() -> None:
    places = [(0, 0), (3, 40), (-20, 1), (15, 25)]
    cells = [(0, 0), (0, 1), (1, 0), (1, 1)]
    s = [st.Source(np.zeros((20, 30), np.uint8)) for _ in cells]
    layout = st.TiledLayout(s, tile_positions=cells, positions=places)
    assert layout.source_positions() == places
    at = dict(zip(cells, places, strict=True))
    assert layout.n_alignments == 4
    for a in layout.alignments:
        pre, post = at[tuple(a.pre.tile_position)], at[tuple(a.post.tile_position)]
        assert ints(a.displacement) == [q - p for p, q in zip(pre, post, strict=True)]


def test_sources_are_nested_lists_or_an_object_array_with_gaps() -> None:
    def sources() -> list[list[Any]]:
        s = [[*blank((0, 0), (0, 0), (0, 0))], [*blank((0, 0), (0, 0), (0, 0))]]
        return [[s[0][0], None, s[0][2]], [s[1][0], s[1][1], None]]

    def array() -> Any:
        cells = np.empty((2, 3), object)
        for i, row in enumerate(sources()):
            for j, source in enumerate(row):
                cells[i, j] = source
        return cells

    for made in (sources(), array(), tuple(map(tuple, sources()))):
        layout = st.TiledLayout(made, overlaps=2)
        assert [tuple(p) for p in layout.tile_positions] == [(0, 0), (0, 2), (1, 0), (1, 1)]
        assert pairs_of(layout) == {((0, 0), (1, 0)), ((1, 0), (1, 1))}
        base = layout.sources[0].position
        # (0, 2) has no neighbour: the grid places it
        assert [tuple(np.subtract(s.position, base)) for s in layout.sources] == [
            (0, 0),
            (0, 16),
            (8, 0),
            (8, 8),
        ]


def test_a_grid_with_gaps_can_be_placed_and_stitched() -> None:
    s = blank((0, 0), (0, 0), (0, 0))
    layout = st.TiledLayout(s, tile_positions=[(1, 1), (1, 3), (2, 1)], overlaps=2)
    before = layout.source_positions()
    layout.place()
    assert layout.source_positions() == before
    assert layout.stitch().shape == (18, 26)


def test_tiles_of_different_shapes_are_displaced_by_the_shape_of_pre() -> None:
    shapes = [(20, 30), (10, 30), (25, 12)]
    s = [st.Source(np.zeros(n, np.uint8)) for n in shapes]
    layout = st.TiledLayout([[s[0], s[2]], [s[1], None]], overlaps=4)
    found = {tuple(a.post.tile_position): ints(a.displacement) for a in layout.alignments}
    assert found == {(1, 0): [16, 0], (0, 1): [0, 26]}


def test_a_tile_is_found_by_its_tile_position() -> None:
    layout = grid(2, 3, first=1)
    for s in layout.sources:
        cell = s.tile_position
        for form in (tuple(cell), list(cell), np.array(cell), tuple(np.int16(c) for c in cell)):
            assert layout.source_from_tile_position(form) is s
        assert tuple(layout.source_to_tile_position(s)) == tuple(cell)
        assert tuple(layout.source_to_tile_position(s.id)) == tuple(cell)
    assert layout.source_from_tile_position((0, 0)) is None
    assert layout.source_to_tile_position(blank((0, 0))[0]) is None


def test_alignments_are_found_by_tile_positions() -> None:
    layout = grid(2, 3)
    link = layout.alignment_from_tile_positions((0, 1), (1, 1))
    assert (tuple(link.pre.tile_position), tuple(link.post.tile_position)) == ((0, 1), (1, 1))
    assert layout.alignment_from_tile_positions([0, 1], np.array([1, 1])) is link
    assert layout.alignment_from_tile_positions((0, 0), (1, 1)) is None
    assert layout.alignment_from_tile_positions((0, 0), (9, 9)) is None
    involved = layout.alignments_from_tile_position((0, 1))
    assert len(involved) == 3
    assert all((0, 1) in [tuple(s.tile_position) for s in a.sources] for a in involved)
    assert layout.alignments_from_tile_position((9, 9)) == []


@pytest.mark.parametrize(
    ("n", "m", "first", "center"),
    [(1, 1, 0, (0, 0)), (3, 3, 0, (1, 1)), (4, 2, 0, (1, 0)), (4, 3, 1, (2, 2)), (1, 5, 1, (1, 3))],
)
def test_center_tile_position_is_the_lower_median_per_axis(
    n: int, m: int, first: int, center: tuple[int, int]
) -> None:
    layout = grid(n, m, first)
    assert tuple(layout.center_tile_position()) == center
    assert tuple(layout.center_tile_source().tile_position) == center


def test_tile_positions_are_in_the_order_of_the_sources_and_can_be_sorted() -> None:
    cells = [(1, 0), (0, 1), (1, 1), (0, 0)]
    s = blank(*[(0, 0)] * 4)
    layout = st.TiledLayout(s, tile_positions=cells, overlaps=2)
    assert [tuple(p) for p in layout.tile_positions] == cells
    assert layout.tile_dim == 2
    n = layout.n_alignments
    layout.sort_sources_by_tile_position()
    assert [tuple(p) for p in layout.tile_positions] == sorted(cells)
    assert [x.id for x in layout.sources] == [s[k].id for k in (3, 1, 0, 2)]
    assert layout.n_alignments == n


@pytest.mark.parametrize("overlaps", [7, (7, 7), [7, 7]])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 3), (3, 1), (2, 2)])
def test_adjust_overlaps_moves_the_tiles_on_their_grid(n: int, m: int, overlaps: Any) -> None:
    layout = grid(n, m, first=1)
    layout.adjust_overlaps(overlaps)
    base = layout.source_from_tile_position((1, 1)).position
    for s in layout.sources:
        i, j = s.tile_position
        assert tuple(np.subtract(s.position, base)) == (13 * (i - 1), 23 * (j - 1))


def test_adjust_overlaps_of_a_grid_with_gaps() -> None:
    s = blank((0, 0), (0, 0), (0, 0))
    layout = st.TiledLayout(s, tile_positions=[(0, 0), (0, 2), (1, 0)], overlaps=2)
    layout.adjust_overlaps((1, 5))
    base = layout.sources[0].position
    assert [tuple(np.subtract(x.position, base)) for x in layout.sources] == [
        (0, 0),
        (0, 10),
        (9, 0),
    ]


def test_given_alignments_of_a_tiled_layout_are_kept() -> None:
    s = blank((0, 0), (8, 0), (0, 8))
    link = st.Alignment(s[0], s[1], displacement=(7, 7), quality=-2)
    layout = st.TiledLayout(
        s, tile_positions=[(0, 0), (1, 0), (0, 1)], overlaps=2, alignments=[link]
    )
    assert layout.n_alignments == 1
    assert ints(layout.alignments[0].displacement) == [7, 7]
    assert layout.alignments[0].quality == -2


def test_three_grid_axes() -> None:
    cells = list(itertools.product(range(2), repeat=3))
    s = [st.Source(np.zeros((10, 11, 12), np.uint8)) for _ in cells]
    layout = st.TiledLayout(s, tile_positions=cells, overlaps=(1, 2, 3))
    assert layout.tile_dim == 3
    assert layout.n_alignments == 12
    base = layout.sources[0].position
    for x in layout.sources:
        assert tuple(np.subtract(x.position, base)) == tuple(9 * c for c in x.tile_position)


def test_one_grid_axis() -> None:
    for overlaps in (3, (3,), [3]):
        s = [st.Source(np.zeros((10, 11, 12), np.uint8)) for _ in range(3)]
        layout = st.TiledLayout(s, tile_positions=[(4,), (5,), (6,)], overlaps=overlaps)
        assert layout.tile_dim == 1
        assert [ints(a.displacement) for a in layout.alignments] == [[7, 0, 0]] * 2
        base = layout.sources[0].position
        assert [tuple(np.subtract(x.position, base)) for x in s] == [
            (0, 0, 0),
            (7, 0, 0),
            (14, 0, 0),
        ]


def test_the_center_of_a_grid_whose_center_is_missing_is_a_source_all_the_same() -> None:
    cells = [c for c in itertools.product(range(3), repeat=2) if c != (1, 1)]
    layout = st.TiledLayout(blank(*[(0, 0)] * 8), tile_positions=cells, overlaps=2)
    assert tuple(layout.center_tile_position()) == (1, 1)
    assert any(layout.center_tile_source() is s for s in layout.sources)


def test_a_source_without_a_position_sits_at_0() -> None:
    source = st.Source(np.zeros((3, 4, 5)))
    assert source.position == (0, 0, 0)
    assert source.upper.tolist() == [3, 4, 5]


def test_slices_can_be_sliced_again() -> None:
    layout = stack()
    flat = layout.slice_along_axis(4, axis=2)
    line = flat.slice_along_axis(1, axis=1)
    assert line.ndim == 1
    for part in line.sources:
        source = next(s for s in layout.sources if s.id == part.id)
        x, y, z = source.position
        assert part.position == (x,)
        assert np.array_equal(pixels(part), pixels(source)[:, 1 - y, 4 - z])


def test_slices_keep_the_identity_of_their_source() -> None:
    source = st.Source(np.zeros((3, 4, 5)), tile_position=(2, 3))
    part = source.slice_along_axis(coordinate=1, axis=2)
    assert tuple(part.tile_position) == (2, 3)
    assert tuple(part.identifier) == (2, 3)


def test_two_tiles_at_one_tile_position_are_an_error() -> None:
    with pytest.raises(REFUSED):
        st.TiledLayout(blank((0, 0), (0, 0)), tile_positions=[(0, 0), (0, 0)], overlaps=2)


@pytest.mark.parametrize("sources", [None, 3, "tile.tif", Path("tile.tif")])
def test_what_is_no_list_of_sources_is_an_error(sources: Any) -> None:
    with pytest.raises(REFUSED, match=r"sources = .*must be a list of sources, arrays or files"):
        st.Layout(sources)


def test_numpy_ints_are_fine_as_axes_and_coordinates() -> None:
    layout = stack()
    flat = layout.slice_along_axis(np.int64(4), axis=np.int8(2))
    assert flat.n_sources == 3
    assert all(is_plain(s.position) for s in flat.sources)
    region = st.Region(position=(1, 2), shape=(3, 4))
    assert region.coordinate_to_local(np.int64(4), np.int64(1)) == 2
