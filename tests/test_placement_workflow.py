"""The placement through the workflow: corrections, and real data within its bars."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stitchlib.io.files import read_table
from stitchlib.phantom import Phantom, position_error, write_phantom

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


def stitch(folder, config, *more):
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2",
         "--configfile", "config.yaml", *more],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def corners(path):
    return {r["tile"]: [float(r[a]) for a in "xyz"] for r in read_table(path)[1]}


@pytest.mark.slow
def test_corrections_through_the_workflow(tmp_path):
    phantom = Phantom(grid=(3, 2), tile_shape=(64, 60), overlap=0.3, jitter=3)
    files = write_phantom(phantom, tmp_path / "data")
    config = yaml.safe_load(files.config.read_text())
    results = tmp_path / "results" / "phantom"
    code, text = stitch(tmp_path, config)
    assert code == 0, text
    assert position_error(corners(results / "positions.tsv"), corners(files.truth)) == 0
    by_hand = tmp_path / "corrections.tsv"
    by_hand.write_text("kind\ttile\tpre\tpost\nexclude\tx2_y1\t\t\nforbid\t\tx0_y0\tx0_y1\n")
    config["place"] = {"corrections": "corrections.tsv"}
    code, text = stitch(tmp_path, config)
    assert code == 0, text
    assert "aligning the pairs" not in text
    assert "placing all tiles" in text
    rows = {r["tile"]: r for r in read_table(results / "positions.tsv")[1]}
    assert rows["x2_y1"]["status"] == "excluded"
    drawn = [json.loads(p.read_text()) for p in (results / "cards" / "assemble").glob("*.json")]
    assert len({json.dumps(card["levels"]) for card in drawn}) <= 2
    code, text = stitch(tmp_path, config)
    assert "placing all tiles" not in text
    # Without links at all to the corner, the console says so.
    by_hand.write_text("kind\ttile\tpre\tpost\nforbid\t\tx1_y1\tx2_y1\nforbid\t\tx2_y0\tx2_y1\n")
    code, text = stitch(tmp_path, config)
    assert code == 0, text
    assert "1 tile without any trusted link, placed by the stage's model: x2_y1" in text
    by_hand.write_text("kind\ttile\tpre\tpost\nforbid\t\tx1_y1\tx2_y9\n")
    code, text = stitch(tmp_path, config)
    assert code != 0
    assert "corrections.tsv, line 2: forbid names tile 'x2_y9'" in text
    # A tile is pinned, and a link made by hand; the others follow.
    truth = corners(files.truth)
    step = [b - a for a, b in zip(truth["x0_y0"], truth["x1_y0"], strict=True)]
    by_hand.write_text(
        "kind\ttile\tx\ty\tpre\tpost\tdisplacement_x\tdisplacement_y\n"
        "pin\tx1_y1\t100\t50\t\t\t\t\n"
        f"link\t\t\t\tx0_y0\tx1_y0\t{step[0]}\t{step[1]}\n"
    )
    code, text = stitch(tmp_path, config)
    assert code == 0, text
    assert "aligning the pairs" not in text
    placed = corners(results / "positions.tsv")
    assert placed["x1_y1"] == [100, 50, 0]
    assert position_error(placed, truth) == 0
    pairs = {(r["pre"], r["post"]): r["status"] for r in read_table(results / "pairs.tsv")[1]}
    assert pairs["x0_y0", "x1_y0"] == "manual"
    # A second acquisition takes the first one's positions.
    config["place"] = {"method": "given", "positions": "results/phantom/positions.tsv"}
    config["dataset"] = "second"
    code, text = stitch(tmp_path, config)
    assert code == 0, text
    assert "aligning the pairs" not in text
    second = tmp_path / "results" / "second" / "positions.tsv"
    assert corners(second) == corners(results / "positions.tsv")
