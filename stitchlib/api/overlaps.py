"""Overlaps: regions with the sources that cover them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from numpy.typing import NDArray

from stitchlib.api import pictures
from stitchlib.api.regions import Region, box_of
from stitchlib.core.boxes import Box, Point, disjoint, hull
from stitchlib.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Overlap(Region):
    """A region together with the sources that cover it.

    Parameters
    ----------
    position, shape, lower, upper : tuple of int, shape (ndim,), optional
        As of `Region`, voxels.
    sources : list of Source, optional
        Those that cover all of it.
    """

    def __init__(
        self,
        position: Any = None,
        shape: Any = None,
        lower: Any = None,
        upper: Any = None,
        sources: Any = None,
    ) -> None:
        super().__init__(position, shape, lower, upper)
        self._sources: list[Any] = [] if sources is None else list(sources)

    @property
    def sources(self) -> list[Any]:
        """The sources that cover the region: list of Source."""
        return self._sources

    def copy(self) -> Self:
        """Return an overlap of the same place, extent and sources.

        Returns
        -------
        Overlap
        """
        return type(self)(position=self.position, shape=self.shape, sources=self.sources)

    def source_slicings(self) -> list[tuple[slice, ...]]:
        """Return where the region lies in each of its sources.

        Returns
        -------
        list of tuple of slice
            One tuple per source, with one slice per axis, voxels of that source.
        """
        return [self.local_slicing(source) for source in self.sources]

    def source_arrays(self) -> list[NDArray[Any]]:
        """Return the voxels of each of its sources in the region.

        Returns
        -------
        list of array, each of the shape of the region

        Raises
        ------
        InputError
            Where a file cannot be read.
        """
        return [
            source.reader.read(self.box.relative_to(source.position)) for source in self.sources
        ]

    def plot(
        self,
        *,
        colors: Any = None,
        percentile: Any = 98,
        normalize: bool = True,
        coordinate: Any = None,
        axis: int = 2,
        annotate: bool = True,
        voxel_size: Any = None,
        ax: Any = None,
    ) -> Axes:
        """Plot what the sources show in the region, each in its colour.

        Parameters
        ----------
        colors, percentile, normalize, coordinate, axis, annotate, voxel_size, ax
            As in `plot_sources`; voxels and µm.

        Returns
        -------
        Axes
            Of matplotlib; nothing is shown yet.

        Raises
        ------
        InputError
            Where an argument cannot be used, or a file cannot be read.
        """
        boxes = [source.box for source in self.sources]
        return pictures.draw(
            self.sources, boxes, pictures.coloring(boxes, (), colors, None), self.box,
            percentile=percentile, normalize=normalize, coordinate=coordinate, axis=axis,
            annotate=annotate, voxel_size=voxel_size, ax=ax,
        )  # fmt: skip


class Embedding(NamedTuple):
    """The disjoint regions that a set of overlapping sources falls apart into."""

    shape: Point
    """Extent of all, voxels."""
    position: Point
    """Lower corner of all, voxels."""
    regions: list[Overlap]
    """Disjoint; each with all and only the sources that cover it."""


def overlap(region1: Region, region2: Region) -> Overlap | None:
    """Return the overlap of two regions.

    Parameters
    ----------
    region1, region2 : Region
        Of the same number of axes, voxels.

    Returns
    -------
    Overlap or None
        With both as its sources; None where they share no voxel, also where they only touch.

    Raises
    ------
    InputError
        Where they have different numbers of axes.
    """
    if region1.ndim != region2.ndim:
        raise InputError(f"{region1!r} and {region2!r} have different numbers of axes")
    box = region1.box.intersection(region2.box)
    return (
        None
        if box.empty
        else Overlap(lower=box.lower, upper=box.upper, sources=_two(region1, region2))
    )


def _two(*regions: Region) -> list[Region]:
    return list(regions)


def embedding(sources: Sequence[Any], shape: Any = None, position: Any = None) -> Embedding:
    """Split a set of overlapping sources into disjoint regions.

    Parameters
    ----------
    sources : list of Source or Region
        Of the same number of axes, voxels.
    shape : tuple of int, shape (ndim,), optional
        Extent of the window that is split, voxels; default up to the last voxel of any source.
    position : tuple of int, shape (ndim,), optional
        Lower corner of the window, voxels; default that of all sources.

    Returns
    -------
    shape : tuple of int, shape (ndim,)
        Extent of the window, voxels.
    position : tuple of int, shape (ndim,)
        Its lower corner, voxels.
    regions : list of Overlap
        Disjoint; they cover exactly what the sources cover of the window, and neighbours with the
        same sources are merged where that makes a box.

    Raises
    ------
    InputError
        Where there is no source and no window, or the axes differ.
    """
    window = window_of([source.box for source in sources], position, shape)
    clipped = [source.box.intersection(window) for source in sources]
    regions = [
        Overlap(lower=box.lower, upper=box.upper, sources=[sources[i] for i in covering])
        for box, covering in disjoint(clipped)
    ]
    return Embedding(window.shape, window.lower, regions)


def window_of(boxes: Sequence[Box], position: Any, shape: Any) -> Box:
    """Return the window that a position and a shape cut out of boxes; None = as far as they go."""
    fixed = (
        box_of(position, shape, None, None) if position is not None and shape is not None else None
    )
    if fixed is not None:
        return fixed
    if not boxes:
        raise InputError("without sources there is no extent: give position and shape")
    if len({len(box.lower) for box in boxes}) > 1:
        raise InputError("the sources have different numbers of axes")
    around = hull(boxes)
    lower = around.lower if position is None else position
    found = box_of(lower, shape, None, around.upper if shape is None else None)
    assert found is not None  # noqa: S101 - both ends are given
    return found
