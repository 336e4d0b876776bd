"""Broken sheets, configurations and images: one clear error, or a right result."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from stitchlib.config import parse_config
from stitchlib.errors import InputError
from stitchlib.io.images import open_image
from stitchlib.sheets import load_sheet
from stitchlib.tiling.metadata import stages
from tests.acquisition import ROOT, Setup, environment
from tests.malformed import NASTY, files, make
from tests.test_failures import checksums


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, 60), pytest.param(60, 600, marks=pytest.mark.slow)],
)
def test_the_library_refuses_or_reads_every_case(tmp_path, first, last):
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tests" / "malformed.py"),
            str(tmp_path),
            str(first),
            str(last),
        ],
        env={**environment(), "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n", done.stdout


@pytest.mark.slow
def test_snakemake_refuses_or_runs_every_case(tmp_path):
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-n"]
    for number in range(1000, 1050):
        folder = tmp_path / str(number)
        what = make(folder, number)
        before = files(tmp_path)
        done = subprocess.run(
            [*command, "--configfile", "config.yaml"],
            cwd=folder,
            env=environment(),
            text=True,
            capture_output=True,
            check=False,
        )
        text = done.stdout + done.stderr
        assert "Traceback" not in text, (what, text)
        assert done.returncode == 0 or "rror" in text, (what, text)
        new = {f for f in files(tmp_path) - before if "/.snakemake/" not in f}
        assert all(f.startswith(f"{number}/") for f in new), (what, new)
        assert not any("pwned" in f.rsplit("/", 1)[-1] for f in new), (what, new)


@pytest.mark.slow
def test_names_that_a_shell_would_take_apart_are_only_names(tmp_path):
    setup = Setup.make(tmp_path / "a b; touch pwned" / "$(touch pwned)'\"&", (2, 1), ("c0",))
    odd = "results `touch pwned` $HOME; *é"
    inside = setup.folder / "data/tiles"
    for path in sorted(inside.iterdir()):
        path.rename(inside / f"$(touch pwned); {path.name}")
    sheet = setup.folder / "data/tiles.tsv"
    sheet.write_text(sheet.read_text().replace("tiles/", "tiles/$(touch pwned); "))
    setup.config["results"] = odd
    (setup.folder / "config.yaml").write_text(
        (setup.folder / "config.yaml").read_text() + f'results: "{odd}"\n'
    )
    before = checksums(setup.folder / "data")
    assert setup.run().counts[0] == 1
    assert checksums(setup.folder / "data") == before
    assert not list(tmp_path.rglob("pwned"))
    assert (setup.results() / "d.h5").exists()


OUT_OF_NAMES = [n for n in NASTY if n.strip() and not re.fullmatch(r"[A-Za-z0-9._-]+", n)]
OUTSIDE = [".", "..", "../x", 101 * "x"]


@pytest.mark.parametrize("name", [*OUT_OF_NAMES, *OUTSIDE, "--help", "/x", "a/../x"])
@pytest.mark.parametrize("column", ["tile", "channel", "dataset"])
def test_no_name_leads_out_of_the_results(tmp_path, name, column):
    row = {"dataset": "d", "tile": "t", "channel": "c", "path": "t.npy", "tile_x": "0"}
    row |= {"tile_y": "0", column: name}
    sheet = tmp_path / "tiles.tsv"
    sheet.write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n", encoding="utf-8")
    np.save(tmp_path / "t.npy", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match=r"tiles\.tsv"):
        load_sheet(sheet, "d", None)


@pytest.mark.parametrize("name", [n for n in OUT_OF_NAMES if n != "\ufeff"] + OUTSIDE)
def test_no_dataset_of_the_configuration_leads_out_of_the_results(name):
    with pytest.raises(InputError, match="dataset"):
        parse_config({"dataset": name})


def test_no_image_runs_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    np.save(tmp_path / "t.npy", np.array([[Evil()]], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"t\.npy"):
        open_image(tmp_path / "t.npy")
    assert not (tmp_path / "pwned").exists()


def test_xml_that_grows_without_end_is_only_a_bad_description(tmp_path):
    entities = "".join(f'<!ENTITY e{i} "{10 * f"&e{i - 1};"}">' for i in range(1, 12))
    bomb = f'<?xml version="1.0"?><!DOCTYPE z [<!ENTITY e0 "x">{entities}]>'
    path = tmp_path / "t.ome.tif"
    image = np.arange(64, dtype=np.uint16).reshape(8, 8)
    tifffile.imwrite(path, image, description=f"{bomb}<OME>&e11;</OME>", metadata=None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert stages(path)
    assert open_image(path).shape == (8, 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_every_field_of_a_shell_line_is_quoted():
    rules = "".join(p.read_text() for p in sorted((ROOT / "workflow/rules").glob("*.smk")))
    lines = re.findall(r"shell:\s+((?:\"[^\n]*\"\s+)+)", rules)
    assert len(lines) >= 5
    fields = [field for line in lines for field in re.findall(r"{([^}]*)}", line)]
    assert {field for field in fields if not field.endswith(":q")} <= {"threads"}  # a number
