"""Placement on link sets with known truth: no pixels."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from stitchlib.core.graph import bridges, components, forest, squares
from stitchlib.core.links import Links
from stitchlib.core.placement import Problem, optimise
from stitchlib.core.prediction import predict
from stitchlib.core.solve import Network, least_squares, least_tree
from stitchlib.core.uncertainty import _diagonal
from stitchlib.corrections import Corrections, HandLink
from stitchlib.place import place
from tests.linkcases import CASES, block_errors, component_errors, make

SIZES = (3, 5, 8, 10)


def placed(case, **more):
    return place(
        case.tiles, case.nominal, case.links, 0.99, index=case.index, ndim=case.ndim, **more
    )


def arrays(placement):
    """fit, sigma (nan = unknown), component, whether placed by links."""
    p = placement.positions
    return (
        np.array([q.fit for q in p]),
        np.array([q.sigma or (np.nan,) * 3 for q in p]),
        np.array([q.component for q in p]),
        np.array([q.status == "placed" for q in p]),
    )


def flagged(case, placement):
    """Tiles that are off by more than a voxel, and of these the ones that nothing says so of."""
    fit, sigma, component, linked = arrays(placement)
    error = component_errors(case, fit, component, linked)
    off = ((error > 1) & (error > 3 * sigma)).any(axis=1)
    return off, off & (np.nan_to_num(sigma).max(axis=1) < 1)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", SIZES)
def test_what_right_links_determine_is_within_a_voxel(name, size):
    for seed in range(3):
        case = make((size, size), seed, **{"noise": 0.1, **CASES[name]})
        found = placed(case)
        error = block_errors(case, arrays(found)[0])
        if "drift" not in name or size > 4:
            assert np.nanmax(error, initial=0) < 1, (name, size, seed)
        status = {(link.pre, link.post): link for link in found.links}
        blocks = case.determined
        for (a, b), link, wrong in zip(case.ends, case.links, case.wrong, strict=True):
            verdict = status[link.pre, link.post]
            if wrong and blocks[a] == blocks[b]:
                assert verdict.status == "rejected"
                assert "voxels" in verdict.reason


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_silently_wrong(name):
    silent, tiles = 0, 0
    for size in SIZES:
        for seed in range(3):
            case = make((size, size), seed, **CASES[name])
            silent += flagged(case, placed(case))[1].sum()
            tiles += len(case.tiles)
    # Wrong links of one tile may agree with each other by chance.
    assert silent <= 0.005 * tiles


def test_right_links_are_not_rejected():
    rejected = links = 0
    for name in ("clean", "10 % wrong links", "20 % wrong links"):
        for seed in range(4):
            case = make((7, 6), seed, **CASES[name])
            status = {(k.pre, k.post): k.status for k in placed(case).links}
            right = [k for k, w in zip(case.links, case.wrong, strict=True) if not w]
            rejected += sum(status[k.pre, k.post] != "ok" for k in right)
            links += len(right)
    assert rejected <= 0.01 * links


@pytest.mark.parametrize("size", [3, 5, 8, 10])
def test_a_wrong_row_that_agrees_is_flagged(size):
    for seed in range(4):
        case = make((size, size), seed, agreeing_row=1, jitter=3)
        found = placed(case)
        row = [p for p, i in zip(found.positions, case.index, strict=True) if i[1] == 1]
        assert all(p.sigma[0] > 10 for p in row)
        assert any("off what the stage does" in line for line in found.remarks)
        others = [p for p, i in zip(found.positions, case.index, strict=True) if i[1] != 1]
        assert max(p.sigma[0] for p in others) < 1


@pytest.mark.parametrize("size", [3, 4, 5])
def test_a_wrong_row_of_a_small_grid_is_never_silent(size):
    """Few links tell the stage's scatter; that three or more step alike tells enough."""
    for seed in (101, 104, 106, 116, 120, 122):
        case = make((size, size), seed, **CASES["a wrong row that agrees"])
        found = placed(case)
        assert not flagged(case, found)[1].any(), seed
        assert found.report["off_the_stage"], seed


def test_small_grids_raise_no_false_alarm():
    alarms = [
        size
        for size in (3, 4, 5)
        for seed in range(10)
        if placed(make((size, size), seed, wrong=0.1 * (seed % 2))).report["off_the_stage"]
    ]
    assert len(alarms) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["20 % wrong links", "holes in the grid", "two islands", "a wrong row that agrees"]
)
def test_what_right_links_determine_is_right_or_flagged(name):
    """Thirty seeds of five sizes: a few thousand tiles."""
    for size in (3, 4, 5, 7, 10):
        for seed in range(100, 130):
            case = make((size, size), seed, **CASES[name])
            found = placed(case)
            fit, sigma, _, _ = arrays(found)
            off = block_errors(case, fit) > 1
            if name == "a wrong row that agrees":
                off = flagged(case, found)[0]
            assert not (off & (np.nan_to_num(sigma).max(axis=1) < 1)).any(), (size, seed)


