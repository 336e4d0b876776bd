"""Series, channels, times and colours of one file, each a tile's channel of its own."""

from __future__ import annotations

import csv
from itertools import product

import numpy as np
import pytest
import tifffile

from stitchlib import Layout, load_layout
from stitchlib.config import parse_config
from stitchlib.core.boxes import Box
from stitchlib.core.signal import luminance
from stitchlib.errors import InputError
from stitchlib.io.images import open_image, read_header
from stitchlib.io.parts import WHOLE, Part
from stitchlib.sheets import load_sheet
from stitchlib.tiles import Dataset, load_datasets
from tests.acquisition import STEP, Setup, Tile, different, jitter, same
from tests.test_readers import parts, picture

T, C, Z, Y, X = 2, 3, 4, 20, 30

KINDS = {
    "ome": (".ome.tif", {"ome": True}, "TCZYX"),
    "ome-zctyx": (".ome.tif", {"ome": True}, "ZCTYX"),
    "ome-deflate": (".ome.tif", {"ome": True, "compression": "zlib"}, "TCZYX"),
    "ome-tiled": (".ome.tif", {"ome": True, "tile": (16, 16)}, "CTZYX"),
    "imagej": (".tif", {"imagej": True}, "TZCYX"),
    "shaped": (".tif", {}, "CZYX"),
    "big-endian": (".tif", {"byteorder": ">"}, "CZYX"),
}
"""How files with further axes are written: suffix, options of tifffile, axes."""


