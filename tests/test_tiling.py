"""Tile sheets from files: what names mean, where tiles lie, and what the pixels say against it."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from stitchlib.cli import main
from stitchlib.config import load_config
from stitchlib.errors import InputError
from stitchlib.runs import Run
from stitchlib.tiling.names import guess
from tests.realdata import DATA
from tests.workflow import positions, run, table

SHAPE = (96, 80)
"""Of a tile, x and y."""
STEP = (76, 60)
OVERLAP = (20, 20)


def scene(extent=(340, 300, 12), seed=3):
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 6000, extent).astype(float)
    for axis in range(2):
        picture += np.roll(picture, 1, axis)
    return (picture / 4).astype(np.uint16)


SCENE = scene()


def cut(x, y, depth=None):
    """A tile as a file holds it, (y, x) or (z, y, x)."""
    part = SCENE[x * STEP[0] :, y * STEP[1] :][: SHAPE[0], : SHAPE[1]]
    return part[..., 0].T if depth is None else part[..., :depth].T


def save(folder, name, data, **more):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, data, photometric="minisblack", **more)
    return path


def grid(folder, name="t_r{y}_c{x}.tif", size=(3, 2), first=0, without=(), depth=None):
    for x, y in itertools.product(range(size[0]), range(size[1])):
        if (x, y) not in without:
            save(folder, name.format(x=x + first, y=y + first), cut(x, y, depth))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tiles(capsys, *args, code=0):
    """Run `stitchlib tiles` and return what it printed."""
    got = main(["tiles", *map(str, args)])
    out = capsys.readouterr()
    assert got == code, out.err
    return out.out if code == 0 else out.err


def sheet(path=Path("tiles.tsv")):
    return {row["tile"]: row for row in table(path)}


# Names


def names(pattern, *ranges):
    return [pattern.format(*v) for v in itertools.product(*ranges)]


@pytest.mark.parametrize(
    ("files", "pattern"),
    [
        (names("tile_r{}_c{}.tif", range(3), range(4)), "tile_r<Y,1>_c<X,1>.tif"),
        (
            names("tile_r{}_c{}_ch{}.tif", range(3), range(4), range(2)),
            "tile_r<Y,1>_c<X,1>_ch<C,1>.tif",
        ),
        (
            names("{}_r0_c{}_ch{}.tif", ["B02", "B03"], range(2), range(2)),
            "<W>_r0_c<X,1>_ch<C,1>.tif",
        ),
        (names("a_{:02}_{}_{}.tif", range(2), range(3), ["A", "GFP"]), "a_<Y,2>_<X,1>_<C>.tif"),
        (names("b[{:02} x {:02}].tif", range(2), range(3)), "b[<Y,2> x <X,2>].tif"),
        (names("x{}y{}z{:03}.tif", range(2), range(2), range(3)), "x<X,1>y<Y,1>z<Z,3>.tif"),
        (names("z{0:02}/a_{1}_{2}_z{0:02}.tif", range(2), range(2), range(3)),
         "z<Z,2>/a_<Y,1>_<X,1>_z<Z,2>.tif"),
        ([f"scan_{i:03}_x{i % 3}_y{i // 3}.tif" for i in range(9)], "scan_000_x<X,1>_y<Y,1>.tif"),
        ([f"exp_001_A{i:03}_G.tif" for i in range(1, 13)], "exp_001_A<I,3>_G.tif"),
        ([f"tile_{i}.tif" for i in range(12)], "tile_<I>.tif"),
    ],
)  # fmt: skip
def test_names_are_understood(tmp_path, files, pattern):
    assert guess([tmp_path / f for f in files], tmp_path).pattern == f"{tmp_path}/{pattern}"


def test_a_word_beside_the_grid_is_a_channel_and_other_names_are_left_out(tmp_path):
    files = [*names("t_r{}_c{}_{}.tif", range(2), range(2), ["DAPI", "Cy"]), "overview.tif"]
    found = guess([tmp_path / f for f in files], tmp_path)
    assert {n.texts["C"] for n in found.files} == {"DAPI", "Cy"}
    assert [p.name for p in found.left_out] == ["overview.tif"]


@pytest.mark.parametrize(
    "files",
    [
        names("a_{}_{}_{}.tif", range(3), range(4), range(2)),
        names("x{}_y{}_{}.tif", range(3), range(4), range(2)),
        names("{}_x0_{}.tif", ["left", "right"], ["DAPI", "GFP"]),
    ],
)
def test_what_names_do_not_tell_is_asked_for(tmp_path, files):
    with pytest.raises(InputError, match="Write a tag expression"):
        guess([tmp_path / f for f in files], tmp_path)


# Folders and expressions


def test_a_folder(here, capsys):
    grid(here / "raw")
    text = tiles(capsys, "raw", "-o", "tiles.tsv", "--config", "c/config.yaml")
    assert "guessed: 'raw/t_r<Y,1>_c<X,1>.tif'" in text
    assert "6 tiles on a grid of 3 × 2 (x × y), channel c0\n  no gaps" in text
    assert "tile: 96 × 80 voxels, uint16" in text
    assert "overlap along x: 20 voxels (20.8%)" in text
    assert "stitched: about 248 × 140 voxels, 69.4 kB a channel" in text
    assert "WARNING" not in text
    rows = sheet()
    assert (rows["x2_y1"]["path"], rows["x2_y1"]["tile_x"]) == ("raw/t_r1_c2.tif", "2")
    config = load_config(here / "c/config.yaml")
    assert config.align.overlap == {"x": 20, "y": 20}
    assert config.dataset == "raw"
    assert config.output.chunk == (256, 256, 256)  # of planes; the default suits stacks
    Run.of(config.raw)


def test_nothing_is_overwritten_and_nothing_written_without_output(here, capsys):
    grid(here / "raw", size=(2, 1))
    tiles(capsys, "raw")
    assert [p.name for p in here.iterdir()] == ["raw"]
    (here / "config.yaml").write_text("mine")
    text = tiles(capsys, "raw", "-o", "tiles.tsv", "--config", "config.yaml", code=1)
    assert "config.yaml: is there already" in text
    assert not (here / "tiles.tsv").exists()
    assert (here / "config.yaml").read_text() == "mine"


def test_one_based_names_keep_their_numbers_and_a_missing_tile_is_told(here, capsys):
    grid(here / "raw", "a_{y:02}_{x:02}.tif", first=1, without=[(1, 1)])
    text = tiles(capsys, "raw", "-o", "tiles.tsv")
    assert "5 tiles on a grid of 3 × 2" in text
    assert "gaps: 1 of 6 places have no tile: x2 y2" in text
    assert set(sheet()) == {"x1_y1", "x2_y1", "x3_y1", "x1_y2", "x3_y2"}


def test_a_missing_channel_is_told_and_is_not_the_reference(here, capsys):
    for channel in (0, 1):
        grid(here / "raw", f"a_{{y}}_{{x}}_ch{channel}.tif", without=[(1, 1)] * (not channel))
    text = tiles(capsys, "raw", "-o", "tiles.tsv", "--config", "config.yaml")
    assert "channel ch0 is missing at x1 y1" in text
    assert yaml.safe_load((here / "config.yaml").read_text())["reference_channel"] == "ch1"
    Run.of(load_config(here / "config.yaml").raw)


def test_an_expression_with_a_plane_tag_names_stacks(here, capsys):
    for x, y, z in itertools.product(range(2), range(2), range(4)):
        save(here / "raw", f"X{x}Y{y}_C3_{z + 7:03}.tif", cut(x, y, 4)[z])
    text = tiles(capsys, "raw/X<X,1>Y<Y,1>_C<C,1>_<Z,3>.tif", "-o", "tiles.tsv")
    assert "4 tiles on a grid of 2 × 2 (x × y), channel c3" in text
    assert "tile: 96 × 80 × 4 voxels" in text
    assert sheet()["x1_y0"]["path"] == "raw/X1Y0_C3_<Z,3>.tif"


def test_a_z_tag_of_stacks_is_a_layer(here, capsys):
    for x, z in itertools.product(range(2), range(2)):
        save(here / "raw", f"x{x}_z{z}.tif", cut(x, 0, 6)[z * 2 : z * 2 + 4])
    text = tiles(capsys, "raw", "-o", "tiles.tsv")
    assert "grid of 2 × 1 × 2 (x × y × z)" in text
    assert "overlap along z is not measured" in " ".join(
        text.replace("could not be", "is not").split()
    )
    assert sheet()["x1_y0_z1"]["tile_z"] == "1"


@pytest.mark.parametrize(
    ("order", "place"), [("rows", (0, 1)), ("rows-snake", (2, 1)), ("columns", (1, 1))]
)
def test_running_numbers_need_a_grid(here, capsys, order, place):
    for n in range(1, 7):
        save(here / "raw", f"A{n:03}.tif", cut(0, 0))
    text = tiles(capsys, "raw", code=1)
    assert "--grid COLUMNSxROWS" in text
    tiles(capsys, "raw", "--grid", "3x2", "--order", order, "--no-trial", "-o", "tiles.tsv")
    fourth = next(row for row in sheet().values() if row["path"].endswith("A004.tif"))
    assert (int(fourth["tile_x"]), int(fourth["tile_y"])) == place


def test_a_grid_where_names_have_rows_and_columns_is_refused(here, capsys):
    save(here / "raw", "x0_y0.tif", cut(0, 0))
    save(here / "raw", "x1_y0.tif", cut(1, 0))
    text = tiles(capsys, "raw", "--grid", "2x1", "-o", "tiles.tsv", code=1)
    assert "--grid 2x1: no name holds a running number; leave it out" in text
    assert not Path("tiles.tsv").exists()


def test_unknown_tags_and_times_are_refused(here, capsys):
    for t in range(2):
        save(here / "raw", f"x0_t{t}.tif", cut(0, 0))
    assert "what is <Q>" in tiles(capsys, "raw/x<Q>_t0.tif", code=1)
    assert "2 times (0, 1)" in tiles(capsys, "raw", code=1)
    assert "no such file or folder" in tiles(capsys, "nowhere", code=1)


# What the pixels say


def test_swapped_axes_are_seen_and_mended(here, capsys):
    grid(here / "raw", "t_x{y}_y{x}.tif")
    text = tiles(capsys, "raw")
    assert "WARNING: the pixels say that the grid's axes are swapped (x is y)" in text
    text = tiles(capsys, "raw", "--swap-xy", "-o", "tiles.tsv")
    assert "WARNING" not in text
    assert sheet()["x2_y1"]["path"] == "raw/t_x1_y2.tif"


def test_a_flipped_axis_is_seen_and_mended(here, capsys):
    for x, y in itertools.product(range(3), range(2)):
        save(here / "raw", f"x{x}_y{1 - y}.tif", cut(x, y))
    text = tiles(capsys, "raw")
    assert "flipped along y; remove the sheet and run again with --flip y" in text
    assert "WARNING" not in tiles(capsys, "raw", "--flip", "y", "-o", "tiles.tsv")
    assert sheet()["x2_y1"]["path"] == "raw/x2_y0.tif"


def test_names_that_do_not_say_which_is_the_row_are_turned_by_the_pixels(here, capsys):
    grid(here / "raw", "a_{x}_{y}.tif")
    text = tiles(capsys, "raw", "-o", "tiles.tsv")
    assert "rows and columns: as the pixels say (--swap-xy)" in text
    assert "WARNING" not in text
    assert sheet()["x2_y1"]["path"] == "raw/a_2_1.tif"


def test_a_wrong_overlap_is_told(here, capsys):
    grid(here / "raw")
    text = tiles(capsys, "raw", "--overlap", "0.1,20", "-o", "tiles.tsv", "--config", "c.yaml")
    assert "the overlap along x is 20 voxels (20.8%) on the pixels, not 10" in text
    assert "overlap along y is" not in text
    assert yaml.safe_load((here / "c.yaml").read_text())["align"]["overlap"] == {"x": 0.1, "y": 20}


def test_noise_has_no_overlap(here, capsys):
    rng = np.random.default_rng(0)
    for x in range(3):
        save(here / "raw", f"x{x}.tif", rng.integers(0, 99, SHAPE[::-1]).astype(np.uint16))
    text = tiles(capsys, "raw", "-o", "tiles.tsv", "--config", "c.yaml")
    assert "WARNING: no overlap was recognised in 2 pairs" in text
    assert "10% is a guess" in text
    assert yaml.safe_load((here / "c.yaml").read_text())["align"]["overlap"] == {"x": 0.1}


# Positions


def csv(path, scale=1.0, header="path,x_um,y_um", size=0.5):
    lines = [header]
    for x, y in itertools.product(range(3), range(2)):
        at = [scale * (n * s * size) + 1000 for n, s in zip((x, y), STEP, strict=True)]
        lines.append(f"raw/t_r{y}_c{x}.tif,{at[0]:.3f},{at[1]:.3f}")
    path.write_text("\n".join(lines))


def test_a_csv_of_stage_positions_in_microns(here, capsys):
    grid(here / "raw")
    csv(here / "stage.csv")
    assert "say --voxel-size" in tiles(capsys, "stage.csv", code=1)
    text = tiles(
        capsys, "stage.csv", "--voxel-size", "0.5,0.5", "-o", "tiles.tsv", "--config", "c.yaml"
    )
    assert "WARNING" not in text
    row = sheet()["x2_y1"]
    assert (float(row["x"]), float(row["y"])) == (152, 60)
    config = load_config(here / "c.yaml")
    assert config.voxel_size[:2] == (0.5, 0.5)
    assert not config.align.overlap
    Run.of(config.raw)


def test_a_csv_in_voxels_needs_its_unit(here, capsys):
    grid(here / "raw")
    csv(here / "stage.csv", header="file;x;y".replace(";", ","), size=1)
    assert "Say --unit um or --unit voxels" in tiles(capsys, "stage.csv", code=1)
    tiles(capsys, "stage.csv", "--unit", "voxels", "-o", "tiles.tsv")
    assert float(sheet()["x1_y0"]["x"]) == 1076


def test_a_wrong_voxel_size_is_told(here, capsys):
    grid(here / "raw")
    csv(here / "stage.csv", scale=1.08)
    text = tiles(capsys, "stage.csv", "--voxel-size", "0.5,0.5")
    assert "0.926 times as far apart on the pixels" in text
    assert "is the voxel size 0.54 µm, not 0.5?" in text


def test_a_tile_configuration_of_fiji(here, capsys):
    grid(here / "raw")
    lines = [
        f"t_r{y}_c{x}.tif; ; ({x * STEP[0] + 0.25}, {y * STEP[1]})"
        for x, y in itertools.product(range(3), range(2))
    ]
    (here / "raw/TileConfiguration.txt").write_text("# comment\ndim = 2\n\n" + "\n".join(lines))
    text = tiles(capsys, "raw/TileConfiguration.txt", "-o", "tiles.tsv")
    assert "WARNING" not in text
    row = sheet()["x2_y1"]
    assert (row["x"], row["y"], row["path"]) == ("152.25", "60", "raw/t_r1_c2.tif")
    (here / "raw/TileConfiguration.txt").write_text("t_r0_c0.tif; (0, 0)")
    assert "line 1" in tiles(capsys, "raw/TileConfiguration.txt", code=1)


def ome(folder, name, x, y, at, channels=1):
    plane = {f"Position{a}": [v] * channels for a, v in zip("XY", at, strict=True)}
    plane |= {f"Position{a}Unit": ["mm"] * channels for a in "XY"}
    data = np.stack([cut(x, y)] * channels) if channels > 1 else cut(x, y)
    size = {f"PhysicalSize{a}": 0.5 for a in "XY"} | {f"PhysicalSize{a}Unit": "µm" for a in "XY"}
    more = {"axes": "CYX" if channels > 1 else "YX", "Plane": plane, **size}
    if channels > 1:
        more["Channel"] = {"Name": ["DAPI", "GFP"]}
    save(folder, name, data, metadata=more, ome=True)


def test_stage_positions_in_ome_files(here, capsys):
    for n, (x, y) in enumerate(itertools.product(range(3), range(2))):
        at = [(i * s * 0.5 + 300) / 1000 for i, s in zip((x, y), STEP, strict=True)]
        ome(here / "raw", f"scan{n}.ome.tif", x, y, at, channels=2)
    text = tiles(capsys, "raw", "-o", "tiles.tsv", "--config", "c.yaml")
    assert "positions: of the stage, from the files" in text
    assert "files hold 2 channels: DAPI, GFP" in text
    assert "voxel: 0.5 × 0.5 µm" in text
    assert "WARNING" not in text
    rows = table(here / "tiles.tsv")
    assert len(rows) == 12
    assert (rows[-1]["tile"], rows[-1]["x"], rows[-1]["select"]) == ("x2_y1", "152", "C=1")
    Run.of(load_config(here / "c.yaml").raw)


def test_a_stage_that_runs_against_the_image_is_seen(here, capsys):
    for n, (x, y) in enumerate(itertools.product(range(3), range(2))):
        ome(here / "raw", f"scan{n}.ome.tif", x, y, [-x * STEP[0] / 2000, y * STEP[1] / 2000])
    text = tiles(capsys, "raw")
    assert "flipped along x" in text
    assert "WARNING" not in tiles(capsys, "raw", "--flip", "x", "-o", "tiles.tsv")
    assert float(sheet()["x2_y1"]["x"]) == 152


# Stacks with one file per plane


def planes(folder, count=4):
    for x, z in itertools.product(range(2), range(count)):
        save(folder / "raw", f"x{x}_z{z:02}.tif", cut(x, 0, count)[z])


def sheet_of_planes(here, capsys):
    planes(here)
    tiles(capsys, "raw", "-o", "tiles.tsv", "--config", "config.yaml")
    return load_config(here / "config.yaml")


def test_planes_are_read_as_a_stack(here, capsys):
    from stitchlib.core.boxes import Box
    from stitchlib.io.images import open_image

    planes(here)
    reader = open_image(here / "raw/x1_z<Z,2>.tif")
    assert reader.shape == (*SHAPE, 4)
    part = reader.read(Box((5, 6, 1), (50, 60, 3)))
    assert (part == cut(1, 0, 4).T[5:50, 6:60, 1:3]).all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "x1_z01.tif").unlink(), "plane 1 is missing"),
        (lambda f: [p.unlink() for p in f.glob("x1*")], "no file fits"),
        (lambda f: save(f, "x1_z00.tif", cut(0, 0, 3)), "one of several planes"),
    ],
)
def test_incomplete_stacks_are_refused(here, capsys, spoil, message):
    config = sheet_of_planes(here, capsys)
    spoil(here / "raw")
    with pytest.raises(InputError, match=message):
        Run.of(config.raw)


def test_a_changed_plane_changes_the_card_though_size_and_latest_date_stay(here, capsys):
    import os

    config = sheet_of_planes(here, capsys)

    def card():
        return next(iter(Run.of(config.raw).datasets.values())).blocks[0][0].digest

    newest = here / "raw/x1_z03.tif"
    stat = newest.stat()
    os.utime(newest, ns=(stat.st_mtime_ns, stat.st_mtime_ns + 10**12))
    before = card()
    assert card() == before
    other = here / "raw/x1_z01.tif"
    os.utime(other, ns=(other.stat().st_mtime_ns, other.stat().st_mtime_ns + 10**9))
    assert card() != before


def test_a_plane_of_another_shape_is_named_when_it_is_read(here, capsys):
    from stitchlib.core.boxes import Box
    from stitchlib.io.images import open_image

    planes(here)
    save(here / "raw", "x0_z02.tif", cut(0, 0)[:-1])
    with pytest.raises(InputError, match=r"x0_z02\.tif: has shape"):
        open_image(here / "raw/x0_z<Z,2>.tif").read(Box((0, 0, 0), (*SHAPE, 4)))


# From the sheet to a volume


@pytest.mark.slow
def test_the_workflow_runs_from_a_sheet_of_planes_with_a_gap(here, capsys):
    for x, y, z in itertools.product(range(3), range(2), range(3)):
        if (x, y) != (2, 0):
            save(here / "raw", f"a_{y + 1}_{x + 1}_z{z}.tif", cut(x, y, 3)[z])
    tiles(capsys, "raw", "-o", "tiles.tsv", "--config", "config.yaml")
    run(here)
    found = positions(here / "results/raw/positions.tsv")
    expected = {
        f"x{x + 1}_y{y + 1}": (x * STEP[0], y * STEP[1], 0)
        for x, y in itertools.product(range(3), range(2))
        if (x, y) != (2, 0)
    }
    assert found == expected
    assert run(here).jobs.total() == 0


real = pytest.mark.skipif(not DATA.exists(), reason=f"no real tiles in {DATA}")


@real
@pytest.mark.parametrize(
    ("name", "grid_", "overlap", "within"),
    [
        ("lscm_speckle1", "12 tiles on a grid of 4 × 3", (102.4, 102.4), 4),
        ("stitch2d_sem", "6 tiles on a grid of 2 × 3", (125, 46), 10),
    ],
)
def test_sheets_of_real_tiles(here, capsys, name, grid_, overlap, within):
    text = tiles(capsys, DATA / name, "-o", "tiles.tsv", "--config", "config.yaml")
    assert grid_ in text
    assert "no gaps" in text
    assert "WARNING" not in text
    align = load_config(here / "config.yaml").align
    for axis, expected in zip("xy", overlap, strict=True):
        assert abs(align.overlap[axis] - expected) <= within
    Run.of(load_config(here / "config.yaml").raw)


@real
def test_the_plate_as_the_vendor_leaves_it(here, capsys):
    source = DATA / "imagexpress_3433/original"
    assert "ZStep_0 holds projections" in tiles(capsys, source, code=1)
    shutil.copytree(source, "plate", ignore=shutil.ignore_patterns("ZStep_0"))
    text = tiles(capsys, "plate", "--voxel-size", "1.3672,1.3672,5", "-o", "tiles.tsv",
                 "--config", "config.yaml")  # fmt: skip
    assert "B02: 2 tiles on a grid of 2 × 1" in text
    assert "B03: 2 tiles on a grid of 2 × 1" in text
    rows = table(here / "tiles.tsv")
    assert {(r["channel"], r["dataset"]) for r in rows} == {
        (c, d) for c in ("w1", "w2") for d in ("B02", "B03")
    }
    assert {round(float(r["x"]), 1) for r in rows} == {0, 230.4}
    run_ = Run.of(load_config(here / "config.yaml").raw)
    assert {t.shape for d in run_.datasets.values() for t in d.dataset.tiles} == {(256, 256, 3)}


@real
def test_a_real_ome_file(here, capsys):
    folder = DATA / "formats/ometiff/aicsimageio/tests/resources"
    text = tiles(capsys, folder, "-o", "tiles.tsv", "--config", "config.yaml")
    assert "voxel: 1.083 × 1.083 µm" in text
    Run.of(load_config(here / "config.yaml").raw)


@real
@pytest.mark.slow
def test_the_workflow_runs_from_a_sheet_of_real_tiles(here, capsys):
    tiles(capsys, DATA / "lscm_speckle1", "-o", "tiles.tsv", "--config", "config.yaml")
    run(here)
    rows = table(here / "results/lscm_speckle1/positions.tsv")
    assert {row["status"] for row in rows} == {"placed"}
    found = positions(here / "results/lscm_speckle1/positions.tsv")
    for name, at in found.items():
        x, y = int(name[1]), int(name[4])
        assert abs(at[0] - 921.6 * x) < 12
        assert abs(at[1] - 921.6 * y) < 12
