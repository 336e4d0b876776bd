"""What alignment reads: strips as they weigh, every tile once a job, in the memory stated."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stitchlib import align, neighbours
from stitchlib.core.boxes import Box
from stitchlib.core.shifts import SearchRange
from stitchlib.io import positioned, tiff
from stitchlib.io.images import DECODING_PLANES, open_image
from stitchlib.pairs import Pair
from stitchlib.phantom import Phantom, write_phantom
from stitchlib.runs import Run
from stitchlib.tiles import Dataset, Tile
from tests.traced import traced

needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")

SHAPE = (6, 40, 50)
IMAGE = np.random.default_rng(0).integers(0, 60000, SHAPE).astype("u2")


def plain(path, stack, **options):
    tifffile.imwrite(path, stack, photometric="minisblack", **options)


def apart(path, stack):
    """Write every plane between descriptions, as microscopes' own programs do."""
    with tifffile.TiffWriter(path) as writer:
        for plane in stack:
            writer.write(plane, photometric="minisblack", metadata=None)


def array(path, stack, order):
    np.save(path, np.asarray(stack.T, order=order))


WAYS = {
    "plain.tif": plain,
    "big-endian.tif": partial(plain, byteorder=">"),
    "apart.tif": apart,
    "zlib.tif": partial(plain, compression="zlib"),
    "strips.tif": partial(plain, compression="zlib", rowsperstrip=7),
    "tiled.tif": partial(plain, tile=(16, 32)),
    "tiled-lzw.tif": partial(plain, tile=(16, 16), compression="lzw"),
    "C.npy": partial(array, order="C"),
    "F.npy": partial(array, order="F"),
}
"""Names of files, and what writes a stack (z, y, x) to them."""


@pytest.fixture
def traffic(monkeypatch):
    """Bytes that are read at positions of each file, and pages of each that are decoded."""
    seen = {"bytes": Counter(), "pages": Counter()}
    preadv, decoded = os.preadv, tiff._decoded

    def counted(number, *args):
        count = preadv(number, *args)
        seen["bytes"][Path(f"/proc/self/fd/{number}").resolve().name] += count
        return count

    def counted_page(page, *args):
        seen["pages"][page.parent.filename] += 1
        return decoded(page, *args)

    monkeypatch.setattr(positioned.os, "preadv", counted)
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
    for name, write in WAYS.items():
        write(folder / name, IMAGE)
        write(folder / f"flat-{name}", IMAGE[:1] if write is apart else IMAGE[0])
    return folder


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("gap", [0, 30, 1 << 14])
@given(wanted=boxes())
@settings(deadline=None, max_examples=25)
def test_boxes_read_together_are_those_read_alone(files, way, gap, wanted):
    reader = open_image(files / way)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positioned, "GAP_BYTES", gap)
        patch.setattr(positioned, "AHEAD_BYTES", gap)
        found = reader.read_boxes(wanted)
    for box, part in zip(wanted, found, strict=True):
        assert part.dtype == np.uint16
        assert part.dtype.isnative
        assert np.array_equal(part, IMAGE.T[box.slices()])
    flat = [Box(box.lower[:2], box.upper[:2]) for box in wanted]
    for box, part in zip(flat, open_image(files / f"flat-{way}").read_boxes(flat), strict=True):
        assert np.array_equal(part, IMAGE[0].T[box.slices()])


@needs_proc
@pytest.mark.parametrize("way", ["apart.tif", "F.npy", "C.npy"])
def test_voxels_that_stand_as_they_are_cost_what_they_weigh(files, traffic, way):
    reader = open_image(files / way)
    assert not reader.planewise
    across = 1 if way != "C.npy" else 0  # what is no axis of rows, nor of planes
    box = Box(*(tuple(ends[axis == across] for axis in range(3)) for ends in ((0, 7), (0, 10))))
    box = Box(box.lower, tuple(n if axis != across else 10 for axis, n in enumerate(reader.shape)))
    reader.read_boxes([box, Box(box.lower, (box.upper[0], *box.upper[1:]))])
    assert traffic["bytes"][way] == box.size * 2


