from __future__ import annotations

import itertools
import re
import resource
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import h5py
import npy2bdv
import numpy as np
import pytest
import tifffile

from stitchlib import Layout, Source, __version__, levels, memory, stitch
from stitchlib.assemble import assemble, volume_card
from stitchlib.cards import read_card
from stitchlib.core.boxes import Box
from stitchlib.core.pyramid import halve, level_factors
from stitchlib.errors import InputError
from stitchlib.io import sinks, spool
from stitchlib.io.files import write_record
from stitchlib.plans import FusionPlan, ShardPlan
from stitchlib.runs import Run
from stitchlib.stitch import fuse, memory_needed, stitch_shard
from tests.traced import traced

# Corners in the sheet's frame: a jittered 2 × 2 grid with negative corners, and a tile that leaves
# a gap between itself and the others.
CORNERS = [(-3, 2, 0), (18, -1, 2), (-1, 17, 1), (20, 15, -1), (50, 1, 0)]
SHAPE = (26, 22, 9)


class Tiles:
    """Tiles on disk and in memory; a run over them that places them where they are said to be."""

    def __init__(self, folder, corners, shapes, dtype="uint16", channels=("c0",), suffix=".npy"):
        self.folder, self.corners, self.shapes = folder, corners, shapes
        self.channels, self.dtype = channels, np.dtype(dtype)
        self.ndim = len(shapes[0])
        rng = np.random.default_rng(5)
        self.images = {}
        rows = ["tile\tchannel\tpath\ttile_x\ttile_y\tx\ty" + "\tz" * (self.ndim == 3)]
        folder.mkdir(parents=True, exist_ok=True)
        for i, (corner, shape) in enumerate(zip(corners, shapes, strict=True)):
            for channel in channels:
                if (i, channel) in getattr(self, "lacking", ()):
                    continue
                image = self.image(rng, shape)
                self.images[i, channel] = image
                path = folder / f"t{i}_{channel}{suffix}"
                if suffix == ".npy":
                    np.save(path, image)
                else:
                    tifffile.imwrite(path, image.T, photometric="minisblack")
                where = "\t".join(map(str, corner[: self.ndim]))
                rows.append(f"t{i}\t{channel}\t{path.name}\t{i}\t0\t{where}")
        (folder / "tiles.tsv").write_text("\n".join(rows) + "\n")

    def image(self, rng, shape):
        if self.dtype.kind == "f":
            return rng.normal(0, 1000, shape).astype(self.dtype)
        info = np.iinfo(self.dtype)
        return rng.integers(info.min, info.max, shape, endpoint=True).astype(self.dtype)

    def stitch(self, results, *, order=1, voxel_size=(1, 1, 1), blending="interpolation", fill=0,
               **output):  # fmt: skip
        """Run all stitch jobs, then assemble, as the workflow's scripts do; return the volume."""
        run = Run.of(
            {
                "tiles": str(self.folder / "tiles.tsv"),
                "results": str(results),
                "dataset": "d",
                "voxel_size": dict(zip("xyz", voxel_size, strict=True)),
                "align": {"max_shift": {"x": 500, "y": 500, "z": 20}},
                "stitch": {"blending": blending, "fill": fill},
                "output": {"chunk": 4, "shard": 16, **output},
            }
        ).datasets["d"]
        run.write_cards()
        corners = [(*corner, 0)[:3] for corner in self.corners]
        positions = {f"t{i}": list(corner) for i, corner in enumerate(corners)}
        write_record(run.place_record, [], positions=positions)
        run.finish()
        shards = 0
        for card in sorted((run.folder / "cards" / "stitch").rglob("*.json"))[::order]:
            where = card.relative_to(run.folder / "cards" / "stitch").with_suffix(".h5")
            plan = ShardPlan.from_json(read_card(card))
            stitch_shard(plan, self.folder, run.folder / "shards" / where)
            shards += 1
        (card,) = (run.folder / "cards" / "assemble").glob("*.json")
        assemble(read_card(card), card.stem, run.folder / "shards", run.volume)
        self.shards = shards
        return run.volume

    # The slow reference

    @property
    def least(self):
        return np.min([(*corner, 0)[:3] for corner in self.corners], axis=0)

    def reference(self, channel, blending="interpolation", fill=0):
        """Blend voxel by voxel, in integers of any size or in float64; axes (x, y, z)."""
        shapes = [(*shape, 1)[:3] for shape in self.shapes]
        lowers = [np.subtract((*corner, 0)[:3], self.least) for corner in self.corners]
        extent = np.max([a + s for a, s in zip(lowers, shapes, strict=True)], axis=0)
        whole = np.full(extent, fill, self.dtype)
        for voxel in np.ndindex(*extent):
            values, weights = [], []
            for i, (lower, shape) in enumerate(zip(lowers, shapes, strict=True)):
                at = tuple(int(v - a) for v, a in zip(voxel, lower, strict=True))
                inside = all(0 <= a < n for a, n in zip(at, shape, strict=True))
                if inside and (i, channel) in self.images:
                    values.append(self.images[i, channel].reshape(shape)[at].item())
                    # The z of a plane was added here; only axes that the tile has give it depth.
                    own = list(zip(at, shape, strict=True))[: len(self.shapes[i])]
                    weights.append(1 + min(min(a, n - 1 - a) for a, n in own))
            if values:
                whole[voxel] = blended(values, weights, blending, self.dtype)
        return whole


