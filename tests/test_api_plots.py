"""The documented plots and overlays: what they return, and what they draw where."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.patches import Rectangle

import stitchlib as sl
from stitchlib.errors import InputError
from stitchlib.plotting.colours import PALETTE
from tests.realdata import known_positions, real_set, tile_name

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _closed(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *a, **k: pytest.fail("a plot called show"))
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.figure(figsize=(8, 8)).add_axes((0.1, 0.1, 0.8, 0.8))


def cut(shape, corners, extent):
    """A layout of tiles cut out of one random image, truly placed."""
    image = np.random.default_rng(1).integers(0, 4000, shape).astype(np.uint16)
    tiles = [image[tuple(slice(c, c + n) for c, n in zip(p, extent, strict=True))] for p in corners]
    sources = [sl.Source(t, p, tuple(np.not_equal(p, 0).astype(int)[:2])) for t, p in zip(
        tiles, corners, strict=True)]  # fmt: skip
    return image, sl.TiledLayout(
        [s.array for s in sources], tile_positions=[s.tile_position for s in sources],
        positions=list(corners),
    )  # fmt: skip


@pytest.fixture
def stacks():
    corners = [(0, 0, 0), (0, 22, 1), (31, 0, 2), (30, 21, 0)]
    return cut((71, 50, 12), corners, (40, 28, 10))


@pytest.fixture
def planes():
    return cut((71, 50), [(0, 0), (0, 22), (31, 0), (30, 21)], (40, 28))


def texts(ax):
    return [t.get_text() for t in ax.texts]


def rectangles(ax):
    return [p for p in ax.patches if isinstance(p, Rectangle)]


# Overlays.


def test_an_overlay_is_each_tile_in_its_colour_summed(planes):
    _, layout = planes
    colours = layout.overlay(percentile=None, normalize=False)
    assert colours.shape == (*layout.shape, 3)
    expected = np.zeros((*layout.shape, 3), np.float32)
    for source, colour in zip(layout.sources, sl.layout_coloring(layout), strict=True):
        part = tuple(slice(p, p + n) for p, n in zip(source.position, source.shape, strict=True))
        expected[part] += source.array[..., None] * np.float32(colour)
    assert np.allclose(colours, expected)
    assert np.array_equal(sl.overlay_layout(layout, None, None, False), colours)
    assert np.array_equal(sl.overlay_sources(layout.sources, None, None, False), colours)
    normal = layout.overlay()
    assert (normal.min(), normal.max()) == (0, 1)


def test_two_sources_are_white_where_they_agree(planes):
    image, layout = planes
    pair = layout.sources[:2]
    overlay = sl.overlay_sources(pair, percentile=100)
    shared = overlay[:40, 22:28]
    assert np.array_equal(shared[..., 0], shared[..., 1])
    assert np.array_equal(shared[..., 0], image[:40, 22:28] / np.float32(image[:40, :50].max()))
    assert not overlay[:, :22, 1].any()
    assert not overlay[:, 28:, 0].any()


def test_a_slice_of_an_overlay_is_the_overlay_of_the_slice(stacks):
    _, layout = stacks
    whole = layout.overlay(percentile=None, normalize=False)
    assert whole.shape == (*layout.shape, 3)
    for axis, coordinate in ((2, 4), (0, 35), (1, 11)):
        at = layout.overlay(percentile=None, normalize=False, coordinate=coordinate, axis=axis)
        assert np.array_equal(at, whole.take(coordinate, axis))


def test_the_window_of_a_layout_is_what_is_overlaid(planes):
    _, layout = planes
    window = sl.Layout(layout.sources, position=(-3, 4), shape=(20, 60))
    overlay = window.overlay(percentile=None, normalize=False, color_ids=[0, 1, 2, 3])
    assert overlay.shape == (20, 60, 3)
    assert not overlay[:3].any()
    whole = layout.overlay(percentile=None, normalize=False, color_ids=[0, 1, 2, 3])
    assert np.array_equal(overlay[3:, :45], whole[:17, 4:49])


# Colours.


def test_layout_coloring_gives_neighbours_different_colours():
    tiles = [np.zeros((10, 10), np.uint8)] * 12
    layout = sl.TiledLayout(
        tiles, tile_positions=[(i, j) for i in range(4) for j in range(3)], overlaps=3
    )
    colours = sl.layout_coloring(layout)
    assert len(set(colours)) == 4  # also across corners
    for i, a in enumerate(layout.sources):
        for j, b in enumerate(layout.sources[:i]):
            assert sl.overlap(a, b) is None or colours[i] != colours[j]


def test_aligned_sources_that_do_not_overlap_are_neighbours_too():
    sources = [sl.Source(np.ones((4, 4)), (20 * i, 0)) for i in range(3)]
    alignments = [sl.Alignment(sources[0], sources[1]), sl.Alignment(sources[1], sources[2])]
    a, b, c = sl.layout_coloring(sl.Layout(sources, alignments))
    assert a == c != b


def test_colors_and_color_ids_override(planes):
    _, layout = planes
    red, blue = to_rgb("red"), to_rgb("blue")
    names = ["red", "blue", (0, 1, 0), "0.5"]
    assert sl.layout_coloring(layout, names) == [to_rgb(c) for c in names]
    assert sl.layout_coloring(layout, ["red", "blue"], [0, 1, 1, 0]) == [red, blue, blue, red]
    assert sl.layout_coloring(layout, ["red", "blue"], [0, 1, 2, 3]) == [red, blue, red, blue]
    assert sl.layout_coloring(layout, None, [3, 3, 0, 1]) == [PALETTE[i] for i in (3, 3, 0, 1)]
    two = sl.Layout(layout.sources[:2])
    assert sl.layout_coloring(two) == [(1, 0, 1), (0, 1, 0)]
    assert sl.layout_coloring(two, None, [1, 0]) == [(0, 1, 0), (1, 0, 1)]
    assert sl.layout_coloring(sl.Layout(layout.sources[:1])) == [(1, 1, 1)]
    for color_ids in ([0, 1], [0, 1, 2, -1]):
        with pytest.raises(InputError, match="color_ids"):
            sl.layout_coloring(layout, None, color_ids)
    for colors in (["no such colour"], [], "red"):
        with pytest.raises(InputError, match="colors"):
            sl.layout_coloring(layout, colors)


# Plots of images.


def test_plots_of_a_layout(stacks, ax):
    _, layout = stacks
    assert layout.plot(ax=ax, coordinate=1) is ax
    assert len(plt.get_fignums()) == 1  # no figure of its own
    assert ax.get_title() == "z = 1"
    assert ax.get_xlim() == (0, layout.shape[0])
    assert ax.get_ylim() == (layout.shape[1], 0)
    met = [s for s in layout.sources if s.position[2] <= 1]
    assert [r.get_xy() for r in rectangles(ax)] == [s.position[:2] for s in met]
    colours = dict(zip(map(id, layout.sources), sl.layout_coloring(layout), strict=True))
    assert [to_rgb(r.get_edgecolor()) for r in rectangles(ax)] == [colours[id(s)] for s in met]
    assert texts(ax) == [str(s.tile_position) for s in met]
    assert not texts(layout.plot(annotate=False))
    assert isinstance(sl.plot_layout(layout, color_ids=[0, 0, 0, 0]), Axes)


def test_a_plot_shows_the_voxels_of_the_plane(planes, ax):
    _, layout = planes
    layout.plot(ax=ax, percentile=None, normalize=False)
    shown = ax.get_images()[0].get_array()
    raw = layout.overlay(percentile=None, normalize=False) / 65535
    assert np.allclose(shown, np.clip(raw, 0, 1).transpose(1, 0, 2))


def test_plots_of_slices_know_their_axes(stacks):
    _, layout = stacks
    ax = layout.slice_along_axis(10, axis=1).plot(voxel_size=(1, 2, 5))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x (µm)", "z (µm)")
    assert ax.get_ylim() == (12 * 5, 0)
    ax = layout.plot(coordinate=10, axis=1, voxel_size=(1, 2, 5))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x (µm)", "z (µm)")
    assert ax.get_ylim() == (12 * 5, 0)


def test_plots_of_sources_and_overlaps(stacks, ax):
    _, layout = stacks
    source = layout.sources[1]
    assert source.plot(ax=ax).get_xlim() == (0, 40)
    assert ax.get_ylim() == (22 + 28, 22)
    pixels = ax.get_images()[0].get_array()
    assert np.array_equal(pixels[..., 0], pixels[..., 1])  # grey
    assert sl.plot_sources(layout.sources).get_xlim() == (0, 71)
    shared = sl.overlap(*layout.sources[:2]).plot()
    assert (shared.get_xlim(), shared.get_ylim()) == ((0, 40), (28, 22))
    assert [to_rgb(r.get_edgecolor()) for r in rectangles(shared)] == [(1, 0, 1), (0, 1, 0)]
    with pytest.raises(InputError, match="no source"):
        sl.plot_sources([])


def test_plots_of_layouts_of_one_axis_are_refused():
    with pytest.raises(InputError, match="1 axes cannot be plotted"):
        sl.Source(np.ones(5)).plot()
    with pytest.raises(InputError, match="coordinate = 9"):
        sl.Source(np.ones((5, 5, 5))).plot(coordinate=9)
    assert not plt.get_fignums()  # no empty figure is left


# Alignments.


def moved(layout):
    """An alignment whose second source stands 3 voxels off; the displacement is right."""
    pre, post = layout.sources[0], layout.sources[2]
    right = np.subtract(post.position, pre.position)
    post.position = tuple(np.add(post.position, 3))
    return sl.Alignment(pre, post, displacement=right, quality=0.5)


def test_an_alignment_is_shown_as_the_displacement_says(planes):
    _, layout = planes
    pair = moved(layout)
    overlay = pair.overlay(percentile=100)
    assert overlay.shape == (71, 28, 3)
    assert np.array_equal(overlay[31:40, :, 0], overlay[31:40, :, 1])  # white
    for ax in (pair.plot(), pair.plot_overlay(), pair.plot(["magenta", (0, 1, 0)])):
        assert ax.get_xlim() == (0, 71)
        assert [r.get_xy() for r in rectangles(ax)] == [(0, 0), (31, 0)]
        assert [to_rgb(r.get_edgecolor()) for r in rectangles(ax)] == [(1, 0, 1), (0, 1, 0)]
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["(0, 0)", "(1, 0)"]
    base = sl.AlignmentBase(*pair.sources)  # knows positions only
    assert base.overlay().shape == (74, 31, 3)


def test_overlaps_of_alignments_grow_by_shifts_within_the_sources(planes):
    _, layout = planes
    pair = moved(layout)
    whole = pair.overlay(percentile=None, normalize=False)
    assert pair.overlay_overlap().shape == (9, 28, 3)
    assert pair.overlay_overlap(4).shape == (17, 28, 3)
    assert pair.overlay_overlap([(-2, 5), 0]).shape == (16, 28, 3)
    assert pair.plot_overlap(max_shifts=4).get_xlim() == (27, 44)
    assert pair.plot_overlap().get_xlim() == (31, 40)
    assert whole.shape == (71, 28, 3)
    far = sl.Alignment(layout.sources[0], layout.sources[2], displacement=(90, 0))
    with pytest.raises(InputError, match="don't overlap"):
        far.overlay_overlap()
    with pytest.raises(InputError, match="lacks a source"):
        sl.Alignment(layout.sources[0], None, displacement=(90, 0)).plot()


def test_projections_of_alignments_along_the_tiling(stacks):
    _, layout = stacks
    pair = moved(layout)
    mip = pair.overlay_mip(depth=9, max_shifts=4)
    expected = sl.layout_along_axis_mip(*pair.sources, axis=0, depth=9, max_shifts=4)
    assert mip.shape == (*expected.shape, 3)
    assert np.array_equal(mip, expected.overlay())
    assert np.array_equal(
        sl.overlay_along_axis_mip(*pair.sources, 0, 9, 4, percentile=None, normalize=False),
        expected.overlay(percentile=None, normalize=False),
    )
    ax = pair.plot_mip(depth=9, max_shifts=4, voxel_size=(1, 2, 5))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("y (µm)", "z (µm)")
    assert ax.get_xlim() == tuple(2 * n for n in (expected.lower[0], expected.upper[0]))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["(0, 0)", "(1, 0)"]
    other = sl.plot_along_axis_mip(*pair.sources, axis=2, colors=["red", "blue"])
    assert (other.get_xlabel(), other.get_ylabel()) == ("x (voxels)", "y (voxels)")
    assert [to_rgb(r.get_edgecolor()) for r in rectangles(other)] == [(1, 0, 0), (0, 0, 1)]


# Maps.


def test_alignments_are_lines_in_the_colour_of_their_quality(stacks, ax):
    _, layout = stacks
    for alignment, quality in zip(layout.alignments, (0.9, 0.2, None, 0.5), strict=True):
        alignment.quality = quality
    assert layout.plot_alignments(cmap="plasma", ax=ax) is ax
    dotted, lines = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert lines.get_array().tolist() == [0.9, 0.2, 0.5]
    assert lines.get_cmap().name == "plasma"
    pre, post = layout.alignments[0].sources
    ends = [(np.add(s.lower, s.upper) / 2)[:2].tolist() for s in (pre, post)]
    assert lines.get_segments()[0].tolist() == ends
    assert len(dotted.get_segments()) == 1
    assert {"0.9", "0.2", "0.5", "(0, 0)", "(1, 1)"} <= set(texts(ax))
    assert "no signal" in ax.get_legend().get_texts()[0].get_text()
    assert [a.get_ylabel() for a in ax.figure.axes if a is not ax] == ["quality"]
    assert [r.get_xy() for r in rectangles(ax)] == [s.position[:2] for s in layout.sources]


def test_alignments_below_a_quality_are_dotted_and_axes_choose_the_view(stacks):
    _, layout = stacks
    for alignment, quality in zip(layout.alignments, (0.9, 0.2, 0.3, 0.5), strict=True):
        alignment.quality = quality
    ax = sl.plot_alignments(layout.alignments, axes=[1, 2], annotate=False, min_quality=0.3)
    dotted, lines = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert (len(dotted.get_segments()), lines.get_array().tolist()) == (2, [0.9, 0.5])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("y (voxels)", "z (voxels)")
    assert ax.get_ylim() == (12, 0)
    assert not texts(ax)
    for wrong in ([0, 0], [0, 3], [0]):
        with pytest.raises(InputError):
            layout.plot_alignments(axes=wrong)
    with pytest.raises(InputError, match="cmap = 'no such map'"):
        layout.plot_alignments(cmap="no such map")
    with pytest.raises(InputError, match="is not in the list"):
        sl.plot_alignments(layout.alignments, layout.sources[:2])
    with pytest.raises(InputError, match="no source"):
        sl.plot_alignments([])


def test_regions_are_in_the_colour_of_how_many_cover_them(planes, ax):
    _, layout = planes
    assert layout.plot_regions(ax=ax, voxel_size=2) is ax
    (drawn,) = [c for c in ax.collections if isinstance(c, PatchCollection)]
    regions = sorted(layout.embedding().regions, key=lambda r: len(r.sources))
    assert drawn.get_array().tolist() == [len(r.sources) for r in regions]
    corners = [path.vertices.min(axis=0).tolist() for path in drawn.get_paths()]
    assert corners == [[2 * v for v in r.position] for r in regions]
    ax.figure.canvas.draw()
    colours = drawn.get_facecolor()
    counts = drawn.get_array().tolist()
    of = {count: tuple(colours[counts.index(count)]) for count in (1, 2, 4)}
    assert len(set(of.values())) == 3
    assert of[1] == to_rgba(mpl.colormaps["viridis"](0.0))
    assert of[4] == to_rgba(mpl.colormaps["viridis"](1.0))
    assert set(texts(ax)) == {str(s.tile_position) for s in layout.sources}
    assert ax.get_xlabel() == "x (µm)"
    assert not texts(layout.plot_regions(annotate=False))


def test_regions_without_sources_have_numbers():
    regions = [sl.Region((0, 0), (30, 40)), sl.Region((40, 0), (30, 30))]
    ax = sl.plot_regions(regions)
    assert texts(ax) == ["0", "1"]
    assert ax.get_xlim() == (0, 70)
    with pytest.raises(InputError, match="no region"):
        sl.plot_regions([])


# Real tiles.


@pytest.mark.parametrize("name", ["cut_brain_2x3", "lscm_speckle1"])
def test_plots_of_real_tiles(name):
    folder, meta = real_set(name)
    known = known_positions(meta, "nominal" if "nominal" in meta["tiles"][0] else "position")
    files = {tile_name(t): folder / t["file"] for t in meta["tiles"]}
    ndim = sl.Source(next(iter(files.values()))).ndim
    layout = sl.Layout(
        [sl.Source(files[t], tuple(round(v) for v in known[t][:ndim])) for t in files]
    )
    ax = layout.plot()
    assert len(rectangles(ax)) == len(files)
    assert set(texts(ax)) == {path.stem for path in files.values()}
    assert max(ax.get_images()[0].get_array().shape) <= 1600


def test_matplotlib_is_imported_when_something_is_drawn():
    code = (
        "import sys, numpy as np, stitchlib as sl\n"
        "layout = sl.Layout([sl.Source(np.ones((4, 4)))])\n"
        "layout.overlay(), sl.layout_coloring(layout)\n"
        "assert 'matplotlib' not in sys.modules\n"
        "layout.plot()\n"
        "assert 'matplotlib' in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "MPLBACKEND": "Agg"}
    )


def test_the_gallery_shows_its_pictures():
    docs = Path(__file__).parents[1] / "docs"
    shown = re.findall(r"!\[[^]]+\]\((.*)\)", (docs / "gallery.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(f"gallery/{p.name}" for p in (docs / "gallery").iterdir())


@pytest.mark.slow
def test_the_gallery_can_be_made_again(tmp_path):
    from benchmarks import gallery

    gallery.main(tmp_path)
    made = {p.name for p in tmp_path.iterdir()}
    assert made == {p.name for p in gallery.FOLDER.iterdir()}
