from __future__ import annotations

import threading

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from stitchlib import levels, parallel, stitch
from stitchlib.core.boxes import Box
from stitchlib.errors import InputError
from stitchlib.io import planes, tiff
from stitchlib.io import spool as spool_module
from stitchlib.io.images import as_stack, open_image
from stitchlib.io.spool import Spool
from stitchlib.levels import write_levels
from stitchlib.plans import ShardPlan
from stitchlib.stitch import stitch_shard

SHAPE = (23, 17, 11)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 2**16, SHAPE).astype(np.uint16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, image):
    folder = tmp_path_factory.mktemp("tiles")
    for name, compression in (("packed", "zlib"), ("plain", None)):
        tifffile.imwrite(
            folder / f"{name}.tif", image.T, photometric="minisblack", compression=compression,
            metadata={"axes": "ZYX"},
        )  # fmt: skip
    np.save(folder / "array.npy", image)
    tifffile.imwrite(folder / "plane.tif", image[..., 0].T, compression="zlib")
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """Count the decoded pages."""
    pages = []
    decode = tiff._decoded

    def counting(page, *args):
        pages.append((page.parent.filename, page.index))
        return decode(page, *args)

    monkeypatch.setattr(tiff, "_decoded", counting)
    return pages


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_spooled_image_is_the_image(folder, image, tmp_path_factory, data):
    def box(inside):
        ends = [
            sorted(data.draw(st.tuples(*[st.integers(a, b)] * 2)))
            for a, b in zip(inside.lower, inside.upper, strict=True)
        ]
        return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))

    parts = [box(Box.at((0, 0, 0), SHAPE)) for _ in range(2)]
    with Spool(tmp_path_factory.getbasetemp()) as spool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "DECODED_BYTES", data.draw(st.sampled_from([1, 1500, 10**6])))
        source = open_image(folder / "packed.tif")
        readers = [spool.reader(source, part) for part in parts]
        for _ in range(4):
            for part, reader in zip(parts, readers, strict=True):
                wanted = box(part)
                found = reader.read(wanted)
                assert found.shape == wanted.shape
                np.testing.assert_array_equal(found, image[wanted.slices()])


@pytest.mark.parametrize("name", ["plain.tif", "array.npy"])
def test_what_is_not_compressed_is_read_where_it_is(folder, tmp_path, name):
    with Spool(tmp_path) as spool:
        source = open_image(folder / name)
        assert spool.reader(source, Box.at((0, 0, 0), SHAPE)) is source


def test_a_plane_is_spooled_too(folder, image, tmp_path, decoded):
    with Spool(tmp_path) as spool:
        reader = spool.reader(as_stack(open_image(folder / "plane.tif")), Box((2, 1, 0), (9, 8, 1)))
        for lower in (2, 4, 4):
            part = Box((lower, 1, 0), (9, 8, 1))
            np.testing.assert_array_equal(reader.read(part), image[lower:9, 1:8, :1])
    assert len(decoded) == 1


def test_a_shard_decodes_every_page_once(folder, image, tmp_path, decoded, monkeypatch):
    monkeypatch.setattr(levels, "COLUMN_BYTES", 1)
    monkeypatch.setattr(levels, "SLAB_VOXELS", 1)
    monkeypatch.setattr(spool_module, "DECODED_BYTES", 3000)
    boxes = [Box.at(corner, SHAPE) for corner in ((0, 0, 0), (15, 3, 1))]
    tiles = tuple(({"path": "packed.tif"}, box) for box in boxes)
    shapes = [((1, 1, 1), (4, 4, 4)), ((2, 2, 2), (4, 4, 4))]
    opened, file = [], tiff.tifffile.TiffFile
    monkeypatch.setattr(tiff.tifffile, "TiffFile", lambda path: opened.append(path) or file(path))
    # The last plane of the second tile lies outside the shard.
    plan = ShardPlan(Box((0, 0, 0), (38, 20, 11)), tuple(shapes), tiles, "uint16", "max", 0, "gzip")
    stitch_shard(plan, folder, tmp_path / "shard.h5")
    counts = [decoded.count(page) for page in sorted(set(decoded))]
    assert counts == [2] * 10 + [1]
    # Each tile's pages are looked up when it is opened, and once to decode them.
    assert len(opened) == 4


# A disk of the node's own


