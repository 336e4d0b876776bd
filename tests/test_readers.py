from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from stitchlib.core.boxes import Box
from stitchlib.errors import InputError
from stitchlib.io.images import as_stack, open_image, open_planned

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def picture(shape=(40, 30, 5), dtype="uint16", seed=0):
    """Voxels with axes (x, y[, z])."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 100, shape).astype(dtype)
    info = np.iinfo(dtype)
    # Ramps, so that every way to compress them finds something, and any mix-up of axes shows.
    ramps = sum(np.arange(n).reshape(np.roll([n, *[1] * (len(shape) - 1)], d)) * 3**d
                for d, n in enumerate(shape))  # fmt: skip
    return (ramps + rng.integers(0, 9, shape)).clip(info.min, info.max).astype(dtype)


def npy(path, image, order="C"):
    np.save(path, np.asarray(image, order=order))


def tif(path, image, **options):
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(path, image.T, **options)


def ome(path, image, **options):
    axes = "ZYX"[-image.ndim :]
    tif(path, image, ome=True, metadata={"axes": axes, "PhysicalSizeX": 0.5}, **options)


def separate_pages(path, image, **options):
    with tifffile.TiffWriter(path) as writer:
        for plane in np.atleast_3d(image).T:
            writer.write(plane, photometric="minisblack", metadata=None, **options)


KINDS = {
    "npy-C": (npy, ".npy", {}),
    "npy-F": (npy, ".npy", {"order": "F"}),
    "plain": (tif, ".tif", {}),
    "no-metadata": (tif, ".tif", {"metadata": None}),
    "big-endian": (tif, ".tif", {"byteorder": ">"}),
    "bigtiff": (tif, ".tiff", {"bigtiff": True}),
    "deflate": (tif, ".tif", {"compression": "zlib"}),
    "deflate-predictor": (tif, ".tif", {"compression": "zlib", "predictor": True}),
    "deflate-big-endian": (tif, ".tif", {"compression": "zlib", "byteorder": ">"}),
    "lzw": (tif, ".TIF", {"compression": "lzw"}),
    "zstd": (tif, ".tif", {"compression": "zstd"}),
    "strips": (tif, ".tif", {"rowsperstrip": 7, "compression": "zlib"}),
    "tiled": (tif, ".tif", {"tile": (16, 16)}),
    "tiled-deflate": (tif, ".tif", {"tile": (16, 32), "compression": "zlib"}),
    "pages": (separate_pages, ".tif", {}),
    "pages-deflate": (separate_pages, ".tif", {"compression": "zlib"}),
    "ome": (ome, ".ome.tif", {}),
    "ome-deflate": (ome, ".ome.tif", {"compression": "zlib"}),
    "imagej": (tif, ".tif", {"imagej": True, "metadata": {"axes": "ZYX"}}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One file of every kind, of one picture."""
    folder, image = tmp_path_factory.mktemp("files"), picture()
    paths = {}
    for kind, (write, suffix, options) in KINDS.items():
        paths[kind] = folder / f"{kind}{suffix}"
        write(paths[kind], image, **options)
    return image, paths


def parts(shape, seed=0):
    """Boxes inside an image: all of it, single voxels, corners, random ones."""
    yield Box((0,) * len(shape), shape)
    yield Box.at((0,) * len(shape), (1,) * len(shape))
    yield Box.at(tuple(n - 1 for n in shape), (1,) * len(shape))
    rng = np.random.default_rng(seed)
    for _ in range(8):
        ends = [sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in shape]
        yield Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


@pytest.mark.parametrize("kind", KINDS)
def test_any_box_is_that_part_of_the_image(files, kind):
    image, paths = files
    state = paths[kind].read_bytes(), paths[kind].stat().st_mtime_ns
    reader = open_image(paths[kind])
    assert reader.shape == image.shape
    assert all(type(n) is int for n in reader.shape)
    assert reader.dtype == image.dtype
    assert reader.dtype.isnative
    assert reader.order == ("C" if kind == "npy-C" else "F")
    for box in parts(image.shape):
        part = reader.read(box)
        assert part.dtype == image.dtype
        assert part.dtype.isnative
        assert part.shape == box.shape
        np.testing.assert_array_equal(part, image[box.slices()])
    assert (paths[kind].read_bytes(), paths[kind].stat().st_mtime_ns) == state


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), data=st.data())
def test_boxes_are_slices(files, kind, data):
    image, paths = files
    ends = [
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
        for n in image.shape
    ]
    box = Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))
    np.testing.assert_array_equal(open_image(paths[kind]).read(box), image[box.slices()])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["npy-F", "plain", "big-endian", "deflate", "tiled-deflate"])