def hyperstack(axes, dtype="uint16"):
    shape = dict(zip("TCZYX", (T, C, Z, Y, X), strict=True))
    return picture(tuple(shape[a] for a in axes), dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_every_index_along_further_axes_is_a_stack(tmp_path, kind):
    suffix, options, axes = KINDS[kind]
    data, path = hyperstack(axes), tmp_path / f"t{suffix}"
    meta = {"metadata": {"axes": axes}, "photometric": "minisblack"}
    tifffile.imwrite(path, data, **meta, **options)
    further = [a for a in axes if a not in "ZYX"]
    for indices in product(*(range(data.shape[axes.index(a)]) for a in further)):
        select = ",".join(f"{a}={i}" for a, i in zip(further, indices, strict=True))
        taken = dict(zip(further, indices, strict=True))
        wanted = data[tuple(taken.get(a, slice(None)) for a in axes)].T
        reader = open_image(path, Part.parse(None, select))
        assert reader.shape == wanted.shape == (X, Y, Z)
        assert reader.dtype == data.dtype
        for box in parts(wanted.shape):
            np.testing.assert_array_equal(reader.read(box), wanted[box.slices()])


COLOURED = {
    "pixels": ((Y, X, 3), {}),
    "deflate": ((Y, X, 3), {"compression": "zlib"}),
    "tiled": ((Y, X, 3), {"compression": "zlib", "tile": (16, 16)}),
    "planes": ((3, Y, X), {"planarconfig": "separate"}),
    "planes-deflate": ((3, Y, X), {"planarconfig": "separate", "compression": "zlib"}),
    "stack": ((Z, Y, X, 3), {}),
    "stack-deflate": ((Z, Y, X, 3), {"compression": "zlib"}),
    "stack-of-planes": ((Z, 3, Y, X), {"planarconfig": "separate", "compression": "zlib"}),
    "ome-stack": ((Z, Y, X, 3), {"ome": True, "metadata": {"axes": "ZYXS"}}),
}
"""How RGB files are written: shape of a tile, options of tifffile."""


@pytest.mark.parametrize("kind", COLOURED)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_colours_and_their_luminance(tmp_path, kind, dtype):
    shape, options = COLOURED[kind]
    path = tmp_path / ("t.ome.tif" if "ome" in options else "t.tif")
    data = picture(shape, dtype)
    tifffile.imwrite(path, data, photometric="rgb", **options)
    colours = np.moveaxis(data, shape.index(3), 0)
    assert read_header(path, WHOLE) == (colours.T.shape[:-1], dtype, True)
    with pytest.raises(InputError, match=r"RGB image.*three channels.*e\.g\. S=0"):
        open_image(path)
    red, green, blue = colours.astype(int)
    bright = np.rint((299 * red + 587 * green + 114 * blue) / 1000)
    for part, wanted in [
        *((Part().colour(i), colours[i].T) for i in range(3)),
        (Part(luminance=True), bright.T),
    ]:
        reader = open_image(path, part)
        assert (reader.shape, reader.dtype) == (wanted.shape, dtype)
        for box in parts(wanted.shape):
            voxels = reader.read(box)
            assert voxels.dtype == dtype
            np.testing.assert_array_equal(voxels, wanted[box.slices()])


def test_luminance_of_the_extremes():
    for value in (0, 255):
        assert luminance(np.full((3, 2), value, np.uint8)).tolist() == [value, value]
    ends = np.array([[-(2**31), 2**31 - 1]] * 3, np.int32)
    assert luminance(ends).tolist() == ends[0].tolist()
    floats = np.array([[0.1], [0.2], [0.3]], np.float32)
    assert luminance(floats).dtype == np.float32


def test_series_are_images_of_their_own(tmp_path):
    path = tmp_path / "t.ome.tif"
    images = [picture((X, Y, Z), "uint16"), picture((12, 10), "uint16")]
    with tifffile.TiffWriter(path, ome=True) as writer:
        for image in images:
            writer.write(image.T, photometric="minisblack", metadata={"axes": "ZYX"[-image.ndim :]})
    for series, image in enumerate(images):
        reader = open_image(path, Part(series))
        assert reader.shape == image.shape
        box = Box((0,) * image.ndim, image.shape)
        np.testing.assert_array_equal(reader.read(box), image)
    with pytest.raises(InputError, match=r"series 2 is asked for, but the file has 2: 0: ZYX"):
        open_image(path, Part(2))


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (None, r"axes TCZYX with shape .*'select' takes one index .*e\.g\. T=0,C=0"),
        ("T=1", r"axes TCZYX with shape .*e\.g\. C=0"),
        ("T=1,C=3", r"C=3 is selected, but there is only C=0 … 2: axes TCZYX"),
        ("T=1,C=0,S=1", "S=1 is selected, but there is only one: axes TCZYX"),
        ("T=1,C=0,Y=3", "Y=3 is selected, but Y is not one further axis of TCZYX"),
    ],
)
def test_what_is_not_one_image_is_named(tmp_path, select, message):
    path = tmp_path / "t.ome.tif"
    meta = {"metadata": {"axes": "TCZYX"}, "photometric": "minisblack"}
    tifffile.imwrite(path, hyperstack("TCZYX"), ome=True, **meta)
    with pytest.raises(InputError, match=message):
        open_image(path, Part.parse(None, select))


def test_an_axis_that_is_not_there_has_index_0(tmp_path):
    image = picture((X, Y), "uint16")
    tifffile.imwrite(tmp_path / "t.tif", image.T)
    reader = open_image(tmp_path / "t.tif", Part.parse(0, "C=0,T=0"))
    np.testing.assert_array_equal(reader.read(Box((0, 0), (X, Y))), image)


def test_npy_files_have_no_parts(tmp_path):
    np.save(tmp_path / "t.npy", picture((X, Y)))
    with pytest.raises(InputError, match=r"t\.npy: series 1, C=2 is asked for"):
        open_image(tmp_path / "t.npy", Part.parse(1, "C=2"))


# The sheet


def sheet(folder, text):
    """Write a sheet; columns are separated by blanks, '-' is an empty field."""
    lines = [[f.strip("-") for f in line.split()] for line in text.strip().splitlines()]
    path = folder / "tiles.tsv"
    path.write_text("\n".join(map("\t".join, lines)) + "\n")
    return path


