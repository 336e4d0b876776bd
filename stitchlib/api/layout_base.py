"""The state of a layout: its sources, their alignments, and the window that it shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from stitchlib.api.abstract import AbstractSource
from stitchlib.api.alignments import Numbers, source_index
from stitchlib.api.linking import check_alignments_and_sources, rebound
from stitchlib.api.overlaps import window_of
from stitchlib.api.placing import points
from stitchlib.api.regions import SourceRegion
from stitchlib.api.sources import Source, as_source
from stitchlib.api.stitching import read_stitched
from stitchlib.core.boxes import Box, Point
from stitchlib.core.shifts import whole_number, whole_numbers
from stitchlib.errors import InputError
from stitchlib.io.images import Reader
from stitchlib.layouts import LayoutRecord


class LayoutBase(SourceRegion, AbstractSource):
    """Sources at positions, and the alignments between them; see `Layout`."""

    _sources: list[Any]
    _alignments: list[Any]

    def __init__(
        self,
        sources: Any,
        alignments: Any = None,
        position: Any = None,
        shape: Any = None,
        dtype: Any = None,
        order: Any = None,
        location: Any = None,
    ) -> None:
        if isinstance(sources, str | Path) or not isinstance(sources, Iterable):
            raise InputError(f"sources = {sources!r}: must be a list of sources, arrays or files")
        self._context: list[Any] | None = None
        self._sources = [as_source(source) for source in sources]
        self._alignments = [] if alignments is None else list(alignments)
        self._position = None if position is None else whole_numbers(position, "position")
        self._shape = None if shape is None else whole_numbers(shape, "shape")
        self._dtype = None if dtype is None else np.dtype(dtype)
        if order not in (None, "C", "F"):
            raise InputError(f"order = {order!r}: must be 'C' or 'F'")
        self._order: Literal["C", "F"] | None = order
        self._location = None if location is None else str(location)
        self._id = Source.counter
        Source.counter += 1
        check_alignments_and_sources(self._alignments, self._sources)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_sources} sources, {self.n_alignments} alignments)"

    def _like(self, sources: Sequence[Any], alignments: Sequence[Any]) -> Self:
        """Return a layout like this one with other content."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._sources, other._alignments = list(sources), list(alignments)
        other._context = None
        return other

    def _restore(
        self,
        sources: Sequence[Any],
        alignments: Sequence[Any],
        record: LayoutRecord,
        location: str,
    ) -> None:
        """Take over the content of a layout file."""
        LayoutBase.__init__(
            self, sources, alignments, record.position, record.shape, location=location
        )

    @property
    def id(self) -> int:
        """Number of the layout, int, unique among sources and layouts of a process."""
        return self._id

    @property
    def tile_position(self) -> Point | None:
        """None: a layout is on no grid itself."""
        return None

    @property
    def identifier(self) -> int:
        """The id, int."""
        return self._id

    @property
    def sources(self) -> list[Any]:
        """The sources: list of Source."""
        return self._sources

    @property
    def whole_sources(self) -> list[Any]:
        """The sources of the layout that this one is a part of: list of Source."""
        return self._sources if self._context is None else self._context

    @property
    def alignments(self) -> list[Any]:
        """The alignments: list of Alignment.

        They can be set; one whose source is not in the layout raises `InputError`.
        """
        return self._alignments

    @alignments.setter
    def alignments(self, alignments: Iterable[Any]) -> None:
        alignments = list(alignments)
        check_alignments_and_sources(alignments, self._sources)
        self._alignments = alignments

    @property
    def n_sources(self) -> int:
        """Number of sources, int."""
        return len(self._sources)

    @property
    def n_alignments(self) -> int:
        """Number of alignments, int."""
        return len(self._alignments)

    @property
    def box(self) -> Box:
        """The window that the layout shows: as given, else around all sources, voxels."""
        return window_of([source.box for source in self._sources], self._position, self._shape)

    @property
    def ndim(self) -> int:
        """Number of axes of the sources, int.

        Without sources and shape it raises `InputError`.
        """
        if self._sources:
            return int(self._sources[0].ndim)
        return len(self.box.lower)

    @property
    def position(self) -> Point:
        """Lower corner of the layout: tuple of int, shape (ndim,), voxels.

        Setting it moves all sources; a wrong number of axes raises `InputError`.
        """
        return self.box.lower

    @position.setter
    def position(self, position: Any) -> None:
        corner = whole_numbers(position, "position", self.ndim)
        self.move(tuple(b - a for a, b in zip(self.position, corner, strict=True)))

    @property
    def shape(self) -> Point:
        """Extent of the stitched layout: tuple of int, shape (ndim,), voxels."""
        return self.box.shape

    @property
    def lower(self) -> NDArray[np.int64]:
        """Lower corner of the layout: array of int, shape (ndim,), voxels."""
        return np.array(self.box.lower, np.int64)

    @property
    def upper(self) -> NDArray[np.int64]:
        """Upper corner, the first voxel outside: array of int, shape (ndim,), voxels."""
        return np.array(self.box.upper, np.int64)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stitched voxels: as given, else the one that holds those of all sources."""
        if self._dtype is not None:
            return cast("np.dtype[Any]", self._dtype)
        if not self._sources:
            raise InputError("a layout without sources has no type of voxels; give dtype")
        common: np.dtype[Any] = np.result_type(*{source.dtype for source in self._sources})
        return common

    @property
    def order(self) -> str:
        """Contiguous order: as given, else 'F' where it is that of all sources, else 'C'."""
        if self._order is not None:
            return self._order
        return "F" if all(source.order == "F" for source in self._sources) else "C"

    @property
    def location(self) -> str | None:
        """File in which the layout was written or is to be written: str or None."""
        return self._location

    @property
    def reader(self) -> Reader:
        """The stitched image: shape (ndim,), voxel type, and ``read(box)``."""
        return cast("Reader", self)

    def read(self, box: Box) -> NDArray[Any]:
        """Stitch a part by interpolation.

        Parameters
        ----------
        box : Box
            Voxels, relative to the layout's position.

        Returns
        -------
        array, shape of the box

        Raises
        ------
        InputError
            Where an image cannot be read.
        """
        return read_stitched(self, box)

    def copy(self) -> Self:
        """Return a layout of copied sources and alignments.

        Returns
        -------
        Layout
            It shares the voxels alone.
        """
        copies = [source.copy() for source in self._sources]
        return self._like(*rebound(self._sources, copies, self._alignments))

    def sources_as_virtual(self) -> list[Any]:
        """Return the sources without voxels.

        Returns
        -------
        list of Source
            As of `Source.as_virtual`.
        """
        return [source.as_virtual() for source in self._sources]

    def sources_as_real(self) -> list[Any]:
        """Return the sources with their voxels read into memory.

        Returns
        -------
        list of Source
            As of `Source.as_real`.

        Raises
        ------
        InputError
            Where a file cannot be read.
        """
        return [source.as_real() for source in self._sources]

    def as_virtual(self) -> Self:
        """Return this layout without voxels, to be sent to another process.

        Returns
        -------
        Layout
            With virtual sources, same ids and places, and its alignments between them.
        """
        return self._like(*rebound(self._sources, self.sources_as_virtual(), self._alignments))

    def as_real(self) -> Self:
        """Return this layout with all voxels read into memory.

        Returns
        -------
        Layout

        Raises
        ------
        InputError
            Where a file cannot be read.
        """
        return self._like(*rebound(self._sources, self.sources_as_real(), self._alignments))

    def source_index(self, source: Any) -> int | None:
        """Return where a source stands in the list of sources.

        Parameters
        ----------
        source : Source
            It matches by its id.

        Returns
        -------
        int or None
            None where it is not in the layout.

        Raises
        ------
        InputError
            Where ``source`` is no source.
        """
        return source_index(self._sources, source)

    def source_positions(self, sources: Any = None) -> list[Point]:
        """Return where the sources lie.

        Parameters
        ----------
        sources : list of Source, optional
            Default all of the layout.

        Returns
        -------
        list of tuple of int, shape (ndim,) each, voxels
        """
        return [source.position for source in (self._sources if sources is None else sources)]

    def sort_sources_by_position(self) -> None:
        """Sort the sources by their positions, the first axis first."""
        self._sources.sort(key=lambda source: source.position)

    def lower_to_origin(self) -> None:
        """Move all sources such that the smallest corner is at 0, voxels."""
        if not self._sources:
            return
        least = np.min([source.position for source in self._sources], axis=0)
        self.move(points(-least[None])[0])

    def move(self, by: Sequence[int]) -> None:
        """Move all sources, and the window where it is fixed.

        Parameters
        ----------
        by : tuple of int, shape (ndim,)
            Voxels.

        Raises
        ------
        InputError
            For another number of axes.
        """
        step = whole_numbers(by, "by", self.ndim)
        for source in self._sources:
            source.position = source.box.shifted(step).lower
        if self._position is not None:
            self._position = tuple(p + s for p, s in zip(self._position, step, strict=True))

    def remove_source(self, source: Any) -> None:
        """Remove sources and their alignments.

        Parameters
        ----------
        source : int, Source, or iterable of these
            An int is the place in the list of sources.

        Raises
        ------
        InputError
            Where one is not in the layout; nothing is removed then.
        """
        several = isinstance(source, Iterable) and not isinstance(source, SourceRegion)
        gone = {self._number(s) for s in (source if several else [source])}
        kept = [i for i in range(self.n_sources) if i not in gone]
        numbers = Numbers(self._sources)
        self._alignments = [
            a for a in self._alignments if not {numbers.find(a.pre), numbers.find(a.post)} & gone
        ]
        self._sources = [self._sources[i] for i in kept]
        self._context = None

    def _number(self, source: Any) -> int:
        if isinstance(source, SourceRegion):
            found = source_index(self._sources, source)
            if found is None:
                raise InputError(f"{source!r}: is not in the layout")
            return found
        number = whole_number(source, "source")
        if not -self.n_sources <= number < self.n_sources:
            raise InputError(f"source = {number}: the layout has {self.n_sources} sources")
        return number % self.n_sources
