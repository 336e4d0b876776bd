"""Real folders, expressions, relocation, virtual sources and layout files, from semantics.md."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import pickle
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import stitchlib as st
from stitchlib.errors import StitchlibError
from tests.traced import traced

Array = NDArray[Any]
REFUSED = (StitchlibError, ValueError)
MISSING = (StitchlibError, ValueError, OSError)
INF = math.inf
SHAPE = (12, 10, 4)


def noise(shape: Any, seed: int = 0, dtype: str = "uint16") -> Array:
    return np.random.default_rng(seed).integers(1, 250, tuple(shape)).astype(dtype)


def pixels(source: Any) -> Array:
    return st.Layout([source]).stitch(method="max")


def ints(values: Any) -> list[int]:
    return [int(v) for v in values]


def write(path: Path, image: Array) -> Path:
    """Write an image (x, y[, z]): transposed as TIFF, as it is as .npy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, image)
    else:
        tifffile.imwrite(path, np.ascontiguousarray(image.T), photometric="minisblack")
    return path


def write_grid(
    folder: Path,
    name: str = "t_{x:02d}_{y:02d}.tif",
    *,
    n: int = 3,
    m: int = 2,
    first: int = 0,
    skip: Any = (),
    seed: int = 0,
    shape: Any = SHAPE,
    dtype: str = "uint16",
) -> dict[tuple[int, int], Array]:
    """Write a grid of tiles and return them by tile position."""
    made = {}
    for i, j in itertools.product(range(first, first + n), range(first, first + m)):
        if (i, j) not in skip:
            made[i, j] = noise(shape, seed + 10 * i + j, dtype)
            write(folder / name.format(x=i, y=j), made[i, j])
    return made


def digest(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(p.relative_to(folder)): (
            hashlib.sha256(p.read_bytes()).hexdigest(),
            p.stat().st_mtime_ns,
        )
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def grid_layout(folder: Path, **options: Any) -> st.TiledLayout:
    settings = {"expression": str(folder / "t_<X,2>_<Y,2>.tif"), "overlaps": (3, 2), **options}
    return st.TiledLayout(**settings)


# --- sources in files -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_tiff_holds_the_transpose_and_order_reports_it(tmp_path: Path, kind: Any) -> None:
    for n, a in enumerate((noise((5, 6)), noise((5, 6, 7)))):
        path = write(tmp_path / f"{n}.tif", a)
        source = st.Source(kind(path))
        assert source.shape == a.shape
        assert source.order == "F"
        assert source.dtype == np.uint16
        assert Path(source.location).resolve() == path.resolve()
        assert np.array_equal(pixels(source), a)
        assert all(type(x) is int for x in source.shape)


def test_an_npy_file_and_a_memmap_are_taken_as_they_are(tmp_path: Path) -> None:
    a = noise((5, 6, 7))
    path = write(tmp_path / "a.npy", a)
    for given in (str(path), path, np.load(path, mmap_mode="r")):
        source = st.Source(given, position=(1, 2, 3))
        assert source.shape == (5, 6, 7)
        assert source.order == "C"
        assert np.array_equal(pixels(source), a)
    turned = write(tmp_path / "f.npy", np.asfortranarray(a))
    source = st.Source(str(turned))
    assert source.shape == (5, 6, 7)
    assert source.order == "F"
    assert np.array_equal(pixels(source), a)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MISSING):
        st.Source(str(tmp_path / "none.tif")).shape  # noqa: B018


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_a_virtual_source_is_a_small_picklable_handle(tmp_path: Path, suffix: str) -> None:
    a = noise((60, 50, 40))
    source = st.Source(
        str(write(tmp_path / f"a{suffix}", a)), position=(3, -4, 5), tile_position=(1, 2)
    )
    virtual = source.as_virtual()
    data = pickle.dumps(virtual)
    assert len(data) < 20_000 < a.nbytes
    for twin in (virtual, pickle.loads(data)):
        assert twin.id == source.id
        assert twin.position == (3, -4, 5)
        assert tuple(twin.tile_position) == (1, 2)
        assert (twin.shape, twin.dtype, twin.order) == (source.shape, source.dtype, source.order)
        assert Path(twin.location).resolve() == Path(source.location).resolve()
        assert np.array_equal(pixels(twin), a)
        assert np.array_equal(pixels(twin.as_real()), a)