def test_a_shard_is_made_on_scratch_and_appears_whole(folder, tmp_path, monkeypatch):
    wanted = tmp_path / "wanted.h5"
    stitch_shard(_whole("packed.tif"), folder, wanted)
    scratch, results = tmp_path / "node", tmp_path / "results"
    scratch.mkdir()
    seen = []

    def look(*arguments):
        seen.append((len(list(scratch.glob("stitchlib-*/*.h5"))), results.exists()))
        write_levels(*arguments)

    monkeypatch.setattr(stitch, "write_levels", look)
    monkeypatch.setenv("OF_THE_NODE", str(scratch))
    monkeypatch.setenv("STITCHLIB_SCRATCH", "$OF_THE_NODE")
    stitch_shard(_whole("packed.tif"), folder, results / "shard.h5")
    assert seen == [(1, False)]
    assert [path.name for path in results.iterdir()] == ["shard.h5"]
    assert (results / "shard.h5").read_bytes() == wanted.read_bytes()
    assert not list(scratch.iterdir())


def test_nothing_appears_and_scratch_is_empty_when_a_shard_fails(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(stitch, "write_levels", lambda *_: 1 / 0)
    monkeypatch.setenv("STITCHLIB_SCRATCH", str(tmp_path))
    with pytest.raises(ZeroDivisionError):
        stitch_shard(_whole("packed.tif"), folder, tmp_path / "shard.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wanted", ["/nowhere", "$NOT_SET/x", "tiles.tsv"])
def test_scratch_has_to_be_a_folder(folder, tmp_path, monkeypatch, wanted):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiles.tsv").touch()
    monkeypatch.setenv("STITCHLIB_SCRATCH", wanted)
    with pytest.raises(InputError, match=r"STITCHLIB_SCRATCH=.* is no folder on .*; name one"):
        stitch_shard(_whole("packed.tif"), folder, tmp_path / "shard.h5")


# Threads


def test_threads_change_nothing(folder, tmp_path):
    made = [tmp_path / f"{threads}.h5" for threads in (1, 3)]
    for path, threads in zip(made, (1, 3), strict=True):
        stitch_shard(_whole("array.npy"), folder, path, threads)
    assert made[0].read_bytes() == made[1].read_bytes()


def _whole(name: str) -> ShardPlan:
    """Plan a shard that is one tile."""
    box = Box.at((0, 0, 0), SHAPE)
    tiles = (({"path": name}, box),)
    return ShardPlan(box, (((1, 1, 1), (4, 4, 4)),), tiles, "uint16", "max", 0, "gzip")


def test_a_pool_gives_results_in_order_and_stays_a_little_ahead():
    threads, taken, names = 3, 0, set()

    def items():
        for number in range(40):
            assert number <= taken + 2 * threads
            yield number

    def square(number):
        names.add(threading.current_thread().name)
        return number**2

    with parallel.mapping(threads) as mapped:
        for number, result in enumerate(mapped(square, items())):
            assert result == number**2
            taken += 1
    assert taken == 40
    assert threading.current_thread().name not in names


def test_one_thread_is_no_pool():
    with parallel.mapping(1) as mapped:
        assert mapped is map


def test_what_fails_in_a_pool_fails():
    with parallel.mapping(2) as mapped, pytest.raises(ZeroDivisionError):
        list(mapped(lambda number: 1 // number, [1, 0]))


# Stacks with one file per plane


def test_a_stack_of_planes_gives_several_boxes_and_opens_every_file_once(
    image, tmp_path, monkeypatch
):
    for z in range(4):
        tifffile.imwrite(tmp_path / f"p{z}.tif", image[..., z].T, compression="zlib")
    reader = open_image(tmp_path / "p<Z,1>.tif")
    opened = []
    open_file = planes.PlanesReader._open
    monkeypatch.setattr(
        planes.PlanesReader,
        "_open",
        lambda self, file: opened.append(file) or open_file(self, file),
    )
    boxes = [Box((0, 3, 1), (9, 8, 4)), Box((2, 1, 0), (23, 4, 3)), Box((5, 5, 2), (5, 5, 2))]
    for box, found in zip(boxes, reader.read_boxes(boxes), strict=True):
        np.testing.assert_array_equal(found, image[box.slices()])
    assert len(opened) == len(set(opened)) == 4
    assert reader.planewise
