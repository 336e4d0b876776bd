"""`stitchlib check` and `stitchlib info`."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from stitchlib.cli import main
from tests.acquisition import Setup


@pytest.fixture(scope="module")
def _made(tmp_path_factory):
    setup = Setup.make(tmp_path_factory.mktemp("checking") / "work", grid=(2, 2))
    setup.run()
    return setup


@pytest.fixture
def work(_made, tmp_path, monkeypatch):
    setup = _made.copy(tmp_path / "work")
    monkeypatch.chdir(setup.folder)
    return setup


def told(capsys, *args):
    code = main([*args])
    out = capsys.readouterr()
    return code, out.out + out.err


def test_check_tells_what_a_run_needs(work, capsys):
    shutil.rmtree(work.results())
    code, text = told(capsys, "check", "config.yaml")
    assert code == 0
    assert "d: 4 tiles, c0, c1, uint16; about 68 × 68 × 8 voxels" in text
    assert "jobs: align 4 (4 pairs), place 1, stitch " in text
    levels = 68 * 68 * 8 + 34 * 34 * 8 + 17 * 17 * 8
    assert f"volume {2 * 2 * levels / 1000:.0f} kB, and as much for the shards" in text
    assert "memory: up to 232 MB" in text
    assert "free" in text
    assert text.endswith("Nothing is refused.\n")


def test_check_tells_everything_that_is_wrong_at_once(work, capsys):
    work.path("d", "x0y0", "c1").unlink()
    np.save(work.path("d", "x1y0", "c0"), np.zeros((40, 40, 8), np.uint8))
    work.path("d", "x0y1", "c0").write_bytes(b"nothing")
    sheet = work.folder / "data/tiles.tsv"
    sheet.write_text(sheet.read_text() + "x9/y9\tc0\ta.npy\t9\t9\n")
    code, text = told(capsys, "check", "config.yaml")
    assert code == 1
    assert "there is no file 'tiles/d-x0y0-c1.npy'" in text
    assert "d-x0y1-c0.npy: cannot be read" in text
    assert "tile = 'x9/y9'" in text
    assert "voxels are uint" in text
    assert "Nothing is refused" not in text
    assert "jobs:" not in text


def test_check_names_each_tile_that_lacks_its_place(work, capsys):
    sheet = work.folder / "data/tiles.tsv"
    lines = sheet.read_text().splitlines()
    moved = [line.replace("\t1\t0", "\t0\t0").replace("\t1\t1", "\t0\t1") for line in lines]
    sheet.write_text("\n".join(moved))
    code, text = told(capsys, "check", "config.yaml")
    assert code == 1
    assert text.startswith("stitchlib check: 2 things are refused:")
    assert "tile 'x1y0' has the grid index" in text
    assert "tile 'x1y1' has the grid index" in text


def test_check_tells_of_a_line_that_stands_twice_once(work, capsys):
    sheet = work.folder / "data/tiles.tsv"
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join([*lines, lines[1]]))
    code, text = told(capsys, "check", "config.yaml")
    assert code == 1
    assert text.count("stand in line 2 already") == 1


def test_info_of_a_volume_a_layout_and_a_sheet(work, capsys):
    code, text = told(capsys, "info", str(work.results() / "d.xml"))
    assert code == 0
    assert "channels: c0, c1" in text
    assert "voxel: 1 × 1 × 8 µm" in text
    assert "level 0: " in text
    assert "chunks 16 × 16 × " in text
    text = told(capsys, "info", str(work.results() / "layout.json"))[1]
    assert "layout of 4 tiles, " in text
    assert "4 tiles of 40 × 40 × 8, uint16" in text
    text = told(capsys, "info", "data/tiles.tsv")[1]
    assert "4 tiles on a grid of 2 × 2 × 1 (x × y × z), 0 gaps; channels c0, c1" in text


def test_info_refuses_other_files(work, capsys):
    (work.folder / "a.h5").write_text("no")
    for name, message in (("a.h5", "not a volume"), ("b.json", "no such"), ("c.png", "volumes (")):
        code, text = told(capsys, "info", name)
        assert code == 1
        assert message in text


def test_a_folder_that_may_not_be_read_is_named(work, capsys, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("stitchlib.sheets.os.scandir", refuse)
    code, text = told(capsys, "check", "config.yaml")
    assert code == 1
    assert (
        "tiles.tsv: the folder of 'tiles/d-x0y0-c0.npy' cannot be read: Permission denied" in text
    )
    monkeypatch.setattr(Path, "iterdir", refuse)
    code, text = told(capsys, "tiles", "data", "-o", "new.tsv")
    assert code == 1
    assert text.startswith("stitchlib tiles: data: Permission denied; you lack the right")
