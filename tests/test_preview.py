"""`stitchlib preview`, the picture beside a new sheet, and preview.png of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from matplotlib.backends.backend_agg import FigureCanvasAgg

from stitchlib import preview
from stitchlib.cli import main
from stitchlib.config import load_config
from stitchlib.runs import Run
from tests.acquisition import STEP, Setup

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def _made(tmp_path_factory):
    setup = Setup.make(tmp_path_factory.mktemp("preview") / "work", grid=(2, 2))
    setup.run()
    return setup


@pytest.fixture
def work(_made, tmp_path, monkeypatch):
    setup = _made.copy(tmp_path / "work")
    monkeypatch.chdir(setup.folder)
    return setup


@pytest.fixture
def figures(monkeypatch):
    """All figures that are saved."""
    saved = []
    save = FigureCanvasAgg.print_png

    def keep(self, *args, **kwargs):
        saved.append(self.figure)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(FigureCanvasAgg, "print_png", keep)
    return saved


def titles(figure):
    return [ax.get_title().split(" placement")[0] for ax in figure.axes]


def test_a_finished_run_has_its_picture_and_makes_it_again(work):
    picture = work.results() / "preview.png"
    made = picture.read_bytes()
    assert made.startswith(PNG)
    assert sum(work.run().counts) == 0
    picture.unlink()
    assert sum(work.run().counts) == 0
    assert picture.read_bytes() == made
    picture.write_bytes(b"other")
    work.run()
    assert picture.read_bytes() == made


@pytest.mark.slow
def test_the_picture_needs_no_volume(tmp_path, monkeypatch):
    setup = Setup.make(tmp_path / "work", grid=(2, 1), channels=("c0",))
    monkeypatch.chdir(setup.folder)
    record = Run.of(load_config(Path("config.yaml")).raw).datasets["d"].preview_record
    assert setup.run(str(record)).counts == (1, 1, 0, 0)
    assert (setup.results() / "preview.png").read_bytes().startswith(PNG)


def test_preview_of_a_run(work, figures, capsys):
    assert main(["preview", "config.yaml", "-o", "after.png"]) == 0
    assert "before and after placement" in capsys.readouterr().out
    assert titles(figures[0]) == ["before", "after"]
    (work.results() / "positions.tsv").unlink()
    assert main(["preview", "config.yaml", "-o", "before.png"]) == 0
    assert "nominal positions" in capsys.readouterr().out
    assert len(figures[1].axes) == 1
    assert (work.folder / "before.png").read_bytes().startswith(PNG)


def test_what_is_drawn_are_the_nominal_and_the_placed_boxes(work):
    run = Run.of(load_config(work.folder / "config.yaml").raw).datasets["d"]
    card = run.place_card.content
    tiles = preview.of_card(card, work.folder / "data", run.place_record)
    assert [tile.name for tile in tiles] == [tile.name for tile in run.dataset.tiles]
    assert [tile.before for tile in tiles] == [tile.nominal for tile in run.dataset.tiles]
    assert [tile.after for tile in tiles] == run.positions()
    assert tiles[0].image.read(next(tiles[0].boxes())).shape == (40, 40, 8)


def test_a_new_sheet_comes_with_its_picture(tmp_path, monkeypatch, capsys, figures):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for x in range(2):
        tifffile.imwrite(tmp_path / f"x{x}.tif", rng.integers(0, 99, (30, STEP)).astype(np.uint8))
    assert main(["tiles", ".", "-o", "tiles.tsv", "--overlap", "8"]) == 0
    assert "wrote tiles.png" in capsys.readouterr().out
    assert (tmp_path / "tiles.png").read_bytes().startswith(PNG)
    assert figures[0].axes[0].get_xlim() == (0, 2 * STEP - 8)
    assert main(["tiles", ".", "-o", "tiles.tsv"]) == 1


def test_a_sheet_that_the_workflow_would_refuse_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for x, kind in enumerate((np.uint8, np.uint16)):
        tifffile.imwrite(tmp_path / f"x{x}.tif", np.ones((30, 30), kind))
    assert main(["tiles", ".", "-o", "tiles.tsv", "--no-trial"]) == 0
    assert "WARNING: the workflow will refuse the sheet" in capsys.readouterr().out