def rgb(path, seed=0, shape=(Y, X, 3)):
    tifffile.imwrite(path, picture(shape, "uint8", seed), photometric="rgb")


def rows(folder, text):
    return load_sheet(sheet(folder, text), "d", None)


def test_rgb_is_three_channels_in_order_of_first_appearance(tmp_path):
    for name in "ab":
        rgb(tmp_path / f"{name}.tif")
        tifffile.imwrite(tmp_path / f"{name}_dapi.tif", picture((X, Y), "uint8").T)
    found = rows(
        tmp_path,
        """
        tile channel path tile_x tile_y
        a dapi a_dapi.tif 0 0
        a he a.tif 0 0
        b he b.tif 1 0
        b dapi b_dapi.tif 1 0
        """,
    )
    names = list(dict.fromkeys(row.channel for row in found))
    assert names == ["dapi", "he_R", "he_G", "he_B"]
    assert [row.image.name for row in found if row["tile"] == "b"] == [
        "b.tif (S=0)", "b.tif (S=1)", "b.tif (S=2)", "b_dapi.tif",
    ]  # fmt: skip
    assert {row.aligned.name for row in found if row.is_colour} == {
        "a.tif (luminance)", "b.tif (luminance)",
    }  # fmt: skip


def coloured(folder, **config) -> Dataset:
    for name in "ab":
        rgb(folder / f"{name}.tif")
    path = sheet(folder, config.pop("text"))
    align = {"overlap": {"x": 8}, "max_shift": {"x": 2, "y": 2, "z": 0}}
    (dataset,) = load_datasets(parse_config({"tiles": str(path), "align": align, **config}))
    return dataset


HE = """
tile channel path tile_x tile_y
a he a.tif 0 0
b he b.tif 1 0
"""


@pytest.mark.parametrize(
    ("reference", "aligned"),
    [(None, "a.tif (luminance)"), ("he", "a.tif (luminance)"), ("he_G", "a.tif (S=1)")],
)
def test_rgb_is_aligned_on_its_luminance(tmp_path, reference, aligned):
    dataset = coloured(tmp_path, text=HE, reference_channel=reference)
    assert dataset.tiles[0].aligned.name == aligned
    assert dataset.channels == ("he_R", "he_G", "he_B")


def test_selected_colours_are_channels_like_others(tmp_path):
    text = """
    tile channel path tile_x tile_y select
    a green a.tif 0 0 S=1
    b green b.tif 1 0 S=1
    b red b.tif 1 0 S=0
    """
    dataset = coloured(tmp_path, text=text)
    assert dataset.channels == ("green", "red")
    assert dataset.tiles[1].aligned.name == "b.tif (S=1)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "tile channel path tile_x tile_y select\na he a.tif 0 0 -\na he_G a.tif 0 0 S=1",
            "line 3: .*channel 'he_G' stand in line 2 already",
        ),
        (
            "tile channel path tile_x tile_y select\na he a.tif 0 0 S=0,S=1",
            "line 2: select = 'S=0,S=1': names an axis twice",
        ),
        (
            "tile channel path tile_x tile_y select\na he a.tif 0 0 red",
            "line 2: select = 'red': must be axes .* e.g. C=1,T=0",
        ),
        ("tile channel path tile_x tile_y series\na he a.tif 0 0 7", "a.tif: series 7 is asked"),
        (
            "tile channel path tile_x tile_y select\na he a.tif 0 0 S=3",
            "a.tif: S=3 is selected, but there is only S=0 … 2",
        ),
    ],
)
def test_what_is_wrong_in_the_sheet_is_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        coloured(tmp_path, text=text)