def blended(values, weights, blending, dtype):
    if blending in ("max", "min"):
        return {"max": max, "min": min}[blending](values)
    if blending == "mean":
        weights = [1] * len(values)
    total = sum(v * w for v, w in zip(values, weights, strict=True))
    if dtype.kind == "f":
        return values[0] if len(values) == 1 else total / sum(weights)
    quotient, rest = divmod(total, sum(weights))
    twice = 2 * rest - sum(weights)
    return quotient + (twice > 0 or (twice == 0 and quotient % 2))


def levels_of(whole, voxel_size=(1, 1, 1), levels=None):
    factors = level_factors(whole.shape, voxel_size, levels)
    made = [whole]
    for low, high in itertools.pairwise(factors):
        made.append(halve(made[-1], tuple(b > a for a, b in zip(low, high, strict=True))))
    return made


def read(volume, channel=0):
    """Read all levels of a channel, axes (x, y, z)."""
    with h5py.File(volume) as file:
        group = file[f"t00000/s{channel:02d}"]
        return [group[f"{level}/cells"][()].T for level in range(len(group))]


def check(tiles, volume, voxel_size=(1, 1, 1), levels=None, channel=0, **options):
    wanted = tiles.reference(tiles.channels[channel], **options)
    made = read(volume, channel)
    assert len(made) == len(levels_of(wanted, voxel_size, levels))
    if tiles.dtype.kind == "f":
        np.testing.assert_allclose(made[0], wanted, rtol=1e-6, atol=1e-4)
        wanted = made[0]
    for level, whole in zip(made, levels_of(wanted, voxel_size, levels), strict=True):
        assert level.dtype == tiles.dtype
        np.testing.assert_array_equal(level, whole)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    return Tiles(tmp_path_factory.mktemp("five"), CORNERS, [SHAPE] * 5)


@pytest.fixture(scope="module")
def five_reference(five):
    return five.reference("c0")


