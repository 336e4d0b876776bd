from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stitchlib.core.boxes import Box
from stitchlib.core.texture import render_tissue, shot_noise
from stitchlib.errors import InputError
from stitchlib.phantom import Phantom, position_error, whole, write_phantom
from tests.traced import traced

QUIET = {"photons": math.inf, "read_noise": 0.0}
SMALL = {"tile_shape": (40, 36, 12), "overlap": 16, "jitter": (3, 3, 1)}
FLAT = {"tile_shape": (64, 48), "overlap": 0.3, "jitter": 3}


@st.composite
def nested_boxes(draw, axes):
    corner = st.integers(-(2**31), 2**31) | st.integers(-40, 40)
    lower = [draw(corner) for _ in range(axes)]
    shape = [draw(st.integers(1, n)) for n in (90, 90, 30)[:axes]]
    inner = [sorted((draw(st.integers(0, n - 1)), draw(st.integers(1, n)))) for n in shape]
    outer = Box.at(lower, shape)
    inside = Box(
        tuple(a + lo for a, (lo, _) in zip(lower, inner, strict=True)),
        tuple(a + max(hi, lo + 1) for a, (lo, hi) in zip(lower, inner, strict=True)),
    )
    return outer, inside


@settings(max_examples=100, deadline=None)
@given(
    boxes=st.sampled_from([2, 3]).flatmap(nested_boxes),
    seed=st.integers(0, 2**63 - 1),
    channel=st.integers(0, 3),
)
def test_a_box_is_the_same_part_of_a_larger_rendering(boxes, seed, channel):
    outer, inside = boxes
    large = render_tissue(outer, seed=seed, channel=channel)
    small = render_tissue(inside, seed=seed, channel=channel)
    assert small.shape == inside.shape
    assert small.dtype == np.float32
    np.testing.assert_array_equal(small, large[inside.relative_to(outer.lower).slices()])


def test_rows_of_many_stripes_are_seamless():
    # 300 x 300 and 2000 x 80 planes are cut into stripes of different height.
    square = render_tissue(Box((-20, -20, 5), (280, 280, 7)), seed=4)
    wide = render_tissue(Box((-1000, 100, 6), (1000, 180, 7)), seed=4)
    np.testing.assert_array_equal(square[:, 120:200, 1:], wide[980:1280])
    assert square.flags.f_contiguous


def test_an_empty_box_has_no_voxels():
    assert render_tissue(Box((3, 3, 3), (3, 9, 9)), seed=0).shape == (0, 6, 6)


@pytest.mark.parametrize("shape", [(300, 300), (160, 160, 30)])
def test_tissue_is_varied_and_lit_everywhere(shape):
    light = render_tissue(Box.at((-50, 7, 3)[: len(shape)], shape), seed=5)
    assert light.min() > 0.01
    assert 0.1 < np.median(light) < 0.25
    assert 0.7 < np.percentile(light, 99.9) < 1.6
    # Texture at the scale of an overlap: no corner of the tissue is dull.
    for x, y in itertools.product((0, 50, 100), repeat=2):
        patch = light[x : x + 40, y : y + 40]
        assert patch.std() > 0.1 * patch.mean()


def test_texture_shows_no_lattice_and_never_repeats():
    light = render_tissue(Box.at((0, 0), (600, 600)), seed=8).astype(float)
    light -= light.mean()
    # Lattices of 15/8 and 29/8 voxels repeat their weights after 15 and 29.
    for axis, period in itertools.product((0, 1), (15, 29)):
        moved = np.moveaxis(light, axis, 0)
        brightness = [np.mean(moved[phase::period] ** 2) for phase in range(period)]
        contrast = [np.median(np.diff(moved, axis=1)[p::period] ** 2) for p in range(period)]
        assert np.ptp(brightness) < 0.35 * np.mean(brightness)
        assert np.ptp(contrast) < 0.35 * np.mean(contrast)
    correlation = np.fft.ifft2(np.abs(np.fft.fft2(light)) ** 2).real
    correlation /= correlation[0, 0]
    assert correlation[1, 0] > 0.5
    assert np.abs(correlation[150:450, 150:450]).max() < 0.2


