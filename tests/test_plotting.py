"""Pictures of tiles: what is drawn where, in which colours, and how little is read for it."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stitchlib.core.boxes import Box, touching
from stitchlib.errors import InputError
from stitchlib.io.views import ArrayImage
from stitchlib.plotting import before_and_after, draw_slice
from stitchlib.plotting.colours import PAIR, PALETTE, colour_numbers, default_colours
from stitchlib.plotting.overlays import Contrast, overlay, sampled

mpl.use("Agg")


class Counting:
    """A large image that is not there: counts the voxels that are asked for."""

    order = "F"
    dtype = np.dtype(np.uint16)

    def __init__(self, shape):
        self.shape = shape
        self.asked = 0

    def read(self, box):
        assert all(
            0 <= a < b <= n for a, b, n in zip(box.lower, box.upper, self.shape, strict=True)
        )
        self.asked += box.size
        return np.broadcast_to(np.uint16(7), box.shape)


def axes():
    return Figure(figsize=(5, 5), dpi=100).add_axes((0, 0, 1, 1))


def rectangles(ax):
    return [p for p in ax.patches if isinstance(p, Rectangle)]


def test_a_plane_lies_where_the_tiles_do_with_borders_and_names_in_their_colours():
    boxes = [Box.at(p, (30, 20, 4)) for p in ((-10, 5, 0), (15, 6, 1), (40, 5, 9))]
    readers = [ArrayImage(np.full((30, 20, 4), v, np.uint16)) for v in (3, 5, 9)]
    ax = draw_slice(axes(), boxes, readers, names=["a", "b", "c"], coordinate=2, borders=True)
    assert ax.get_xlim() == (-10, 70)
    assert ax.get_ylim() == (26, 5)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == (
        "x (voxels)",
        "y (voxels)",
        "z = 2",
    )
    found = rectangles(ax)
    assert [(r.get_xy(), r.get_width(), r.get_height()) for r in found] == [
        ((-10, 5), 30, 20),
        ((15, 6), 30, 20),
    ]
    colours = default_colours(boxes)
    assert [to_rgb(r.get_edgecolor()) for r in found] == colours[:2]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
    (image,) = ax.get_images()
    assert image.get_extent() == [-10, 70, 26, 5]
    pixels = image.get_array()
    assert pixels.shape == (21, 80, 3)  # nothing to save: as many pixels as voxels
    assert not pixels[:, 60:].any()  # the third tile is not in the plane


@pytest.mark.parametrize(("axis", "names"), [(0, "yz"), (1, "xz"), (2, "xy")])
def test_voxel_sizes_make_micrometres_on_the_right_axes(axis, names):
    box, size = Box.at((10, 20, 30), (8, 6, 4)), (0.5, 2.0, 5.0)
    ax = draw_slice(axes(), [box], [Counting(box.shape)], axis=axis, voxel_size=size)
    a, b = ("xyz".index(n) for n in names)
    assert ax.get_xlim() == (box.lower[a] * size[a], box.upper[a] * size[a])
    assert ax.get_ylim() == (box.upper[b] * size[b], box.lower[b] * size[b])
    assert (ax.get_xlabel(), ax.get_ylabel()) == (f"{names[0]} (µm)", f"{names[1]} (µm)")
    assert ax.get_aspect() == 1


def test_of_a_hundred_gigabytes_one_plane_is_asked_for_and_what_the_figure_shows_is_drawn():
    shape, step = (2048, 2048, 128), 1900
    boxes = [Box.at((x * step, y * step, 0), shape) for x in range(10) for y in range(10)]
    readers = [Counting(shape) for _ in boxes]
    assert sum(r.dtype.itemsize * np.prod(r.shape) for r in readers) > 100e9
    ax = draw_slice(axes(), boxes, readers)
    assert all(r.asked <= 2048 * 2048 for r in readers)
    (image,) = ax.get_images()
    assert 250 <= max(image.get_array().shape) <= 1000


def test_strides_start_at_the_corner_of_the_window_whatever_the_tile():
    picture = np.arange(60 * 50).reshape(60, 50)
    window, steps = Box((3, 1), (60, 50)), (7, 4)
    tiles = [Box((0, 0), (25, 50)), Box((20, 0), (41, 33)), Box((41, 2), (60, 50))]
    out = np.zeros((9, 13))
    for tile in tiles:
        found = sampled(ArrayImage(picture[tile.slices()]), tile, window, steps)
        out[found[0]] = found[1]
    expected = picture[3::7, 1::4].copy()
    everywhere = np.zeros((60, 50), bool)
    for tile in tiles:
        everywhere[tile.slices()] = True
    assert (out == np.where(everywhere[3::7, 1::4], expected, 0)).all()


def test_colours_add_up_and_are_cut_off():
    boxes = [Box((0, 0), (2, 1)), Box((1, 0), (4, 1))]
    readers = [ArrayImage(np.array(v)) for v in ([[10], [20]], [[20], [40], [80]])]
    window = Box((0, 0), (5, 1))

    def image(**contrast):
        return overlay(boxes, readers, PAIR, window, (1, 1), Contrast(**contrast))[:, 0]

    raw = [(10, 0, 10), (20, 20, 20), (0, 40, 0), (0, 80, 0), (0, 0, 0)]
    assert np.array_equal(image(percentile=None, normalize=False), raw)
    assert np.array_equal(image(percentile=100), np.float32(raw) / 80)
    cut = image(percentile=50)  # of 10, 20, 40, 80 the median is 30
    assert np.allclose(cut, np.minimum(raw, 30) / 30)
    assert np.array_equal(image(percentile=50, normalize=False), np.minimum(raw, 30))
    with pytest.raises(InputError, match="percentile = 101"):
        image(percentile=101)


def test_voxels_that_are_no_numbers_are_dark():
    box = Box((0, 0), (2, 1))
    reader = ArrayImage(np.array([[np.nan], [3.0]]))
    image = overlay([box], [reader], [(1, 1, 1)], box, (1, 1), Contrast())
    assert image[:, 0, 0].tolist() == [0, 1]


def test_a_mostly_empty_picture_shows_what_there_is():
    box, voxels = Box((0, 0), (100, 1)), np.zeros((100, 1))
    voxels[3] = 5
    image = overlay([box], [ArrayImage(voxels)], [(1, 1, 1)], box, (1, 1), Contrast())
    assert image[:, 0, 0].tolist() == [0, 0, 0, 1] + [0] * 96


@pytest.mark.parametrize("grid", [(4, 5, 1), (3, 3, 3)])
def test_overlapping_tiles_never_share_a_colour_and_the_palette_is_enough(grid):
    boxes = [Box.at(np.multiply(i, 8).tolist(), (10, 10, 10)) for i in np.ndindex(*grid)]
    numbers = colour_numbers(boxes)
    for i, others in enumerate(touching(boxes)):
        assert all(numbers[i] != numbers[j] for j in others)
    assert max(numbers) < len(PALETTE)
    assert len(set(default_colours(boxes))) == max(numbers) + 1


def test_many_tiles_in_one_place_still_differ_and_two_are_magenta_and_green():
    boxes = [Box((0, 0), (5, 5))] * 20
    assert len(set(default_colours(boxes))) == 20
    assert default_colours(boxes[:2]) == [(1, 0, 1), (0, 1, 0)]
    assert colour_numbers([Box((0,), (1,)), Box((5,), (6,))], [(0, 1)]) == [0, 1]


def test_before_and_after_are_on_one_scale():
    before = [Box.at((40 * i, 0), (50, 60)) for i in range(3)]
    after = [box.shifted((2 * i, -3 * i)) for i, box in enumerate(before)]
    readers = [Counting((50, 60))] * 3
    first, second = before_and_after(Figure(), before, after, readers, names=list("abc"))
    assert first.get_xlim() == second.get_xlim() == (0, 134)
    assert first.get_ylim() == second.get_ylim() == (60, -6)
    assert [r.get_xy() for r in rectangles(first)] == [b.lower for b in before]
    assert [r.get_xy() for r in rectangles(second)] == [b.lower for b in after]
    assert (first.get_title(), second.get_title()) == ("before placement", "after placement")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coordinate": 9}, "coordinate = 9: the layout has 0 to 3 along axis 2"),
        ({"axis": 3}, "axis"),
        ({"voxel_size": 0}, "voxel_size = 0: must be positive"),
        ({"voxel_size": (1.0,) * 2, "axis": 0}, "must have one number per axis"),
    ],
)
def test_what_cannot_be_drawn_is_said(arguments, message):
    with pytest.raises(InputError, match=message):
        draw_slice(axes(), [Box((0, 0, 0), (4, 4, 4))], [Counting((4, 4, 4))], **arguments)


def test_no_tile_and_planes_of_planes_are_refused():
    with pytest.raises(InputError, match="no tile"):
        draw_slice(axes(), [], [])
    with pytest.raises(InputError, match="have no planes"):
        draw_slice(axes(), [Box((0, 0), (4, 4))], [Counting((4, 4))], coordinate=1)


def test_brightness_is_not_stretched_unless_normalized():
    box = Box((0, 0), (4, 4))
    reader = ArrayImage(np.full((4, 4), 51, np.uint8))
    ax = draw_slice(axes(), [box], [reader], normalize=False)
    assert np.allclose(ax.get_images()[0].get_array(), 0.2)


@pytest.mark.parametrize(("size", "shape"), [((10, 5), (1, 2)), ((5, 10), (2, 1))])
def test_before_and_after_use_the_room_there_is(size, shape):
    boxes = [Box((0, 0, 0), (50, 50, 10))]
    ax, _ = before_and_after(Figure(figsize=size), boxes, boxes, [Counting((50, 50, 10))])
    assert ax.get_gridspec().get_geometry() == shape


def test_of_stacks_seen_from_the_side_only_the_planes_that_are_shown_are_asked_for():
    shape = (64, 64, 4000)
    boxes, readers = [Box.at((50 * i, 0, 0), shape) for i in range(2)], [Counting(shape)] * 2
    draw_slice(axes(), boxes, readers, axis=1, voxel_size=(20, 20, 1), pixels=100)
    assert (
        readers[0].asked == 2 * 63 * 100
    )  # of each image a row in a hundred planes, to the last pixel


@pytest.mark.parametrize("steps", [(3, 4), (1, 1), (2, 7)])
def test_planes_one_by_one_are_the_same_as_all_at_once(steps):
    picture = np.arange(60 * 50).reshape(60, 50)
    box, window = Box((5, -3), (65, 47)), Box((3, 1), (60, 50))
    (where, values), (same, once) = (
        sampled(ArrayImage(picture), box, window, steps, planewise=p) for p in (True, False)
    )
    assert where == same
    assert np.array_equal(values, once)


def test_borders_of_tiny_tiles_are_thin():
    boxes = [Box.at((9 * i, 0), (10, 1000)) for i in range(100)]
    thin = draw_slice(axes(), boxes, [Counting((10, 1000))] * 100).patches[0].get_linewidth()
    thick = draw_slice(axes(), boxes[:1], [Counting((10, 1000))]).patches[0].get_linewidth()
    assert 0 < thin < 0.5
    assert thick <= 1