def test_a_wrong_link_that_hides_is_found():
    """Its residual is spread over its neighbours, of which one looks worse than itself."""
    for size, seed in ((5, 103), (10, 100)):
        name = "20 % wrong links" if size == 10 else "holes in the grid"
        case = make((size, size), seed, **CASES[name])
        found = placed(case)
        assert np.nanmax(block_errors(case, arrays(found)[0])) < 1


def test_two_links_that_agree_beat_the_one_that_alone_holds_two_tiles():
    case = make((7, 7), 108, **CASES["holes in the grid"])
    found = {(k.pre, k.post): k.status for k in placed(case).links}
    assert found["x0y4z0", "x1y4z0"] == "rejected"
    assert found["x0y3z0", "x1y3z0"] == found["x0y4z0", "x0y5z0"] == "ok"


def test_tiles_cut_off_by_an_implausible_link_join_by_others():
    case = make((7, 7), 108, **CASES["two islands"])
    found = placed(case)
    right = {(k.pre, k.post) for k, w in zip(case.links, case.wrong, strict=True) if not w}
    assert {(k.pre, k.post) for k in found.links if k.status == "ok"} == right
    assert found.report["components"] == 2


def test_islands_are_reported_with_what_the_stage_would_do():
    case = make((10, 6), 0, unlinked=(4,), scale=(8.0, 0.0), jitter=1, noise=0.1)
    found = placed(case)
    (island,) = found.report["islands"]
    assert (island["first"], island["tiles"], island["pinned"]) == ("x5y0z0", 30, False)
    first = case.tiles.index("x5y0z0")
    # It stands at nominal, contract; where it truly is, the stage's scale tells.
    assert found.positions[first].corner == case.nominal[first]
    assert island["stage_would_move"]["x"] == pytest.approx(40, abs=3)
    assert island["stage_would_move"]["y"] == pytest.approx(0, abs=3)
    assert any("no trusted link joins x5y0z0 and 29 further tiles" in r for r in found.remarks)
    pin = {"x5y0z0": tuple(map(float, case.truth[first]))}
    pinned = placed(case, corrections=Corrections(pins=pin))
    assert pinned.report["islands"][0]["pinned"]
    assert not any("no trusted link joins" in r for r in pinned.remarks)


def test_a_corner_with_one_wrong_link_of_two_is_decided_by_the_stage_or_flagged():
    for size, off in ((4, 40.0), (6, 6.0)):
        case = make((size, size), 5, jitter=2)
        k = next(i for i, link in enumerate(case.links) if link.post == f"x{size - 1}y{size - 1}z0")
        link = case.links[k]
        moved = (link.displacement[0] + off, *link.displacement[1:])
        case.links[k] = type(link)(
            link.pre, link.post, link.axis, moved, link.shift, link.quality, link.measure,
            link.error, link.confidence, link.status,
        )  # fmt: skip
        found = placed(case)
        fit, sigma, _, _ = arrays(found)
        error = abs((fit - case.truth)[-1] - (fit - case.truth)[0])[0]
        if off > 20:
            assert error < 1
            assert [r.post for r in found.links if r.status == "rejected"] == [link.post]
        else:
            assert sigma[-1, 0] > 3
            assert any("nothing decides" in line for line in found.remarks)


def test_a_single_link_far_from_what_the_stage_does_is_not_believed():
    case = make((12, 1), 3, jitter=2)
    links = list(case.links)
    k = links[5]
    links[5] = type(k)(
        k.pre, k.post, k.axis, (k.displacement[0] + 60, *k.displacement[1:]), k.shift, k.quality,
        k.measure, k.error, k.confidence, k.status,
    )  # fmt: skip
    found = place(case.tiles, case.nominal, links, 0.99, index=case.index, ndim=2)
    rejected = [r for r in found.links if r.status == "rejected"]
    assert [(r.pre, r.post) for r in rejected] == [(k.pre, k.post)]
    assert "no other link supports it" in rejected[0].reason
    assert len({p.component for p in found.positions}) == 2