def test_a_virtual_memmap_is_small_too(tmp_path: Path) -> None:
    a = noise((60, 50, 40))
    path = write(tmp_path / "a.npy", a)
    virtual = st.Source(np.load(path, mmap_mode="r")).as_virtual()
    assert np.array_equal(pixels(pickle.loads(pickle.dumps(virtual))), a)


def test_as_real_reads(tmp_path: Path) -> None:
    a = noise((5, 6, 7))
    path = write(tmp_path / "a.tif", a)
    real = st.Source(str(path)).as_virtual().as_real()
    path.unlink()
    assert np.array_equal(pixels(real), a)


def test_a_virtual_slice_of_a_file_reads_its_slice(tmp_path: Path) -> None:
    a = noise((20, 30, 9))
    source = st.Source(str(write(tmp_path / "a.tif", a)), position=(-7, 2, 100))
    part = st.Slice(source, slicing=(slice(3, 9), slice(None), 4))
    twin = pickle.loads(pickle.dumps(part.as_virtual()))
    assert twin.position == part.position == (-4, 2)
    assert twin.position_unsliced == (-4, 2, 104)
    assert np.array_equal(pixels(twin), a[3:9, :, 4])
    assert len(pickle.dumps(part.as_virtual())) < a.nbytes


def test_nothing_here_ever_writes_to_an_input_file(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_grid(folder)
    extra = write(folder / "m.npy", noise((6, 6), dtype="float32"))
    before = digest(folder)
    layout = grid_layout(folder)
    layout.align_on_tiling(
        overlaps=(5, 4), max_shifts=1, clip=(20, 60), background=30, processes="serial"
    )
    layout.align(max_shifts=1, clip=50, normalize=True, processes="serial")
    layout.place()
    for method in ("interpolation", "max", "min", "mean", "interpolation-adjust-max"):
        layout.stitch(method=method)[...] = 0
    single = st.Layout([st.Source(np.load(extra, mmap_mode="r+"), position=(0, 0))])
    single.stitch()[...] = 0
    st.align_2_sources(np.load(extra, mmap_mode="r+"), st.Source(str(extra)), 1, clip=3)
    layout.save(str(tmp_path / "layout.json"))
    st.load_layout(str(tmp_path / "layout.json")).stitch()
    assert digest(folder) == before


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_the_result_may_not_be_written_over_an_input_file(tmp_path: Path, suffix: str) -> None:
    a = write(tmp_path / f"a{suffix}", noise((6, 6), 1))
    b = write(tmp_path / f"b{suffix}", noise((6, 6), 2))
    before = digest(tmp_path)
    layout = st.Layout([st.Source(str(a), position=(0, 0)), st.Source(str(b), position=(3, 3))])
    for sink in (str(b), tmp_path / "." / a.name, tmp_path / "x" / ".." / a.name):
        with pytest.raises(MISSING):
            layout.stitch(sink)
    with pytest.raises(MISSING):
        layout.save(str(a))
    assert digest(tmp_path) == before


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_a_slice_reads_only_its_slice(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"big{suffix}"
    shape = (64, 1024, 1024)
    if suffix == ".npy":
        stack = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    else:
        stack = tifffile.memmap(path, shape=shape, dtype=np.uint8, photometric="minisblack")
    stack[40, 7, 9] = 5
    stack.flush()
    del stack
    axis = 0 if suffix == ".npy" else 2
    image, peak = traced(
        lambda: pixels(st.Source(str(path)).slice_along_axis(coordinate=40, axis=axis))
    )
    assert image.shape == (1024, 1024)
    assert image[(7, 9) if axis == 0 else (9, 7)] == 5
    assert peak < 32e6  # of 64 MB


# --- expressions ------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("n", "m"), [(3, 2), (1, 1), (1, 4), (4, 1)])
def test_a_layout_from_an_expression(tmp_path: Path, first: int, n: int, m: int) -> None:
    made = write_grid(tmp_path, n=n, m=m, first=first)
    layout = grid_layout(tmp_path)
    assert {tuple(p) for p in layout.tile_positions} == set(made)
    assert layout.shape == (9 * n + 3, 8 * m + 2, 4)
    assert layout.order == "F"
    base = layout.source_from_tile_position((first, first)).position
    for s in layout.sources:
        i, j = s.tile_position
        assert np.array_equal(pixels(s), made[i, j])
        assert Path(s.location).name == f"t_{i:02d}_{j:02d}.tif"
        assert s.position == (base[0] + 9 * (i - first), base[1] + 8 * (j - first), base[2])
    assert layout.n_alignments == (n - 1) * m + n * (m - 1)


def test_missing_tiles_are_allowed(tmp_path: Path) -> None:
    made = write_grid(tmp_path, first=1, skip=[(1, 1), (2, 2)])
    layout = grid_layout(tmp_path)
    assert {tuple(p) for p in layout.tile_positions} == set(made)
    assert layout.n_alignments == 2  # (2,1)-(3,1) and (3,1)-(3,2)
    whole = layout.stitch()
    assert whole.shape == (30, 18, 4)
    lonely = layout.source_from_tile_position((1, 2))
    assert lonely.position == tuple(
        np.add(layout.source_from_tile_position((2, 1)).position, (-9, 8, 0))
    )


def test_a_tag_without_a_digit_count_takes_any_number_of_digits(tmp_path: Path) -> None:
    for k in (8, 9, 10, 11):
        write(tmp_path / f"row{k}_col3.npy", np.full((6, 5), k, np.uint8))
    layout = st.TiledLayout(expression=str(tmp_path / "row<X>_col<Y>.npy"), overlaps=2)
    assert sorted(tuple(p) for p in layout.tile_positions) == [(8, 3), (9, 3), (10, 3), (11, 3)]
    order = sorted(layout.sources, key=lambda s: s.position[0])
    assert [int(pixels(s)[0, 0]) for s in order] == [8, 9, 10, 11]
    assert layout.n_alignments == 3


def test_a_digit_count_takes_exactly_so_many_digits(tmp_path: Path) -> None:
    write_grid(tmp_path)
    write(tmp_path / "t_000_00.tif", noise(SHAPE))
    write(tmp_path / "t_0_0.tif", noise(SHAPE))
    write(tmp_path / "t_00_00.tif.bak.npy", noise(SHAPE))
    assert grid_layout(tmp_path).n_sources == 6


def test_the_axes_of_x_and_y_do_not_depend_on_their_order_in_the_name(tmp_path: Path) -> None:
    write_grid(tmp_path, "y{y:02d}-x{x:02d}.tif")
    layout = st.TiledLayout(expression=str(tmp_path / "y<Y,2>-x<X,2>.tif"), overlaps=(3, 2))
    assert max(tuple(p) for p in layout.tile_positions) == (2, 1)
    assert layout.shape == (30, 18, 4)


def test_tags_of_other_names_are_axes_in_the_order_of_the_expression(tmp_path: Path) -> None:
    write_grid(tmp_path, "r{x:02d}c{y:02d}.tif")
    layout = st.TiledLayout(expression=str(tmp_path / "r<ROW,2>c<COL,2>.tif"), overlaps=(3, 2))
    assert max(tuple(p) for p in layout.tile_positions) == (2, 1)


def test_tile_axes_name_the_grid_axes_in_image_axis_order(tmp_path: Path) -> None:
    write_grid(tmp_path, "r{y:02d}c{x:02d}.tif")
    layout = st.TiledLayout(
        expression=str(tmp_path / "r<ROW,2>c<COL,2>.tif"),
        tile_axes=["COL", "ROW"],
        overlaps=(3, 2),
    )
    assert max(tuple(p) for p in layout.tile_positions) == (2, 1)
    assert layout.shape == (30, 18, 4)


def test_other_tags_are_handled_or_named_in_the_error(tmp_path: Path) -> None:
    for c in (0, 1):
        write_grid(tmp_path, "t_{x:02d}_{y:02d}_c" + f"{c}.tif", n=2)
    options = {"expression": str(tmp_path / "t_<X,2>_<Y,2>_c<CH,1>.tif"), "overlaps": 2}
    with pytest.raises(REFUSED, match="CH"):
        assert st.TiledLayout(**options).n_sources == 4
    options["tile_axes"] = ["X", "Y"]
    with pytest.raises(REFUSED, match="CH"):
        assert st.TiledLayout(**options).n_sources == 4


def test_planes_in_files_are_handled_or_named_in_the_error(tmp_path: Path) -> None:
    for z in range(3):
        write_grid(tmp_path, "t_{x:02d}_{y:02d}_" + f"{z:03d}.tif", n=2, shape=(12, 10), seed=z)
    try:
        layout = st.TiledLayout(
            expression=str(tmp_path / "t_<X,2>_<Y,2>_<PLANE,3>.tif"),
            tile_axes=["X", "Y"],
            overlaps=2,
        )
    except REFUSED as error:
        assert "PLANE" in str(error)  # noqa: PT017
    else:
        assert layout.n_sources == 4
        assert layout.sources[0].shape == (12, 10, 3)


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    write_grid(tmp_path)
    with pytest.raises(MISSING):
        st.TiledLayout(expression=str(tmp_path / "u_<X,2>_<Y,2>.tif"), overlaps=2)


def test_special_characters_in_names_are_plain_text(tmp_path: Path) -> None:
    folder = tmp_path / "a+b (1) [x]"
    write_grid(folder, "t.{x:02d}+{y:02d}.tif")
    layout = st.TiledLayout(expression=str(folder / "t.<X,2>+<Y,2>.tif"), overlaps=(3, 2))
    assert layout.n_sources == 6


def test_tags_may_stand_in_folder_names(tmp_path: Path) -> None:
    write_grid(tmp_path, "{x:02d}/{x:02d}_{y:02d}.tif")
    layout = st.TiledLayout(expression=str(tmp_path / "<X,2>" / "<X,2>_<Y,2>.tif"), overlaps=(3, 2))
    assert layout.n_sources == 6


# --- relocation -------------------------------------------------------------------------------


def channels(folder: Path, first: int = 0, **other: Any) -> st.TiledLayout:
    """Two channels on disk; the layout of the first, aligned somehow."""
    name = "t_{x:02d}_{y:02d}_c%d.tif"
    write_grid(folder, name % 0, first=first)
    write_grid(folder, name % 1, first=first, seed=500, **other)
    layout = st.TiledLayout(expression=str(folder / "t_<X,2>_<Y,2>_c0.tif"), overlaps=(3, 2))
    layout.alignments[0].displacement = (9, 1, -1)
    layout.alignments[0].quality = -4.0
    return layout


def state(layout: st.Layout) -> Any:
    return [
        [(s.position, tuple(s.tile_position)) for s in layout.sources],
        [(ints(a.displacement), a.quality) for a in layout.alignments],
    ]


def assert_second_channel(layout: st.TiledLayout, folder: Path, before: Any) -> None:
    assert state(layout) == before
    for s in layout.sources:
        i, j = s.tile_position
        path = folder / f"t_{i:02d}_{j:02d}_c1.tif"
        assert Path(s.location).resolve() == path.resolve()
        assert np.array_equal(pixels(s), tifffile.imread(path).T)
    assert st.check_alignments_and_sources(layout.alignments, layout.sources)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("value", [1, "1", np.int64(1)])
def test_change_source_location_fills_the_tags(tmp_path: Path, first: int, value: Any) -> None:
    layout = channels(tmp_path, first)
    before = state(layout)
    layout.change_source_location(str(tmp_path / "t_<X,2>_<Y,2>_c<CH,1>.tif"), {"CH": value})
    assert_second_channel(layout, tmp_path, before)


def test_change_source_location_after_sources_were_sorted_or_removed(tmp_path: Path) -> None:
    layout = channels(tmp_path)
    layout.remove_source(2)
    before = state(layout)
    layout.change_source_location(str(tmp_path / "t_<X,2>_<Y,2>_c<CH,1>.tif"), {"CH": 1})
    assert_second_channel(layout, tmp_path, before)


def test_change_source_location_with_other_axes(tmp_path: Path) -> None:
    write_grid(tmp_path / "0", "r{y:02d}c{x:02d}.tif")
    second = write_grid(tmp_path / "1", "r{y:02d}c{x:02d}.tif", seed=500)
    layout = st.TiledLayout(
        expression=str(tmp_path / "0" / "r<ROW,2>c<COL,2>.tif"),
        tile_axes=["COL", "ROW"],
        overlaps=(3, 2),
    )
    layout.change_source_location(str(tmp_path / "<CH>" / "r<ROW,2>c<COL,2>.tif"), {"CH": 1})
    for s in layout.sources:
        assert np.array_equal(pixels(s), second[tuple(s.tile_position)])


def test_replace_source_location_by_expression(tmp_path: Path) -> None:
    layout = channels(tmp_path, first=1)
    before = state(layout)
    layout.replace_source_location(
        str(tmp_path / "t_<X,2>_<Y,2>_c0.tif"), str(tmp_path / "t_<X,2>_<Y,2>_c1.tif")
    )
    assert_second_channel(layout, tmp_path, before)


def test_replace_source_location_may_reorder_and_pad_tags(tmp_path: Path) -> None:
    write_grid(tmp_path / "a", n=2)
    second = write_grid(tmp_path / "b", "y{y:04d}x{x:02d}.tif", n=2, seed=500)
    layout = grid_layout(tmp_path / "a")
    layout.replace_source_location(
        str(tmp_path / "a" / "t_<X,2>_<Y,2>.tif"), str(tmp_path / "b" / "y<Y,4>x<X,2>.tif")
    )
    for s in layout.sources:
        assert np.array_equal(pixels(s), second[tuple(s.tile_position)])


@pytest.mark.parametrize("by", ["change", "replace"])
def test_tags_without_digit_count_find_padded_names_again(tmp_path: Path, by: str) -> None:
    name = "t_{x:02d}_{y:02d}_c%d.tif"
    write_grid(tmp_path, name % 0, first=8, n=3)
    second = write_grid(tmp_path, name % 1, first=8, n=3, seed=500)
    old, new = (str(tmp_path / f"t_<X>_<Y>_c{c}.tif") for c in (0, 1))
    layout = st.TiledLayout(expression=old, overlaps=(3, 2))
    if by == "replace":
        layout.replace_source_location(old, new)
    else:
        layout.change_source_location(new, {})
    for s in layout.sources:
        assert np.array_equal(pixels(s), second[tuple(s.tile_position)])


def test_replace_source_location_by_plain_text(tmp_path: Path) -> None:
    layout = channels(tmp_path)
    before = state(layout)
    layout.replace_source_location("_c0.tif", "_c1.tif", method="replace")
    assert_second_channel(layout, tmp_path, before)


@pytest.mark.parametrize(
    "change",
    [
        lambda lay, d: lay.change_source_location(f"{d}/t_<X,2>_<Y,2>_c<CH,1>.tif", {"CH": 7}),
        lambda lay, d: lay.change_source_location(f"{d}/t_<X,2>_<Y,2>_c<CH,1>.tif", {}),
        lambda lay, d: lay.replace_source_location(
            f"{d}/nothing_<X,2>_<Y,2>.tif", f"{d}/t_<X,2>_<Y,2>_c1.tif"
        ),
        lambda lay, d: lay.replace_source_location(
            f"{d}/t_<X,2>_<Y,2>_c0.tif", f"{d}/t_<X,2>_<Y,2>_c7.tif"
        ),
        lambda lay, _: lay.replace_source_location("nothing", "else", method="replace"),
        lambda lay, _: lay.replace_source_location("_c0", "_c7", method="replace"),
        lambda lay, _: lay.replace_source_location("_c0", "_c1", method="magic"),
    ],
)
def test_relocation_to_what_is_not_there_is_an_error_and_changes_nothing(
    tmp_path: Path, change: Any
) -> None:
    layout = channels(tmp_path)
    before, places = state(layout), [s.location for s in layout.sources]
    with pytest.raises(MISSING):
        change(layout, tmp_path)
    assert state(layout) == before
    assert [s.location for s in layout.sources] == places


def test_a_single_missing_file_is_an_error_before_anything_changes(tmp_path: Path) -> None:
    layout = channels(tmp_path)
    places = [s.location for s in layout.sources]
    (tmp_path / "t_02_01_c1.tif").unlink()
    with pytest.raises(MISSING, match="t_02_01_c1"):
        layout.replace_source_location("_c0", "_c1", method="replace")
    assert [s.location for s in layout.sources] == places


@pytest.mark.parametrize("other", [{"shape": (12, 10, 5)}, {"dtype": "uint8"}])
def test_another_shape_or_dtype_is_an_error(tmp_path: Path, other: Any) -> None:
    layout = channels(tmp_path, **other)
    places = [s.location for s in layout.sources]
    for change in (
        lambda: layout.replace_source_location("_c0", "_c1", method="replace"),
        lambda: layout.change_source_location(
            str(tmp_path / "t_<X,2>_<Y,2>_c<CH,1>.tif"), {"CH": 1}
        ),
    ):
        with pytest.raises(REFUSED):
            change()
    assert [s.location for s in layout.sources] == places


def test_the_second_channel_is_stitched_by_the_links_of_the_first(tmp_path: Path) -> None:
    layout = channels(tmp_path)
    layout.place()
    shape = layout.shape
    layout.replace_source_location("_c0", "_c1", method="replace")
    assert layout.shape == shape
    twin = st.Layout(
        [st.Source(tifffile.imread(s.location).T, position=s.position) for s in layout.sources]
    )
    assert np.array_equal(layout.stitch(), twin.stitch())


# --- layout files -----------------------------------------------------------------------------


def walk(value: Any) -> Any:
    """Yield every value inside a JSON document."""
    yield value
    inside = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list)):
        for v in inside:
            yield from walk(v)


