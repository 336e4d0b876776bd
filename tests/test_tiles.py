from __future__ import annotations

import json
import os

import numpy as np
import pytest

from stitchlib import sheets as module
from stitchlib.config import parse_config
from stitchlib.errors import InputError
from stitchlib.neighbours import neighbours
from stitchlib.runs import Run
from stitchlib.tiles import load_datasets

OVERLAP = {"overlap": {"x": 10, "y": 0.25}, "max_shift": {"x": 4, "y": 4, "z": 2}}


class Sheet:
    """A folder with images, a tile sheet and the configuration of a run over it."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "in" / "tiles.tsv"
        self.path.parent.mkdir()
        self.headers = folder / "results" / "headers.json"

    def image(self, name, shape=(40, 32, 6), dtype="uint16"):
        path = self.path.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.zeros(shape, dtype))
        return path

    def write(self, text):
        """Write the sheet; columns are separated by blanks here, '-' is an empty field."""
        lines = [
            "\t".join("" if field == "-" else field for field in line.split())
            for line in text.strip().splitlines()
        ]
        self.path.write_text("\n".join(lines) + "\n")

    def grid(self, *indices, channels=("c0",), base=0, **image):
        """Write a sheet of tiles at these grid indices, with images."""
        rows = ["tile channel path tile_x tile_y"]
        for x, y in indices:
            for channel in channels:
                self.image(f"{x}_{y}_{channel}.npy", **image)
                rows.append(f"x{x}y{y} {channel} {x}_{y}_{channel}.npy {x + base} {y + base}")
        self.write("\n".join(rows))

    def config(self, align=OVERLAP, **more):
        results = str(self.folder / "results")
        value = {"tiles": str(self.path), "results": results, "align": align, **more}
        return parse_config(value)

    def load(self, align=OVERLAP, headers=None, **more):
        return load_datasets(self.config(align, **more), headers)

    def dataset(self, align=OVERLAP, **more):
        (dataset,) = self.load(align, **more)
        return dataset

    def state(self):
        files = sorted(p for p in self.path.parent.rglob("*") if p.is_file())
        return [(p, p.stat().st_mtime_ns, p.stat().st_size, p.read_bytes()) for p in files]

    def refused(self, *parts, align=OVERLAP, **more):
        """Check that ONE error names all these parts, and that the inputs stay as they are."""
        before = self.state()
        with pytest.raises(InputError) as caught:
            self.load(align, self.headers, **more)
        message = str(caught.value)
        for part in parts:
            assert part in message, message
        assert "\n" not in message
        assert self.state() == before
        return message


@pytest.fixture
def sheet(tmp_path):
    return Sheet(tmp_path)


def corners(dataset):
    return {tile.name: tile.nominal for tile in dataset.tiles}


# Where the grid puts the tiles


def test_nominal_corners_of_a_grid(sheet):
    sheet.grid((0, 0), (1, 0), (0, 1), (1, 1))
    dataset = sheet.dataset()
    assert corners(dataset) == {
        "x0y0": (0, 0, 0), "x1y0": (30, 0, 0), "x0y1": (0, 24, 0), "x1y1": (30, 24, 0),
    }  # fmt: skip
    assert [tile.name for tile in dataset.tiles] == ["x0y0", "x1y0", "x0y1", "x1y1"]
    assert [tile.index for tile in dataset.tiles] == [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)]
    assert {tile.shape for tile in dataset.tiles} == {(40, 32, 6)}
    assert (dataset.name, dataset.dtype, dataset.ndim) == ("stitch", "uint16", 3)
    assert all(type(n) is int for corner in corners(dataset).values() for n in corner)


@pytest.mark.parametrize("base", [1, -7, 1000])
def test_indices_may_start_anywhere(sheet, base):
    sheet.grid((0, 0), (1, 0), (0, 1))
    wanted = corners(sheet.dataset())
    sheet.grid((0, 0), (1, 0), (0, 1), base=base)
    assert corners(sheet.dataset()) == wanted


def test_corners_are_rounded_once_and_half_to_even(sheet):
    # 37 voxels with 15 %: steps of 31.45; with 0.5 voxels: 36.5.
    sheet.grid(*[(i, 0) for i in range(6)], shape=(37, 37))
    align = {"overlap": {"x": 0.15}, "max_shift": {"x": 1}}
    assert [t.nominal[0] for t in sheet.dataset(align).tiles] == [0, 31, 63, 94, 126, 157]
    align = {"overlap": {"x": [0, 1]}, "max_shift": {"x": 1}}
    assert [t.nominal[0] for t in sheet.dataset(align).tiles] == [0, 36, 73, 110, 146, 182]


def test_a_range_of_overlaps_means_its_centre(sheet):
    sheet.grid((0, 0), (1, 0), (0, 1))
    align = {"overlap": {"x": [4, 8], "y": [0.25, 0.75]}, "max_shift": {"x": 4}}
    assert corners(sheet.dataset(align))["x1y0"] == (34, 0, 0)
    assert corners(sheet.dataset(align))["x0y1"] == (0, 16, 0)


def test_gaps_are_allowed(sheet):
    sheet.grid((0, 0), (2, 0), (1, 1), (0, 1), (2, 1))
    dataset = sheet.dataset()
    assert corners(dataset)["x2y0"] == (60, 0, 0)
    pairs = [(a.name, b.name, axis) for a, b, axis in neighbours(dataset)]
    assert pairs == [
        ("x0y0", "x0y1", 1), ("x2y0", "x2y1", 1), ("x1y1", "x2y1", 0), ("x0y1", "x1y1", 0),
    ]  # fmt: skip


def test_one_tile_needs_no_overlap(sheet):
    sheet.grid((5, 7))
    assert corners(sheet.dataset(align={})) == {"x5y7": (0, 0, 0)}


def test_a_grid_along_z(sheet):
    for z in range(3):
        sheet.image(f"{z}.npy")
    sheet.write(
        "tile channel path tile_x tile_y tile_z\n"
        + "\n".join(f"t{z} c0 {z}.npy 0 0 {z + 1}" for z in range(3))
    )
    align = {"overlap": {"z": 0.5}, "max_shift": {"z": 1}}
    assert [t.nominal for t in sheet.dataset(align).tiles] == [(0, 0, 0), (0, 0, 3), (0, 0, 6)]


def test_given_positions_need_no_overlap(sheet):
    for name in "ab":
        sheet.image(f"{name}.npy")
    sheet.write("""
        tile channel path tile_x tile_y x y z
        a c0 a.npy 1 1 -10.5 3 2.5
        b c0 b.npy 2 1 20.49 1e1 3.5
    """)
    assert corners(sheet.dataset(align={})) == {"a": (-10, 3, 2), "b": (20, 10, 4)}
    # Without z, the grid says it.
    sheet.write("""
        tile channel path tile_x tile_y x y
        a c0 a.npy 1 1 -10.5 3
        b c0 b.npy 2 1 20.5 4
    """)
    assert corners(sheet.dataset(align={})) == {"a": (-10, 3, 0), "b": (20, 4, 0)}


def test_two_dimensional_tiles(sheet):
    sheet.grid((0, 0), (1, 0), shape=(40, 32))
    dataset = sheet.dataset()
    assert dataset.ndim == 2
    assert [t.shape for t in dataset.tiles] == [(40, 32, 1)] * 2
    assert [t.nominal for t in dataset.tiles] == [(0, 0, 0), (30, 0, 0)]


# Channels and datasets


def test_channels_are_in_order_of_appearance_and_may_lack_tiles(sheet):
    sheet.grid((0, 0), (1, 0))
    sheet.image("b.npy")
    sheet.write("""
        tile channel path tile_x tile_y
        x0y0 red 0_0_c0.npy 0 0
        x1y0 green b.npy 1 0
        x1y0 red 1_0_c0.npy 1 0
    """)
    dataset = sheet.dataset()
    assert dataset.channels == ("red", "green")
    assert dataset.reference == "red"
    assert [sorted(tile.images) for tile in dataset.tiles] == [["red"], ["green", "red"]]
    assert dataset.tiles[1].images["green"].path == "b.npy"


def test_datasets_are_loaded_each_on_its_own(sheet):
    for name in "abcd":
        sheet.image(f"{name}.npy", dtype="uint8" if name in "cd" else "uint16")
    sheet.write("""
        tile channel path tile_x tile_y dataset
        t0 c0 a.npy 0 0 well1
        t0 c1 c.npy 5 5 well2
        t1 c0 b.npy 1 0 well1
        t1 c1 d.npy 6 5 well2
    """)
    one, two = sheet.load()
    assert (one.name, two.name) == ("well1", "well2")
    assert (one.channels, two.channels) == (("c0",), ("c1",))
    assert (one.dtype, two.dtype) == ("uint16", "uint8")
    assert corners(two) == {"t0": (0, 0, 0), "t1": (30, 0, 0)}
    assert corners(one) == corners(two)


def test_without_a_column_the_configuration_names_the_dataset(sheet):
    sheet.grid((0, 0), (1, 0))
    assert sheet.dataset(dataset="brain").name == "brain"
    text = sheet.path.read_text().splitlines()
    sheet.path.write_text(f"{text[0]}\tdataset\n{text[1]}\tliver\n{text[2]}\t\n")
    assert [d.name for d in sheet.load(dataset="brain")] == ["liver", "brain"]


def test_names_and_tables_as_people_write_them(sheet):
    sheet.image("with space/tïle 1.npy")
    sheet.image("b.npy")
    sheet.path.write_bytes(
        "\ufefftile\tchannel\tpath\ttile_x\ttile_y\r\n"
        "A.b-c_9\tc0\t with space/tïle 1.npy \t+1\t0\r\n"
        "\r\n"
        '"0"\tc0\tb.npy\t2\t0\r\n'.encode()
    )
    dataset = sheet.dataset()
    assert corners(dataset) == {"A.b-c_9": (0, 0, 0), "0": (30, 0, 0)}


def test_paths_may_be_absolute(sheet):
    sheet.grid((0, 0), (1, 0))
    sheet.write(f"""
        tile channel path tile_x tile_y
        a c0 {sheet.path.parent}/0_0_c0.npy 0 0
        b c0 ../in/1_0_c0.npy 1 0
    """)
    assert len(sheet.dataset().tiles) == 2


def test_pending_columns_may_be_there_with_what_they_mean_now(sheet):
    sheet.grid((0, 0))
    sheet.write("""
        tile channel path tile_x tile_y tile_z series key select timepoint
        a c0 0_0_c0.npy 0 0 - - - - 0
    """)
    assert len(sheet.dataset().tiles) == 1


# One error each, that names the place, the value and the way out

HEAD = "tile channel path tile_x tile_y"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (f"{HEAD}\na c0 a.npy 0 0\nb c0 none.npy 1 0", ["none.npy", "relative to the sheet"]),
        (f"{HEAD}\na c0 folder 0 0", ["'folder'", "is a directory"]),
        (f"{HEAD}\na c0 folder/ 0 0", ["'folder/'", "is a directory"]),
        (f"{HEAD}\na c0 a.npy 0 0\nb c0 a.png 1 0", ["a.png", "known: .npy"]),
        (f"{HEAD}\na c0 a.npy 0 0\nb c0 broken.npy 1 0", ["broken.npy", "cannot be read"]),
        (
            f"{HEAD}\na c0 a.npy 0 0\nb c0 u8.npy 1 0",
            ["line 3 (u8.npy)", "uint8", "uint16 in line 2", "one type"],
        ),
        (
            f"{HEAD}\na c0 a.npy 0 0\na c1 u8.npy 0 0",
            ["line 3 (u8.npy)", "uint8", "uint16 in line 2", "one type"],
        ),
        (f"{HEAD}\na c0 a.npy 0 0\nb c0 flat.npy 1 0", ["line 3 (flat.npy)", "2-D", "3-D"]),
        (
            f"{HEAD}\na c0 a.npy 0 0\na c1 small.npy 0 0",
            ["line 3 (small.npy)", "(40, 31, 6)", "(40, 32, 6)", "line 2", "one shape"],
        ),
        (
            f"{HEAD}\na c0 a.npy 0 0\na c1 b.npy 1 0",
            ["line 3 (b.npy)", "tile_x = 1, but 0 in line 2", "one position"],
        ),
        (
            f"{HEAD} x y\na c0 a.npy 0 0 1 2\na c1 b.npy 0 0 1 3",
            ["line 3 (b.npy)", "y = 3.0, but 2.0 in line 2", "one position"],
        ),
        (
            f"{HEAD}\na c0 a.npy 0 0\na c0 b.npy 1 0",
            ["line 3", "tile 'a'", "channel 'c0'", "line 2", "remove one"],
        ),
        (f"{HEAD}\na c0 a.npy 0 0\nb c0 b.npy 0 0", ["line 3", "'b'", "(0, 0, 0)", "'a' in line"]),
        (
            f"{HEAD}\na c0 a.npy 0 0\nb c0 b.npy 1 0\nc c0 c.npy 9 0",
            ["tile 'c'", "overlaps no other", "(270, 0, 0)", "align.max_shift"],
        ),
        (
            f"{HEAD} x y\na c0 a.npy 0 0 0 0\nb c0 b.npy 1 0 49 0",
            ["tile 'a'", "overlaps no other", "(4, 4, 2)", "align.max_shift"],
        ),
        ("", ["tiles.tsv: the table is empty", "name the columns"]),
        (HEAD, ["tiles.tsv: the sheet lists no tiles", "one line per tile"]),
        ("tile path tile_x tile_y\na a.npy 0 0", ["column 'channel' is missing"]),
        (f"{HEAD} colour\na c0 a.npy 0 0 red", ["unknown column 'colour'", "known: tile, channel"]),
        (f"{HEAD} Tile\na c0 a.npy 0 0 red", ["unknown column 'Tile'"]),
        ("tile channel path tilex tile_y\na c0 a.npy 0 0", ["'tilex'; did you mean 'tile_x'?"]),
        ("tile,channel,path\na,c0,a.npy", ["'tile,channel,path' is the only column", "tabs"]),
        (f"{HEAD} x y\na c0 a.npy 0 0 1e12 0", ["line 2: x = '1e12'", "between -2³¹ and 2³¹"]),
        (f"{HEAD} tile\na c0 a.npy 0 0 b", ["column 'tile' stands twice"]),
        (f"{HEAD}\na c0 a.npy 0", ["line 2: 4 fields", "names 5", "tabs"]),
        (f"{HEAD}\na c0 a.npy 0 0 0", ["line 2: 6 fields", "names 5", "tabs"]),
        (f"{HEAD}\na c0 a.npy 0 -", ["line 2: column 'tile_y' is empty"]),
        (f"{HEAD}\n- c0 a.npy 0 0", ["line 2: column 'tile' is empty"]),
        (f"{HEAD}\na c0 - 0 0", ["line 2: column 'path' is empty"]),
        (f"{HEAD}\na;rm c0 a.npy 0 0", ["line 2: tile = 'a;rm'", "letters, digits"]),
        (f"{HEAD}\n$(x) c0 a.npy 0 0", ["line 2: tile = '$(x)'", "letters, digits"]),
        (f"{HEAD}\na c0|b a.npy 0 0", ["line 2: channel = 'c0|b'", "letters, digits"]),
        (f"{HEAD}\na c0/../.. a.npy 0 0", ["line 2: channel = 'c0/../..'", "letters, digits"]),
        (f"{HEAD}\na .. a.npy 0 0", ["line 2: channel = '..'", "starts with a letter"]),
        (f"{HEAD}\n_a c0 a.npy 0 0", ["line 2: tile = '_a'", "starts with a letter"]),
        (f"{HEAD}\né c0 a.npy 0 0", ["line 2: tile = 'é'", "starts with a letter"]),
        (f"{HEAD}\na µ a.npy 0 0", ["line 2: channel = 'µ'", "starts with a letter"]),
        (f"{HEAD} dataset\na c a.npy 0 0 a*b", ["line 2: dataset = 'a*b'", "letters, digits"]),
        (f"{HEAD}\na c0 a.npy one 0", ["line 2: tile_x = 'one'", "whole number"]),
        (f"{HEAD}\na c0 a.npy 1.0 0", ["line 2: tile_x = '1.0'", "whole number"]),
        (f"{HEAD}\na c0 a.npy 0 1e3", ["line 2: tile_y = '1e3'", "whole number"]),
        (f"{HEAD}\na c0 a.npy 0 0x1", ["line 2: tile_y = '0x1'", "whole number"]),
        (f"{HEAD}\na c0 a.npy 0 99999999999", ["line 2: tile_y = '99999999999'", "number"]),
        (f"{HEAD} x y\na c0 a.npy 0 0 1,5 2", ["line 2: x = '1,5'", "a number of voxels"]),
        (f"{HEAD} x y\na c0 a.npy 0 0 nan 2", ["line 2: x = 'nan'", "a number of voxels"]),
        (f"{HEAD} x y\na c0 a.npy 0 0 2 -inf", ["line 2: y = '-inf'", "a number of voxels"]),
        (f"{HEAD} x y\na c0 a.npy 0 0 1e300 2", ["line 2: x = '1e300'", "a number of voxels"]),
        (f"{HEAD} x\na c0 a.npy 0 0 1\nb c0 b.npy 1 0 5", ["x or y without the other"]),
        (f"{HEAD} y\na c0 a.npy 0 0 1\nb c0 b.npy 1 0 5", ["x or y without the other"]),
        (
            f"{HEAD} x y\na c0 a.npy 0 0 1 1\nb c0 b.npy 1 0 - 2",
            ["line 3 (b.npy)", "x is empty", "other tiles"],
        ),
        (f"{HEAD} z\na c0 a.npy 0 0 1\nb c0 b.npy 1 0 -", ["line 3 (b.npy)", "z is empty"]),
        (f"{HEAD} series\na c0 a.npy 0 0 -1", ["line 2: series = '-1'", "at least 0"]),
        (f"{HEAD} select\na c0 a.npy 0 0 C", ["line 2: select = 'C'", "e.g. C=1,T=0"]),
        (f"{HEAD} select\na c0 a.npy 0 0 C=1", ["a.npy: C=1 is asked for", "one image"]),
        (f"{HEAD} key\na c0 a.npy 0 0 d", ["line 2: key = 'd'", "not supported yet"]),
        (f"{HEAD} timepoint\na c0 a.npy 0 0 1", ["line 2: timepoint = '1'", "not supported yet"]),
        (f"{HEAD} tile_z\na c0 flat.npy 0 0 0\nb c0 flat2.npy 0 0 1", ["tile_z", "2-D", "flat2"]),
        (f"{HEAD} x y z\na c0 flat.npy 0 0 0 0 3", ["z = 3", "2-D", "line 2 (flat.npy)"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_once(sheet, text, parts):
    for name in ("a.npy", "b.npy", "c.npy", "folder/x.npy"):
        sheet.image(name)
    sheet.image("u8.npy", dtype="uint8")
    sheet.image("small.npy", shape=(40, 31, 6))
    sheet.image("flat.npy", shape=(40, 32))
    sheet.image("flat2.npy", shape=(40, 32))
    (sheet.path.parent / "broken.npy").write_bytes(b"nonsense")
    (sheet.path.parent / "a.png").write_bytes(b"nonsense")
    sheet.write(text)
    message = sheet.refused(*parts)
    assert "tiles.tsv" in message or ".npy" in message or ".png" in message


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (
            {"align": {"max_shift": {"x": 4}}},
            ["align.overlap.x is missing", "several tiles along x"],
        ),
        (
            {"align": {"overlap": {"x": 10}, "max_shift": {"x": 4}}},
            ["align.overlap.y is missing", "several tiles along y"],
        ),
        (
            {"align": {"overlap": {"x": 10, "y": 10}}},
            ["align.max_shift is missing", "no columns x"],
        ),
        (
            {"align": {**OVERLAP, "overlap": {"x": 40, "y": 8}}},
            ["align.overlap.x = 40", "extent along x is 40"],
        ),
        (
            {"align": {**OVERLAP, "overlap": {"x": [30, 60], "y": 8}}},
            ["align.overlap.x = (30, 60)", "extent along x is 40"],
        ),
        ({"reference_channel": "dapi"}, ["reference_channel = 'dapi'", "has only c0, c1"]),
        ({"reference_channel": "C0"}, ["reference_channel = 'C0'", "has only c0, c1"]),
    ],
)
def test_what_the_configuration_lacks_is_named_by_its_key(sheet, options, parts):
    sheet.grid((0, 0), (1, 0), (0, 1), channels=("c0", "c1"))
    sheet.refused(*parts, **options)


def test_a_tile_without_the_reference_channel_is_named(sheet):
    sheet.grid((0, 0), (1, 0), channels=("c0", "c1"))
    lines = sheet.path.read_text().splitlines()
    sheet.path.write_text("\n".join(lines[:3] + lines[4:]) + "\n")
    sheet.refused("line 4", "tile 'x1y0' lacks the reference channel 'c0'", "may lack any channel")
    assert sheet.dataset(reference_channel="c1").reference == "c1"


def test_many_missing_files_are_one_error(sheet):
    sheet.grid((0, 0), (1, 0), (2, 0))
    for path in sheet.path.parent.glob("[12]_*.npy"):
        path.unlink()
    sheet.refused("there is no file '1_0_c0.npy' (and 1 more)", str(sheet.path.parent))


def test_a_broken_link_is_a_missing_file(sheet):
    sheet.grid((0, 0), (1, 0))
    first = sheet.path.parent / "0_0_c0.npy"
    first.rename(sheet.folder / "elsewhere.npy")
    first.symlink_to(sheet.folder / "elsewhere.npy")
    assert len(sheet.dataset().tiles) == 2
    (sheet.folder / "elsewhere.npy").unlink()
    sheet.refused("there is no file '0_0_c0.npy'")


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"tile\t\xff\xfe", "cannot be read"), (b'tile\t"chan', "cannot be read"), (b"\x00\x00", "")],
)
def test_a_sheet_that_is_no_table_is_named(sheet, content, part):
    sheet.path.write_bytes(content)
    sheet.refused("tiles.tsv", part)


def test_a_sheet_that_is_not_there_is_named(sheet):
    sheet.refused("tiles.tsv: there is no such file")
    sheet.path.mkdir()
    sheet.refused("tiles.tsv: is a directory")


@pytest.mark.parametrize(
    ("dtype", "fill"), [("uint8", 256), ("uint8", -1), ("uint16", 0.5), ("int16", 40000)]
)
def test_a_fill_that_the_type_cannot_hold_is_refused(sheet, dtype, fill):
    sheet.grid((0, 0), (1, 0), dtype=dtype)
    value = {**dict(sheet.config().raw), "stitch": {"fill": fill}}
    with pytest.raises(InputError, match=rf"stitch\.fill = {fill}: .*{dtype}; give a whole number"):
        Run.of(value)
    assert Run.of({**value, "stitch": {"fill": 7.0}}).datasets


# The cache of headers


@pytest.fixture
def opened(monkeypatch):
    """Names of the images whose headers are read."""
    names = []
    plain = module.read_header

    def counted(path, part):
        names.append(path.name)
        return plain(path, part)

    monkeypatch.setattr(module, "read_header", counted)
    return names


def test_known_images_are_not_opened_again(sheet, opened):
    sheet.grid((0, 0), (1, 0))
    first = sheet.load(headers=sheet.headers)
    assert sorted(opened) == ["0_0_c0.npy", "1_0_c0.npy"]
    opened.clear()
    assert sheet.load(headers=sheet.headers) == first
    assert opened == []
    sheet.headers.unlink()
    assert sheet.load(headers=sheet.headers) == first
    assert len(opened) == 2


def test_changed_and_new_images_are_opened_again(sheet, opened):
    sheet.grid((0, 0), (1, 0))
    sheet.load(headers=sheet.headers)
    opened.clear()
    image = sheet.image("1_0_c0.npy", shape=(40, 32, 7))
    (dataset,) = sheet.load(headers=sheet.headers)
    assert opened == ["1_0_c0.npy"]
    assert [t.shape for t in dataset.tiles] == [(40, 32, 6), (40, 32, 7)]
    opened.clear()
    # The same size, another date.
    os.utime(image, ns=(1, image.stat().st_mtime_ns + 1))
    sheet.load(headers=sheet.headers)
    assert opened == ["1_0_c0.npy"]
    # What is not in the sheet any more is forgotten.
    assert len(json.loads(sheet.headers.read_text())) == 2


@pytest.mark.parametrize("content", ["", "[1]", "{", "nonsense", "3", '{"a": 1}'])
def test_a_damaged_cache_is_made_again(sheet, opened, content):
    sheet.grid((0, 0), (1, 0))
    sheet.headers.parent.mkdir()
    sheet.headers.write_text(content)
    sheet.load(headers=sheet.headers)
    assert len(opened) == 2
    opened.clear()
    sheet.load(headers=sheet.headers)
    assert opened == []


def test_nothing_is_written_beside_the_inputs(sheet):
    sheet.grid((0, 0), (1, 0))
    before = sheet.state()
    sheet.load(headers=sheet.headers)
    Run.of(dict(sheet.config().raw)).prepare()
    assert sheet.state() == before