# Whatever the cut, the volume is the same


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        ({}, 14),
        ({"shard": 1000}, 1),
        ({"shard": "auto"}, 1),
        ({"shard": 4}, None),
        ({"shard": {"x": 32, "y": 16, "z": 4}}, None),
        ({"chunk": 64, "shard": 64}, 2),
        ({"chunk": {"x": 5, "y": 3, "z": 2}, "shard": {"x": 20, "y": 12, "z": 8}}, None),
        ({"chunk": {"x": 1000, "y": 2, "z": 1000}, "shard": {"x": 1000, "y": 6, "z": 1000}}, None),
        ({"chunk": 1, "shard": 16}, None),
        ({"levels": 1}, None),
        ({"levels": 3, "shard": 8}, None),
        ({"levels": 5}, None),
        ({"levels": 9, "shard": "auto"}, None),
        ({"levels": 4, "compression": "none"}, None),
        ({"levels": 3, "voxel_size": (1, 1, 3)}, None),
        ({"levels": 4, "voxel_size": (3, 3, 1), "shard": 8}, None),
        ({"levels": 4, "voxel_size": (1, 5, 9)}, None),
        ({"levels": 3, "order": -1}, None),
    ],
)
def test_the_volume_does_not_depend_on_how_it_is_cut(
    five, five_reference, tmp_path, monkeypatch, options, jobs
):
    monkeypatch.setattr(levels, "SLAB_VOXELS", 600)
    volume = five.stitch(tmp_path, **options)
    if jobs:
        assert five.shards == jobs
    wanted = levels_of(five_reference, options.get("voxel_size", (1, 1, 1)), options.get("levels"))
    made = read(volume)
    assert len(made) == len(wanted)
    for level, whole in zip(made, wanted, strict=True):
        np.testing.assert_array_equal(level, whole)


def test_small_columns_change_nothing(five, five_reference, tmp_path, monkeypatch):
    monkeypatch.setattr(levels, "COLUMN_BYTES", 1)
    volume = five.stitch(tmp_path, levels=3, shard=32)
    for level, whole in zip(read(volume), levels_of(five_reference, levels=3), strict=True):
        np.testing.assert_array_equal(level, whole)


@pytest.mark.parametrize("blending", ["interpolation", "max", "min", "mean"])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def test_every_type_and_blending(tmp_path, dtype, blending):
    corners, shapes = [(0, 0, 0), (6, 2, 1), (1, 5, -1), (7, 6, 0)], [(10, 9, 4)] * 4
    tiles = Tiles(tmp_path / "in", corners, shapes, dtype)
    volume = tiles.stitch(tmp_path, blending=blending, levels=2, shard=8)
    check(tiles, volume, blending=blending, levels=2)


@pytest.mark.parametrize(("dtype", "fill"), [("uint16", 7), ("int16", -5), ("float32", 0.1)])
def test_gaps_hold_the_fill_value_at_every_level(tmp_path, dtype, fill):
    # Shards in the gap are never made; others hold a part of it.
    tiles = Tiles(tmp_path / "in", [(0, 0, 0), (75, 3, 2)], [(10, 9, 4)] * 2, dtype)
    volume = tiles.stitch(tmp_path, fill=fill, levels=4, shard=16)
    assert tiles.shards == 3
    check(tiles, volume, fill=fill, levels=4)
    assert np.all(read(volume)[0][12:74] == np.dtype(dtype).type(fill))


def test_gaps_that_are_elsewhere_in_other_slabs(tmp_path, monkeypatch):
    # Slabs share their memory: what one covers may be a gap of the next.
    monkeypatch.setattr(levels, "SLAB_VOXELS", 64)
    corners, shapes = [(0, 0, 0), (3, 2, 4), (5, 0, 9)], [(8, 7, 5), (6, 8, 8), (7, 9, 3)]
    tiles = Tiles(tmp_path / "in", corners, shapes)
    check(tiles, tiles.stitch(tmp_path, fill=7, levels=2, shard=16), fill=7, levels=2)


def test_a_channel_may_lack_tiles(tmp_path):
    class Lacking(Tiles):
        lacking = ((0, "c1"), (2, "c1"), (0, "c2"), (1, "c2"), (3, "c2"))

    corners, shapes = [(0, 0, 0), (8, 0, 0), (0, 7, 0), (8, 7, 0)], [(10, 9, 4)] * 4
    tiles = Lacking(tmp_path / "in", corners, shapes, channels=("c0", "c1", "c2"))
    volume = tiles.stitch(tmp_path, fill=3, levels=2, shard=8)
    for channel in range(3):
        check(tiles, volume, channel=channel, fill=3, levels=2)
    extents = {levels[0].shape for levels in (read(volume, c) for c in range(3))}
    assert extents == {(18, 16, 4)}