def busy_layout(folder: Path) -> st.TiledLayout:
    write_grid(folder, first=1, skip=[(2, 2)])
    layout = grid_layout(folder)
    positions = [(-1001 - 7 * k, 2002 + 5 * k, -3 * k) for k in range(layout.n_sources)]
    layout.set_source_positions(positions)
    for k, a in enumerate(layout.alignments):
        a.displacement = (4001 + k, -k, 5003)
        a.quality = [-INF, 0.0, -1.25, 1 / 3, -1e300][k % 5]
    return layout


def full_state(layout: st.Layout) -> Any:
    return [
        [
            (s.id, s.position, tuple(s.tile_position), s.shape, str(s.dtype), s.order)
            for s in layout.sources
        ],
        [(a.pre.id, a.post.id, ints(a.displacement), a.quality) for a in layout.alignments],
        layout.position,
        layout.shape,
    ]


@pytest.mark.parametrize("kind", [str, Path])
def test_save_and_load_round_trip(tmp_path: Path, kind: Any) -> None:
    layout = busy_layout(tmp_path / "tiles")
    file = kind(tmp_path / "layout.json")
    layout.save(file)
    loaded = st.load_layout(file)
    assert full_state(loaded) == full_state(layout)
    assert [
        [(tuple(s.tile_position), s.position) for s in loaded.sources],
    ] == [[(tuple(s.tile_position), s.position) for s in layout.sources]]
    for s, t in zip(loaded.sources, layout.sources, strict=True):
        assert s is not t
        assert np.array_equal(pixels(s), pixels(t))
    assert isinstance(loaded, st.TiledLayout)
    assert loaded.source_from_tile_position((1, 2)) is not None
    assert st.check_alignments_and_sources(loaded.alignments, loaded.sources)