def test_sigma_shrinks_where_errors_were_taken_too_large():
    case = make((8, 8), 1, noise=0.02)
    links = [
        type(k)(
            k.pre, k.post, k.axis, k.displacement, k.shift, k.quality, k.measure, (0.5,) * 3,
            k.confidence, k.status,
        )
        for k in case.links
    ]  # fmt: skip
    found = place(case.tiles, case.nominal, links, 0.99, index=case.index, ndim=2)
    assert np.median(arrays(found)[1][1:, 0]) < 0.2
    assert found.report["residual_over_error"]["x"] < 0.4


def test_sigma_is_honest():
    within = np.zeros(2)
    count = 0
    for seed in range(60):
        size = (3 + seed % 5, 4 + seed % 4)
        case = make(size, seed, noise=0.3, wrong=0.1 * (seed % 2))
        fit, sigma, _, linked = arrays(placed(case))
        error = np.abs((fit - case.truth) - (fit - case.truth)[0])[:, :2]
        use = linked[:, None] & (sigma[:, :2] > 0)
        within += [(error[use] < k * sigma[:, :2][use]).sum() for k in (1, 2)]
        count += use.sum()
    share = within / count
    assert abs(share[0] - 0.683) < 0.05, share
    assert abs(share[1] - 0.954) < 0.05, share


def test_sigma_follows_the_residuals():
    sizes = []
    for factor in (1, 4):
        case = make((8, 8), 1, noise=0.1)
        rng = np.random.default_rng(2)
        links = [
            type(k)(
                k.pre, k.post, k.axis,
                tuple(np.array(k.displacement) + factor * 0.1 * rng.standard_normal(3) * [1, 1, 0]),
                k.shift, k.quality, k.measure, (0.1, 0.1, 0.1), 0.999, "ok",
            )
            for k in case.links
        ]  # fmt: skip
        found = place(case.tiles, case.nominal, links, 0.99, index=case.index, ndim=2)
        sizes.append(np.median(arrays(found)[1][1:, 0]))
    assert 2 < sizes[1] / sizes[0] < 6


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"scale": (6.0, -4.0)}, 0.2),
        ({"drift": 30.0}, 0.5),
        ({"backlash": 12.0, "jitter": 2}, 0.25),
        ({"scale": (6.0, -4.0), "drift": 30.0, "wrong": 0.1}, 0.2),
        # What every tile does for itself no model can know: no better than nominal, and no worse.
        ({}, 1.03),
    ],
)
def test_empty_tiles_are_nearer_to_the_truth_than_nominal(options, most):
    ours, nominal = [], []
    for seed in range(8):
        case = make((7, 6), seed, empty=0.25, **options)
        found = placed(case)
        fit, _, component, linked = arrays(found)
        empty = np.array(case.empty)
        for c in np.unique(component):
            mine = (component == c) & linked
            those = (component == c) & empty
            if mine.sum() < 5:
                continue
            for positions, errors in ((fit, ours), (np.array(case.nominal, float), nominal)):
                off = positions - case.truth
                errors.append((off[those] - np.median(off[mine], axis=0))[:, :2])
    ours, nominal = (np.sqrt((np.concatenate(e) ** 2).mean()) for e in (ours, nominal))
    assert ours < most * nominal, (ours, nominal)


def test_stage_tiles_are_named_and_components_anchored(caplog):
    case = make((6, 5), 3, empty=0.25, unlinked=(2,))
    with caplog.at_level(logging.WARNING):
        found = placed(case)
    stage = [p.tile for p in found.positions if p.status == "stage"]
    linked = {tile for link in case.links for tile in (link.pre, link.post)}
    assert stage == [tile for tile in case.tiles if tile not in linked]
    assert all(tile in caplog.text for tile in stage)
    components = [p.component for p in found.positions]
    assert list(dict.fromkeys(components)) == list(range(max(components) + 1))
    for c in set(components):
        first = components.index(c)
        assert found.positions[first].corner == case.nominal[first]


def test_no_links_at_all_is_nominal():
    case = make((3, 2), 0)
    found = place(case.tiles, case.nominal, [], 0.99, index=case.index, ndim=2)
    assert [p.corner for p in found.positions] == case.nominal
    assert {p.status for p in found.positions} == {"stage"}
    alone = place(["a"], [(5, 6, 0)], [], 0.99, index=[(0, 0, 0)])
    assert alone.positions[0].corner == (5, 6, 0)
    assert alone.positions[0].status == "placed"


def test_a_stage_with_backlash_is_nothing_unusual():
    for seed in range(4):
        found = placed(make((6, 10), seed, backlash=12, jitter=2, empty=0.2))
        assert not any("off what the stage" in line for line in found.remarks)
        assert found.report["links"] == {"ok": len(found.links)}
        swing = found.report["stage"]["odd_steps_more_even_less"]["y"]["x"]
        assert swing == pytest.approx(-12, abs=2)


