"""Filtering, graph and placement, tested from semantics.md alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some

import stitchlib as st
from stitchlib.errors import StitchlibError

REFUSED = (StitchlibError, ValueError)
INF = math.inf
Edge = tuple[int, int, Any]


def tiles(*positions: Any, shape: tuple[int, ...] | None = None) -> list[st.Source]:
    """Blank sources at positions; ints mean the first of two axes."""
    places = [(p, 0) if isinstance(p, int) else p for p in positions]
    return [st.Source(np.zeros(shape or (50,) * len(p), np.uint8), position=p) for p in places]


def links(sources: Sequence[st.Source], *edges: Any, quality: float | None = -1.0) -> list[Any]:
    """Alignments (pre, post, displacement[, quality]) over indices of sources."""
    made = []
    for pre, post, displacement, *rest in edges:
        full = (displacement, 0) if isinstance(displacement, int) else displacement
        made.append(
            st.Alignment(
                sources[pre],
                sources[post],
                displacement=full,
                quality=rest[0] if rest else quality,
            )
        )
    return made


def first(positions: Any) -> list[int]:
    return [int(p[0]) for p in positions]


def ints(values: Any) -> list[int]:
    return [int(v) for v in values]


def fit(n: int, edges: Sequence[Edge], fixed: int) -> list[float]:
    """Least squares along one axis, relative to the fixed node, by dense algebra."""
    rows, wanted = [], []
    for pre, post, displacement in edges:
        row = np.zeros(n)
        row[post] += 1
        row[pre] -= 1
        rows.append(row)
        wanted.append(displacement)
    solution = np.linalg.pinv(np.array(rows)) @ np.array(wanted, float)
    return list(solution - solution[fixed])


# --- filter_alignments ------------------------------------------------------------------------


def qualities(alignments: Any) -> list[float]:
    return [a.quality for a in alignments]


@pytest.mark.parametrize(
    ("min_quality", "kept"),
    [
        (None, [-INF, -5, -2, -1, 0]),
        (-INF, [-5, -2, -1, 0]),
        (-2, [-1, 0]),
        (np.float32(-2), [-1, 0]),
        ((-5, 0), [-2, -1]),
        ((-INF, -2), [-5]),
        ((-2, INF), [-1, 0]),
        (0, []),
    ],
)
def test_filter_alignments_is_strict(min_quality: Any, kept: list[float]) -> None:
    s = tiles(0, 10)
    made = links(s, *[(0, 1, 10, q) for q in (-INF, -5, -2, -1, 0)])
    result = st.filter_alignments(made, min_quality)
    assert qualities(result) == kept
    assert all(any(r is m for m in made) for r in result)
    assert len(made) == 5  # the caller's list is not changed


def test_filter_alignments_drops_minus_inf_by_default() -> None:
    s = tiles(0, 10)
    made = [st.Alignment(*s), st.Alignment(*s, quality=-1e300)]
    assert qualities(st.filter_alignments(made)) == [-1e300]


# --- positions_from_optimization --------------------------------------------------------------

TRIANGLE = [(0, 1, 10), (1, 2, 10), (0, 2, 23)]


def test_triangle_by_optimization_is_0_11_22() -> None:
    s = tiles(0, 0, 0)
    assert first(st.positions_from_optimization(links(s, *TRIANGLE), s)) == [0, 11, 22]


def test_triangle_by_tree_is_0_10_23() -> None:
    s = tiles(0, 0, 0)
    assert first(st.positions_from_tree(links(s, *TRIANGLE), s)) == [0, 10, 23]


@some.composite
def graphs(draw: some.DrawFn) -> tuple[int, list[Edge]]:
    """A connected multigraph with integer displacements along one axis."""
    n = draw(some.integers(2, 6))
    step = some.integers(-40, 40)
    edges = []
    for node in range(1, n):
        other = draw(some.integers(0, node - 1))
        pair = (node, other) if draw(some.booleans()) else (other, node)
        edges.append((*pair, draw(step)))
    for _ in range(draw(some.integers(0, 4))):
        pre, post = draw(some.integers(0, n - 1)), draw(some.integers(0, n - 1))
        if pre != post:
            edges.append((pre, post, draw(step)))
    return n, edges


@settings(deadline=None, max_examples=50)
@given(graphs(), some.data())
def test_optimization_is_least_squares_rounded_half_to_even_and_translates(
    graph: tuple[int, list[Edge]], data: some.DataObject
) -> None:
    n, edges = graph
    fixed = data.draw(some.integers(0, n - 1))
    corners = data.draw(some.lists(some.integers(-99, 99), min_size=n, max_size=n))
    s = tiles(*corners)
    exact = fit(n, edges, fixed)
    assume(all(abs(abs(x) % 1 - 0.5) > 1e-6 for x in exact))
    got = st.positions_from_optimization(links(s, *edges), s, fixed_source=s[fixed])
    assert first(got) == [round(x) + corners[fixed] for x in exact]
    assert first(p.position for p in s) == corners  # nothing is moved


@pytest.mark.parametrize("start", [0, 1, 2, -3, -4, 1001])
@pytest.mark.parametrize(("low", "expected"), [(10, 10), (11, 12), (-11, -10), (-12, -12)])
def test_halves_are_rounded_to_even_relative_to_the_fixed_source(
    start: int, low: int, expected: int
) -> None:
    s = tiles(start, 0)
    made = links(s, (0, 1, low), (0, 1, low + 1))
    assert first(st.positions_from_optimization(made, s)) == [start, start + expected]


def test_halves_survive_a_long_chain() -> None:
    n = 60
    s = tiles(*[0] * n)
    made = links(s, (0, 1, 10), (0, 1, 11), *[(k, k + 1, 7) for k in range(1, n - 1)])
    expected = [0] + [round(10.5 + 7 * k) for k in range(n - 1)]
    assert first(st.positions_from_optimization(made, s)) == expected


def test_positions_are_a_list_of_plain_tuples_in_the_order_of_sources() -> None:
    s = tiles((0, 0, 0), (9, 9, 9), (5, 5, 5))
    made = links(s, (0, 2, (1, -2, 3)), (2, 1, (4, 5, -6)))
    expected = [(0, 0, 0), (5, 3, -3), (1, -2, 3)]
    for function in (st.positions_from_optimization, st.positions_from_tree):
        got = function(made, s)
        assert isinstance(got, list)
        assert [tuple(p) for p in got] == expected
        assert all(isinstance(p, tuple) and all(type(x) is int for x in p) for p in got)
        assert [x.position for x in s] == [(0, 0, 0), (9, 9, 9), (5, 5, 5)]
        reordered = [s[2], s[0], s[1]]
        got = function(made, reordered, fixed_source=s[0])
        assert [tuple(p) for p in got] == [expected[2], expected[0], expected[1]]


def test_optimization_fixes_the_first_source_by_default() -> None:
    s = tiles(7, 0, 0)
    made = links(s, *TRIANGLE)
    assert first(st.positions_from_optimization(made, s)) == [7, 18, 29]


@pytest.mark.parametrize("function", ["positions_from_optimization", "positions_from_tree"])
def test_fixed_source_is_a_source_or_an_index(function: str) -> None:
    s = tiles((7, 1), (100, 2), (3, 3))
    made = links(s, (0, 1, 10), (1, 2, 10))
    solve = getattr(st, function)
    for fixed in (s[1], 1, np.int64(1)):
        got = [tuple(p) for p in solve(made, s, fixed_source=fixed)]
        assert got == [(90, 2), (100, 2), (110, 2)]


def test_a_fixed_source_that_is_not_there_is_an_error() -> None:
    s = tiles(0, 0)
    stranger = tiles(0)[0]
    for fixed in (stranger, 2):
        with pytest.raises((*REFUSED, IndexError)):
            st.positions_from_optimization(links(s, (0, 1, 5)), s, fixed_source=fixed)


@pytest.mark.parametrize("function", ["positions_from_optimization", "positions_from_tree"])
def test_lower_to_origin_of_positions(function: str) -> None:
    s = tiles((7, 7), (0, 0), (0, 0))
    made = links(s, (0, 1, (-10, 4)), (1, 2, (5, -9)))
    got = getattr(st, function)(made, s, lower_to_origin=True)
    assert [tuple(p) for p in got] == [(10, 5), (0, 9), (5, 0)]


@pytest.mark.parametrize("function", ["positions_from_optimization", "positions_from_tree"])
def test_positions_without_sources_are_of_the_sources_of_the_alignments(function: str) -> None:
    s = tiles(0, 0, 0)
    made = links(s, (0, 1, 10), (1, 2, 10))
    got = getattr(st, function)(made)
    order = st.sources_from_alignments(made)
    at = {source.id: p[0] for source, p in zip(order, got, strict=True)}
    assert [at[x.id] - at[s[0].id] for x in s] == [0, 10, 20]


def test_optimization_of_unconnected_sources_is_an_error_that_names_the_groups() -> None:
    s = tiles(0, 10, 20, 30, 40)
    made = links(s, (0, 1, 10), (2, 3, 10))
    with pytest.raises(REFUSED) as caught:
        st.positions_from_optimization(made, s)
    text = str(caught.value)
    assert all(str(x.identifier) in text for x in s)


def test_min_quality_takes_links_away() -> None:
    s = tiles(0, 0, 0)
    made = links(s, (0, 1, 10, -1.0), (1, 2, 10, -1.0), (0, 2, 23, -50.0))
    assert first(st.positions_from_optimization(made, s, min_quality=-2)) == [0, 10, 20]
    assert first(st.positions_from_optimization(made, s, min_quality=-50)) == [0, 10, 20]
    assert first(st.positions_from_optimization(made, s, min_quality=-51)) == [0, 11, 22]
    assert first(st.positions_from_tree(made, s, min_quality=-2)) == [0, 10, 20]
    with pytest.raises(REFUSED):
        st.positions_from_optimization(made, s, min_quality=-1)


def test_no_min_quality_keeps_pairs_without_signal() -> None:
    s = tiles(0, 0, 0)
    made = links(s, *TRIANGLE, quality=None)
    assert first(st.positions_from_optimization(made, s)) == [0, 11, 22]
    with pytest.raises(REFUSED):
        st.positions_from_optimization(made, s, min_quality=-INF)


def test_optimization_of_a_single_source() -> None:
    s = tiles((4, -5))
    assert [tuple(p) for p in st.positions_from_optimization([], s)] == [(4, -5)]
    assert [tuple(p) for p in st.positions_from_tree([], s)] == [(0, 0)]


# --- positions_from_tree ----------------------------------------------------------------------


def test_tree_puts_source_0_at_the_origin() -> None:
    s = tiles((7, 8), (100, 100))
    assert [tuple(p) for p in st.positions_from_tree(links(s, (0, 1, (3, 4))), s)] == [
        (0, 0),
        (3, 4),
    ]


def test_tree_is_breadth_first() -> None:
    # a ring of five: the far ones are reached over the fewest links
    s = tiles(0, 0, 0, 0, 0)
    made = links(s, (0, 1, 10), (1, 2, 10), (2, 3, 10), (3, 4, 10), (4, 0, 1000))
    assert first(st.positions_from_tree(made, s)) == [0, 10, 20, -1010, -1000]


def test_tree_starts_at_the_fixed_source() -> None:
    s = tiles(0, 500, 0)
    assert first(st.positions_from_tree(links(s, *TRIANGLE), s, fixed_source=1)) == [490, 500, 510]
    s = tiles(0, 0, 500)
    assert first(st.positions_from_tree(links(s, *TRIANGLE), s, fixed_source=2)) == [477, 490, 500]


def test_update_sources_from_alignments_is_the_tree_with_source_0_fixed() -> None:
    s = tiles((5, 6), (0, 0), (0, 0))
    layout = st.Layout(s, links(s, *TRIANGLE))
    layout.update_sources_from_alignments()
    assert [tuple(p) for p in layout.source_positions()] == [(5, 6), (15, 6), (28, 6)]
    assert [ints(a.displacement) for a in layout.alignments] == [[10, 0], [10, 0], [23, 0]]


# --- place_layout -----------------------------------------------------------------------------


def four(middle: bool) -> st.Layout:
    s = tiles(0, 100, 200, 300)
    edges = [(0, 1, 10), (1, 2, 10), (2, 3, 10)]
    return st.Layout(s, links(s, *[e for e in edges if middle or e[0] != 1]))


@pytest.mark.parametrize("method", ["optimization", "tree"])
@pytest.mark.parametrize("by", ["function", "method"])
def test_four_tiles_are_placed_around_the_middle_one(method: str, by: str) -> None:
    for middle, expected in ((True, [90, 100, 110, 120]), (False, [0, 10, 200, 210])):
        layout = four(middle)
        objects = list(layout.sources)
        if by == "function":
            assert st.place_layout(layout, method=method) is layout
        else:
            layout.place(method=method)
        assert first(layout.source_positions()) == expected
        assert all(s is t for s, t in zip(objects, layout.sources, strict=True))


@pytest.mark.parametrize("method", ["optimization", "tree"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_the_middle_source_of_a_component_is_the_lower_median_in_list_order(
    n: int, method: str
) -> None:
    s = tiles(*[1000 * k + k for k in range(n)])
    order = list(np.random.default_rng(n).permutation(n))  # the chain runs criss-cross
    made = links(s, *[(int(p), int(q), 10) for p, q in itertools.pairwise(order)])
    layout = st.place_layout(st.Layout(s, made), method=method)
    middle = (n - 1) // 2
    assert layout.sources[middle].position == (1001 * middle, 0)
    rank = {int(k): i for i, k in enumerate(order)}
    for k, source in enumerate(layout.sources):
        assert source.position[0] == 1001 * middle + 10 * (rank[k] - rank[middle])


def test_place_keeps_isolated_sources_where_they_are() -> None:
    s = tiles(0, 100, (-40, 77), 200)
    layout = st.Layout(s, links(s, (0, 3, 10)))
    layout.place()
    assert [x.position for x in layout.sources] == [(0, 0), (100, 0), (-40, 77), (10, 0)]


def test_place_without_alignments_and_of_a_single_tile() -> None:
    layout = st.Layout(tiles((5, -5)))
    layout.place()
    assert layout.sources[0].position == (5, -5)
    layout.place(lower_to_origin=True)
    assert layout.sources[0].position == (0, 0)


@pytest.mark.parametrize("method", ["optimization", "tree"])
def test_place_with_lower_to_origin_puts_the_smallest_corner_at_0(method: str) -> None:
    s = tiles((5, 5), (0, 0), (100, -300))
    layout = st.Layout(s, links(s, (0, 1, (10, -20))))
    layout.place(method=method, lower_to_origin=True)
    assert ints(layout.lower) == [0, 0]
    # what is between the components stays as it was
    assert [x.position for x in layout.sources] == [(0, 305), (10, 285), (95, 0)]


def test_place_counts_links_by_min_quality_and_splits_there() -> None:
    s = tiles(0, 100, 200, 300)
    made = links(s, (0, 1, 10, -1.0), (1, 2, 10, -9.0), (2, 3, 10, -1.0))
    layout = st.Layout(s, made)
    layout.place(min_quality=-5)
    assert first(layout.source_positions()) == [0, 10, 200, 210]
    assert layout.n_alignments == 3  # filtered for placing only
    layout.place(min_quality=-9.5)
    # the middle of all four is source 1, which stands at 10 now
    assert first(layout.source_positions()) == [0, 10, 20, 30]


def test_place_uses_pairs_without_signal_at_their_nominal_displacement_unless_told() -> None:
    s = tiles(0, 100, 200)
    made = [*links(s, (0, 1, 90)), st.Alignment(s[1], s[2])]
    layout = st.Layout(s, made)
    layout.place()
    assert first(layout.source_positions()) == [10, 100, 200]
    s[2].position = (500, 0)
    layout.place(min_quality=-INF)
    assert first(layout.source_positions()) == [10, 100, 500]


def test_after_place_the_shift_is_the_residual() -> None:
    s = tiles(0, 20, 40)
    layout = st.Layout(s, links(s, *TRIANGLE))
    layout.place()
    assert first(layout.source_positions()) == [9, 20, 31]
    assert [ints(a.displacement) for a in layout.alignments] == [[10, 0], [10, 0], [23, 0]]
    assert [ints(a.shift) for a in layout.alignments] == [[-1, 0], [-1, 0], [1, 0]]


@settings(deadline=None, max_examples=30)
@given(graphs(), some.integers(-500, 500), some.sampled_from(["optimization", "tree"]))
def test_a_translated_layout_is_placed_at_translated_positions(
    graph: tuple[int, list[Edge]], by: int, method: str
) -> None:
    n, edges = graph
    corners = [13 * k for k in range(n)]
    results = []
    for offset in (0, by):
        s = tiles(*[(c + offset, -offset) for c in corners])
        layout = st.Layout(s, links(s, *edges))
        layout.place(method=method)
        results.append([(x - offset, y + offset) for x, y in layout.source_positions()])
    assert results[0] == results[1]


def test_unknown_placement_method_is_an_error() -> None:
    layout = four(middle=True)
    with pytest.raises(REFUSED):
        layout.place(method="magic")
    assert first(layout.source_positions()) == [0, 100, 200, 300]


# --- place_layout_axis ------------------------------------------------------------------------


def three_axes() -> st.Layout:
    s = tiles((0, 0, 0), (100, 100, 100), (200, 200, 200))
    return st.Layout(s, links(s, (0, 1, (1, 2, 3)), (1, 2, (4, 5, 6))))


@pytest.mark.parametrize("method", ["optimization", "tree"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("by", ["function", "method"])
def test_place_axis_moves_along_its_axis_only(axis: int, method: str, by: str) -> None:
    layout = three_axes()
    if by == "function":
        assert st.place_layout_axis(layout, axis=axis, method=method) is layout
    else:
        layout.place_axis(axis=axis, method=method)
    whole = st.place_layout(three_axes(), method=method)
    kept = three_axes()
    for source, new, old in zip(layout.sources, whole.sources, kept.sources, strict=True):
        expected = list(old.position)
        expected[axis] = new.position[axis]
        assert source.position == tuple(expected)


def test_place_axis_is_the_last_axis_by_default() -> None:
    layout = three_axes()
    layout.place_axis()
    assert [s.position for s in layout.sources] == [(0, 0, 97), (100, 100, 100), (200, 200, 106)]
    layout = three_axes()
    st.place_layout_axis(layout)
    assert [s.position for s in layout.sources] == [(0, 0, 97), (100, 100, 100), (200, 200, 106)]
    flat = st.Layout(s := tiles((0, 0), (10, 10)), links(s, (0, 1, (3, 4))))
    flat.place_axis()
    assert [s.position for s in flat.sources] == [(0, 0), (10, 4)]


def test_place_axis_with_lower_to_origin_and_min_quality() -> None:
    s = tiles((5, 5, 5), (6, 6, 6), (7, 7, 7))
    made = links(s, (0, 1, (0, 0, -9), -1.0), (1, 2, (0, 0, 50), -INF))
    layout = st.Layout(s, made)
    layout.place_axis(axis=2, lower_to_origin=True, min_quality=-2)
    # 0 and 1 stand 9 apart around source 0, the third stays: 5, -4, 7, then 4 up
    assert [x.position for x in layout.sources] == [(5, 5, 9), (6, 6, 0), (7, 7, 11)]


def test_place_axis_of_a_single_tile() -> None:
    layout = st.Layout(tiles((3, 4, 5)))
    layout.place_axis()
    assert layout.sources[0].position == (3, 4, 5)


# --- graph ------------------------------------------------------------------------------------


def test_check_alignments_and_sources() -> None:
    s = tiles(0, 10, 20)
    made = links(s, (0, 1, 10), (1, 2, 10))
    assert st.check_alignments_and_sources(made, s) is True
    assert st.check_alignments_and_sources([], s) is True
    with pytest.raises(REFUSED) as caught:
        st.check_alignments_and_sources(made, s[:2])
    assert str(s[2].identifier) in str(caught.value)


def test_connected() -> None:
    s = tiles(0, 10, 20)
    made = links(s, (0, 1, 10), (2, 1, 10))
    assert st.connected(made) is True
    assert st.connected(made, s) is True
    assert st.connected(made[:1], s) is False
    assert st.connected(made[:1]) is True
    assert st.connected([], s[:1]) is True
    assert st.Layout(s, made).connected() is True
    assert st.Layout(s, made[1:]).connected() is False
    assert st.Layout(s[:1]).connected() is True


def as_sets(groups: Any) -> set[frozenset[int]]:
    return {frozenset(id(x) for x in group) for group in groups}


def test_connected_components_have_isolated_sources_with_no_alignments() -> None:
    s = tiles(0, 10, 20, 30, 40)
    made = links(s, (0, 1, 10), (3, 4, 10))
    components, members = st.connected_components(made, s, with_sources=True)
    assert as_sets(members) == as_sets([s[:2], s[2:3], s[3:]])
    for component, group in zip(components, members, strict=True):
        assert isinstance(component, list)
        inside = {id(x) for x in group}
        assert all(id(a.pre) in inside and id(a.post) in inside for a in component)
    assert sorted(len(c) for c in components) == [0, 1, 1]
    alone = components[[len(g) for g in members].index(1)]
    assert alone == []
    assert as_sets(st.connected_components(made, s)) == as_sets([made[:1], [], made[1:]])
    assert len(st.connected_components(made, s)) == 3


def test_connected_components_by_min_quality() -> None:
    s = tiles(0, 10, 20)
    made = links(s, (0, 1, 10, -1.0), (1, 2, 10, -9.0))
    _, members = st.connected_components(made, s, min_quality=-5, with_sources=True)
    assert as_sets(members) == as_sets([s[:2], s[2:]])
    _, members = st.Layout(s, made).connected_components(min_quality=-1, with_sources=True)
    assert as_sets(members) == as_sets([[x] for x in s])
    _, members = st.connected_components(made, s, min_quality=(-10, -5), with_sources=True)
    assert as_sets(members) == as_sets([s[1:], s[:1]])
    assert len(st.Layout(s, made).connected_components()) == 1


def test_connected_components_without_sources_are_of_the_alignments() -> None:
    s = tiles(0, 10, 20, 30)
    made = links(s, (0, 1, 10), (2, 3, 10))
    assert as_sets(st.connected_components(made)) == as_sets([made[:1], made[1:]])


def test_sources_from_alignments_are_unique() -> None:
    s = tiles(0, 10, 20)
    found = st.sources_from_alignments(links(s, *TRIANGLE))
    assert len(found) == 3
    assert {id(x) for x in found} == {id(x) for x in s}


def test_source_index_matches_on_id() -> None:
    s = tiles(0, 10, 20)
    assert [st.source_index(s, x) for x in s] == [0, 1, 2]
    assert st.source_index(s[:2], s[2]) is None
    virtual = s[1].as_virtual()
    assert virtual.id == s[1].id
    assert st.source_index(s, virtual) == 1
    assert st.Layout(s).source_index(virtual) == 1
    assert st.Layout(s[:1]).source_index(s[1]) is None


def test_copy_sources_and_alignments_copies_all_but_the_pixels() -> None:
    s = tiles((1, 2), (3, 4))
    made = links(s, (0, 1, (5, 6)))
    sources, alignments = st.copy_sources_and_alignments(s, made)
    assert all(x is not y for x, y in zip(s, sources, strict=True))
    assert alignments[0] is not made[0]
    assert alignments[0].pre is sources[0]
    assert alignments[0].post is sources[1]
    assert ints(alignments[0].displacement) == [5, 6]
    assert alignments[0].quality == -1
    sources[0].position = (50, 60)
    alignments[0].shift = (1, 1)
    assert s[0].position == (1, 2)
    assert ints(made[0].displacement) == [5, 6]


# --- positions and alignments -----------------------------------------------------------------


def test_alignments_from_source_positions_makes_shifts_0() -> None:
    s = tiles((1, 2), (30, 40))
    made = links(s, (0, 1, (5, 6)))
    result = st.alignments_from_source_positions(made)
    assert [ints(a.shift) for a in result] == [[0, 0]]
    assert [ints(a.displacement) for a in result] == [[29, 38]]


def test_update_alignments_from_sources_makes_shifts_0() -> None:
    s = tiles((1, 2), (30, 40))
    layout = st.Layout(s, links(s, (0, 1, (5, 6))))
    link = layout.alignments[0]
    layout.update_alignments_from_sources()
    assert layout.alignments[0] is link
    assert ints(link.shift) == [0, 0]
    assert ints(link.displacement) == [29, 38]


def test_set_source_positions() -> None:
    s = tiles((1, 2), (30, 40), (5, 5))
    layout = st.Layout(s, links(s, (0, 1, (5, 6)), (1, 2, (1, 1))))
    layout.set_source_positions([(0, 0), (-7, 8), (9, -10)])
    assert layout.source_positions() == [(0, 0), (-7, 8), (9, -10)]
    assert [ints(a.displacement) for a in layout.alignments] == [[5, 6], [1, 1]]
    layout.set_source_positions([(1, 1)], sources=[s[1]])
    assert layout.source_positions() == [(0, 0), (1, 1), (9, -10)]
    assert layout.source_positions([s[2], s[0]]) == [(9, -10), (0, 0)]
    layout.set_source_positions([(2, 2), (3, 3)], sources=[s[2], s[0]], update_alignments=True)
    assert layout.source_positions() == [(3, 3), (1, 1), (2, 2)]
    assert [ints(a.displacement) for a in layout.alignments] == [[-2, -2], [1, 1]]
    assert [ints(a.shift) for a in layout.alignments] == [[0, 0], [0, 0]]


def test_set_source_positions_takes_arrays_and_keeps_plain_ints() -> None:
    layout = st.Layout(tiles((1, 2), (30, 40)))
    layout.set_source_positions(np.array([[5, 6], [7, 8]]))
    assert layout.source_positions() == [(5, 6), (7, 8)]
    assert all(type(x) is int for p in layout.source_positions() for x in p)
    with pytest.raises(REFUSED):
        layout.set_source_positions([(1, 1)])
    assert layout.source_positions() == [(5, 6), (7, 8)]


def test_set_source_positions_without_positions_is_the_tree() -> None:
    s = tiles(7, 8, 9)
    layout = st.Layout(s, links(s, *TRIANGLE))
    layout.set_source_positions()
    assert first(layout.source_positions()) == [0, 10, 23]


@pytest.mark.parametrize("shape", [None, (20, 30, 10)])
def test_lower_to_origin(shape: Any) -> None:
    s = tiles((-5, 3, 8), (2, -9, 9), shape=shape)
    layout = st.Layout(s, links(s, (0, 1, (1, 1, 1))))
    layout.lower_to_origin()
    assert layout.source_positions() == [(0, 12, 0), (7, 0, 1)]
    assert ints(layout.lower) == [0, 0, 0]
    assert layout.position == (0, 0, 0)


def test_sort_sources_by_position() -> None:
    s = tiles((30, 0), (-10, 5), (20, 7))
    layout = st.Layout(s, links(s, (0, 1, 3)))
    layout.sort_sources_by_position()
    assert first(layout.source_positions()) == [-10, 20, 30]
    assert layout.n_alignments == 1
    assert layout.alignments[0].pre is s[0]