def test_save_layout_returns_the_file_name(tmp_path: Path) -> None:
    layout = busy_layout(tmp_path / "tiles")
    file = str(tmp_path / "layout.json")
    assert str(st.save_layout(file, layout)) == file
    assert full_state(st.load_layout(file)) == full_state(layout)


def test_a_layout_file_is_versioned_json_with_named_axes_and_no_pixels(tmp_path: Path) -> None:
    layout = busy_layout(tmp_path / "tiles")
    file = tmp_path / "layout.json"
    layout.save(str(file))
    document = json.loads(
        file.read_text(encoding="utf-8"), parse_constant=lambda c: pytest.fail(f"{c} in JSON")
    )
    assert any("version" in key for key in document)
    values = list(walk(document))
    for point in ((-1001, 2002, 0), (4001, 0, 5003)):
        assert list(point) not in values  # never a bare triple
        assert any(
            isinstance(v, dict)
            and {"x": point[0], "y": point[1], "z": point[2]}.items() <= v.items()
            for v in values
        )
    assert "-inf" in values
    assert not any(isinstance(v, str) and str(tmp_path) in v for v in values)  # relative paths
    assert file.stat().st_size < 20_000


def test_a_layout_file_moves_with_its_tiles(tmp_path: Path) -> None:
    layout = busy_layout(tmp_path / "a" / "tiles")
    whole = layout.layout_from_region(position=layout.sources[0].position, shape=SHAPE).stitch()
    layout.save(str(tmp_path / "a" / "layout.json"))
    shutil.move(tmp_path / "a", tmp_path / "b")
    loaded = st.load_layout(str(tmp_path / "b" / "layout.json"))
    part = loaded.layout_from_region(position=layout.sources[0].position, shape=SHAPE)
    assert np.array_equal(part.stitch(), whole)


