"""What properties are tried on: images, pairs of images, layouts, windows."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import stitchlib as sl

INTEGERS = ("uint8", "int16", "uint16", "int32", "uint32")
FLOATS = ("float32", "float64")
DTYPES = ("uint8", "uint16", "int32", "uint32", "float32", "float64")


def pixels(shape, dtype, seed, spread=None):
    """Return noise over the whole range of an integer type, or normal noise."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(100, 30, shape).astype(dtype)
    info = np.iinfo(dtype)
    low, high = spread or (info.min, info.max)
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)


seeds = st.integers(0, 2**32 - 1)


@st.composite
def images(draw, ndim=None, dtypes=DTYPES, most=7):
    """An image of 1 to 3 axes."""
    ndim = draw(st.integers(1, 3)) if ndim is None else ndim
    shape = tuple(draw(st.integers(1, most)) for _ in range(ndim))
    return pixels(shape, draw(st.sampled_from(dtypes)), draw(seeds))


@st.composite
def pairs(draw, dtypes=DTYPES, few_values=False):
    """Two images of the same number of axes, and a range of shifts that has feasible ones."""
    ndim = draw(st.integers(1, 3))
    most = {1: 12, 2: 7, 3: 4}[ndim]
    dtype = draw(st.sampled_from(dtypes))
    spread = (0, 2) if few_values and np.dtype(dtype).kind != "f" else None
    shapes = [tuple(draw(st.integers(2, most)) for _ in range(ndim)) for _ in range(2)]
    first, second = (pixels(shape, dtype, draw(seeds), spread) for shape in shapes)
    lower, upper = [], []
    for n, m in zip(*shapes, strict=True):
        inside = draw(st.integers(1 - m, n - 1))  # one shift that overlaps
        lower.append(inside - draw(st.integers(0, 3)))
        upper.append(inside + draw(st.integers(0, 3)))
    return first, second, tuple(lower), tuple(upper)


@st.composite
def boxes(draw, ndim, most=9):
    """Corner and shape of a box, corners on both sides of the origin."""
    corner = tuple(draw(st.integers(-most, most)) for _ in range(ndim))
    return corner, tuple(draw(st.integers(1, most)) for _ in range(ndim))


@st.composite
def layouts(draw, dtypes=DTYPES, ndims=(2, 3)):
    """A layout of one to five tiles anywhere, of different shapes."""
    ndim = draw(st.sampled_from(ndims))
    dtype = draw(st.sampled_from(dtypes))
    sources = []
    for _ in range(draw(st.integers(1, 5))):
        corner, shape = draw(boxes(ndim, {1: 12, 2: 8, 3: 4}[ndim]))
        sources.append(sl.Source(pixels(shape, dtype, draw(seeds)), corner))
    return sl.Layout(sources)


@st.composite
def grids(draw):
    """A tiled layout with gaps, jitter and an index base of its own, at least one tile."""
    ndim = draw(st.sampled_from((2, 3)))
    n = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    base = draw(st.integers(-1, 2))
    shape = (10, 9, 4)[:ndim]
    places = [(i, j) for i in range(n[0]) for j in range(n[1])]
    gone = draw(st.sets(st.sampled_from(places), max_size=len(places) - 1))
    kept = [place for place in places if place not in gone]
    sources = [pixels(shape, "uint16", draw(seeds)) for _ in kept]
    layout = sl.TiledLayout(
        sources, tile_positions=[(i + base, j + base) for i, j in kept], overlaps=(3, 2)
    )
    for source in layout.sources:
        source.position = [p + draw(st.integers(-2, 2)) for p in source.position]
    return layout
