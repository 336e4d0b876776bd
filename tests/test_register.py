"""Links that can be trusted: right where they are called ok, and ok where there is a signal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from stitchlib.core.agreement import preference
from stitchlib.core.coarse import COARSE_FROM
from stitchlib.core.filters import binned, has_content
from stitchlib.core.register import register, register_bytes
from stitchlib.core.shifts import SearchRange
from stitchlib.core.subvoxel import Place, as_normal, place
from stitchlib.phantom import Phantom
from stitchlib.phantom.links import HOPELESS, KINDS, faint_mosaic, mosaic_links, phantom_link
from tests.traced import traced

OK = 0.99
# The goal is one wrong link of a thousand over all kinds, none where there is no signal, and 2 %
# missed. Of a handful of blobs in noise a little more is missed.
MOST_MISSED = {"blobs": 0.05}
QUICK = 6
SLOW = 100
FAINT = (1, 2, *range(201, 206))


def measure(kind: str, seeds: range) -> tuple[list[int], list[int], int]:
    """Return seeds of links that are ok and wrong, of links missed, and how many had a signal."""
    wrong, missed, signal = [], [], 0
    for seed in seeds:
        link = phantom_link(kind, seed)
        match = register(link.pre, link.post, link.search, least=link.least)
        off = np.abs(np.subtract(match.refined, link.truth)).max()
        ok = match.confidence >= OK
        if ok and (off > 1 or kind in HOPELESS):
            wrong.append(seed)
        if kind not in HOPELESS and link.true_ncc() >= 0.2:
            signal += 1
            if not ok:
                missed.append(seed)
    return wrong, missed, signal


@pytest.mark.parametrize("kind", KINDS)
def test_no_wrong_link_is_ok(kind: str) -> None:
    wrong, missed, _ = measure(kind, range(QUICK))
    assert not wrong
    assert len(missed) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_links(kind: str, record_property: Callable[[str, object], None]) -> None:
    wrong, missed, signal = measure(kind, range(10_000, 10_000 + SLOW))
    record_property("wrong", wrong)
    record_property("missed", missed)
    record_property("signal", signal)
    assert not wrong
    assert len(missed) <= MOST_MISSED.get(kind, 0.02) * signal


@pytest.mark.slow
def test_faint_mosaics_are_put_together() -> None:
    """Read noises of 2.4 to 3.0 photons; the more there is, the fewer are ok."""
    off, ok = [], []
    for link in itertools.chain(*(mosaic_links(faint_mosaic(seed)) for seed in FAINT)):
        match = register(link.pre, link.post, link.search, least=link.least)
        if link.kind == "background":
            assert match.confidence < OK
            continue
        off.append(np.abs(np.subtract(match.refined, link.truth)).max())
        ok.append(match.confidence >= OK)
    assert max(off) <= 1
    assert np.mean(ok) >= 0.9


@pytest.mark.slow
def test_a_large_faint_overlap_is_known_by_its_size() -> None:
    """An NCC of 0.002 in five million voxels."""
    phantom = Phantom(
        grid=(2, 1),
        tile_shape=(110, 512, 128),
        overlap=77,
        jitter=(8, 8, 2),
        photons=2.0,
        counts_per_photon=2.0,
        read_noise=8.0,
        seed=5,
    )
    (link,) = mosaic_links(phantom)
    assert link.true_ncc() < 0.01
    match = register(link.pre, link.post, link.search, least=link.least)
    assert np.abs(np.subtract(match.refined, link.truth)).max() <= 1
    assert match.confidence >= OK


def test_a_link_sure_in_z_only_says_so() -> None:
    rng = np.random.default_rng(0)
    layers = rng.normal(size=(1, 1, 60)) * np.ones((40, 50, 1))
    pre = layers[..., 5:45] + 0.1 * rng.normal(size=(40, 50, 40))
    post = layers[..., 8:48] + 0.1 * rng.normal(size=(40, 50, 40))
    match = register(pre, post, SearchRange((-6, -6, -6), (6, 6, 6)), least=(5, 5, 5))
    assert match.displacement[2] == 3
    assert match.confidence < OK
    assert match.sure[2] >= OK
    assert max(match.sure[:2]) < OK
    assert "sure along z only" in match.reason


def test_a_peak_on_the_border_is_not_trusted() -> None:
    link = phantom_link("clean", 1)
    d = tuple(int(t) for t in link.truth)
    beyond = SearchRange(tuple(v - 4 for v in d), d)
    match = register(link.pre, link.post, beyond, least=link.least)
    assert match.displacement == d
    assert match.confidence < OK
    assert "border" in match.reason


def test_fixed_axes_need_no_proof() -> None:
    link = phantom_link("clean", 1)
    d = tuple(int(t) for t in link.truth)
    fixed = SearchRange((d[0], d[1] - 5, d[2]), (d[0], d[1] + 5, d[2]))
    match = register(link.pre, link.post, fixed, least=link.least)
    assert match.displacement == d
    assert match.confidence >= OK
    assert match.error[0] == match.error[2] == np.inf


def errors_over_stated(kinds: Iterable[str], seeds: range) -> np.ndarray:
    """Return error / stated standard error of the links that are ok, per link and axis."""
    found = []
    for kind, seed in itertools.product(kinds, seeds):
        link = phantom_link(kind, seed, subvoxel=True)
        match = register(link.pre, link.post, link.search, least=link.least)
        if match.confidence >= OK:
            off = np.subtract(match.refined, link.truth) / match.error
            found += off[np.isfinite(match.error)].tolist()
    return np.abs(found)


def test_stated_errors_are_honest() -> None:
    ratio = errors_over_stated(("clean", "noise", "photons", "vignetting"), range(15))
    # Three standard errors of so few links.
    assert abs(np.mean(ratio < 1) - 0.683) < 0.12
    assert np.mean(ratio < 2) > 0.88


@pytest.mark.slow
def test_stated_errors_of_many_links_are_honest() -> None:
    kinds = [kind for kind in KINDS if kind not in HOPELESS]
    ratio = errors_over_stated(kinds, range(20_000, 20_050))
    assert abs(np.mean(ratio < 1) - 0.683) < 0.05
    assert abs(np.mean(ratio < 2) - 0.954) < 0.05


def test_sub_voxel_offsets_are_measured() -> None:
    off = []
    for seed in range(30):
        link = phantom_link("subvoxel", seed)
        match = register(link.pre, link.post, link.search, least=link.least)
        off += np.subtract(match.refined, link.truth)[:2].tolist()
    assert np.sqrt(np.mean(np.square(off))) < 0.07
    # Whole numbers would be off by 0.29.


@pytest.mark.parametrize("seed", range(4))
def test_swapped_images_negate_the_displacement(seed: int) -> None:
    link = phantom_link("photons", seed)
    back = SearchRange(tuple(-v for v in link.search.upper), tuple(-v for v in link.search.lower))
    forth = register(link.pre, link.post, link.search, least=link.least)
    other = register(link.post, link.pre, back, least=link.least)
    assert other.displacement == tuple(-v for v in forth.displacement)
    assert other.quality == pytest.approx(forth.quality)


def test_empty_images_have_no_content_and_faint_ones_have() -> None:
    rng = np.random.default_rng(1)
    x = np.linspace(-1, 1, 120)
    shading = 1 - 0.3 * (x[:, None] ** 2 + x**2)
    empty = rng.poisson(20 * shading)
    texture = np.kron(rng.random((30, 30)), np.ones((4, 4)))
    assert not has_content(empty.astype(np.uint16))
    assert has_content(rng.poisson(20 * shading + 6 * texture).astype(np.uint16))
    assert not has_content(np.full((60, 60), 7, np.uint8))


def test_binned_is_the_mean_of_blocks() -> None:
    image = np.random.default_rng(0).integers(0, 60000, (7, 10, 5)).astype(np.uint16)
    expected = image[:6, :, :4].astype(float).reshape(3, 2, 5, 2, 4, 1).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(binned(image[:, :, :4], (2, 2, 1)), expected, rtol=1e-6)


@pytest.mark.parametrize("photons", [200.0, 3.0])
def test_the_coarse_level_agrees_with_the_exact_search(photons: float) -> None:
    phantom = Phantom(
        grid=(2, 1),
        tile_shape=(160, 160, 48),
        overlap=60,
        jitter=(8, 8, 2),
        photons=photons,
        seed=5,
    )
    pre, post = (phantom.tile(index, "c0") for index in phantom.indices)
    truth = np.subtract(*list(phantom.truth.values())[::-1])
    search = SearchRange((83, -17, -5), (117, 17, 5))
    assert pre.size + post.size >= COARSE_FROM
    match = register(pre, post, search, least=(15, 1, 1))
    assert np.abs(np.subtract(match.refined, truth)).max() <= 1
    assert match.confidence >= OK


@pytest.mark.parametrize("seed", [0, 1])
def test_memory_is_stated_honestly(seed: int) -> None:
    link = phantom_link("noise", seed, size=1.5)
    stated = register_bytes(link.pre.shape, link.post.shape, link.search, 2)
    _, measured = traced(register, link.pre, link.post, link.search, least=link.least)
    assert measured <= stated


def shifted(noise: float, *, gain: float = 1.0, cut: bool = False) -> tuple[np.ndarray, ...]:
    """Return two noisy images of blobs, the second (10.3, 6.6) voxels on; where cut, its borders
    cut the only blobs."""
    rng = np.random.default_rng(2)
    x, y = np.mgrid[:120, :120].astype(float)
    centres = [(10.0, 40.0)] if cut else rng.uniform(0, 120, (80, 2))
    scene = [
        sum(np.exp(-((x + dx - u) ** 2 + (y + dy - v) ** 2) / 18) for u, v in centres)
        for dx, dy in ((0, 0), (0.3, -0.4))
    ]
    pre, post = scene[0][:100, :100], gain * scene[1][10:110, 7:107] + 5
    return tuple(part + noise * rng.normal(size=part.shape) for part in (pre, post))


@pytest.mark.parametrize("gain", [1.0, 0.5])
@pytest.mark.parametrize("step", [1, 2])
def test_parts_of_a_voxel_are_told(gain: float, step: int) -> None:
    found = place(*shifted(0.02, gain=gain), (10, 7), (True, True), step=step, width=1.0)
    np.testing.assert_allclose(found.moves, (0.3, -0.4), atol=0.02)
    assert max(found.spread()) < 0.05
    assert min(found.margins(found.moves)) > 10
    # From a voxel beside it they want to be a voxel farther.
    beside = place(*shifted(0.02, gain=gain), (9, 7), (True, True), step=step, width=1.0)
    assert beside.moves[0] > 1
    assert beside.margins((0.0, beside.moves[1]))[0] < 1e-3


def test_a_blob_that_the_border_cuts_does_not_hold_its_place() -> None:
    """The image that shows more of it is the brighter one: neither gain nor border may hide it."""
    found = place(*shifted(0.005, cut=True), (10, 7), (True, True), width=1.0)
    np.testing.assert_allclose(found.moves, (0.3, -0.4), atol=0.1)


@pytest.mark.parametrize("planes", [2, 3, 4])
def test_parts_of_a_voxel_are_told_of_few_planes(planes: int) -> None:
    """Thick slices that have as much as two planes in common, the second 0.3 of one further on."""
    rng = np.random.default_rng(6)
    grid = np.mgrid[:60, :60, :12].astype(float)
    blobs = rng.uniform(0, 1, (60, 3)) * (60, 60, 12)

    def scene(beyond: float) -> np.ndarray:
        at = grid + np.array([0, 0, beyond])[:, None, None, None]
        found = sum(np.exp(-((at - b[:, None, None, None]) ** 2).sum(axis=0) / 18) for b in blobs)
        return found + 0.02 * rng.normal(size=found.shape)

    start = 6 - planes
    pre, post = scene(0.0)[..., :6], scene(0.3)[..., start : start + 6]
    found = place(pre, post, (0, 0, start), (True,) * 3, width=1.0, flat=True)
    np.testing.assert_allclose(found.moves, (0, 0, 0.3), atol=0.05)
    assert min(found.margins(found.moves)) > 10


def test_axes_that_are_not_searched_are_left_alone() -> None:
    found = place(*shifted(0.02), (10, 7), (False, True), width=1.0)
    assert found.moves[0] == 0
    assert found.errors[0] == np.inf
    assert found.moves[1] == pytest.approx(-0.4, abs=0.02)
    assert place(*shifted(0.02), (10, 7), (False, False)).errors == (np.inf, np.inf)


@pytest.mark.parametrize(("width", "noise"), [(0.0, 0.4), (1.0, 1.5), (2.0, 1.5)])
def test_errors_of_a_place_are_those_that_are_made(width: float, noise: float) -> None:
    """Noise by noise, over the same scene; smoothed noise is alike in neighbours."""
    rng = np.random.default_rng(4)
    scene = scipy.ndimage.gaussian_filter(rng.normal(size=(120, 120)), 2)
    scene /= scene.std()
    off, stated = [], []
    for _ in range(60):
        pre, post = scene[:100, :100], scene[10:110, 7:107]
        pre, post = (part + noise * rng.normal(size=part.shape) for part in (pre, post))
        found = place(pre, post, (10, 7), (True, True), width=width)
        off.append(found.moves)
        stated.append(found.errors)
    assert np.median(stated) == pytest.approx(np.sqrt(np.mean(np.square(off))), rel=0.2)


@pytest.mark.parametrize(("noise", "plain"), [(0.05, True), (4.0, False)])
def test_a_small_part_of_images_that_look_alike_says_all(noise: float, plain: bool) -> None:
    rng = np.random.default_rng(5)
    scene = scipy.ndimage.gaussian_filter(rng.normal(size=(360, 360)), 2)
    scene /= scene.std()
    pre, post = scene[:340, :340], scene[10:350, 7:347]
    pre, post = (part + noise * rng.normal(size=part.shape) for part in (pre, post))
    whole, part = (
        place(pre, post, (10, 7), (True, True), width=1.0, flat=True, alike=alike)
        for alike in (False, True)
    )
    assert (part != whole) == plain  # where it isn't plain, nothing is changed by asking
    if plain:
        np.testing.assert_allclose(part.moves, 0, atol=0.01)
        assert max(whole.spread()) <= max(part.spread()) <= 0.02


@pytest.mark.parametrize("off", [0.0, 0.2, 0.9, 1.5])
@pytest.mark.parametrize("error", [0.02, 0.4, 3.0])
def test_margins_are_as_rare_as_being_a_voxel_off(off: float, error: float) -> None:
    found = Place((0.3 + off, 0.3), (error, math.inf), (1e9, 1.0)).margins((0.3, 0.3))
    limits = scipy.stats.norm.cdf((off + 1, off - 1), scale=error)
    assert scipy.stats.norm.sf(found[0]) * 2 == pytest.approx(1 - limits[0] + limits[1], abs=1e-9)
    assert found[1] == 0


def test_deviations_of_few_blocks_are_worth_less() -> None:
    for freedom, deviations in itertools.product((1.0, 3.0, 10.0, 1e6), (0.5, 2.0, 6.0)):
        rarity = 2 * scipy.stats.t.sf(deviations, freedom)
        expected = scipy.stats.norm.isf(rarity / 2)
        assert as_normal(deviations, freedom) == pytest.approx(expected, rel=0.06)


def test_preference_asks_every_part_of_a_large_overlap() -> None:
    """Where every part alone says little, all together are sure."""
    rng = np.random.default_rng(3)
    scene = scipy.ndimage.gaussian_filter(rng.normal(size=(1010, 1010)), 1)
    scene /= scene.std()
    pre, post = scene[:1000, :1000], scene[4:1004, 3:1003]
    pre, post = (part + 8 * rng.normal(size=part.shape) for part in (pre, post))
    small = preference(pre[:300, :300], post[:300, :300], (4, 3), (4, 5))
    large = preference(pre, post, (4, 3), (4, 5))
    assert large > 2 * small
    assert large > 5