def test_a_relative_layout_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_grid(tmp_path / "tiles")
    monkeypatch.chdir(tmp_path)
    layout = st.TiledLayout(expression="tiles/t_<X,2>_<Y,2>.tif", overlaps=(3, 2))
    layout.save("layout.json")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = st.load_layout("../layout.json")
    assert np.array_equal(
        pixels(loaded.sources[0]), pixels(st.Source(tmp_path / "tiles/t_00_00.tif"))
    )


def test_a_loaded_layout_can_be_saved_elsewhere(tmp_path: Path) -> None:
    layout = busy_layout(tmp_path / "tiles")
    layout.save(str(tmp_path / "layout.json"))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    st.load_layout(str(tmp_path / "layout.json")).save(str(tmp_path / "deep" / "er" / "b.json"))
    loaded = st.load_layout(str(tmp_path / "deep" / "er" / "b.json"))
    assert full_state(loaded) == full_state(layout)
    assert np.array_equal(pixels(loaded.sources[0]), pixels(layout.sources[0]))


def test_a_layout_of_slices_is_saved_with_its_slices_or_refused(tmp_path: Path) -> None:
    layout = busy_layout(tmp_path / "tiles")
    layout.set_source_positions([(9 * k, 0, 0) for k in range(layout.n_sources)])
    flat = layout.slice_along_axis(2, axis=2)
    whole = flat.stitch()
    try:
        flat.save(str(tmp_path / "layout.json"))
    except REFUSED:
        assert not (tmp_path / "layout.json").exists()
    else:
        loaded = st.load_layout(str(tmp_path / "layout.json"))
        assert loaded.source_positions() == flat.source_positions()
        assert np.array_equal(loaded.stitch(), whole)