def test_seeds_and_channels_differ_and_channels_correlate():
    box = Box.at((0, 0, 0), (160, 160, 24))
    first, second, other = (
        render_tissue(box, seed=seed, channel=channel) for seed, channel in ((1, 0), (1, 1), (2, 0))
    )

    def correlation(a, b):
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]

    assert abs(correlation(first, other)) < 0.12
    assert 0.2 < correlation(first, second) < 0.9


@pytest.mark.parametrize("mean", [0.0, 0.4, 6.0, 11.9, 12.1, 40.0, 900.0])
def test_shot_noise_has_the_moments_of_poisson(mean):
    n = 400_000
    drawn = shot_noise(np.full(n, mean, np.float32), np.random.default_rng(3)).astype(float)
    assert drawn.min() >= 0
    np.testing.assert_array_equal(drawn, np.rint(drawn))
    sigma = math.sqrt(mean / n)
    assert abs(drawn.mean() - mean) <= 5 * sigma + 1e-4 * mean
    assert drawn.var() == pytest.approx(mean, rel=0.008)
    third = ((drawn - mean) ** 3).mean()
    assert third == pytest.approx(mean, abs=6 * math.sqrt(15 * (mean + mean**3) / n))


def test_noise_of_a_tile_is_poisson_and_read_noise():
    phantom = Phantom(
        tile_shape=(96, 96, 24), photons=150.0, read_noise=20.0, offset=90.0, counts_per_photon=3.0
    )
    quiet = whole(phantom, "c0")
    least = np.min(list(phantom.truth.values()), axis=0)
    expected = quiet[phantom.box((0, 0)).relative_to(least).slices()].astype(float)
    noise = phantom.tile((0, 0), "c0") - expected
    variance = 3.0 * (expected - 90) + 20.0**2
    z = noise / np.sqrt(variance)
    assert abs(z.mean()) < 0.02
    assert z.var() == pytest.approx(1, rel=0.02)
    bright = expected > np.percentile(expected, 95)
    assert z[bright].var() == pytest.approx(1, rel=0.06)
    # Noise is white: neighbours share none.
    assert abs((z[1:] * z[:-1]).mean()) < 0.02


@pytest.mark.parametrize("shape", [SMALL, FLAT])
def test_quiet_tiles_agree_where_they_overlap(shape):
    phantom = Phantom(grid=(2, 3), channels=("a", "b"), seed=9, dtype="float32", **QUIET, **shape)
    volume = whole(phantom, "b")
    least = np.min(list(phantom.truth.values()), axis=0)
    compared = 0
    tiles = {index: phantom.tile(index, "b") for index in phantom.indices}
    for index, tile in tiles.items():
        inside = phantom.box(index).relative_to(least)
        np.testing.assert_array_equal(tile, volume[inside.slices()])
    for i, j in itertools.combinations(tiles, 2):
        common = phantom.box(i).intersection(phantom.box(j))
        if common.empty:
            continue
        compared += 1
        a, b = (tiles[k][common.relative_to(phantom.box(k).lower).slices()] for k in (i, j))
        np.testing.assert_array_equal(a, b)
    assert compared >= 7


def test_noise_is_its_own_for_every_tile_channel_and_seed():
    shape = {"tile_shape": (48, 48, 16), "jitter": 2, "dtype": "float32", "channels": ("a", "b")}

    def noise(index, channel, seed):
        noisy, quiet = (Phantom(seed=seed, **shape, **camera) for camera in ({}, QUIET))
        return (noisy.tile(index, channel) - quiet.tile(index, channel)).ravel()

    keys = [
        ((0, 0), "a", 0),
        ((1, 0), "a", 0),
        ((0, 1), "a", 0),
        ((0, 0), "b", 0),
        ((0, 0), "a", 1),
    ]
    correlation = np.corrcoef([noise(*key) for key in keys])
    assert np.abs(correlation - np.eye(len(keys))).max() < 0.03


def test_a_tile_depends_on_nothing_but_itself():
    phantom = Phantom(channels=("c0", "c1"), **SMALL)
    keys = list(itertools.product(phantom.indices, phantom.channels))
    forward = {key: phantom.tile(*key) for key in keys}
    again = Phantom(channels=("c0", "c1"), **SMALL)
    for key in reversed(keys):
        np.testing.assert_array_equal(again.tile(*key), forward[key])
    fewer = Phantom(channels=("c0", "c1"), missing=((0, 1),), **SMALL)
    np.testing.assert_array_equal(fewer.tile((2, 1), "c1"), forward[(2, 1), "c1"])
    different = Phantom(channels=("c0", "c1"), seed=1, **SMALL)
    assert (different.tile((0, 0), "c0") != forward[(0, 0), "c0"]).mean() > 0.9