def test_a_channel_is_rgb_in_all_tiles_or_in_none(tmp_path):
    tifffile.imwrite(tmp_path / "c.tif", picture((X, Y), "uint8").T)
    with pytest.raises(InputError, match=r"line 4 \(c.tif\): channel 'he' is one colour here, but"):
        coloured(tmp_path, text=f"{HE}c he c.tif 2 0")


def test_an_unknown_reference_names_what_there_is(tmp_path):
    with pytest.raises(InputError, match="has only he, he_R, he_G, he_B"):
        coloured(tmp_path, text=HE, reference_channel="dapi")


# The whole workflow


class Colours(Setup):
    """An acquisition of RGB stacks: channels are the colours of one file a tile."""

    select = ""

    def path(self, dataset, tile, channel):  # noqa: ARG002 - one file for all
        return self.folder / "data" / f"{tile}.tif"

    def save(self, dataset, tile, channel):
        image = self.tiles[dataset, tile]
        colours = [image.image(c).T for c in ("c0", "c1", "c2")]
        path = self.path(dataset, tile, channel)
        path.parent.mkdir(exist_ok=True)
        options = {"photometric": "rgb", "compression": "zlib"}
        tifffile.imwrite(path, np.stack(colours, -1), **options)

    def write(self):
        super().write()
        lines = ["tile\tchannel\tpath\ttile_x\ttile_y\tselect"]
        for (_, name), tile in self.tiles.items():
            x, y = tile.index
            lines.append(f"{name}\the\t{name}.tif\t{x}\t{y}\t{self.select}")
        (self.folder / "data" / "tiles.tsv").write_text("\n".join(lines) + "\n")


def settle(setup, expected):
    ran = setup.run()
    assert ran.counts == expected, ran.text
    volume, fresh = setup.volume(), setup.fresh()
    assert same(volume, fresh), different(volume, fresh)
    assert setup.run().counts == (0, 0, 0, 0)
    return volume


def test_rgb_through_the_workflow_and_its_reruns(tmp_path):
    channels = ("c0", "c1", "c2")
    setup = Colours(tmp_path)
    for x in (0, 1):
        setup.tiles["d", f"x{x}y0"] = tile = _tile(x, channels)
        setup.folder.mkdir(exist_ok=True)
        setup.save("d", f"x{x}y0", "c0")
        assert tile.channels.keys() == {*channels}
    setup.write()
    volume = settle(setup, (1, 1, 18, 1))
    assert list(volume["@channels"]) == ["he_R", "he_G", "he_B"]
    for number, channel in enumerate(channels):
        cells = volume[f"t00000/s{number:02d}/0/cells"]
        wanted = setup.tiles["d", "x0y0"].image(channel).T
        np.testing.assert_array_equal(cells[:8, :40, :28], wanted[:, :, :28])
    _check_layout(setup, channels)
    # Another file: its pair, its shards in all colours.
    setup.change("x1y0", "c1")
    settle(setup, (1, 1, 18, 1))
    # One colour of it: aligned anew, under the channel's own name.
    setup.select = "S=1"
    setup.write()
    volume = settle(setup, (1, 1, 6, 1))
    assert list(volume["@channels"]) == ["he"]


def _tile(x, channels):
    off = jitter(x, 0)
    return Tile((x, 0), (x * STEP + off[0], off[1], off[2]), dict.fromkeys(channels, 0))


def _check_layout(setup, channels):
    """The layout file opens, shows the luminance, and can be saved again."""
    layout = load_layout(str(setup.results() / "layout.json"))
    first = layout.sources[0]
    colours = np.stack([setup.tiles["d", "x0y0"].image(c) for c in channels])
    np.testing.assert_array_equal(first.array, luminance(colours))
    again = setup.folder / "again.json"
    layout.save(str(again))
    other = load_layout(str(again))
    assert isinstance(other, Layout)
    np.testing.assert_array_equal(other.sources[0].array, first.array)
    with (setup.results() / "positions.tsv").open() as file:
        assert len(list(csv.DictReader(file, delimiter="\t"))) == 2