def test_a_2_d_layout_file_has_named_axes_too(tmp_path: Path) -> None:
    s = [st.Source(noise((6, 6)), position=p) for p in ((1011, -2022), (5, 6))]
    st.Layout(s, [st.Alignment(*s, displacement=(3033, 4044))]).save(str(tmp_path / "l.json"))
    values = list(walk(json.loads((tmp_path / "l.json").read_text())))
    for point in ((1011, -2022), (3033, 4044)):
        assert list(point) not in values
        assert {"x": point[0], "y": point[1]} in values
    assert st.load_layout(str(tmp_path / "l.json")).source_positions() == [(1011, -2022), (5, 6)]


def test_layout_load_replaces_its_content_and_returns_it(tmp_path: Path) -> None:
    layout = busy_layout(tmp_path / "tiles")
    layout.save(str(tmp_path / "layout.json"))
    expected = full_state(layout)
    other = grid_layout(tmp_path / "tiles")
    assert other.load(str(tmp_path / "layout.json")) is other
    assert full_state(other) == expected
    plain = st.Layout([st.Source(noise((3, 3, 3)), position=(0, 0, 0))])
    assert plain.load(str(tmp_path / "layout.json")) is plain
    assert full_state(plain) == expected


def test_a_plain_layout_round_trips(tmp_path: Path) -> None:
    s = [
        st.Source(str(write(tmp_path / f"{k}.npy", noise((6, 5), k))), position=(-k, 3 * k))
        for k in range(3)
    ]
    layout = st.Layout(s, [st.Alignment(s[2], s[0], displacement=(5, -6))])
    layout.save(str(tmp_path / "layout.json"))
    loaded = st.load_layout(str(tmp_path / "layout.json"))
    assert [x.id for x in loaded.sources] == [x.id for x in s]
    assert [x.tile_position for x in loaded.sources] == [None] * 3
    assert loaded.source_positions() == layout.source_positions()
    assert loaded.alignments[0].pre is loaded.sources[2]
    assert ints(loaded.alignments[0].displacement) == [5, -6]
    assert loaded.alignments[0].quality == -INF
    assert np.array_equal(loaded.stitch(), layout.stitch())