@pytest.mark.parametrize(
    ("dtype", "camera"),
    [
        ("uint8", {"offset": 5.0, "counts_per_photon": 1.0}),
        ("uint16", {}),
        ("float32", {"offset": 0.0}),
    ],
)
def test_tiles_have_the_asked_type(dtype, camera):
    phantom = Phantom(dtype=dtype, **camera, **SMALL)
    tile = phantom.tile((1, 1), "c0")
    assert tile.dtype == dtype
    assert tile.shape == (40, 36, 12)
    assert tile.flags.f_contiguous


def test_bright_voxels_are_clipped_never_wrapped():
    camera = {
        "offset": 5.0,
        "photons": 240.0,
        "counts_per_photon": 1.0,
        "tile_shape": (128, 128, 32),
    }
    quiet = Phantom(dtype="float32", **{**camera, **QUIET, "counts_per_photon": 1.2})
    over = quiet.tile((0, 0), "c0") > 255 + 60
    assert over.any()
    assert Phantom(dtype="uint8", **camera).tile((0, 0), "c0")[over].min() > 220


def test_nominal_follows_from_the_overlap_and_truth_from_the_jitter():
    phantom = Phantom(grid=(3, 2, 2), tile_shape=(15, 21, 9), overlap=(0.3, 7, 0.5), jitter=1)
    nominal = phantom.nominal
    # 15 - 4.5 = 10.5, rounded half to even at the end: 10, then 21.
    assert [nominal[f"x{i}_y1_z1"] for i in range(3)] == [(0, 14, 4), (10, 14, 4), (21, 14, 4)]
    off = np.array([np.subtract(phantom.truth[t], nominal[t]) for t in phantom.names])
    assert set(off.ravel()) == {-1, 0, 1}


def test_jitter_reaches_its_bounds_on_every_axis():
    phantom = Phantom(grid=(12, 12), jitter=(2, 3, 1))
    truth, nominal = phantom.truth, phantom.nominal
    off = np.array([np.subtract(truth[t], nominal[t]) for t in phantom.names])
    np.testing.assert_array_equal(off.min(axis=0), (-2, -3, -1))
    np.testing.assert_array_equal(off.max(axis=0), (2, 3, 1))
    # Uniform: 144 draws of 5 values.
    assert np.bincount(off[:, 0] + 2).min() > 12


def test_missing_tiles_are_gaps_and_nominal_counts_from_the_least_index():
    phantom = Phantom(grid=(3, 2), missing=((0, 0), (0, 1), (2, 1)))
    assert phantom.names == ("x1_y0", "x1_y1", "x2_y0")
    assert phantom.nominal["x1_y0"] == (0, 0, 0)
    with pytest.raises(InputError, match=r"no tile at grid index \(2, 1\)"):
        phantom.tile((2, 1), "c0")


def test_names_sort_like_the_grid():
    assert Phantom(grid=(2, 11)).names[-1] == "x1_y10"
    assert list(Phantom(grid=(2, 11)).names) == sorted(Phantom(grid=(2, 11)).names)


def rows_of(file):
    return [line.split("\t") for line in file.read_text().splitlines()]


def test_tiff_files_are_zyx_and_mapped(tmp_path):
    phantom = Phantom(grid=(2, 2), channels=("red", "c-1"), missing=((1, 1),), **SMALL)
    files = write_phantom(phantom, tmp_path / "demo", results="out/put", dataset="brain")
    header, *rows = rows_of(files.sheet)
    assert header == ["tile", "channel", "path", "tile_x", "tile_y"]
    assert len(rows) == len(files.tiles) == 6
    for (tile, channel, path, x, y), file in zip(rows, files.tiles, strict=True):
        index = (int(x), int(y))
        assert tile == phantom.name(index)
        assert files.sheet.parent / path == file
        image = tifffile.memmap(file, mode="r")
        assert image.shape == (12, 36, 40)
        np.testing.assert_array_equal(image.T, phantom.tile(index, channel))
    with tifffile.TiffFile(files.tiles[0]) as tif:
        assert tif.series[0].axes == "ZYX"
    header, *rows = rows_of(files.truth)
    assert header == ["tile", "x", "y", "z"]
    assert {t: tuple(map(int, p)) for t, *p in rows} == phantom.truth
    assert not list(tmp_path.rglob("*.part"))