def test_tiles_of_different_shapes(tmp_path):
    tiles = Tiles(
        tmp_path / "in", [(0, 0, 0), (6, 1, 1), (2, 2, 0)], [(9, 8, 5), (4, 9, 3), (5, 5, 1)]
    )
    check(tiles, tiles.stitch(tmp_path, levels=2), levels=2)


def test_two_dimensions(tmp_path):
    tiles = Tiles(tmp_path / "in", [(4, -6), (19, -7), (5, 9)], [(20, 21)] * 3)
    volume = tiles.stitch(tmp_path, levels=3, shard=16)
    check(tiles, volume, levels=3)
    with h5py.File(volume) as file:
        assert file["t00000/s00/0/cells"].shape == (1, 37, 35)
        assert file["t00000/s00/0/cells"].chunks == (1, 4, 4)
        assert file.attrs["origin_xyz"].tolist() == [4, -7, 0]
        assert file["s00/resolutions"][()].tolist() == [[1, 1, 1], [2, 2, 1], [4, 4, 1]]


def test_two_dimensions_fade_linearly(tmp_path):
    tiles = Tiles(tmp_path / "in", [(0, 0), (28, 0)], [(40, 41)] * 2)
    np.save(tmp_path / "in" / "t0_c0.npy", np.zeros((40, 41), np.uint16))
    np.save(tmp_path / "in" / "t1_c0.npy", np.full((40, 41), 1000, np.uint16))
    row = read(tiles.stitch(tmp_path))[0][27:41, 20, 0].tolist()
    assert row == [0, 77, 154, 231, 308, 385, 462, 538, 615, 692, 769, 846, 923, 1000]


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_one_tile_is_copied(tmp_path, suffix):
    tiles = Tiles(tmp_path / "in", [(3, 4, 5)], [(10, 9, 4)], suffix=suffix)
    volume = tiles.stitch(tmp_path)
    np.testing.assert_array_equal(read(volume)[0], tiles.images[0, "c0"])


def test_tiff_stacks_are_stitched_like_arrays(tmp_path):
    arrays = Tiles(tmp_path / "npy", CORNERS[:2], [SHAPE] * 2)
    stacks = Tiles(tmp_path / "tif", CORNERS[:2], [SHAPE] * 2, suffix=".tif")
    a, b = (tiles.stitch(tmp_path / "r" / str(i)) for i, tiles in enumerate((arrays, stacks)))
    np.testing.assert_array_equal(read(a)[0], read(b)[0])


def test_any_window_is_that_part_of_the_whole(five, five_reference):
    # Negative corners, windows beyond the tiles, both memory layouts.
    boxes = [Box.at(corner, SHAPE) for corner in CORNERS]
    readers = [Voxels(five.images[i, "c0"]) for i in range(5)]
    rng = np.random.default_rng(0)
    origin = five.least
    for order in "CF":
        for _ in range(15):
            lower = rng.integers(-30, 60, 3)
            window = Box.at(tuple(lower.tolist()), tuple(rng.integers(1, 40, 3).tolist()))
            out = np.full(window.shape, 9, np.uint16, order=order)
            fuse(FusionPlan.of(boxes, window, "interpolation"), readers, out)
            wanted = np.full(window.shape, 9, np.uint16)
            for box in boxes:
                part = box.intersection(window)
                if not part.empty:
                    here = part.relative_to(window.lower).slices()
                    wanted[here] = five_reference[part.relative_to(origin).slices()]
            np.testing.assert_array_equal(out, wanted)


class Voxels:
    """An array as a reader."""

    order = "C"

    def __init__(self, array):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self, box):
        return self._array[box.slices()]


# What the volume says of itself


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    corners, shapes = [(-5, 3, 2), (4, 5, 0)], [(12, 10, 6)] * 2
    tiles = Tiles(folder / "in", corners, shapes, channels=("GFP", "dapi-2"))
    volume = tiles.stitch(folder, voxel_size=(1.6, 1.6, 5.0), levels=3, chunk=8, shard=16)
    return tiles, volume