@pytest.mark.parametrize("way", ["strips.tif", "tiled-lzw.tif"])
def test_strips_and_tiles_that_no_box_reaches_are_not_decoded(files, monkeypatch, way):
    needed, decoded = [], tiff._decoded
    monkeypatch.setattr(tiff, "_decoded", lambda p, n, o: needed.append(n) or decoded(p, n, o))
    reader = open_image(files / way)
    reader.read_boxes([Box((1, 7, 2), (20, 14, 4)), Box((48, 39, 3), (50, 40, 4))])
    assert needed == (
        # 6 strips of 7 rows; 4 tiles in a row, 3 rows of them.
        [[1], [1, 5]] if way == "strips.tif" else [[0, 1], [0, 1, 11]]
    )


def test_strips_along_y_and_z_cost_what_they_weigh(files, traffic):
    reader = open_image(files / "plain.tif")
    name = "plain.tif"
    for box in (Box((0, 7, 0), (50, 10, 6)), Box((0, 0, 4), (50, 40, 6))):
        before = traffic["bytes"][name]
        reader.read_boxes([box])
        assert traffic["bytes"][name] - before == box.size * 2
    # Where rows are long, a strip along x does as well.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positioned, "GAP_BYTES", 0)
        before = traffic["bytes"][name]
        reader.read_boxes([Box((40, 0, 0), (50, 40, 6))])
        assert traffic["bytes"][name] - before == 10 * 40 * 6 * 2


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
    return card.content, written.sheet.parent, request.param


def test_every_tile_is_read_once_a_job(job, traffic):
    card, folder, compression = job
    links = align.align_block(card, folder)
    assert len(links) == 4
    assert {link.status for link in links} == {"ok"}
    if compression == "none":
        assert len(traffic["bytes"]) == 4
        assert max(traffic["bytes"].values()) <= 160 * 150 * 24 * 2
    else:
        assert sorted(traffic["pages"].values()) == [24] * 4


@needs_proc
@pytest.mark.parametrize("write", [plain, apart, partial(plain, compression="zlib")])
@pytest.mark.parametrize("grid", [(2, 2), (4, 4), (7, 8), (2, 3, 3)])
def test_a_tile_is_read_at_most_twice_in_all_before_fusion(
    tmp_path, monkeypatch, traffic, grid, write
):
    shape = (48, 40, 24) if len(grid) == 3 else (48, 40, 6)
    phantom = Phantom(grid=grid, tile_shape=shape, overlap=(12,) * len(grid), jitter=1)
    written = write_phantom(phantom, tmp_path / "data", results=tmp_path / "results")
    for path in written.tiles:
        write(path, tifffile.imread(path))
    pair = 14 * 48 * shape[2]  # about as many voxels as a pair compares
    monkeypatch.setattr(neighbours, "BLOCK_VOXELS", 12 * pair)
    monkeypatch.setattr(neighbours, "LEAST_VOXELS", 2 * pair)
    (dataset,) = Run.of(yaml.safe_load(written.config.read_text())).datasets.values()
    assert len(dataset.blocks) > 1
    for card, _ in dataset.blocks:
        align.align_block(card.content, written.sheet.parent)
    size = np.prod(shape) * 2
    if "compression" in getattr(write, "keywords", {}):
        assert len(traffic["pages"]) == len(written.tiles)
        assert max(traffic["pages"].values()) <= 2 * shape[2]
        assert not traffic["bytes"]
    else:
        assert len(traffic["bytes"]) == len(written.tiles)
        assert max(traffic["bytes"].values()) <= 2 * size
        assert not traffic["pages"]


@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    base=st.tuples(*[st.integers(-5, 5)] * 3),
    work=st.integers(1, 60),
    lost=st.sets(st.integers(0, 242), max_size=30),
    order=st.randoms(),
)
@settings(deadline=None, max_examples=60)
def test_no_tile_is_in_more_than_two_jobs(sides, base, work, lost, order):
    shape = (100, 90, 20)
    indices = [index for n, index in enumerate(np.ndindex(sides)) if n not in lost or n == 0]
    order.shuffle(indices)
    tiles = tuple(
        Tile(
            "t{}_{}_{}".format(*index),
            tuple(a + b for a, b in zip(index, base, strict=True)),
            tuple(a * (n - 10) for a, n in zip(index, shape, strict=True)),
            shape,
            {},
            None,
        )
        for index in indices
    )
    dataset = Dataset("d", tiles, ("c",), "c", "uint16", 3)
    pairs = [
        Pair(a.name, b.name, axis, a.nominal, SearchRange((80, 80, 10), (99, 99, 19)), 1)
        for a, b, axis in neighbours.neighbours(dataset)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "BLOCK_VOXELS", work * 20 * 100 * 20)
        jobs = neighbours.deal_out(dataset, pairs)
    assert sorted(map(id, pairs)) == sorted(id(pair) for job in jobs.values() for pair in job)
    tiles_of = [{name for pair in job for name in (pair.pre, pair.post)} for job in jobs.values()]
    assert all(n <= 2 for n in Counter(name for job in tiles_of for name in job).values())