def test_configuration_says_what_differs_from_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    phantom = Phantom(
        grid=(2, 2), tile_shape=(40, 36, 12), overlap=(0.5, 16), jitter=(3, 2, 1),
        voxel_size=(1.6, 1.6, 5),
    )  # fmt: skip
    files = write_phantom(phantom, "in/here", results="out/put", dataset="brain")
    assert files.config.read_text().startswith("# ")
    assert yaml.safe_load(files.config.read_text()) == {
        "tiles": "in/here/tiles.tsv",
        "results": "out/put",
        "dataset": "brain",
        "voxel_size": {"x": 1.6, "y": 1.6, "z": 5.0},
        "align": {"overlap": {"x": 0.5, "y": 16}, "max_shift": {"x": 7, "y": 5, "z": 3}},
    }
    plain = write_phantom(Phantom(**FLAT), "flat")
    assert yaml.safe_load(plain.config.read_text()) == {
        "tiles": "flat/tiles.tsv",
        "dataset": "phantom",
        "align": {"overlap": {"x": 0.3, "y": 0.3}, "max_shift": {"x": 7, "y": 7}},
        "output": {"chunk": 256},
    }


def test_flat_tiles(tmp_path):
    phantom = Phantom(grid=(2, 2), **FLAT)
    files = write_phantom(phantom, tmp_path, compression="zlib")
    image = tifffile.imread(files.tiles[1])
    assert image.shape == (48, 64)
    np.testing.assert_array_equal(image.T, phantom.tile((0, 1), "c0"))
    with tifffile.TiffFile(files.tiles[1]) as tif:
        assert tif.series[0].axes == "YX"
        assert tif.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
    assert {row[3] for row in rows_of(files.truth)[1:]} == {"0"}


def test_npy_files_are_xyz_and_a_deep_grid_has_three_indices(tmp_path):
    phantom = Phantom(grid=(1, 2, 2), tile_shape=(20, 24, 12), overlap=6, jitter=1)
    files = write_phantom(phantom, tmp_path, format="npy")
    header, *rows = rows_of(files.sheet)
    assert header == ["tile", "channel", "path", "tile_x", "tile_y", "tile_z"]
    assert [row[3:] for row in rows] == [list(map(str, index)) for index in phantom.indices]
    image = np.load(files.tiles[2], mmap_mode="r")
    assert image.shape == (20, 24, 12)
    np.testing.assert_array_equal(image, phantom.tile((0, 1, 0), "c0"))


