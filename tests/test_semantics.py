"""What the documented names mean: each fact is a test named after it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import pickle

import h5py
import numpy as np
import pytest
import tifffile

import stitchlib as sl
from stitchlib.errors import DisconnectedError, InputError, NoOverlapError
from tests.strategies import pixels

INF = float("inf")


def tissue(shape, seed=0, dtype="uint16"):
    return pixels(shape, dtype, seed, (0, 1000) if np.dtype(dtype).kind != "f" else None)


def row(n=4, step=100, wanted=10, quality=-1.0):
    """Return a layout of ``n`` tiles at 0, step, … whose displacements are ``wanted``."""
    sources = [sl.Source(np.zeros((20, 20), np.uint8), (step * i, 0)) for i in range(n)]
    pairs = itertools.pairwise(sources)
    alignments = [sl.Alignment(*p, displacement=(wanted, 0), quality=quality) for p in pairs]
    return sl.Layout(sources, alignments)


def first(layout):
    return [position[0] for position in layout.source_positions()]


def cut(world, corners, shape):
    """Return tiles of a world at their true corners."""
    return [
        world[tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))]
        for corner in corners
    ]


# --- axes, signs, types -------------------------------------------------------------------------


def test_a_file_holds_zyx_and_its_reader_gives_xyz_in_fortran_order(tmp_path):
    stack = tissue((4, 5, 6))
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    source = sl.Source(tmp_path / "a.tif")
    assert source.shape == (6, 5, 4)
    assert source.order == "F"
    np.testing.assert_array_equal(source.array, stack.T)
    assert source.array.flags.f_contiguous


def test_an_array_and_an_npy_file_and_a_memmap_are_taken_as_they_are(tmp_path):
    array = tissue((4, 5, 6))
    np.save(tmp_path / "a.npy", array)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for source in (sl.Source(array), sl.Source(tmp_path / "a.npy"), sl.Source(mapped)):
        assert source.shape == (4, 5, 6)
        assert source.order == "C"
        np.testing.assert_array_equal(source.array, array)


def test_position_shape_origin_extent_are_tuples_of_plain_int_and_corners_are_arrays():
    source = sl.Source(tissue((4, 5)), np.array([-3, 2]))
    for value in (source.position, source.shape, source.origin, source.extent):
        assert type(value) is tuple
        assert {type(v) for v in value} == {int}
    alignment = sl.Alignment(source, sl.Source(tissue((4, 5))))
    for value in (source.lower, source.upper, alignment.shift, alignment.displacement):
        assert isinstance(value, np.ndarray)
        assert value.dtype.kind == "i"
    assert source.origin == (0, 2)
    assert source.extent == (4, 5)
    assert tuple(source.upper) == (1, 7)


def test_a_box_is_half_open_and_touching_is_no_overlap():
    a, b = sl.Region((0, 0), (5, 5)), sl.Region(lower=(5, 0), upper=(9, 5))
    assert sl.overlap(a, b) is None
    b.position = (4, 0)
    found = sl.overlap(a, b)
    assert (found.position, found.shape, found.sources) == ((4, 0), (1, 5), [a, b])


def test_contradictory_corners_are_an_error():
    for wrong in (
        {"shape": (1,), "upper": (3,), "lower": (0,)},
        {"position": (1,), "lower": (2,), "shape": (1,)},
        {"position": (1,)},
        {"lower": (3,), "upper": (1,)},
        {},
    ):
        with pytest.raises(InputError):
            sl.Region(**wrong)


def test_local_coordinates_are_relative_to_the_lower_corner():
    region = sl.Region((-3, 7), (4, 5))
    assert region.position_to_local((0, 8)) == (3, 1)
    assert region.position_from_local((3, 1)) == (0, 8)
    assert region.coordinate_to_local(8, 1) == 1
    assert region.coordinate_from_local(1, 1) == 8
    assert (region.coordinate_to_local(0, 0), region.coordinate_from_local(3, 0)) == (3, 0)
    assert region.local_slicing() == (slice(0, 4), slice(0, 5))
    assert region.local_slicing(position=(-5, 0)) == (slice(2, 6), slice(7, 12))
    assert region.local_slicing(sl.Region((-5, 0), (9, 20))) == (slice(2, 6), slice(7, 12))


def test_displacement_is_stored_and_shift_is_derived():
    a, b = sl.Source(tissue((9, 9))), sl.Source(tissue((9, 9)), (5, 0))
    alignment = sl.Alignment(a, b)
    assert alignment.displacement.tolist() == [5, 0]
    assert alignment.quality == -INF
    alignment.shift = (2, -1)
    assert alignment.displacement.tolist() == [7, -1]
    b.position = (6, 0)
    assert alignment.displacement.tolist() == [7, -1]
    assert alignment.shift.tolist() == [1, -1]
    assert sl.Alignment(a, b, (1, 1), (3, 3)).displacement.tolist() == [3, 3]
    assert sl.Alignment(a, b, shift=(1, 1)).displacement.tolist() == [7, 1]


def test_after_placing_the_shift_is_the_residual():
    layout = row(3)
    extra = sl.Alignment(layout.sources[0], layout.sources[2], displacement=(23, 0))
    layout.alignments = [*layout.alignments, extra]
    layout.place()
    assert [a.shift[0] for a in layout.alignments] == [-1, -1, 1]


def test_changing_what_a_property_returned_changes_nothing():
    alignment = sl.Alignment(sl.Source(tissue((9,))), sl.Source(tissue((9,))))
    alignment.displacement[0] = 99
    assert alignment.displacement.tolist() == [0]


def test_ids_are_unique_and_those_of_loaded_layouts_never_collide_with_new_ones(tmp_path):
    layout = row(2)
    layout.sources[0].renumber(sl.Source.counter + 50)
    layout.save(tmp_path / "a.json")
    loaded = sl.load_layout(tmp_path / "a.json")
    assert [s.id for s in loaded.sources] == [s.id for s in layout.sources]
    new = [sl.Source(tissue((2, 2))).id for _ in range(60)]
    assert not set(new) & {s.id for s in loaded.sources}
    assert len(set(new)) == 60


def test_equality_is_identity_and_source_index_matches_on_id():
    a = sl.Source(tissue((3, 3)))
    assert a == a  # noqa: PLR0124
    assert a != a.as_virtual()
    assert sl.source_index([sl.Source(tissue((3, 3))), a], a.as_virtual()) == 1
    assert sl.source_index([a], a.copy()) is None


def test_identifier_is_the_tile_position_else_the_id():
    assert sl.Source(tissue((3,)), tile_position=(1, 2)).identifier == (1, 2)
    source = sl.Source(tissue((3,)))
    assert source.identifier == source.id


# --- pairwise alignment -------------------------------------------------------------------------


def test_squares_of_32_bit_integers_do_not_overflow():
    a = np.array([0, 2**32 - 1, 0, 2**32 - 1], np.uint32)
    shift, quality = sl.align_2_sources(a, a[::-1].copy(), [(0, 0)])
    assert (shift.tolist(), quality) == ([0], -float((2**32 - 1) ** 2))


def test_quality_is_minus_the_mean_squared_difference_of_the_overlap():
    shift, quality = sl.align_2_sources(np.array([0, 0, 3, 5]), np.array([3, 6, 0, 0]), [(2, 2)])
    assert (shift.tolist(), quality) == ([2], -0.5)


def test_infeasible_shifts_are_left_out_and_nothing_feasible_is_an_error():
    a = tissue((10, 10))
    shift, quality = sl.align_2_sources(a, a, 500)
    assert quality == 0
    assert np.abs(shift).max() < 10
    with pytest.raises(NoOverlapError):
        sl.align_2_sources(a, sl.Source(a, (100, 0)), 5)


def test_ties_go_to_the_smallest_shift_then_lexicographic():
    flat = np.ones((8, 8), np.uint8)
    assert sl.align_2_sources(flat, flat, 3)[0].tolist() == [0, 0]
    assert sl.align_2_sources(flat, flat, [(1, 3), (-2, 2)])[0].tolist() == [1, 0]
    assert sl.align_2_sources(flat, flat, [(-1, 1), (1, 1)])[0].tolist() == [0, 1]
    far = sl.Source(flat, (5, -3))
    assert sl.align_2_sources(flat, far, 3)[0].tolist() == [0, 0]
    assert sl.align_2_sources(far, flat, 3)[0].tolist() == [0, 0]
    wave = np.array([1, 0, 1, 0, 1, 0, 1], np.uint8)
    assert sl.align_2_sources(wave, 1 - wave, 1)[0].tolist() == [-1]
    board = np.indices((8, 8)).sum(0) % 2
    assert sl.align_2_sources(board, 1 - board, 1)[0].tolist() == [-1, 0]


def test_min_overlap_keeps_the_smallest_overlaps_of_dark_borders_from_winning():
    world = tissue((60, 20), 4) + 100
    a, b = world[:30].copy(), world[20:].copy()
    a[-2:] = b[:2] = 100
    shift, quality = sl.align_2_sources(a, b, [(15, 29), 0])
    assert (shift.tolist(), quality) == ([28, 0], 0)
    shift, quality = sl.align_2_sources(a, b, [(15, 29), 0], min_overlap=(6, 1))
    assert shift.tolist() == [20, 0]
    assert quality < 0


def test_normalised_is_the_ncc_of_each_overlap_and_does_not_mind_gain_and_offset():
    world = tissue((40, 30), 5, "float64")
    a, b = world[:30], 0.5 * world[12:] + 70
    shift, quality = sl.align_2_sources(a, b, [(5, 18), 4], normalize=True)
    assert shift.tolist() == [12, 0]
    assert quality == pytest.approx(1)
    assert sl.align_2_sources(a, np.ones_like(a), 3, normalize=True)[1] == 0
    # Mean and variance of the overlap alone: here they are not those of the images.
    a, b = tissue((30, 20), 1), tissue((30, 20), 2)
    a[20:], b[:10] = a[20:] // 4 + 700, b[:10] // 2
    for one, two in ((a, b), (a.astype(float), b.astype(float))):
        _, quality = sl.align_2_sources(one, two, [(20, 20), 0], normalize=True)
        assert quality == pytest.approx(np.corrcoef(a[20:].flat, b[:10].flat)[0, 1])


@pytest.mark.parametrize(
    "align",
    [
        lambda layout, **k: layout.align(**k),
        lambda layout, **k: layout.align_axis(axis=1, depth=12, **k),
        lambda layout, **k: layout.align_on_tiling([(5, 14), 1], max_shifts=3, **k),
        lambda layout, **k: sl.align_layout_rigid_mip(layout, depth=12, **k),
        lambda layout, **k: sl.align_layout_rigid_mips(layout, depth=12, **k),
    ],
)
def test_the_normalised_measure_is_reached_from_all_layout_functions(align):
    world = tissue((48, 40), 6, "float64")
    sources = [sl.Source(world[:30], (0, 0)), sl.Source(0.5 * world[18:] + 70, (18, 0))]
    layout = sl.TiledLayout(sources, tile_positions=[(0, 0), (1, 0)])
    align(layout, normalize=True)
    assert layout.alignments[0].displacement.tolist() == [18, 0]
    assert layout.alignments[0].quality == pytest.approx(1)


def test_clip_is_an_upper_cap_or_both_bounds_and_works_on_copies_before_the_background():
    a, b = tissue((12, 12), 1), tissue((12, 12), 2)
    for clip, low, high in ((300, None, 300), ((100, 300), 100, 300), ((None, 300), None, 300),
                            ((100, None), 100, None), (300.5, None, 300.5), (10**9, None, None),
                            ((-5, 300), None, 300)):  # fmt: skip
        before = a.copy(), b.copy()
        wanted = sl.align_2_sources(
            np.clip(a.astype(float), low, high), np.clip(b.astype(float), low, high), 2
        )
        actual = sl.align_2_sources(a, b, 2, clip=clip)
        assert actual[0].tolist() == wanted[0].tolist()
        assert actual[1] == pytest.approx(wanted[1])
        np.testing.assert_array_equal((a, b), before)
    assert sl.align_2_sources(a, b, 2, clip=50, background=51)[1] == -INF
    assert sl.align_2_sources(a, b, 2, clip=(51, None), background=51)[1] > -INF
    low = np.array([-5, 30]), np.array([-4, 20])  # a cap leaves what is below 0
    assert sl.align_2_sources(*low, (0, 0), clip=10)[1] == -0.5
    with pytest.raises(InputError, match="clip"):
        sl.align_2_sources(a, b, 2, clip=(9, 3))


def test_without_signal_the_shift_is_0_and_the_quality_minus_infinity():
    a, b = np.zeros((10, 10), np.uint16), np.full((10, 10), 50, np.uint16)
    a[0, 0] = 100
    for background, signal in (
        (None, True), (50, True), (51, False), (100, False), ((50, 1), True), ((50, 2), False),
        ((0, 100), True), ((0, 101), False), ((50, 0.01), True), ((50, 0.011), False),
        ((50, np.int64(1)), True), ((0, 1.0), True),
    ):  # fmt: skip
        shift, quality = sl.align_2_sources(a, b, [(0, 0), (0, 0)], background=background)
        assert (quality > -INF) is signal, background
        assert shift.tolist() == [0, 0]
    shift, quality = sl.align_2_sources(a, b, [(1, 2), (-3, -1)], background=101)
    assert (shift.tolist(), quality) == ([0, 0], -INF)


def test_background_looks_at_what_the_shifts_reach_only():
    a, b = np.zeros((20, 8), np.uint16), np.full((20, 8), 9, np.uint16)
    a[:4] = 9  # far from the overlap
    near = sl.Source(b, (15, 0))
    assert sl.align_2_sources(a, near, 2, background=5)[1] == -INF
    a[13] = 9
    assert sl.align_2_sources(a, near, 2, background=5)[1] > -INF


def test_max_shifts_has_one_parser_for_all_its_forms():
    world = tissue((13, 13), 3)
    a, b = world[4:, 4:], world[:9, :9]
    forms = [
        *(np.int32(4), (-4, 4), [4, 4], np.array([4, 4]), [(-4, 4), 4], ((-4, 4), (-4, 4))),
        *([[-4, 4], [-4, 4]], np.array([[-4, 4], [-4, 4]]), (np.int64(-4), 4)),
    ]
    for form in forms:
        for one, two, reached in ((a, b, -4), (b, a, 4)):
            shift, quality = sl.align_2_sources(one, two, form)
            assert (shift.tolist(), quality) == ([reached, reached], 0)
    assert sl.align_2_sources(a, b, 3)[1] < 0
    assert sl.align_2_sources(b, a, [4, 3])[1] < 0
    assert sl.align_2_sources(a, a, (2, 3))[0].min() >= 2
    assert sl.align_2_sources(a, a, [2, (1, 1)])[0][1] == 1
    given = [[-1, 1], [0, 1]]
    sl.align_2_sources(a, a, given)
    assert given == [[-1, 1], [0, 1]]
    for wrong in ((4, -4), [(3, 1), 2], [1, 2, 3], 2.5, "4", None, -1, True, [(1, 2, 3), 1]):
        with pytest.raises(InputError):
            sl.align_2_sources(a, a, wrong)


def test_overlap_of_a_pair_is_1_to_o_or_both_ends_in_any_order():
    world = tissue((40, 12), 7)
    a, b = world[:24], world[15:]
    for overlap in (12, (5, 12), (12, 5), [np.int64(9), 9]):
        shift, quality = sl.align_2_sources_along_axis(a, b, 0, overlap, 2)
        assert (shift.tolist(), quality) == ([15, 0], 0)
    # Wherever the sources are: the overlap is absolute.
    shift, _ = sl.align_2_sources_along_axis(a, sl.Source(b, (500, 1)), 0, 12, 2)
    assert shift.tolist() == [-485, -1]
    assert sl.align_2_sources_along_axis(a, b, 0, 8, 0)[0][0] >= 16
    for wrong in (0, (1, 2, 3), (-3, 0), "x"):
        with pytest.raises(InputError):
            sl.align_2_sources_along_axis(a, b, 0, wrong)


def test_overlaps_of_a_layout_are_one_for_all_axes_or_one_per_grid_axis():
    world = tissue((50, 44), 8)
    true = [(0, 0), (1, 24), (29, 2), (31, 25)]
    tiles = cut(world, true, (19, 19))
    for overlaps in (8, (8, 8), [8, (2, 8)], [(-20, 6), np.int64(7)], [(6, 6), (5, 5)]):
        tiles = cut(world, [(0, 0), (1, 14), (13, 1), (14, 15)], (19, 19))
        layout = sl.TiledLayout([tiles[:2], tiles[2:]], overlaps=1)
        layout.align_on_tiling(overlaps, max_shifts=3)
        assert [a.quality for a in layout.alignments] == [0] * 4
    with pytest.raises(InputError, match="grid has 2 axes"):
        layout.align_on_tiling([3], 3)
    # Absolute along the tiling axis, whatever the positions.
    for source in layout.sources[2:]:
        source.position = (700, source.position[1])
    layout.align_on_tiling(8, max_shifts=3).place()
    assert [a.quality for a in layout.alignments] == [0] * 4
    assert layout.shape == (14 + 19, 15 + 19)


def test_a_mip_aligns_last_and_first_planes_and_leaves_its_axis():
    world = tissue((20, 20, 30), 9)
    a, b = world[:16, :16, :20], world[2:18, 1:17, 14:]
    shift, quality, (one, two) = sl.align_2_sources_along_axis_mip(a, b, 2, 6, 3, with_mip=True)
    np.testing.assert_array_equal(one, a[..., -6:].max(2))
    np.testing.assert_array_equal(two, b[..., :6].max(2))
    assert (shift.tolist(), quality) == ([2, 1, 0], 0)
    assert len(sl.align_2_sources_along_axis_mip(a, b, 2, 6, 3)) == 2
    flat = sl.align_2_sources_along_axis_mip(a, b, 2, [1, 2, 6], 3, with_mip=True)[2]
    np.testing.assert_array_equal(flat, (one, two))
    for depth in (0, [3, 3], 2.0):
        with pytest.raises(InputError, match="depth"):
            sl.align_2_sources_along_axis_mip(a, b, 2, depth, 3)


def test_the_mip_axis_is_the_tiling_axis_else_that_of_the_smallest_overlap():
    image = np.zeros((20, 30, 10), np.uint8)
    a = sl.Source(image, (0, 0, 0), tile_position=(0, 0))
    b = sl.Source(image, (15, 2, 1), tile_position=(1, 0))
    assert sl.Alignment(a, b).mip_axis() == 0
    assert sl.Alignment(a, b).mip_axis(2) == 0
    assert sl.Alignment(a, b).mip_axis(axis=0) == 2  # 9 voxels of overlap against 28
    b.tile_position = (0, 1)  # 28 voxels of overlap, but the tiling axis
    assert sl.Alignment(a, b).mip_axis() == 1
    assert sl.Alignment(a, b).mip_axis(axis=1) == 0
    free = [sl.Source(image, s.position) for s in (a, b)]
    assert sl.Alignment(*free).mip_axis() == 0
    free[1].position = (0, 28, 0)
    assert sl.Alignment(*free).mip_axis() == 1
    assert sl.Alignment(*free).mip_axis(1) == 2


def block(seed=10):
    """Return a 2 × 2 layout of 3-D tiles that are off their grid, and its true corners."""
    world = tissue((60, 56, 30), seed)
    true = [(2, 2, 3), (3, 25, 2), (25, 3, 4), (26, 27, 1)]
    tiles = cut(world, true, (30, 28, 24))
    layout = sl.TiledLayout([tiles[:2], tiles[2:]], overlaps=(7, 5))
    return layout, true


def test_align_rigid_mip_leaves_the_tiling_axis_nominal():
    layout, _ = block()
    before = [a.displacement for a in layout.alignments]
    assert sl.align_layout_rigid_mip(layout, depth=9, max_shifts=5, workspace="unused") is layout
    for alignment, old in zip(layout.alignments, before, strict=True):
        axis = alignment.mip_axis()
        assert alignment.displacement[axis] == old[axis]


def test_align_rigid_mips_measures_all_components():
    layout, true = block()
    sl.align_layout_rigid_mips(layout, depth=9, max_shifts=5)
    corner = dict(zip([s.id for s in layout.sources], true, strict=True))
    for a in layout.alignments:
        wanted = np.subtract(corner[a.post.id], corner[a.pre.id])
        assert a.displacement.tolist() == wanted.tolist()
        assert a.quality == 0


def test_where_projections_are_fooled_the_voxels_decide():
    # Across the many planes along y the maximum of so few values says nothing.
    world = pixels((40, 60, 12), "uint8", 12, (0, 3))
    a, b = sl.Source(world[:24, :56, :9]), sl.Source(world[15:39, 2:58, 2:11], (17, 0, 0))
    layout = sl.Layout([a, b], [sl.Alignment(a, b)])
    flat, _ = sl.align_2_sources_along_axis_mip(a, sl.Source(b, (0, 0, 0)), 1, 56, [(12, 18), 0, 3])
    assert flat.tolist() != [15, 0, 2]
    sl.align_layout_rigid_mips(layout, depth=10, max_shifts=[4, 3, 3])
    assert layout.alignments[0].displacement.tolist() == [15, 2, 2]
    assert layout.alignments[0].quality == 0


def test_align_axis_writes_one_component_and_none_is_the_last():
    layout, true = block()
    before = [a.displacement for a in layout.alignments]
    layout.align_axis(depth=9, max_shifts=5)
    corner = dict(zip([s.id for s in layout.sources], true, strict=True))
    for a, old in zip(layout.alignments, before, strict=True):
        assert a.displacement[:2].tolist() == old[:2].tolist()
        assert a.displacement[2] == corner[a.post.id][2] - corner[a.pre.id][2]
    sl.align_layout_axis(layout, axis=0, depth=9, max_shifts=5)
    for a, old in zip(layout.alignments, before, strict=True):
        assert a.displacement[0] == corner[a.post.id][0] - corner[a.pre.id][0]
        assert a.displacement[1] == old[1]


def test_ranges_are_absolute_and_clipped_to_the_tiles():
    world = tissue((20, 20, 30), 11)
    a, b = sl.Source(world[..., :20], (0, 0, -40)), sl.Source(world[2:, 1:, 10:], (0, 0, -30))
    b.array[...] = b.array
    shift, quality = sl.align_2_sources_along_axis_mip(
        a, b, 0, 20, 3, ranges=[None, None, (-28, 1000)]
    )
    assert shift[0] == 0
    layout = sl.Layout([a, b], [sl.Alignment(a, b)])
    layout.align_axis(axis=2, axis_range=(-28, None), depth=20, max_shifts=3)
    assert layout.alignments[0].shift[:2].tolist() == [0, 0]
    with pytest.raises(InputError, match="range"):
        layout.align_axis(axis=2, axis_range=(50, 60))
    with pytest.raises(InputError, match="axis_range"):
        layout.align_axis(axis=2, axis_range=(7, 3))
    assert quality <= 0


@pytest.mark.parametrize("wrong", [0, -2, "parallel", 1.5])
def test_processes_is_none_a_number_or_serial(wrong):
    layout = row(2, 10)
    layout.align(1, processes="serial")
    with pytest.raises(InputError, match="processes"):
        layout.align(1, processes=wrong)


def test_verbose_shows_progress(capsys):
    layout = row(3, 10)
    layout.align(1, verbose=True)
    layout.stitch(verbose=True)
    shown = capsys.readouterr().err
    assert "aligning pairs" in shown
    assert "stitching" in shown


# --- placement ----------------------------------------------------------------------------------


def test_filter_keeps_strictly_better_ones_and_none_keeps_all():
    layout = row(5)
    for alignment, quality in zip(layout.alignments, (-INF, -3, -2, 0), strict=True):
        alignment.quality = quality

    def kept(*args):
        return [a.quality for a in sl.filter_alignments(layout.alignments, *args)]

    assert kept() == [-3, -2, 0]
    assert kept(-3) == [-2, 0]
    assert kept((-3, 0)) == [-2]
    assert kept(-INF) == [-3, -2, 0]
    assert kept(None) == [-INF, -3, -2, 0]


def triangle():
    layout = row(3)
    a, b = layout.sources[0], layout.sources[2]
    layout.alignments = [*layout.alignments, sl.Alignment(a, b, displacement=(23, 0))]
    return layout


def test_a_triangle_of_10_10_23_is_0_11_22_by_optimization_and_0_10_23_by_tree():
    layout = triangle()
    assert [p[0] for p in sl.positions_from_optimization(layout.alignments)] == [0, 11, 22]
    assert [p[0] for p in sl.positions_from_tree(layout.alignments)] == [0, 10, 23]
    assert first(layout) == [0, 100, 200]  # nothing is moved


def test_positions_are_rounded_half_to_even():
    layout = triangle()
    layout.alignments[2].displacement = (21, 0)  # 0, 10⅓, 20⅔
    assert [p[0] for p in sl.positions_from_optimization(layout.alignments)] == [0, 10, 21]
    for low, wanted in ((10, 10), (11, 12), (-12, -12), (-11, -10)):
        pair = layout.sources[:2]
        links = [sl.Alignment(*pair, displacement=(d, 0)) for d in (low, low + 1)]
        assert sl.positions_from_optimization(links)[1] == (wanted, 0)


def test_a_tree_goes_along_shortest_paths_and_the_earlier_alignment():
    sources = row(4).sources
    links = [
        sl.Alignment(sources[a], sources[b], displacement=(d, 0))
        for a, b, d in ((0, 1, 10), (0, 2, 20), (1, 3, 5), (2, 3, 100))
    ]
    assert [p[0] for p in sl.positions_from_tree(links, sources)] == [0, 10, 20, 15]
    links[2:] = links[:1:-1]
    assert [p[0] for p in sl.positions_from_tree(links, sources)] == [0, 10, 20, 15]
    direct = sl.Alignment(sources[3], sources[0], displacement=(-7, 0))
    assert sl.positions_from_tree([*links, direct], sources)[3] == (7, 0)
    again = sl.Alignment(sources[0], sources[1], displacement=(11, 0))
    assert sl.positions_from_tree([*links, again], sources)[1] == (10, 0)
    assert sl.positions_from_tree([again, *links], sources)[1] == (11, 0)


def test_a_translated_layout_gives_translated_positions():
    layout = row(2)
    # A half in the solution: rounded relative to the fixed source, then moved.
    other = sl.Alignment(*layout.sources, displacement=(11, 0))
    layout.alignments = [*layout.alignments, other]
    base = sl.positions_from_optimization(layout.alignments, layout.sources)
    for by in (1, 7, -3):
        layout.move((by, 0))
        moved = sl.positions_from_optimization(layout.alignments, layout.sources)
        layout.move((-by, 0))
        assert moved == [(x + by, y) for x, y in base]


def test_the_fixed_source_is_a_source_or_its_place_and_stays():
    layout = triangle()
    for fixed in (2, np.int64(2), layout.sources[2]):
        for function in (sl.positions_from_optimization, sl.positions_from_tree):
            found = function(layout.alignments, layout.sources, fixed_source=fixed)
            assert found[2] == (200, 0)
    layout.move((5, 0))
    assert sl.positions_from_tree(layout.alignments)[0] == (0, 0)
    assert sl.positions_from_optimization(layout.alignments)[0] == (5, 0)
    low = sl.positions_from_tree(layout.alignments, fixed_source=2, lower_to_origin=True)
    assert low[0] == (0, 0)


def test_positions_come_in_the_order_of_the_sources():
    layout = row(3)
    found = sl.positions_from_tree(layout.alignments, layout.sources[::-1])
    assert [p[0] for p in found] == [0, -10, -20]


def test_sources_that_are_not_connected_are_an_error_that_names_the_groups():
    layout = row(4)
    for number, source in enumerate(layout.sources):
        source.tile_position = (number, 0)
    del layout.alignments[1]
    for function in (sl.positions_from_optimization, sl.positions_from_tree):
        with pytest.raises(DisconnectedError, match=r"\(0, 0\), \(1, 0\); \(2, 0\), \(3, 0\)"):
            function(layout.alignments, layout.sources)


@pytest.mark.parametrize("method", ["optimization", "tree"])
def test_every_group_keeps_its_middle_source_in_place(method):
    assert first(row(4).place(method=method)) == [90, 100, 110, 120]
    layout = row(4)
    del layout.alignments[1]
    assert first(layout.place(method=method)) == [0, 10, 200, 210]
    assert first(layout.place(method=method, lower_to_origin=True)) == [0, 10, 200, 210]
    assert first(row(4).place(method=method, lower_to_origin=True)) == [0, 10, 20, 30]


def test_placing_along_an_axis_leaves_the_others():
    for axis in (0, -2):
        layout = row(4)
        for alignment in layout.alignments:
            alignment.displacement = (10, 5)
        assert layout.place_axis(axis) is layout
        assert layout.source_positions() == [(90, 0), (100, 0), (110, 0), (120, 0)]
    layout.place_axis()  # the last
    assert [y for _, y in layout.source_positions()] == [-5, 0, 5, 10]
    sl.place_layout_axis(layout, axis=None, lower_to_origin=True)
    assert layout.source_positions()[0] == (90, 0)


def test_check_is_true_or_names_what_does_not_belong():
    layout = row(3)
    assert sl.check_alignments_and_sources(layout.alignments, layout.sources) is True
    with pytest.raises(InputError, match=f"source {layout.sources[2].id}"):
        sl.check_alignments_and_sources(layout.alignments, layout.sources[:2])


def test_components_also_have_isolated_sources():
    layout = row(4)
    del layout.alignments[1:]
    components, sources = layout.connected_components(with_sources=True)
    assert components == [layout.alignments, [], []]
    assert sources == [layout.sources[:2], layout.sources[2:3], layout.sources[3:]]
    assert not layout.connected()
    assert row(4).connected()
    assert row(4).connected_components(min_quality=0) == [[], [], [], []]


def test_copies_of_sources_and_alignments_share_the_voxels_alone():
    layout = row(3)
    sources, alignments = sl.copy_sources_and_alignments(layout.sources, layout.alignments)
    assert all(a.pre in sources and a.post in sources for a in alignments)
    sources[0].position = (7, 7)
    alignments[0].displacement = (1, 1)
    assert layout.sources[0].position == (0, 0)
    assert layout.alignments[0].displacement.tolist() == [10, 0]
    assert np.shares_memory(sources[0].array, layout.sources[0].array)


# --- embedding and stitching --------------------------------------------------------------------


def test_embedding_is_named_in_the_documented_order_and_a_window_restricts_it():
    layout = row(3, 15)
    assert layout.embedding()._fields == ("shape", "position", "regions")
    shape, position, regions = sl.embedding(layout.sources, shape=(30, 50), position=(-5, -5))
    assert (shape, position) == ((30, 50), (-5, -5))
    assert [r.position for r in regions] == [(0, 0), (15, 0), (20, 0)]
    assert regions[-1].upper.tolist() == [25, 20]
    assert [len(r.sources) for r in regions] == [1, 2, 1]
    for region in regions:
        assert isinstance(region, sl.Overlap)
        for values, at in zip(region.source_arrays(), region.source_slicings(), strict=True):
            assert values.shape == region.shape == np.zeros((20, 20))[at].shape
    assert regions[1].source_slicings() == [
        (slice(15, 20), slice(0, 20)),
        (slice(0, 5), slice(0, 20)),
    ]
    layout.sources[0].array[15:, 3] = 7
    assert [values.max() for values in regions[1].source_arrays()] == [7, 0]


def test_weights_are_one_more_than_the_distance_to_the_nearest_face():
    rows = sl.stitch_weights((5, 4)).tolist()
    assert rows == [[1] * 4, [1, 2, 2, 1], [1, 2, 2, 1], [1, 2, 2, 1], [1] * 4]
    assert sl.stitch_weights((3, 3, 3)).tolist()[1][1] == [1, 2, 1]


def test_0_next_to_1000_with_an_overlap_of_12_fades_from_76_9_to_923_1():
    a, b = np.zeros((40, 40)), np.full((40, 40), 1000.0)
    layout = sl.TiledLayout([[a], [b]], overlaps=(12, 0))
    middle = layout.stitch()[28:40, 20]
    np.testing.assert_allclose(middle, [1000 * k / 13 for k in range(1, 13)])
    assert [round(v, 1) for v in (middle[0], middle[1], middle[-1])] == [76.9, 153.8, 923.1]


def test_integers_are_rounded_to_nearest_ties_to_even():
    a, b = np.array([[1, 2, 1]] * 3, np.uint8), np.array([[2, 3, 2]] * 3, np.uint8)
    assert sl.Layout([a, b]).stitch(method="mean").tolist()[0] == [2, 2, 2]
    assert sl.Layout([a, a]).stitch().tolist() == a.tolist()


def test_uncovered_voxels_are_0_in_a_new_array_and_untouched_in_a_sink():
    layout = sl.Layout(
        [np.full((2, 2), 5, np.uint8), sl.Source(np.full((2, 2), 6, np.uint8), (4, 1))]
    )
    assert layout.stitch()[2:4].max() == 0
    sink = np.full((8, 8), 99, np.uint8)
    assert layout.stitch(sink) is sink
    assert set(sink[2:4].flat) == set(sink[6:].flat) == {99}
    assert (sink[:2, :2] == 5).all()
    assert (sink[4:6, 1:3] == 6).all()


def test_a_function_of_the_stack_and_its_weighted_form():
    a, b = tissue((9, 9), 1), tissue((9, 9), 2)
    layout = sl.Layout([sl.Source(a), sl.Source(b, (4, 3)), sl.Source(a, (2, 6))])
    for function, method in ((np.max, "max"), (np.min, "min"), (np.mean, "mean")):
        np.testing.assert_array_equal(
            sl.stitch_by_function(layout, function=function), layout.stitch(method=method)
        )
    plain = layout.stitch()
    np.testing.assert_array_equal(sl.stitch_by_function_with_weights(layout), plain)
    np.testing.assert_array_equal(
        sl.stitch_by_function_with_weights(
            layout, weight_function=functools.partial(sl.stitch_weights)
        ),
        plain,
    )
    one = sl.stitch_by_function_with_weights(layout, weight_function=np.ones)
    np.testing.assert_array_equal(one, layout.stitch(method="mean"))
    single = sl.Layout([a, b])
    w = sl.stitch_weights((9, 9))
    wanted = np.rint(np.maximum(a * w, b * w) / w)
    np.testing.assert_array_equal(
        sl.stitch_by_function_with_weights(single, function=np.max), wanted
    )
    with pytest.raises(InputError, match="weight"):
        sl.stitch_by_function_with_weights(layout, weight_function=lambda _: np.ones(3))


def test_adjusted_interpolation_reaches_the_maximum_of_each_region_of_the_whole_layout():
    layout = sl.Layout([sl.Source(tissue((12, 12), i, "float64"), (7 * i, i)) for i in range(3)])
    plain, adjusted = layout.stitch(), layout.stitch(method="interpolation-adjust-max")
    np.testing.assert_array_equal(adjusted, sl.stitch_by_interpolation_adjust_max(layout))
    for region in layout.embedding().regions:
        at = region.local_slicing(layout)
        factor = max(a.max() for a in region.source_arrays()) / plain[at].max()
        np.testing.assert_allclose(adjusted[at], plain[at] * factor)
    part = layout.layout_from_region(lower=(9, 3), upper=(11, 6))
    np.testing.assert_array_equal(
        part.stitch(method="interpolation-adjust-max"), adjusted[9:11, 3:6]
    )


def test_the_regions_of_an_adjusted_window_are_those_of_the_whole_layout():
    # The third tile, which is not in the window, cuts the region of the first two in two.
    tiles = [(tissue((20, 10), i, "float64"), (0, 0)) for i in (1, 2)]
    layout = sl.Layout([sl.Source(*t) for t in [*tiles, (tissue((4, 10), 3, "float64"), (8, 0))]])
    layout.sources[0].array[15, 5] = 500
    whole = layout.stitch(method="interpolation-adjust-max")
    part = layout.layout_from_region(position=(0, 0), shape=(5, 10))
    assert part.n_sources == 2
    np.testing.assert_array_equal(part.stitch(method="interpolation-adjust-max"), whole[:5])


def test_the_named_functions_are_the_methods():
    layout = row(3, 15)
    for source in layout.sources:
        source.relocate(sl.Source(tissue((20, 20), source.id)).reader)
    for name in ("interpolation", "max", "min", "mean"):
        wanted = sl.stitch_layout(layout, method=name)
        np.testing.assert_array_equal(getattr(sl, f"stitch_by_{name}")(layout), wanted)
        np.testing.assert_array_equal(layout.stitch(None, name), wanted)
    np.testing.assert_array_equal(layout.array, layout.stitch())
    with pytest.raises(InputError, match="adjust-max"):
        layout.stitch(method="median")


@pytest.mark.parametrize("ndim", [2, 3])
def test_sinks_are_arrays_memmaps_datasets_and_files(tmp_path, ndim):
    shape = (9, 8, 4)[:ndim]
    layout = sl.Layout(
        [sl.Source(tissue(shape, i), (-5 * (1 - i), *(i,) * (ndim - 1))) for i in range(2)]
    )
    wanted = layout.stitch()
    assert layout.sink_slicing()[0] == slice(0, 14)
    mapped = np.memmap(tmp_path / "m.raw", np.uint16, "w+", shape=layout.shape)
    assert layout.stitch(mapped) is mapped
    np.testing.assert_array_equal(mapped, wanted)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        data = file.create_dataset("x", wanted.shape[::-1], np.uint16)
        assert layout.stitch(data) is data
        np.testing.assert_array_equal(data[:].T, wanted)
    for name in ("a.npy", "a.tif"):
        assert layout.stitch(str(tmp_path / name)) == str(tmp_path / name)
        np.testing.assert_array_equal(sl.Source(tmp_path / name).array, wanted)
    assert tifffile.imread(tmp_path / "a.tif").shape == wanted.shape[::-1]
    layout.stitch(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["data"][:].T, wanted)
    assert not list(tmp_path.glob(".*"))
    layout.move((8,) * ndim)  # index 0 is where the layout begins
    np.testing.assert_array_equal(layout.stitch(np.zeros(layout.shape, np.uint16)), wanted)


def test_a_sink_of_another_type_gets_the_exact_quotient():
    a, b = np.full((6, 6), 1, np.uint8), np.full((6, 6), 2, np.uint8)
    sink = np.zeros((6, 6), np.float32)
    sl.Layout([a, b]).stitch(sink, "mean")
    assert (sink == 1.5).all()
    low = np.zeros((2, 2), np.uint8)
    sl.Layout([np.array([[-3.0, 0.5], [1.5, 999]])]).stitch(low)
    assert low.tolist() == [[0, 0], [2, 255]]


def test_64_bit_integers_are_exact_or_refused():
    image = np.arange(36).reshape(6, 6)
    layout = sl.Layout([image, sl.Source(image[2:], (2, 0))])
    np.testing.assert_array_equal(layout.stitch(), image)
    low, high = np.full((4, 4), 1), np.full((4, 4), 2**26 + 5)  # too fine for float32
    assert (sl.Layout([low, high]).stitch(method="mean") == 2**25 + 3).all()
    huge = np.full((4, 4), 2**60)
    with pytest.raises(InputError, match="exactly"):
        sl.Layout([huge, huge]).stitch()


def test_wrong_sinks_are_errors(tmp_path):
    layout = row(2, 15)
    frozen = np.zeros((35, 20), np.uint8)
    frozen.flags.writeable = False
    (tmp_path / "folder.npy").mkdir()
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((20, 20), np.uint8))
    for sink in (
        np.zeros((34, 20)),
        np.zeros((35, 20, 1)),
        frozen,
        7,
        tmp_path / "a.png",
        tmp_path,
        tmp_path / "folder.npy",
    ):
        with pytest.raises(InputError):
            layout.stitch(sink)
    whole = sl.Layout([tmp_path / "in.tif"])
    before = (tmp_path / "in.tif").read_bytes()
    for sink in (tmp_path / "in.tif", tmp_path / "." / "in.tif"):
        with pytest.raises(InputError, match="image of the layout"):
            whole.stitch(sink)
    image = np.zeros((20, 20), np.uint8)
    with pytest.raises(InputError, match="shares its memory"):
        sl.Layout([image]).stitch(image)
    assert (tmp_path / "in.tif").read_bytes() == before


def test_sink_slicing_is_where_the_layout_lies_in_absolute_coordinates():
    layout = row(2, 15)
    layout.move((4, -3))
    assert layout.sink_slicing() == (slice(4, 39), slice(0, 20))


# --- layouts and grids --------------------------------------------------------------------------


def test_a_layout_without_alignments_has_none():
    assert sl.Layout([tissue((3, 3))]).alignments == []


def test_each_tile_is_paired_with_its_next_neighbour_on_every_grid_axis():
    tile = np.zeros((10, 8), np.uint8)
    for sources in (
        [[tile, None], [tile, tile]],
        np.array([[sl.Source(tile), None], [sl.Source(tile), sl.Source(tile)]], object),
    ):
        layout = sl.TiledLayout(sources, overlaps=(3, 2))
        assert layout.tile_positions == [(0, 0), (1, 0), (1, 1)]
        assert layout.source_positions() == [(0, 0), (7, 0), (7, 6)]
        assert [a.displacement.tolist() for a in layout.alignments] == [[7, 0], [0, 6]]
    flat = sl.TiledLayout([tile] * 3, tile_positions=[(3, 5), (4, 5), (4, 6)], overlaps=(3, 2))
    assert flat.source_positions() == [(0, 0), (7, 0), (7, 6)]
    assert flat.tile_dim == 2


def test_given_positions_define_the_displacements():
    tile = np.zeros((10, 8), np.uint8)
    layout = sl.TiledLayout([[tile, tile]], positions=[(1, 2), (3, 9)])
    assert layout.alignments[0].displacement.tolist() == [2, 7]
    placed = [sl.Source(tile, (1, 2)), sl.Source(tile, (3, 9))]
    assert sl.TiledLayout([placed]).alignments[0].displacement.tolist() == [2, 7]


def test_a_tile_without_neighbours_is_placed_by_the_grid():
    tile = np.zeros((10, 8), np.uint8)
    layout = sl.TiledLayout([[tile, None], [None, tile]], overlaps=1)
    assert layout.source_positions() == [(0, 0), (9, 7)]
    assert layout.alignments == []
    layout.place()
    assert layout.source_positions() == [(0, 0), (9, 7)]


def test_tiles_of_different_shapes_are_displaced_by_their_own_extents():
    tiles = [np.zeros((n, 8), np.uint8) for n in (10, 6, 12)]
    layout = sl.TiledLayout(tiles, overlaps=2)
    assert [a.displacement[0] for a in layout.alignments] == [8, 4]
    assert first(layout) == [0, 8, 12]


def test_overlaps_can_be_adjusted_later():
    tile = np.zeros((10, 8), np.uint8)
    layout = sl.TiledLayout([[tile, tile], [tile, tile]], overlaps=1)
    layout.move((5, 5))
    layout.adjust_overlaps((4, 2))
    assert layout.source_positions() == [(5, 5), (5, 11), (11, 5), (11, 11)]
    layout.adjust_overlaps()
    assert layout.source_positions()[3] == (11, 11)
    assert all(not a.shift.any() for a in layout.alignments)


def test_adjusted_overlaps_keep_the_alignments_but_not_what_was_measured():
    tile = np.zeros((10, 8), np.uint8)
    layout = sl.TiledLayout([[tile, tile], [tile, tile]], overlaps=1)
    diagonal = sl.Alignment(layout.sources[0], layout.sources[3], quality=-3)
    layout.alignments = [*layout.alignments[:2], diagonal]
    before = list(layout.alignments)
    layout.adjust_overlaps((4, 2))
    assert all(a is b for a, b in zip(before, layout.alignments, strict=True))
    assert diagonal.displacement.tolist() == [6, 6]
    assert diagonal.quality == -INF


def test_a_layout_can_be_a_source_of_another_one():
    inner = sl.Layout([tissue((6, 5), 1), sl.Source(tissue((6, 5), 2), (4, 1))])
    alone = inner.stitch()
    outer = sl.Layout([inner, sl.Source(tissue((3, 3), 3), (30, 0))])
    outer.sources[0].position = (7, 2)
    np.testing.assert_array_equal(outer.stitch()[:10, 2:8], alone)
    assert inner.source_positions() == [(7, 2), (11, 3)]


def test_the_center_is_the_lower_median_of_each_axis():
    tile = np.zeros((4, 4), np.uint8)
    layout = sl.TiledLayout([[tile] * 4] * 2, overlaps=1)
    assert layout.center_tile_position() == (0, 1)
    assert layout.center_tile_source().tile_position == (0, 1)
    gap = sl.TiledLayout([[tile] * 3, [tile, None, tile], [tile] * 3], overlaps=1)
    assert gap.center_tile_position() == (1, 1)
    assert gap.center_tile_source().tile_position == (0, 1)


def test_tiles_and_alignments_are_found_by_tile_position():
    tile = np.zeros((4, 4), np.uint8)
    layout = sl.TiledLayout([[tile] * 3] * 2, overlaps=1)
    source = layout.source_from_tile_position((1, 2))
    assert layout.source_to_tile_position(source) == (1, 2)
    assert layout.source_to_tile_position(source.id) == (1, 2)
    assert layout.source_from_tile_position((9, 9)) is None
    found = layout.alignment_from_tile_positions((1, 2), (0, 2))
    assert found is layout.alignment_from_tile_positions((0, 2), (1, 2))
    assert layout.alignment_from_tile_positions((0, 0), (1, 2)) is None
    assert len(layout.alignments_from_tile_position((0, 1))) == 3
    layout.sources.reverse()
    layout.sort_sources_by_tile_position()
    assert layout.tile_positions == sorted(layout.tile_positions)


@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (4, 1)])
def test_single_tiles_and_rows_and_columns_work(grid):
    tile = tissue((12, 10))
    layout = sl.TiledLayout([[tile] * grid[1]] * grid[0], overlaps=3)
    layout.align(2).place(lower_to_origin=True)
    assert layout.stitch().shape == layout.shape
    assert layout.layout_from_region(position=(1, 1), shape=(3, 3)).stitch().shape == (3, 3)
    assert layout.n_alignments == grid[0] * grid[1] - 1


# --- positions, removal, slices -----------------------------------------------------------------


def test_positions_are_set_by_the_tree_or_of_a_subset():
    layout = row(3)
    layout.move((7, 7))
    layout.set_source_positions()
    assert first(layout) == [0, 10, 20]
    layout.set_source_positions([(50, 1)], sources=[layout.sources[1]], update_alignments=True)
    assert layout.source_positions() == [(0, 0), (50, 1), (20, 0)]
    layout.set_source_positions([(60, 2)], sources=[layout.sources[1]])
    assert [a.displacement.tolist() for a in layout.alignments] == [[50, 1], [-30, -1]]
    with pytest.raises(InputError):
        layout.set_source_positions([(1, 1)])


def test_sources_follow_alignments_and_alignments_follow_sources():
    layout = row(3)
    layout.move((7, 7))
    layout.update_sources_from_alignments()
    assert layout.source_positions() == [(7, 7), (17, 7), (27, 7)]
    layout.sources[1].position = (18, 9)
    layout.update_alignments_from_sources()
    assert [a.shift.tolist() for a in layout.alignments] == [[0, 0], [0, 0]]
    assert [a.displacement.tolist() for a in layout.alignments] == [[11, 2], [9, -2]]
    layout.sources[2].position = (0, 0)
    assert sl.alignments_from_source_positions(layout.alignments)[1].displacement.tolist() == [
        -18,
        -9,
    ]


def test_removing_a_source_removes_its_alignments():
    for which in (1, np.int64(1), lambda s: s[1], lambda s: [s[1]], lambda s: {s[1]}, [1]):
        layout = row(4)
        layout.remove_source(which(layout.sources) if callable(which) else which)
        assert first(layout) == [0, 200, 300]
        assert layout.n_alignments == 1
    with pytest.raises(InputError):
        layout.remove_source([0, 17])
    assert layout.n_sources == 3


def test_other_sources_take_over_the_places_and_the_alignments_follow():
    layout = row(3)
    for i, source in enumerate(layout.sources):
        source.tile_position = (i, 0)
    alignments = list(layout.alignments)
    new = [sl.Source(np.full((20, 20), i, np.uint16), (9, 9)) for i in range(3)]
    layout.change_sources(new)
    assert layout.sources == new
    assert first(layout) == [0, 100, 200]
    assert [s.tile_position for s in new] == [(0, 0), (1, 0), (2, 0)]
    assert all(a is b for a, b in zip(alignments, layout.alignments, strict=True))
    assert [(a.pre, a.post) for a in alignments] == [(new[0], new[1]), (new[1], new[2])]
    with pytest.raises(InputError):
        layout.change_sources(new[:2])


def test_a_slice_drops_axes_reads_its_part_and_knows_its_place():
    image = tissue((6, 7, 8))
    source = sl.Source(image, (10, 20, 30), tile_position=(1, 2))
    part = sl.Slice(source, slicing=(slice(1, 4), 2, slice(3, 8)))
    np.testing.assert_array_equal(part.array, image[1:4, 2, 3:8])
    assert part.position == (11, 33)
    assert part.position_unsliced == (11, 22, 33)
    assert part.shape == (3, 5)
    assert (part.id, part.tile_position, part.identifier) == (source.id, (1, 2), (1, 2))
    np.testing.assert_array_equal(source.slice_along_axis(coordinate=37).array, image[..., 7])
    source.position = (0, 0, 0)
    assert part.position == (1, 3)
    whole = source.slice_along_axis(coordinate=7)
    np.testing.assert_array_equal(whole.array, image[..., 7])
    np.testing.assert_array_equal(
        source.slice_along_axis(local_coordinate=0, axis=0).array, image[0]
    )
    for wrong in ({}, {"coordinate": 1, "local_coordinate": 1}, {"coordinate": 8}):
        with pytest.raises(InputError):
            source.slice_along_axis(**wrong)


def test_a_sliced_layout_is_that_plane_of_the_stitch():
    layout, _ = block()
    layout.sources[1].position = (0, 23, 18)
    whole = layout.stitch()
    for axis, coordinate in ((2, 5), (0, 27), (1, 25), (2, 24), (2, 30)):
        plane = layout.slice_along_axis(coordinate, axis)
        at = sl.Region(plane.position, plane.shape).local_slicing(
            position=[p for d, p in enumerate(layout.position) if d != axis]
        )
        wanted = whole.take(coordinate - layout.position[axis], axis)[at]
        np.testing.assert_array_equal(plane.stitch(), wanted)
        np.testing.assert_array_equal(layout.array_along_axis(None, coordinate, axis), wanted)
        inside = [s for s in layout.sources if s.lower[axis] <= coordinate < s.upper[axis]]
        assert [s.source for s in plane.sources] == inside
        assert all(len(a.displacement) == 2 for a in plane.alignments)
    sliced = sl.slice_layout_along_axis(layout, 5)
    assert sliced.n_alignments == 2  # one tile is not in this plane
    np.testing.assert_array_equal(sliced.stitch(), layout.slice_along_axis(5).stitch())
    for wrong in (-1, 42):
        with pytest.raises(InputError, match="coordinate"):
            layout.slice_along_axis(wrong)


def test_the_layout_of_two_projections_is_aligned():
    world = tissue((20, 20, 30), 9)
    a, b = sl.Source(world[:16, :16, :20], (5, 5, 5)), sl.Source(world[2:18, 1:17, 14:], (5, 5, 19))
    layout = sl.layout_along_axis_mip(a, b, depth=6, max_shifts=3)
    assert layout.source_positions() == [(5, 5), (7, 6)]
    np.testing.assert_array_equal(layout.sources[0].array, world[:16, :16, 14:20].max(2))
    assert layout.alignments[0].quality == 0
    np.testing.assert_array_equal(sl.max_intensity_projection(a, 1), a.array.max(1))


# --- virtual sources, files ---------------------------------------------------------------------


def test_a_virtual_source_is_a_small_pickle_that_reads_the_same(tmp_path):
    image = tissue((64, 64, 16))
    np.save(tmp_path / "a.npy", image)
    image.T.astype(image.dtype).tofile(tmp_path / "a.raw")
    tifffile.imwrite(tmp_path / "a.tif", image.T)
    raw = np.memmap(tmp_path / "a.raw", np.uint16, "r", shape=(16, 64, 64))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    for source, wanted in (
        (sl.Source(tmp_path / "a.tif").as_real(), image),
        (sl.Source(mapped), image),
        (sl.Source(raw.T), image),
        (sl.Source(mapped[3:40, ::2, 5:]), image[3:40, ::2, 5:]),
        (sl.Slice(sl.Source(mapped), slicing=(slice(2, 9), 4)), image[2:9, 4]),
    ):
        virtual = source.as_virtual()
        text = pickle.dumps(virtual)
        assert len(text) < 4000
        back = pickle.loads(text)
        np.testing.assert_array_equal(back.array, wanted)
        np.testing.assert_array_equal(virtual.as_real().array, wanted)
        assert (back.id, back.position, back.shape) == (source.id, source.position, source.shape)
    memory = sl.Source(image)
    assert memory.as_virtual().array is memory.array or np.shares_memory(
        memory.as_virtual().array, image
    )
    layout = sl.Layout([sl.Source(tmp_path / "a.tif").as_real()] * 1)
    assert len(pickle.dumps(layout.as_virtual())) < 4000
    assert len(pickle.dumps(layout.as_virtual().as_real())) > 64 * 64 * 16


def channels(folder, digits=2, base=1, grid=(2, 3), names=("c0", "c1")):
    """Write tiles of two channels whose pixels tell which they are."""
    for c, channel in enumerate(names):
        (folder / channel).mkdir()
        for x in range(grid[0]):
            for y in range(grid[1]):
                tile = np.full((8, 10), 100 * c + 10 * (x + base) + y + base, np.uint8)
                name = f"t_{y + base:0{digits}d}_{x + base:0{digits}d}_{channel}.tif"
                tifffile.imwrite(folder / channel / name, tile)
    return str(folder / "c0" / f"t_<Y,{digits}>_<X,{digits}>_c0.tif")


def test_an_expression_finds_the_tiles_of_a_grid_with_gaps(tmp_path):
    expression = channels(tmp_path)
    (tmp_path / "c0" / "t_03_02_c0.tif").unlink()
    (tmp_path / "c0" / "t_3_2_c0.tif").touch()  # another number of digits
    layout = sl.TiledLayout(expression=expression, overlaps=(2, 3))
    assert layout.tile_positions == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    assert layout.source_positions() == [(0, 0), (0, 5), (0, 10), (8, 0), (8, 5)]
    assert [int(s.array[0, 0]) for s in layout.sources] == [11, 12, 13, 21, 22]
    turned = sl.TiledLayout(expression=expression, tile_axes=["Y", "X"])
    assert turned.tile_positions[1] == (1, 2)
    assert int(turned.sources[1].array[0, 0]) == 21
    with pytest.raises(InputError, match="tile_shape"):
        sl.TiledLayout(expression=expression, tile_shape=(2, 2))


def test_a_tag_without_digits_reads_any_number_of_them(tmp_path):
    for i in (0, 9, 10):
        tifffile.imwrite(tmp_path / f"a{i}.tif", np.zeros((4, 4), np.uint8))
    layout = sl.TiledLayout(expression=str(tmp_path / "a<I>.tif"))
    assert layout.tile_positions == [(0,), (9,), (10,)]
    assert layout.n_alignments == 1


def test_tags_that_are_no_grid_axes_are_named_where_they_have_several_values(tmp_path):
    channels(tmp_path)
    expression = str(tmp_path / "c<C>" / "t_<Y,2>_<X,2>_c<C>.tif")
    with pytest.raises(InputError, match="<C> is 0, 1"):
        sl.TiledLayout(expression=expression)
    for path in (tmp_path / "c1").iterdir():
        path.unlink()
    assert sl.TiledLayout(expression=expression).n_sources == 6
    for wrong, why in (("<Y,x>.tif", "not a tag"), (str(tmp_path / "none_<X>.tif"), "no file")):
        with pytest.raises(InputError, match=f"expression.*{why}"):
            sl.TiledLayout(expression=wrong)
    with pytest.raises(InputError, match=r"tile_axes.*no tag <Q>"):
        sl.TiledLayout(expression=expression, tile_axes=["Q"])


@pytest.mark.parametrize(
    "change",
    [
        lambda layout, new: layout.change_source_location(new("<C,1>"), {"C": 1}),
        lambda layout, new: layout.change_source_location(new("<C>"), {"C": "1"}),
        lambda layout, _: layout.replace_source_location("c0/t_<Y>_<X>_c0", "c1/t_<Y>_<X>_c1"),
        lambda layout, _: layout.replace_source_location("c0", "c1", method="replace"),
        lambda layout, _: layout.change_sources([s.location.replace("c0", "c1")
                                                   for s in layout.sources]),
    ],
)  # fmt: skip
def test_another_channel_is_shown_at_the_same_places(tmp_path, change):
    layout = sl.TiledLayout(expression=channels(tmp_path), overlaps=2)
    layout.sources[1].position = (1, 7)
    places = layout.source_positions()
    sources = list(layout.sources)
    change(layout, lambda tag: str(tmp_path / f"c{tag}" / f"t_<Y,2>_<X,2>_c{tag}.tif"))
    assert [int(s.array[0, 0]) for s in layout.sources] == [111, 112, 113, 121, 122, 123]
    assert layout.source_positions() == places
    if "change_sources" not in change.__code__.co_names:
        assert all(a is b for a, b in zip(layout.sources, sources, strict=True))


def test_a_wrong_channel_is_an_error_before_anything_changes(tmp_path):
    layout = sl.TiledLayout(expression=channels(tmp_path), overlaps=2)
    before = [s.location for s in layout.sources]
    new = str(tmp_path / "c1" / "t_<Y,2>_<X,2>_c1.tif")
    attempts = [
        lambda: layout.replace_source_location("q<X>", "r<X>"),
        lambda: layout.replace_source_location("q", "r", method="replace"),
        lambda: layout.replace_source_location("t_<Y>_<X>", "t_<Z>_<X>"),
        lambda: layout.change_source_location(new.replace("<X,2>", "01"), {}),
        lambda: layout.change_source_location(new, {"X": 7}),
    ]
    last = tmp_path / "c1" / "t_03_02_c1.tif"
    for attempt in attempts:
        with pytest.raises(InputError):
            attempt()
    with pytest.raises(InputError, match="method"):
        layout.replace_source_location("c0", "c1", method="magic")
    with pytest.raises(InputError, match="no value for tag <C>"):
        layout.change_source_location(new.replace("_c1", "_c<C>"), {})
    for image in (np.zeros((8, 11), np.uint8), np.zeros((8, 10), np.uint16), None):
        last.unlink()
        if image is not None:
            tifffile.imwrite(last, image)
        with pytest.raises(InputError, match="t_03_02_c1"):
            layout.change_source_location(new, {})
    assert [s.location for s in layout.sources] == before
    assert [int(s.array[0, 0]) for s in layout.sources] == [11, 12, 13, 21, 22, 23]


def test_a_layout_file_is_versioned_json_with_relative_paths_and_axis_names(tmp_path):
    layout = sl.TiledLayout(expression=channels(tmp_path), overlaps=2)
    layout.alignments[0].quality = -0.1
    assert sl.save_layout(tmp_path / "l.json", layout) == tmp_path / "l.json"
    text = (tmp_path / "l.json").read_text()
    for part in ('"version": 1', '"location": "c0/t_01_01_c0.tif"', '"-inf"', '"x": 8', "-0.1"):
        assert part in text
    (tmp_path / "there").mkdir()
    (tmp_path / "c0").rename(tmp_path / "there" / "c0")
    (tmp_path / "l.json").rename(tmp_path / "there" / "l.json")
    loaded = sl.load_layout(tmp_path / "there" / "l.json")
    assert isinstance(loaded, sl.TiledLayout)
    np.testing.assert_array_equal(loaded.sources[2].array, np.full((10, 8), 13))
    assert loaded.tile_axes == ["X", "Y"]
    assert loaded.alignments[0].quality == -0.1
    (tmp_path / "c1").rename(tmp_path / "there" / "c1")
    loaded.change_source_location(str(tmp_path / "there/c1/t_<Y,2>_<X,2>_c1.tif"), {})
    assert int(loaded.sources[0].array[0, 0]) == 111


def test_loading_replaces_the_content_and_returns_the_layout(tmp_path):
    saved = row(3)
    saved.save(tmp_path / "l.json")
    layout = sl.Layout([tissue((3, 3))])
    assert layout.load(tmp_path / "l.json") is layout
    assert first(layout) == [0, 100, 200]
    with pytest.raises(InputError, match="in memory"):
        layout.stitch()
    layout.change_sources([s.array for s in saved.sources])
    np.testing.assert_array_equal(layout.stitch(), saved.stitch())
    (tmp_path / "x.json").write_text('{"version": 1, "sources": [], "alignments": []}')
    for name in ("x.json", "none.json"):
        with pytest.raises(InputError, match=name):
            sl.load_layout(tmp_path / name)


def test_slices_and_windows_are_saved_and_loaded(tmp_path):
    for i in range(2):
        tifffile.imwrite(tmp_path / f"{i}.tif", tissue((6, 20, 16), i))
    layout = sl.Layout([tmp_path / "0.tif", sl.Source(tmp_path / "1.tif", (10, 3, 1))])
    plane = layout.slice_along_axis(3).layout_from_region(lower=(2, 2), upper=(18, 19))
    plane.save(tmp_path / "p.json")
    loaded = sl.load_layout(tmp_path / "p.json")
    assert (loaded.position, loaded.shape) == ((2, 2), (16, 17))
    np.testing.assert_array_equal(loaded.stitch(), plane.stitch())
    part = sl.Slice(layout.sources[1], slicing=(slice(2, 9), slice(1, 8), 3))
    sl.Layout([part]).save(tmp_path / "s.json")
    again = sl.load_layout(tmp_path / "s.json").sources[0]
    assert (again.position, again.source.position) == ((12, 4), (10, 3, 1))
    np.testing.assert_array_equal(again.array, part.array)


def test_a_file_that_was_replaced_meanwhile_is_noticed(tmp_path):
    tifffile.imwrite(tmp_path / "0.tif", tissue((6, 8)))
    layout = sl.Layout([tmp_path / "0.tif"])
    tifffile.imwrite(tmp_path / "0.tif", tissue((7, 8)))
    with pytest.raises(InputError, match="replaced"):
        layout.stitch()


def test_nothing_ever_writes_to_an_input_file(tmp_path):
    layout = sl.TiledLayout(expression=channels(tmp_path), overlaps=2)
    files = sorted(tmp_path.rglob("*.tif"))
    before = [(f.read_bytes(), f.stat().st_mtime_ns) for f in files]
    layout.align(1, clip=3, background=1).place().stitch()
    sl.align_layout_rigid_mips(layout, 2, 1)
    layout.save(tmp_path / "l.json")
    layout.as_real().stitch()
    layout.replace_source_location("c0", "c1", method="replace")
    assert [(f.read_bytes(), f.stat().st_mtime_ns) for f in files] == before
    # Not by way of the array either: it is a copy, or read-only.
    with contextlib.suppress(ValueError):
        layout.sources[0].array[...] = 1
    assert [(f.read_bytes(), f.stat().st_mtime_ns) for f in files] == before