def test_a_link_in_doubt_is_not_used():
    case = make((3, 3), 0)
    weak = [type(k)(*(getattr(k, f) for f in k.__slots__)) for k in case.links]
    weak[0] = type(weak[0])(
        weak[0].pre, weak[0].post, weak[0].axis, (999.0, 0.0, 0.0), weak[0].shift, 0.1, "ncc",
        weak[0].error, 0.5, "ok",
    )  # fmt: skip
    found = place(case.tiles, case.nominal, weak, 0.99, index=case.index, ndim=2)
    low = [k for k in found.links if k.status == "low-confidence"]
    assert [(k.pre, k.post) for k in low] == [(weak[0].pre, weak[0].post)]
    assert "0.5 is below 0.99" in low[0].reason


def test_what_alignment_refused_stays_refused_with_its_reason():
    case = make((3, 3), 0)
    links = [
        replace(case.links[0], confidence=0.3, status="low-confidence", reason="no peak"),
        # Refused by an earlier placement that asked for more: decided anew.
        replace(case.links[1], confidence=0.8, status="low-confidence", reason="0.8 is below 0.9"),
        *case.links[2:],
    ]
    found = place(case.tiles, case.nominal, links, 0.0, index=case.index, ndim=2).links
    by_ends = {(k.pre, k.post): k for k in found}
    refused, taken = (by_ends[k.pre, k.post] for k in links[:2])
    assert (refused.status, refused.reason) == ("low-confidence", "no peak")
    assert taken.status == "ok"


def test_tree_takes_the_surest_links():
    pre, post = np.array([0, 1, 0]), np.array([1, 2, 2])
    wanted = np.array([[10.0], [10.0], [23.0]])
    x, variance, component = least_tree(3, pre, post, wanted, np.array([[1.0], [1.0], [9.0]]))
    assert x.ravel().tolist() == [0, 10, 20]
    assert variance.ravel().tolist() == [0, 1, 2]
    assert component.tolist() == [0, 0, 0]
    case = make((5, 4), 1, noise=0.05)
    found = placed(case, method="tree")
    assert np.nanmax(block_errors(case, arrays(found)[0])) < 1
    assert max(abs(r) for link in found.links for r in link.residual) > 0


def test_pins_links_and_bans():
    case = make((4, 4), 2, noise=0.05)
    corner = tuple((case.truth[5] + [100, -50, 0]).tolist())
    first = case.links[0]
    second = case.links[7]
    by_hand = Corrections(
        pins={case.tiles[5]: corner},
        links=(HandLink(first.pre, first.post, first.axis, first.displacement),),
        forbidden=frozenset([(second.pre, second.post), (second.post, second.pre)]),
    )
    found = placed(case, corrections=by_hand)
    assert found.positions[5].status == "pinned"
    assert found.positions[5].fit == pytest.approx(corner)
    fit = arrays(found)[0]
    np.testing.assert_allclose(fit - case.truth, np.tile([100, -50, 0], (16, 1)), atol=0.8)
    status = {(k.pre, k.post): (k.status, k.reason) for k in found.links}
    assert status[first.pre, first.post][0] == "manual"
    assert status[second.pre, second.post] == ("rejected", "forbidden")


def test_a_link_by_hand_beats_all_measured_ones():
    case = make((4, 3), 4)
    k = case.links[3]
    moved = (k.displacement[0] + 30, *k.displacement[1:])
    hand = HandLink(k.post, k.pre, k.axis, tuple(-v for v in moved))
    found = placed(case, corrections=Corrections(links=(hand,)))
    fit = {p.tile: np.array(p.fit) for p in found.positions}
    np.testing.assert_allclose(fit[k.post] - fit[k.pre], moved, atol=0.1)


def test_an_excluded_tile_is_not_used():
    case = make((3, 3), 6)
    found = placed(case, corrections=Corrections(excluded=frozenset(["x1y1z0"])))
    middle = found.positions[4]
    assert (middle.status, middle.corner) == ("excluded", case.nominal[4])
    reasons = [k.reason for k in found.links if "x1y1z0" in (k.pre, k.post)]
    assert reasons == ["tile x1y1z0 is excluded"] * 4
    assert all(p.status == "placed" for p in found.positions if p is not middle)


def test_the_same_tables_give_the_same_placement():
    case = make((8, 8), 9, wrong=0.2, empty=0.2)
    assert placed(case) == placed(case)
    swapped = place(
        case.tiles, case.nominal, case.links[::-1], 0.99, index=case.index, ndim=case.ndim
    )
    assert [p.corner for p in swapped.positions] == [p.corner for p in placed(case).positions]