@pytest.mark.parametrize("name", ["tiles.tsv", "config.yaml", "truth.tsv"])
def test_nothing_is_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name} is there already"):
        write_phantom(Phantom(**SMALL), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_failed_write_leaves_no_half_file_and_no_sheet(tmp_path, monkeypatch):
    def fail(stream, *_, **__):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    with pytest.raises(OSError, match="disk full"):
        write_phantom(Phantom(**SMALL), tmp_path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("shape", [(128, 128, 64), (1024, 1024)])
def test_a_tile_needs_the_memory_of_few_copies(shape):
    phantom = Phantom(tile_shape=shape)
    phantom.tile((0, 0), "c0")
    _, peak = traced(phantom.tile, (0, 0), "c0")
    copies = peak / (4 * math.prod(shape))
    # Light in float32, tile in uint16, and what the stripes need, which does not grow with z.
    assert copies < 2.2


def test_position_error_is_free_of_the_common_shift():
    truth = {"a": (0, 0, 0), "b": (100, 2, 0), "c": (203, -1, 0)}
    moved = {tile: tuple(p + 7 for p in corner) for tile, corner in truth.items()}
    assert position_error(moved, truth) == 0
    moved["c"] = (210, 6 - 2, 7)
    assert position_error(moved, truth) == 2
    assert position_error({"a": (0.25, 0.0, 0), "b": (0, 0, 0)}, {"a": (0, 0), "b": (0, 0)}) == (
        0.125
    )
    with pytest.raises(InputError, match=r"only in one of them: \['b'\]"):
        position_error({"a": (0, 0)}, {"a": (0, 0), "b": (1, 1)})
    with pytest.raises(InputError, match="Compare the tiles"):
        position_error({}, {})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"grid": (3,)}, r"grid=\(3,\).*2 to 3 numbers"),
        ({"grid": (2, 2, 2), "tile_shape": (40, 40)}, r"grid=\(2, 2, 2\).*2 to 2 numbers"),
        ({"grid": (0, 2)}, r"grid=\(0, 2\)"),
        ({"grid": (2.0, 2)}, r"whole numbers"),
        ({"tile_shape": (40,)}, r"tile_shape=\(40,\): give two or three"),
        ({"overlap": 1.5}, r"overlap=1.5 along x is 240 of 160 voxels"),
        ({"overlap": 128}, r"overlap=128 along y"),
        ({"overlap": (0.2, 0.2, 0.2)}, r"overlap=.*one per grid axis"),
        ({"overlap": 13}, r"overlap=13 along x.*Raise overlap to 14"),
        ({"jitter": -1}, r"jitter=\(-1, -1, -1\)"),
        ({"jitter": (1, 1)}, r"jitter=\(1, 1\).*one per image axis"),
        ({"channels": ()}, r"channels=\(\)"),
        ({"channels": ("a", "a")}, r"different names"),
        ({"channels": ("a b",)}, r"channel 'a b'"),
        ({"photons": 0}, r"photons=0"),
        ({"photons": math.nan}, r"photons=nan"),
        ({"counts_per_photon": -1.0}, r"counts_per_photon=-1"),
        ({"counts_per_photon": math.inf}, r"counts_per_photon=inf"),
        ({"read_noise": -1}, r"read_noise=-1"),
        ({"offset": math.inf}, r"offset=inf"),
        ({"dtype": "int16"}, r"dtype='int16'"),
        ({"dtype": "uint8"}, r"1100 counts, too many for dtype=uint8"),
        ({"missing": ((3, 0),)}, r"\(3, 0\) is no index of grid=\(3, 2\)"),
        ({"missing": ((0, 0, 0),)}, r"\(0, 0, 0\) is no index"),
        ({"grid": (1, 1), "missing": ((0, 0),)}, r"leaves no tile"),
        ({"seed": -1}, r"seed=-1"),
        ({"voxel_size": (1.0, 0.0, 1.0)}, r"voxel_size="),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(InputError, match=message):
        Phantom(**fields)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "png"}, "format='png'"),
        ({"compression": "lzw"}, "compression='lzw'"),
        ({"format": "npy", "compression": "zlib"}, "use tif"),
        ({"dataset": "a/b"}, "dataset 'a/b'"),
    ],
)
def test_ways_of_writing_are_checked(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        write_phantom(Phantom(**SMALL), tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_unknown_channels_are_named():
    with pytest.raises(InputError, match=r"no channel 'dapi'; give one of \('c0',\)"):
        whole(Phantom(**SMALL), "dapi")


def test_new_difficulties_do_what_they_say():
    plain = Phantom(grid=(2, 1), tile_shape=(64, 60), overlap=20, jitter=3, read_noise=0, seed=3)
    first = (0, 0)
    whole = plain.tile(first, "c0").astype(float)
    dim = replace(plain, vignetting=0.4, photons=math.inf).tile(first, "c0") - 100.0
    even = replace(plain, photons=math.inf).tile(first, "c0") - 100.0
    assert dim[32, 30] == pytest.approx(even[32, 30], abs=1)
    assert dim[0, 0] == pytest.approx(0.6 * even[0, 0], rel=0.1)
    empty = replace(plain, empty=(first,)).tile(first, "c0").astype(float)
    assert empty.mean() == pytest.approx(100 + 0.03 * 200 * 5, rel=0.05)
    repeated = replace(plain, period=16, photons=math.inf).tile(first, "c0")
    assert np.array_equal(repeated[16:], repeated[:-16])
    shifted = replace(plain, subvoxel=True)
    assert any(v % 1 for corner in shifted.truth.values() for v in corner)
    assert whole.std() > 0
    with pytest.raises(InputError, match="vignetting"):
        replace(plain, vignetting=1.5)
    with pytest.raises(InputError, match="texture"):
        replace(plain, texture="wood")