def test_every_type(tmp_path, kind, dtype):
    write, suffix, options = KINDS[kind]
    image = picture((18, 17, 3), dtype)
    write(tmp_path / f"t{suffix}", image, **options)
    reader = open_image(tmp_path / f"t{suffix}")
    assert reader.dtype == dtype
    for box in parts(image.shape):
        np.testing.assert_array_equal(reader.read(box), image[box.slices()])


@pytest.mark.parametrize(
    "kind", ["npy-C", "npy-F", "plain", "no-metadata", "deflate", "tiled", "lzw", "pages"]
)
def test_a_plane_has_two_axes_and_is_a_stack_of_one(tmp_path, kind):
    write, suffix, options = KINDS[kind]
    image = picture((40, 30))
    write(tmp_path / f"t{suffix}", image, **options)
    reader = open_image(tmp_path / f"t{suffix}")
    assert reader.shape == (40, 30)
    stack = as_stack(reader)
    assert stack.shape == (40, 30, 1)
    assert stack.order == reader.order
    for box in parts((40, 30)):
        wanted = image[box.slices()]
        np.testing.assert_array_equal(reader.read(box), wanted)
        deep = Box((*box.lower, 0), (*box.upper, 1))
        np.testing.assert_array_equal(stack.read(deep), wanted[..., np.newaxis])
    assert as_stack(stack) is stack


def test_arrays_in_the_other_byte_order_are_read_native(tmp_path):
    image = picture()
    np.save(tmp_path / "t.npy", image.astype(">u2"))
    reader = open_image(tmp_path / "t.npy")
    assert reader.dtype == np.uint16
    assert str(reader.dtype) == "uint16"
    part = reader.read(Box((3, 4, 1), (9, 8, 3)))
    assert part.dtype.isnative
    np.testing.assert_array_equal(part, image[3:9, 4:8, 1:3])


def test_voxels_of_inputs_cannot_be_written_through_a_reader(files):
    image, paths = files
    for kind in ("npy-C", "plain"):
        part = open_image(paths[kind]).read(Box((0, 0, 0), image.shape))
        assert not part.flags.writeable


# What is refused, by name


def read_all(path):
    reader = open_image(path)
    return reader.read(Box((0,) * len(reader.shape), reader.shape))


def refused(path, match):
    with pytest.raises(InputError, match=match) as caught:
        read_all(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["t.png", "t", "t.npz", "t.tif.gz", "t.h5"])
def test_unknown_suffixes_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    refused(tmp_path / name, r"no reader for files named .*known: \.npy, \.tif, \.tiff")


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_missing_files_and_directories_are_refused(tmp_path, suffix):
    refused(tmp_path / f"none{suffix}", "there is no such file")
    (tmp_path / f"folder{suffix}").mkdir()
    refused(tmp_path / f"folder{suffix}", "is a directory")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "is a directory")


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_are_refused_unless_only_padding_is_gone(files, tmp_path, kind):
    image, paths = files
    whole = paths[kind].read_bytes()
    cut = tmp_path / paths[kind].name
    refused = 0
    lengths = [0, 1, 3, 8, 9, *range(40, len(whole), len(whole) // 60), len(whole) - 1]
    for length in lengths:
        cut.write_bytes(whole[:length])
        try:
            part = read_all(cut)
        except InputError as error:
            assert str(cut) in str(error)  # noqa: PT017
            refused += 1
        else:
            # The last pages' descriptions were cut off, the voxels were not.
            np.testing.assert_array_equal(part, image)
    assert refused > 0.8 * len(lengths)


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_files_that_are_something_else_are_refused(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    other = {".npy": tif, ".tif": npy}[suffix]
    other(tmp_path / f"o{'.tif' if suffix == '.npy' else '.npy'}", picture())
    (source,) = tmp_path.glob("o.*")
    for content in (source.read_bytes(), b"tile\tchannel\n", b"\x00" * 1000, b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        refused(path, "cannot be read")


def test_an_archive_named_npy_is_refused(tmp_path):
    path = tmp_path / "t.npy"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"")
    refused(path, "cannot be read")
    np.savez(tmp_path / "t.npz", picture())
    (tmp_path / "t.npz").replace(path)
    refused(path, "cannot be read")


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickles_are_not_run(tmp_path):
    trap = Trap(tmp_path / "sprung")
    path = tmp_path / "t.npy"
    np.save(path, np.array([[trap, trap]], object), allow_pickle=True)
    refused(path, "cannot be read")
    path.write_bytes(pickle.dumps(trap))
    refused(path, "cannot be read")
    assert not trap.path.exists()


@pytest.mark.parametrize("dtype", ["bool", "complex64", "uint64", "int64", "S3", "f4,f4"])
def test_types_that_cannot_be_blended_are_refused(tmp_path, dtype):
    np.save(tmp_path / "t.npy", np.zeros((4, 5), dtype))
    refused(tmp_path / "t.npy", "are not supported; convert them")


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4, 5)])
def test_arrays_of_one_or_four_axes_are_refused(tmp_path, shape):
    np.save(tmp_path / "t.npy", np.zeros(shape, np.uint8))
    refused(tmp_path / "t.npy", f"{len(shape)} axes, but a tile has 2")