def test_npy2bdv_reads_all_views(two_channels):
    tiles, volume = two_channels
    editor = npy2bdv.BdvEditor(str(volume.with_suffix(".xml")), mode="r")
    try:
        counts = (editor.ntimes, editor.nilluminations, editor.nchannels, editor.ntiles)
        assert counts == (1, 1, 2, 1)
        assert editor.dtype == np.uint16
        for number, channel in enumerate(tiles.channels):
            wanted = levels_of(tiles.reference(channel), (1.6, 1.6, 5.0), 3)
            for level, whole in enumerate(wanted):
                view = editor.read_view(channel=number, ilevel=level)
                np.testing.assert_array_equal(view, whole.T)
            assert editor.get_view_property("voxel_size", channel=number) == (1.6, 1.6, 5.0)
            assert editor.get_view_property("view_shape", channel=number) == (21, 12, 8)
    finally:
        editor._file_object_h5.close()


def test_the_xml_has_names_and_one_affine(two_channels):
    _, volume = two_channels
    root = ET.parse(volume.with_suffix(".xml")).getroot()
    assert root.tag == "SpimData"
    assert root.get("version") == "0.2"
    assert root.find("BasePath").text == "."
    assert root.find("BasePath").get("type") == "relative"
    loader = root.find("SequenceDescription/ImageLoader")
    assert loader.get("format") == "bdv.hdf5"
    assert loader.find("hdf5").text == volume.name
    assert loader.find("hdf5").get("type") == "relative"
    setups = root.find("SequenceDescription/ViewSetups")
    for number, (setup, name) in enumerate(
        zip(setups.findall("ViewSetup"), ("GFP", "dapi-2"), strict=True)
    ):
        assert setup.find("id").text == str(number)
        assert setup.find("name").text == name
        assert setup.find("size").text == "21 12 8"
        assert setup.find("voxelSize/unit").text == "µm"
        assert setup.find("voxelSize/size").text == "1.6 1.6 5"
        assert {a.tag: a.text for a in setup.find("attributes")} == {
            "illumination": "0", "channel": str(number), "tile": "0", "angle": "0",
        }  # fmt: skip
    kinds = {group.get("name"): group for group in setups.findall("Attributes")}
    assert set(kinds) == {"illumination", "channel", "tile", "angle"}
    assert [c.find("name").text for c in kinds["channel"].findall("Channel")] == ["GFP", "dapi-2"]
    times = root.find("SequenceDescription/Timepoints")
    assert (times.get("type"), times.find("first").text, times.find("last").text) == (
        "range", "0", "0",
    )  # fmt: skip
    assert root.find("SequenceDescription/MissingViews") is not None
    registrations = root.findall("ViewRegistrations/ViewRegistration")
    assert [(r.get("timepoint"), r.get("setup")) for r in registrations] == [("0", "0"), ("0", "1")]
    for registration in registrations:
        (transform,) = registration.findall("ViewTransform")
        assert transform.get("type") == "affine"
        affine = np.array(transform.find("affine").text.split(), float).reshape(3, 4)
        wanted = [[1.6, 0, 0, -5 * 1.6], [0, 1.6, 0, 3 * 1.6], [0, 0, 5.0, 0]]
        np.testing.assert_allclose(affine, wanted)


