"""What alignment reads: strips as they weigh, every tile once a job, in the memory stated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stitchlib import align
from stitchlib.core.boxes import Box
from stitchlib.io import positioned, tiff
from stitchlib.io.images import open_image
from stitchlib.pairs import Pair
from stitchlib.phantom import Phantom, write_phantom
from stitchlib.runs import Run
from tests.traced import traced

SHAPE = (6, 40, 50)
IMAGE = np.random.default_rng(0).integers(0, 60000, SHAPE).astype("u2")
WAYS = {
    "plain": {"photometric": "minisblack"},
    "big-endian": {"photometric": "minisblack", "byteorder": ">"},
    "zlib": {"photometric": "minisblack", "compression": "zlib"},
}


@pytest.fixture
def traffic(monkeypatch):
    """Bytes that are read at positions of files, and pages that are decoded."""
    seen = {"bytes": 0, "pages": 0}
    pread, decoded = os.pread, tiff._decoded

    def counted(*args):
        data = pread(*args)
        seen["bytes"] += len(data)
        return data

    def counted_page(page):
        seen["pages"] += 1
        return decoded(page)

    monkeypatch.setattr(positioned.os, "pread", counted)
    monkeypatch.setattr(tiff, "_decoded", counted_page)
    return seen


@st.composite
def boxes(draw):
    found = []
    for _ in range(draw(st.integers(1, 4))):
        ends = [sorted(draw(st.tuples(*[st.integers(0, n)] * 2))) for n in SHAPE[::-1]]
        found.append(Box(tuple(a for a, _ in ends), tuple(b for _, b in ends)))
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strips")
    for way, how in WAYS.items():
        tifffile.imwrite(folder / f"{way}.tif", IMAGE, **how)
    return folder


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("gap", [0, 30, 1 << 14])
@given(wanted=boxes())
@settings(deadline=None, max_examples=40)
def test_boxes_read_together_are_those_read_alone(files, way, gap, wanted):
    reader = open_image(files / f"{way}.tif")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positioned, "GAP_BYTES", gap)
        found = reader.read_boxes(wanted)
    for box, part in zip(wanted, found, strict=True):
        assert part.dtype == np.uint16
        assert np.array_equal(part, IMAGE.T[box.slices()])


def test_strips_along_y_and_z_cost_what_they_weigh(files, traffic):
    reader = open_image(files / "plain.tif")
    for box in (Box((0, 7, 0), (50, 10, 6)), Box((0, 0, 4), (50, 40, 6))):
        before = traffic["bytes"]
        reader.read_boxes([box])
        assert traffic["bytes"] - before == box.size * 2
    # Where rows are long, a strip along x does as well.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positioned, "GAP_BYTES", 0)
        before = traffic["bytes"]
        reader.read_boxes([Box((40, 0, 0), (50, 40, 6))])
        assert traffic["bytes"] - before == 10 * 40 * 6 * 2


def test_a_file_that_became_short_is_an_error(files, tmp_path):
    path = tmp_path / "short.tif"
    path.write_bytes((files / "plain.tif").read_bytes())
    reader = open_image(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(tiff.InputError, match=r"short\.tif.*ends before"):
        reader.read_boxes([Box((0, 0, 0), (50, 40, 6))])


@pytest.fixture(scope="module", params=["none", "zlib"])
def job(request, tmp_path_factory):
    """The card of a job with all pairs of 2 x 2 tiles, their folder, and the size of a tile."""
    folder = tmp_path_factory.mktemp("job")
    phantom = Phantom(grid=(2, 2), tile_shape=(160, 150, 24), jitter=(4, 4, 2))
    written = write_phantom(phantom, folder / "data", results=folder / "results")
    config = yaml.safe_load(written.config.read_text())
    config["align"]["pairs_per_job"] = 99
    if request.param != "none":
        for path in (folder / "data").rglob("*.tif*"):
            tifffile.imwrite(
                path, tifffile.imread(path), compression=request.param, photometric="minisblack"
            )
    (dataset,) = Run.of(config).datasets.values()
    ((card, _),) = dataset.blocks
    return json.loads(card.text), written.sheet.parent, request.param


def test_every_tile_is_read_once_a_job(job, traffic):
    card, folder, compression = job
    links = align.align_block(card, folder)
    assert len(links) == 4
    assert {link.status for link in links} == {"ok"}
    if compression == "none":
        assert 0 < traffic["bytes"] <= 4 * 160 * 150 * 24 * 2
    else:
        assert traffic["pages"] == 4 * 24


@pytest.mark.parametrize("method", ["auto", "exact", "mip"])
def test_a_job_keeps_to_the_memory_it_states(job, method):
    card, folder, _ = job
    card = {**card, "method": method}
    shapes = {name: tuple(image["shape"]) for name, image in card["images"].items()}
    stated = align.memory_needed(shapes, [Pair.from_json(value) for value in card["pairs"]], 2)
    align.align_block(card, folder)
    _, measured = traced(align.align_block, card, folder)
    assert measured <= stated
    # Projections take less, but where they show nothing all is searched.
    assert stated <= 3 * measured or method == "mip"


def test_jobs_import_nothing_of_planning_or_drawing():
    scripts = Path(__file__).parents[1] / "workflow" / "scripts"
    heavy = ["jsonschema", "yaml", "pandas", "matplotlib", "tqdm", "tifffile"]
    heavy += ["scipy.fft", "scipy.sparse", "scipy.ndimage", "stitchlib.config"]
    for job in ("align", "place", "stitch", "assemble", "preview", "dataset"):
        more = [] if job in ("stitch", "assemble") else ["h5py"]
        code = (
            f"import runpy, sys; sys.argv = ['{job}.py']\n"
            f"try: runpy.run_path({str(scripts / f'{job}.py')!r}, run_name='__main__')\n"
            "except TypeError: pass\n"  # the job's arguments are missing
            f"print([m for m in {heavy + more!r} if m in sys.modules], 'numpy' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[] True", job