@pytest.mark.parametrize("shape", [(0, 5), (4, 0, 3)])
def test_empty_arrays_are_refused(tmp_path, shape):
    np.save(tmp_path / "t.npy", np.zeros(shape, np.uint8))
    refused(tmp_path / "t.npy", "empty|cannot be read")


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((20, 30, 4), {"photometric": "rgb"}),
        ((2, 5, 20, 30), {"metadata": {"axes": "CZYX"}}),
        ((2, 20, 30), {"metadata": {"axes": "CYX"}}),
        ((2, 20, 30), {"metadata": {"axes": "TYX"}}),
        ((2, 5, 20, 30), {}),
        ((2, 5, 20, 30), {"imagej": True, "metadata": {"axes": "TZYX"}}),
        ((2, 5, 20, 30), {"ome": True, "metadata": {"axes": "CZYX"}}),
    ],
)
def test_colours_channels_and_times_in_one_file_are_refused(tmp_path, shape, options):
    path = tmp_path / ("t.ome.tif" if options.get("ome") else "t.tif")
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(path, np.zeros(shape, np.uint8), **options)
    refused(path, "axes .* with shape .*column 'select' takes one index along an axis, e.g. ")


def test_axes_of_one_are_no_obstacle(tmp_path):
    image = picture((20, 30, 4))
    stack = image.T[np.newaxis, :, np.newaxis]
    tifffile.imwrite(tmp_path / "t.tif", stack, imagej=True, metadata={"axes": "TZCYX"})
    tifffile.imwrite(tmp_path / "t.ome.tif", stack, ome=True, metadata={"axes": "TZCYX"},
                     photometric="minisblack")  # fmt: skip
    for name in ("t.tif", "t.ome.tif"):
        reader = open_image(tmp_path / name)
        assert reader.shape == (20, 30, 4)
        np.testing.assert_array_equal(reader.read(Box((1, 2, 0), (9, 9, 3))), image[1:9, 2:9, 0:3])


def test_planes_of_different_sizes_are_not_one_stack(tmp_path):
    path = tmp_path / "t.tif"
    with tifffile.TiffWriter(path) as writer:
        for shape in ((20, 30), (20, 30), (10, 15)):
            writer.write(np.ones(shape, np.uint8), photometric="minisblack", metadata=None)
    # The first series: what has the first plane's size.
    assert open_image(path).shape == (30, 20, 2)


def test_a_tile_must_be_what_the_run_was_planned_for(files):
    _, paths = files
    for kind in ("npy-C", "deflate"):
        reader = open_planned(paths[kind], (40, 30, 5), "uint16")
        assert reader.shape == (40, 30, 5)
        for shape, dtype in (((40, 30, 4), "uint16"), ((40, 30, 5), "uint8")):
            with pytest.raises(InputError, match=r"was replaced meanwhile\. Start the run again"):
                open_planned(paths[kind], shape, dtype)


@pytest.mark.parametrize("kind", ["npy-C", "plain", "deflate"])
def test_a_file_that_shrinks_after_it_was_opened_is_an_error(files, tmp_path, kind):
    image, paths = files
    path = tmp_path / paths[kind].name
    path.write_bytes(paths[kind].read_bytes())
    reader = open_image(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="cannot be"):
        reader.read(Box((0, 0, 0), image.shape))
    path.unlink()
    with pytest.raises(InputError, match="cannot be"):
        reader.read(Box((0, 0, 0), image.shape))


@pytest.mark.parametrize("kind", ["lzw", "strips", "deflate", "tiled"])
def test_voxels_that_end_with_the_file_are_not_guessed(tmp_path, kind):
    # A plane's description stands before its voxels: it stays whole where these are cut off.
    write, suffix, options = KINDS[kind]
    path = tmp_path / f"t{suffix}"
    write(path, picture((40, 30)), **options)
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        end = page.dataoffsets[-1] + page.databytecounts[-1]
    for missing in range(1, 12):
        path.write_bytes(whole[: end - missing])
        refused(path, r"truncated|cannot be")
