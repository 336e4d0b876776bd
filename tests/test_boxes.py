from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stitchlib.core import boxes as module
from stitchlib.core.boxes import Box, disjoint, hull, touching

SIDE = 14
WIDTH = SIDE + SIDE // 2


@st.composite
def some_boxes(draw, largest=7):
    """Boxes of one to three axes around zero, `WIDTH` voxels in all, some of them empty."""
    ndim = draw(st.integers(1, 3))
    corner = st.tuples(*[st.integers(-SIDE // 2, SIDE // 2 - 1)] * ndim)
    shape = st.tuples(*[st.integers(0, SIDE // 2) | st.integers(2, 4)] * ndim)
    pairs = draw(st.lists(st.tuples(corner, shape), max_size=largest))
    return [Box.at(lower, extent) for lower, extent in pairs]


def at(box):
    """Index of a box in an array of `WIDTH` voxels a side."""
    return box.shifted([SIDE // 2] * len(box.lower)).slices()


def painted(boxes):
    """For each voxel, a number whose bits are the boxes that cover it."""
    canvas = np.zeros((WIDTH,) * len(boxes[0].lower), np.int64)
    for i, box in enumerate(boxes):
        if all(a < b for a, b in zip(box.lower, box.upper, strict=True)):
            canvas[at(box)] |= 1 << i
    return canvas


def share_a_whole_face(a, b):
    differing = [
        d for d in range(len(a.lower)) if (a.lower[d], a.upper[d]) != (b.lower[d], b.upper[d])
    ]
    if len(differing) != 1:
        return False
    (d,) = differing
    return a.upper[d] == b.lower[d] or b.upper[d] == a.lower[d]


@settings(max_examples=300, deadline=None)
@given(some_boxes())
@example([])
@example([Box((0, 0), (3, 3))] * 3)
@example([Box((0, 0), (9, 3)), Box((3, 0), (6, 3))])
@example([Box((0, 0, 0), (6, 6, 6)), Box((2, 2, 2), (4, 4, 4))])
def test_disjoint_boxes_are_what_painting_voxels_gives(boxes):
    pieces = disjoint(boxes)
    if not boxes:
        assert pieces == []
        return
    expected = painted(boxes)
    canvas = np.zeros_like(expected)
    for box, sources in pieces:
        assert not box.empty
        assert list(sources) == sorted(set(sources))
        assert not canvas[at(box)].any(), "two pieces overlap"
        canvas[at(box)] = sum(1 << i for i in sources)
    np.testing.assert_array_equal(canvas, expected)


@settings(max_examples=300, deadline=None)
@given(some_boxes())
def test_disjoint_boxes_are_sorted_and_merged(boxes):
    pieces = disjoint(boxes)
    corners = [box.lower[::-1] for box, _ in pieces]
    assert corners == sorted(corners)
    by_sources = defaultdict(list)
    for box, sources in pieces:
        by_sources[sources].append(box)
    for group in by_sources.values():
        for a, b in itertools.combinations(group, 2):
            assert not share_a_whole_face(a, b), (a, b)


def test_disjoint_of_identical_boxes_is_one_piece():
    box = Box((2, -3, 1), (5, 4, 2))
    assert disjoint([box] * 4) == [(box, (0, 1, 2, 3))]


def test_disjoint_leaves_empty_boxes_out():
    full, empty = Box((0, 0), (4, 4)), Box((2, 2), (2, 3))
    inverted = Box((3, 3), (1, 5))
    assert disjoint([empty, full, inverted]) == [(full, (1,))]
    assert disjoint([empty, inverted]) == []
    assert touching([empty, full, inverted]) == [[], [], []]


def test_disjoint_of_boxes_that_only_touch_are_they_themselves():
    left, right = Box((0, 0), (4, 4)), Box((4, 0), (8, 4))
    assert disjoint([right, left]) == [(left, (1,)), (right, (0,))]


def test_disjoint_of_two_overlapping_tiles_has_three_pieces():
    left, right = Box((0, 0), (10, 4)), Box((7, 0), (17, 4))
    assert disjoint([left, right]) == [
        (Box((0, 0), (7, 4)), (0,)),
        (Box((7, 0), (10, 4)), (0, 1)),
        (Box((10, 0), (17, 4)), (1,)),
    ]


def test_disjoint_does_not_depend_on_where_zero_is():
    boxes = [Box((0, 0), (10, 8)), Box((7, -2), (17, 6)), Box((1, 5), (9, 15))]
    far = (10**12, -(10**12))
    moved = disjoint([box.shifted(far) for box in boxes])
    assert [(box.relative_to(far), sources) for box, sources in moved] == disjoint(boxes)


@settings(max_examples=400, deadline=None)
@given(some_boxes(largest=12))
@example([Box((0,), (5,)), Box((5,), (6,)), Box((4,), (4,)), Box((4,), (5,))])
def test_touching_is_what_brute_force_finds(boxes):
    expected = [
        [j for j, other in enumerate(boxes) if j != i and not box.intersection(other).empty]
        for i, box in enumerate(boxes)
    ]
    assert touching(boxes) == expected


def grid(columns, rows, extent=(100, 80, 30), step=(85, 68), jitter=6, seed=0):
    rng = np.random.default_rng(seed)
    corners = [
        np.add((i * step[0], j * step[1], 0), rng.integers(-jitter, jitter, 3, endpoint=True))
        for j in range(rows)
        for i in range(columns)
    ]
    return [Box.at(tuple(corner.tolist()), extent) for corner in corners]


def test_the_work_grows_with_the_tiles_not_with_their_square(monkeypatch):
    calls = []
    plain = module._cells

    def counted(i, box, near, axis):
        calls.append(len(near))
        return plain(i, box, near, axis)

    monkeypatch.setattr(module, "_cells", counted)
    pieces, work, examined = {}, {}, {}
    for side in (10, 40):
        calls.clear()
        boxes = grid(side, side)
        found = disjoint(boxes)
        pieces[side] = len(found) / side**2
        work[side] = len(calls) / side**2
        examined[side] = max(calls)
    # Every tile has at most eight neighbours, however large the grid is.
    assert examined == {10: 8, 40: 8}
    assert pieces[40] < 30
    assert pieces[40] < 1.2 * pieces[10]
    assert work[40] < 1.2 * work[10]


@pytest.mark.parametrize(("columns", "rows"), [(40, 40), (1600, 1), (1, 1600)])
def test_a_sweep_compares_few_boxes(columns, rows, monkeypatch):
    compared = []
    plain = np.all

    def counted(array, axis):
        compared.append(len(array))
        return plain(array, axis=axis)

    monkeypatch.setattr(module.np, "all", counted)
    neighbours = touching(grid(columns, rows))
    assert sum(compared) < 1600 * 2 * min(columns, rows) + 1600 * 2
    assert max(map(len, neighbours)) <= 8


def test_a_large_jittered_grid_is_covered_exactly():
    boxes = grid(7, 5, extent=(20, 16, 4), step=(16, 13), jitter=3, seed=3)
    whole = hull(boxes)
    expected = np.zeros(whole.shape, np.int64)
    for i, box in enumerate(boxes):
        expected[box.relative_to(whole.lower).slices()] |= 1 << i
    canvas = np.zeros_like(expected)
    for box, sources in disjoint(boxes):
        canvas[box.relative_to(whole.lower).slices()] += sum(1 << i for i in sources)
    np.testing.assert_array_equal(canvas, expected)


@settings(max_examples=200, deadline=None)
@given(some_boxes(largest=2))
def test_the_arithmetic_of_boxes(boxes):
    for box in boxes:
        assert box.size == np.prod(box.shape)
        assert box.empty == (box.size == 0)
        by = tuple(range(3, 3 + len(box.lower)))
        assert box.shifted(by).relative_to(by) == box
        assert box.contains(box)
    if len(boxes) == 2:
        a, b = boxes
        both = painted([a, b]) == 3
        assert both.sum() == a.intersection(b).size
        assert a.contains(b) == bool((both.sum() == b.size) or b.empty)
        assert hull(boxes).contains(a)
        assert hull(boxes).contains(b)