def test_the_volume_says_where_it_lies_and_what_it_is(two_channels):
    _, volume = two_channels
    with h5py.File(volume) as file:
        attributes = dict(file.attrs)
        assert set(attributes) == {
            "origin_xyz", "voxel_size_um_xyz", "channels", "stitchlib_version", "card",
        }  # fmt: skip
        assert attributes["origin_xyz"].tolist() == [-5, 3, 0]
        assert attributes["origin_xyz"].dtype.kind == "i"
        assert attributes["voxel_size_um_xyz"].tolist() == [1.6, 1.6, 5.0]
        assert list(attributes["channels"]) == ["GFP", "dapi-2"]
        assert attributes["stitchlib_version"] == __version__
        assert attributes["card"] == volume_card(volume)
        assert set(file) == {"s00", "s01", "t00000"}
        for setup in ("s00", "s01"):
            assert file[setup].attrs["dataType"] == "uint16"
            assert file[setup]["resolutions"].dtype == np.float64
            assert file[setup]["resolutions"][()].tolist() == [[1, 1, 1], [2, 2, 1], [4, 4, 2]]
            assert file[setup]["subdivisions"].dtype == np.int32
            assert file[setup]["subdivisions"][()].tolist() == [[8, 8, 8], [8, 6, 8], [6, 3, 4]]
            assert set(file["t00000"][setup]) == {"0", "1", "2"}
            cells = file["t00000"][setup]["0"]["cells"]
            assert cells.shape == (8, 12, 21)
            assert cells.chunks == (8, 8, 8)
            assert cells.dtype == np.uint16
            # Standard filters that every reader has.
            assert (cells.compression, cells.shuffle) == ("gzip", True)
    cards = volume.parent / "cards" / "assemble"
    assert [card.stem for card in cards.glob("*.json")] == [attributes["card"]]


def test_without_compression_there_is_no_filter(five, tmp_path):
    with h5py.File(five.stitch(tmp_path, compression="none")) as file:
        cells = file["t00000/s00/0/cells"]
        assert (cells.compression, cells.shuffle) == (None, False)