@pytest.mark.parametrize("method", ["auto", "exact", "mip"])
def test_a_job_keeps_to_the_memory_it_states(job, method):
    card, folder, _ = job
    card = {**card, "method": method}
    stated = align.memory_needed(card)
    align.align_block(card, folder)
    _, measured = traced(align.align_block, card, folder)
    assert measured <= stated
    # Projections take less, but where they show nothing all is searched.
    assert stated <= 3 * measured or method == "mip"


@pytest.mark.parametrize(
    "how",
    [{"rowsperstrip": 512}, {"rowsperstrip": 1}, {"tile": (256, 256)}, {"predictor": True}],
)
def test_decoding_takes_so_many_planes(tmp_path, how):
    # Noise that is not packed at all.
    stack = np.random.default_rng(0).integers(0, 2**16, (2, 512, 512)).astype("u2")
    plain(tmp_path / "t.tif", stack, compression="zlib", **how)
    reader = open_image(tmp_path / "t.tif")
    for box in (Box((0, 0, 0), (512, 40, 2)), Box((0, 0, 0), (40, 512, 2))):
        reader.read_boxes([box])
        _, peak = traced(reader.read_boxes, [box])
        assert peak <= box.size * 2 + DECODING_PLANES * stack[0].nbytes + 2**16


def test_jobs_import_nothing_of_planning_or_drawing():
    scripts = Path(__file__).parents[1] / "workflow" / "scripts"
    heavy = ["jsonschema", "yaml", "pandas", "matplotlib", "tqdm", "tifffile"]
    heavy += ["scipy.fft", "scipy.sparse", "scipy.ndimage", "scipy.special", "stitchlib.config"]
    for job in ("align", "place", "stitch", "assemble", "preview", "dataset"):
        more = [] if job in ("stitch", "assemble") else ["h5py"]
        code = (
            f"import runpy, sys; sys.argv = ['{job}.py']\n"
            f"try: runpy.run_path({str(scripts / f'{job}.py')!r}, run_name='__main__')\n"
            "except TypeError: pass\n"  # the job's arguments are missing
            f"print([m for m in {heavy + more!r} if m in sys.modules])\n"
            "print('stitchlib.jobs' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["[]", "True"], job


def test_planning_imports_no_more_than_numpy():
    rules = Path(__file__).parents[1] / "workflow" / "rules" / "common.smk"
    lines = [line for line in rules.read_text().splitlines() if line.startswith("from stitchlib")]
    assert lines
    heavy = ["h5py", "matplotlib", "pandas", "tifffile", "tqdm"]
    heavy += ["scipy.fft", "scipy.sparse", "scipy.ndimage", "scipy.special"]
    code = "\n".join(["import sys", *lines, f"print([m for m in {heavy!r} if m in sys.modules])"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("sys.stdout.write('whole')", 0, "whole"),
        ("raise InputError('no such tile')", 1, "ERROR: no such tile"),
        ("raise ZeroDivisionError", 1, "Traceback"),
    ],
)
def test_a_job_that_is_done_ends_at_once_and_another_says_why(ending, code, said):
    script = (
        "import sys\n"
        "from stitchlib.errors import InputError\n"
        "from stitchlib.jobs import run_job\n"
        "class Kept:\n"
        "    def __del__(self): sys.stderr.write('taken apart')\n"
        "kept = Kept()\n"
        f"def job(): {ending}\n"
        "run_job(job)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert ("taken apart" in done.stderr) == (code != 0)