def test_a_layout_in_memory_saves_no_pixels(tmp_path: Path) -> None:
    s = [st.Source(noise((60, 50), k), position=(40 * k, -k)) for k in range(2)]
    layout = st.Layout(s, [st.Alignment(*s, displacement=(41, 2), quality=-3)])
    file = tmp_path / "layout.json"
    layout.save(str(file))
    assert file.stat().st_size < 5_000
    loaded = st.load_layout(str(file))
    assert [x.shape for x in loaded.sources] == [(60, 50)] * 2
    assert [x.id for x in loaded.sources] == [x.id for x in s]
    loaded.place()  # needs no pixels
    assert loaded.source_positions() == [(0, 0), (41, 2)]


def test_ids_of_loaded_layouts_never_collide_with_the_counter(tmp_path: Path) -> None:
    layout = busy_layout(tmp_path / "tiles")
    layout.save(str(tmp_path / "layout.json"))
    ids = [s.id for s in layout.sources]
    code = (
        "import sys, numpy as np, stitchlib as st\n"
        "layout = st.load_layout(sys.argv[1])\n"
        "last = max(s.id for s in layout.sources)\n"
        "made = [st.Source(np.zeros((2, 2))).id for _ in range(last + 9)]\n"
        "print([s.id for s in layout.sources])\n"
        "print(sorted(set(made) & {s.id for s in layout.sources}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "layout.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines() == [str(ids), "[]"]
    made = {st.Source(np.zeros((2, 2))).id for _ in range(20)}
    loaded = st.load_layout(tmp_path / "layout.json")
    assert not made & {s.id for s in loaded.sources}


def test_load_of_what_is_no_layout_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"some": "thing"}')
    (tmp_path / "worse.json").write_text("no JSON")
    (tmp_path / "pickle.lay").write_bytes(pickle.dumps({"a": 1}))
    for name in ("bad.json", "worse.json", "pickle.lay", "none.json"):
        with pytest.raises(MISSING):
            st.load_layout(str(tmp_path / name))
    with pytest.raises(MISSING, match=r"none\.json: there is no such file$"):
        st.load_layout(str(tmp_path / "none.json"))