def test_a_second_run_gives_the_same_bytes(five, tmp_path):
    first, second = (five.stitch(tmp_path / name, levels=3) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    xml = first.with_suffix(".xml").read_bytes()
    assert xml == second.with_suffix(".xml").read_bytes()


# What goes wrong


def one_shard(five, **changes):
    tiles = tuple(
        ({"path": f"t{i}_c0.npy"}, Box.at(corner, SHAPE).relative_to(five.least))
        for i, corner in enumerate(CORNERS)
    )
    box = Box((0, 0, 0), (79, 40, 12))
    plan = ShardPlan(box, (((1, 1, 1), (8, 8, 8)),), tiles, "uint16", "interpolation", 0, "gzip")
    return replace(plan, **changes)


def test_a_tile_that_was_replaced_is_refused_and_nothing_is_left(five, tmp_path):
    target = tmp_path / "shard.h5"
    target.write_text("old")
    for wrong in (
        {"dtype": "uint8"},
        {"tiles": (({"path": "t0_c0.npy"}, Box.at((0,) * 3, (4, 4, 4))),)},
    ):
        with pytest.raises(InputError, match=r"t0_c0\.npy.*was replaced meanwhile"):
            stitch_shard(one_shard(five, **wrong), five.folder, target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_shard_that_cannot_be_read_is_named(five, tmp_path):
    volume = five.stitch(tmp_path)
    before = volume.read_bytes()
    (card,) = (volume.parent / "cards" / "assemble").glob("*.json")
    shard = sorted((volume.parent / "shards").rglob("*.h5"))[3]
    whole = shard.read_bytes()
    for damaged in (None, b"", b"nonsense", whole[: len(whole) // 2]):
        shard.unlink(missing_ok=True)
        if damaged is not None:
            shard.write_bytes(damaged)
        with pytest.raises(InputError, match=f"{shard.name}.*delete it and run again"):
            assemble(read_card(card), card.stem, volume.parent / "shards", volume)
        assert volume.read_bytes() == before
    left = {path.suffix for path in volume.parent.iterdir() if path.is_file()}
    assert left == {".h5", ".xml"}


def test_a_plan_survives_its_card(five):
    plan = one_shard(five, fill=0.1, levels=(((1, 1, 1), (8, 8, 8)), ((2, 2, 1), (8, 8, 4))))
    again = ShardPlan.from_json(plan.as_json())
    assert again.as_json() == plan.as_json()
    assert [box for _, box in again.tiles] == [box for _, box in plan.tiles]
    assert replace(again, tiles=()) == replace(plan, tiles=())


def test_inputs_are_not_changed(five, tmp_path):
    def state():
        return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in five.folder.iterdir()}

    before = state()
    five.stitch(tmp_path, levels=2)
    assert state() == before


def test_a_shard_of_many_tiles_needs_few_open_files(tmp_path):
    corners = [(4 * i, 4 * j, 0) for i in range(10) for j in range(10)]
    tiles = Tiles(tmp_path / "in", corners, [(6, 6, 1)] * 100)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, hard))
    try:
        volume = tiles.stitch(tmp_path, shard=64)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert tiles.shards == 1
    check(tiles, volume)


# Memory


def stacked(n, extent, folder, step, dtype, **how):
    corners = [tuple(i * s for s in step) for i in range(n)]
    image = np.random.default_rng(0).integers(0, 200, extent).astype(dtype)
    for i in range(n):
        tifffile.imwrite(
            folder / f"t{i}.tif", image.T, photometric="minisblack", metadata={"axes": "ZYX"}, **how
        )
    return tuple(
        ({"path": f"t{i}.tif"}, Box.at(corner, extent)) for i, corner in enumerate(corners)
    )


@pytest.mark.parametrize(
    ("n", "step", "extent", "dtype", "factors", "chunk"),
    [
        (1, (0, 0, 0), (256, 256, 64), "uint16", [(1, 1, 1), (2, 2, 2), (4, 4, 4)], 64),
        (2, (128, 0, 0), (256, 256, 64), "uint16", [(1, 1, 1), (2, 2, 2), (4, 4, 4)], 64),
        (2, (0, 0, 0), (256, 256, 64), "uint16", [(1, 1, 1), (2, 2, 2)], 32),
        (4, (32, 32, 0), (256, 256, 48), "uint16", [(1, 1, 1)], 16),
        (12, (8, 8, 0), (200, 200, 32), "uint16", [(1, 1, 1), (2, 2, 2)], 16),
        (3, (100, 0, 0), (200, 200, 40), "float64", [(1, 1, 1), (2, 2, 2)], 16),
        (2, (100, 0, 0), (256, 256, 64), "uint16", [(1, 1, 1), (1, 1, 2), (1, 1, 4)], 64),
        (2, (100, 0, 0), (512, 256, 64), "uint8", [(1, 1, 1), (2, 1, 1), (4, 1, 1)], 64),
        (2, (100, 0, 0), (512, 512, 1), "float32", [(1, 1, 1), (2, 2, 1), (4, 4, 1)], 64),
        (2, (100, 0, 0), (256, 256, 128), "uint16", [(1, 1, 1), (2, 2, 2), (4, 4, 4)], 128),
        (30, (0, 0, 0), (64, 64, 16), "uint16", [(1, 1, 1)], 16),
        (1, (0, 0, 0), (600, 600, 64), "uint16", [(1, 1, 1), (1, 1, 2), (1, 1, 4)], 256),
    ],
)
def test_a_shard_takes_no_more_memory_than_it_says(
    tmp_path, monkeypatch, n, step, extent, dtype, factors, chunk
):
    # Small columns, so that the fixed cost of HDF5 and Python does not hide an error.
    monkeypatch.setattr(levels, "COLUMN_BYTES", 2**21)
    monkeypatch.setattr(levels, "SLAB_VOXELS", 2**19)
    for module in (spool, stitch):
        monkeypatch.setattr(module, "DECODED_BYTES", 2**17)
    peaks = []
    # What is read of the first takes memory, because its bytes are in the other order.
    for how in ({"byteorder": ">"}, {"compression": "zlib"}):
        folder = tmp_path / next(iter(how))
        folder.mkdir()
        tiles = stacked(n, extent, folder, step, dtype, **how)
        upper = tuple(s * (n - 1) + e for s, e in zip(step, extent, strict=True))
        box = Box((0, 0, 0), upper)
        made = tuple(
            (f, tuple(min(chunk, -(-u // a)) for u, a in zip(upper, f, strict=True)))
            for f in factors
        )
        plan = ShardPlan(box, made, tiles, dtype, "interpolation", 0, "gzip")
        if not peaks:
            stitch_shard(plan, folder, tmp_path / "warm.h5")
        peaks.append(traced(stitch_shard, plan, folder, tmp_path / "shard.h5")[1])
    peak = max(peaks)
    card = {"stage": "stitch", **plan.as_json()}
    needed = memory_needed(card)
    assert peak <= needed, f"{peak / needed:.2f} of {needed}"
    # A bound that is far too high would keep jobs from running side by side; it is loosest where
    # many tiles lie on top of each other.
    assert needed < 4 * peak
    assert memory.card_mb(card) == memory.BASE_MB + needed // 2**20


def test_a_limit_that_stitching_exceeds_is_refused_before_anything_runs(tmp_path):
    tiles = Tiles(tmp_path / "in", [(0, 0, 0)], [(600, 400, 40)])

    def run(limit):
        return Run.of(
            {
                "tiles": str(tiles.folder / "tiles.tsv"),
                "results": str(tmp_path / "results"),
                "align": {"max_shift": {"x": 5, "y": 5, "z": 5}},
                "resources": {"mem_mb": limit},
            }
        )

    refused = r"resources.mem_mb = 232: stitching c0/x0y0z0 of dataset 'stitch' needs (\d+) MB"
    with pytest.raises(InputError, match=refused) as refusal:
        run(232)
    needed = int(re.search(refused, str(refusal.value))[1])
    with pytest.raises(InputError, match=f"needs {needed} MB"):
        run(needed - 1)
    run(needed)


def test_a_limit_is_looked_at_again_when_tiles_are_placed(tmp_path):
    tiles = Tiles(tmp_path / "in", [(0, 0, 0), (0, 0, 0)], [(300, 300, 20)] * 2)
    run = Run.of(
        {
            "tiles": str(tiles.folder / "tiles.tsv"),
            "results": str(tmp_path / "results"),
            "dataset": "d",
            "align": {"max_shift": {"x": 500, "y": 500, "z": 20}},
        }
    ).datasets["d"]
    run.write_cards()
    positions = {"t0": [0, 0, 0], "t1": [290, 290, 0]}
    write_record(run.place_record, [], positions=positions)
    needed = max(memory.card_mb(card_of(shard)) for _, shard in run.after(run.positions()).shards)
    limited = replace(run, config=replace(run.config, mem_mb=needed - 1), _wanted={})
    with pytest.raises(InputError, match=f"stitching c0/x0y0z0 .* needs {needed} MB"):
        limited.finish()
    assert not (run.folder / "cards" / "assemble").exists()


def card_of(shard):
    return {"stage": "stitch", **shard.as_json()}


@pytest.mark.parametrize("gap", [0, 7])
def test_a_sink_with_chunks_has_each_of_them_packed_once(tmp_path, monkeypatch, gap):
    monkeypatch.setattr(stitch, "CHUNKS_VOXELS", 2**12)
    rng = np.random.default_rng(0)
    tiles = [rng.integers(1, 2**16, (50, 40, 20), dtype=np.uint16) for _ in range(2)]
    layout = Layout([Source(tiles[0], position=(3, 2, 1)), Source(tiles[1], (45 + 2 * gap, 5, 4))])
    written = []
    write = sinks.Target.write

    def counted(self, box, voxels):
        written.append(box)
        write(self, box, voxels)

    monkeypatch.setattr(sinks.Target, "write", counted)
    with h5py.File(tmp_path / "sink.h5", "w") as file:
        shape = layout.shape[::-1]
        sink = file.create_dataset(
            "a", shape, np.uint16, chunks=(8, 16, 12), compression="gzip", fillvalue=9
        )
        layout.stitch(sink)
        found = sink[()].T
    places = {tuple(n // c for n, c in zip(box.lower, (12, 16, 8), strict=True)) for box in written}
    assert len(written) == len(places) > 1
    assert all(n % c == 0 for box in written for n, c in zip(box.lower, (12, 16, 8), strict=True))
    wanted = np.full(layout.shape, 9, np.uint16)
    layout.stitch(wanted)
    assert (wanted == 9).sum() > 100
    np.testing.assert_array_equal(found, wanted)