# The arithmetic against slow references


def random_graph(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 25))
    m = int(rng.integers(1, 45))
    pre, post = rng.integers(0, n, (2, m))
    keep = pre != post
    return n, pre[keep].astype(np.int64), post[keep].astype(np.int64), rng


@pytest.mark.parametrize("seed", range(25))
def test_weighted_least_squares_equals_dense(seed):
    n, pre, post, rng = random_graph(seed)
    wanted = rng.normal(size=(len(pre), 3))
    weight = rng.uniform(0.1, 5, (len(pre), 3))
    x, component = least_squares(n, pre, post, wanted, weight=weight)
    design = np.zeros((len(pre), n))
    design[np.arange(len(pre)), post] += 1
    design[np.arange(len(pre)), pre] -= 1
    for axis in range(3):
        root = np.sqrt(weight[:, axis])
        dense = np.linalg.lstsq(design * root[:, None], wanted[:, axis] * root, rcond=None)[0]
        first = np.unique(component, return_index=True)[1]
        np.testing.assert_allclose(x[:, axis], dense - dense[first][component], atol=1e-8)
    shared, _ = least_squares(n, pre, post, wanted, weight=weight[:, 0])
    np.testing.assert_allclose(shared[:, 0], x[:, 0], atol=1e-9)


@pytest.mark.parametrize("seed", range(25))
def test_bridges_and_paths_equal_removal(seed):
    n, pre, post, rng = random_graph(seed)
    component = components(n, pre, post)
    tree = forest(n, pre, post, np.unique(component, return_index=True)[1])
    found = bridges(n, pre, post, tree)
    for k in range(len(pre)):
        others = np.delete(np.arange(len(pre)), k)
        after = components(n, pre[others], post[others])
        assert found[k] == (after[pre[k]] != after[post[k]])
    a, b = (int(i) for i in rng.integers(0, n, 2))
    if component[a] == component[b]:
        node = a
        for k in tree.path(a, b):
            assert node in (pre[k], post[k])
            node = int(pre[k] + post[k] - node)
        assert node == b


def test_sampled_sigma_equals_the_inverse(monkeypatch):
    case = make((12, 11), 0)
    pre, post = (end.astype(np.int64) for end in case.ends.T)
    network = Network(len(case.tiles), pre, post, np.array([0]))
    weight = np.linspace(1, 4, len(pre))
    exact = _diagonal(network, weight)
    monkeypatch.setattr("stitchlib.core.uncertainty._EXACT", 10)
    sampled = _diagonal(network, weight)
    np.testing.assert_allclose(np.sqrt(sampled / exact), 1, atol=0.2)


def test_squares_are_the_unit_squares():
    case = make((4, 3, 2), 0)
    pre, post = case.ends.T
    loops = squares(np.array(case.index), pre, post)
    assert len(loops) == 3 * 2 * 2 + 3 * 3 + 4 * 2
    closing = np.array([k.displacement for k in case.links])
    a, b, c, d = (closing[k] for k in loops.T)
    assert np.abs(a + b - c - d).max() < 2


def test_the_model_finds_scale_and_alternation():
    index = np.array([(i, j, 0) for i in range(8) for j in range(6)])
    rng = np.random.default_rng(0)
    offset = np.column_stack([5.0 * index[:, 0] + 9 * (index[:, 1] % 2), -3.0 * index[:, 0]])
    offset += rng.normal(scale=0.5, size=offset.shape)
    placed_ = rng.random(len(index)) > 0.2
    found = predict(index, offset, placed_, np.zeros(len(index), np.int64))
    assert found.terms[0]["tile_x"] == pytest.approx(5, abs=0.2)
    assert found.terms[0]["odd tile_y"] == pytest.approx(9, abs=1)
    assert set(found.terms[1]) == {"tile_x"}
    assert np.abs(found.offset - offset)[~placed_].max() < 2.5


def test_a_large_grid():
    case = make((30, 30), 0, wrong=0.1)
    links = Links(
        len(case.tiles),
        *(end.astype(np.int64) for end in case.ends.T),
        np.array([k.shift for k in case.links])[:, :2],
        np.array([k.error for k in case.links])[:, :2],
        np.zeros(len(case.links), bool),
        np.array([k.axis for k in case.links]),
        np.array(case.index)[case.ends[:, 0]],
    )
    n = len(case.tiles)
    solution = optimise(Problem(links, np.array(case.index), np.zeros(n, bool), np.zeros((n, 2))))
    wrong = np.array(case.wrong)
    assert (solution.good & wrong).sum() <= 2
    assert (~solution.good & ~wrong).sum() <= 3