def test_a_damaged_layout_file_is_refused(tmp_path: Path) -> None:
    layout = busy_layout(tmp_path / "tiles")
    layout.save(str(tmp_path / "good.json"))
    good = json.loads((tmp_path / "good.json").read_text())

    def without(document: Any) -> Any:
        """Yield the document without each of its keys, and with each value spoiled."""
        if isinstance(document, dict):
            for key, value in document.items():
                yield {k: v for k, v in document.items() if k != key}
                yield {**document, key: ["spoiled"]}
                yield from ({**document, key: part} for part in without(value))
        elif isinstance(document, list) and document:
            yield from ([part, *document[1:]] for part in without(document[0]))

    bad = tmp_path / "bad.json"
    cases = list(without(good))
    assert len(cases) > 20
    for case in cases:
        bad.write_text(json.dumps(case))
        with suppress(*REFUSED):
            st.load_layout(str(bad))  # what is missing may be optional


def test_a_failed_load_leaves_the_layout_as_it_was(tmp_path: Path) -> None:
    layout = st.Layout([st.Source(noise((3, 3)), position=(1, 2))])
    (tmp_path / "bad.json").write_text('{"some": "thing"}')
    with pytest.raises(MISSING):
        layout.load(str(tmp_path / "bad.json"))
    assert layout.source_positions() == [(1, 2)]


def test_real_files_aligned_in_parallel_equal_serial(tmp_path: Path) -> None:
    world = noise((60, 50, 4), 7, "uint8")
    for i, j in itertools.product(range(2), range(2)):
        x, y = 2 + 20 * i + j, 2 + 18 * j - i
        write(tmp_path / f"t_{i:02d}_{j:02d}.tif", world[x : x + 24, y : y + 22])
    results = []
    for processes in ("serial", 2):
        layout = grid_layout(tmp_path, overlaps=4)
        layout.align_on_tiling(overlaps=5, max_shifts=2, processes=processes)
        results.append([(ints(a.displacement), a.quality) for a in layout.alignments])
        assert all(a.quality == 0 for a in layout.alignments)
    assert results[0] == results[1]
