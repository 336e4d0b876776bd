"""Sources: images, and slices of images, at a place in a layout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from stitchlib.api import pictures
from stitchlib.api.abstract import AbstractSource, checked, normalised
from stitchlib.api.regions import SourceRegion
from stitchlib.core.boxes import Box, Point
from stitchlib.core.shifts import check_axis, whole_number, whole_numbers
from stitchlib.errors import InputError
from stitchlib.io.images import Reader
from stitchlib.io.views import ArrayImage, Cropped, Dropped, ImageFile, MappedFile
from stitchlib.plans import Cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Source(SourceRegion, AbstractSource):
    """An image at a place in a layout, voxels.

    Parameters
    ----------
    source : array, str or Path
        Voxels, axes (x, y[, z]), or the name of an image file, of which the header is read.
    position : tuple of int, shape (ndim,), optional
        Lower corner, voxels; default the origin.
    tile_position : tuple of int, shape (grid axes,), optional
        Place on a grid of tiles.

    Raises
    ------
    InputError
        Where the image cannot be read, has another number of axes than the position, or a type
        that is not an integer or floating point one.
    """

    counter = 0
    """The id that the next source gets."""

    def __init__(self, source: Any = None, position: Any = None, tile_position: Any = None) -> None:
        self._array: NDArray[Any] | None = None
        self._file: Reader | None = None
        if isinstance(source, Source):
            self._array, self._file = source._array, source._file
        elif isinstance(source, (str, os.PathLike)):
            self._file = ImageFile.of(Path(source))
        elif source is None:
            raise InputError("a source needs an array or the name of an image file")
        elif hasattr(source, "read") and hasattr(source, "shape"):
            self._file = source
        else:
            self._array = checked(source)
        self._place(position, tile_position)

    def _place(self, position: Any, tile_position: Any) -> None:
        self._position: Point | None = None
        self._tile_position: Point | None = None
        if position is not None:
            self.position = position
        if tile_position is not None:
            self.tile_position = tile_position
        self._id = Source.counter
        Source.counter += 1

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, position={self.position}, shape={self.shape})"

    @property
    def reader(self) -> Reader:
        """The image: shape (ndim,), voxel type, and ``read(box)``."""
        return ArrayImage(self._array) if self._array is not None else cast("Reader", self._file)

    @property
    def source(self) -> Any:
        """The underlying image: the array in memory, else a handle of the file.

        Returns
        -------
        array, shape of the source, or Reader
        """
        return self._file if self._array is None else self._array

    @property
    def shape(self) -> Point:
        """Extent: tuple of int, shape (ndim,), voxels."""
        return tuple(map(int, self.reader.shape))

    @property
    def id(self) -> int:
        """Number of the source, int; unique in a process, and kept by virtual copies."""
        return self._id

    @property
    def identifier(self) -> Any:
        """The tile position, tuple of int, where there is one; else the id, int."""
        return self.id if self.tile_position is None else self.tile_position

    @property
    def tile_position(self) -> Point | None:
        """Place on a grid: tuple of int, shape (grid axes,), or None.

        It can be set; anything but whole numbers raises `InputError`.
        """
        return self._tile_position

    @tile_position.setter
    def tile_position(self, tile_position: Any) -> None:
        self._tile_position = (
            None if tile_position is None else whole_numbers(tile_position, "tile_position")
        )

    @property
    def location(self) -> str | None:
        """Absolute name of the image file: str, or None where there is none."""
        path = getattr(self._file, "path", None)
        return None if path is None else str(path)

    @property
    def name(self) -> str:
        """Name of the source, str: that of its file, else of its place or id."""
        if self.location is not None:
            return Path(self.location).name
        return f"source {self.identifier}"

    def copy(self) -> Self:
        """Return another source of the same image at the same place, with an id of its own.

        Returns
        -------
        Source
            It shares the voxels.
        """
        other = self._twin(self._array, self._file)
        other._id = Source.counter
        Source.counter += 1
        return other

    def _twin(self, array: NDArray[Any] | None, file: Reader | None) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._array, other._file = array, file
        return other

    def as_virtual(self) -> Self:
        """Return this source without voxels, to be sent to another process.

        Returns
        -------
        Source
            With the same id and place. It has a handle of the image file or memmap; an array that
            is in memory alone stays.
        """
        if self._file is not None:
            return self._twin(None, self._file)
        handle = None if self._array is None else MappedFile.of(self._array)
        return self._twin(self._array if handle is None else None, handle)

    def as_real(self) -> Self:
        """Return this source with its voxels read into memory.

        Returns
        -------
        Source
            With the same id and place.

        Raises
        ------
        InputError
            Where the file cannot be read.
        """
        if self._array is not None:
            return self
        return self._twin(np.array(self.array, order="K"), self._file)

    def renumber(self, number: int) -> None:
        """Give the source the id that it has in a file."""
        self._id = number

    def relocate(self, reader: Reader) -> None:
        """Show another image of the same shape at the same place."""
        self._array, self._file = None, reader

    def slice_along_axis(
        self, coordinate: Any = None, local_coordinate: Any = None, axis: int = 2
    ) -> Slice:
        """Slice this source at a coordinate along an axis.

        Parameters
        ----------
        coordinate : int, optional
            In the layout, voxels.
        local_coordinate : int, optional
            In the image, voxels; instead of ``coordinate``.
        axis : int
            The axis that is dropped.

        Returns
        -------
        Slice

        Raises
        ------
        InputError
            Where none or both are given, or the coordinate is outside.
        """
        return slice_of(self, coordinate, local_coordinate, axis)

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
        """Plot the source at its place, of 3-D ones a plane.

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
            Where an argument cannot be used, or the file cannot be read.
        """
        return pictures.plot_sources(
            [self], colors, percentile, normalize, coordinate=coordinate, axis=axis,
            annotate=annotate, voxel_size=voxel_size, ax=ax,
        )  # fmt: skip


class Slice(Source):
    """A part of a source, read on its own.

    Parameters
    ----------
    source : Source
        What is sliced.
    position : tuple of int, shape (kept axes,), optional
        Lower corner in the layout, voxels; default the source's own plus where the slice starts.
    tile_position : tuple of int, optional
        Default that of the source.
    slicing : tuple of int or slice, shape (ndim of the source,), optional
        The part of each axis, voxels of the image; an int drops the axis. Default everything.

    Raises
    ------
    InputError
        Where the slicing leaves the source, or has steps.
    """

    def __init__(  # as documented, and no file of its own
        self,
        source: Any,
        position: Any = None,
        tile_position: Any = None,
        slicing: Any = None,
    ) -> None:
        base = source if isinstance(source, SourceRegion) else Source(source)
        self._base: Any = base
        self.slicing = normalised(slicing, base.shape)
        """Tuple of int or slice, one per axis of the source, voxels."""
        self._array = None
        self._position, self._tile_position = None, None
        self._kept = [d for d, part in enumerate(self.slicing) if isinstance(part, slice)]
        self.cut = self._cut()
        if position is not None:
            self.position = position
        if tile_position is not None:
            self.tile_position = tile_position

    @property
    def reader(self) -> Reader:
        """The image: shape (kept axes,), voxel type, and ``read(box)``, which reads no more."""
        if self._array is not None:
            return ArrayImage(self._array)
        return self._view(self._base.reader)

    def _view(self, image: Reader) -> Reader:
        box = self._local_box()
        dropped = tuple(d for d in range(len(self.slicing)) if d not in self._kept)
        part = Cropped(image, box)
        return Dropped(part, dropped) if dropped else part

    def _local_box(self) -> Box:
        ends = [(p.start, p.stop) if isinstance(p, slice) else (p, p + 1) for p in self.slicing]
        return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))

    def _cut(self) -> Cut:
        """Which part of a whole image this is; a slice of a slice is a part of what that is of."""
        box = self._local_box()
        dropped = tuple(d for d in range(len(self.slicing)) if d not in self._kept)
        outer: Cut | None = self._base.cut
        if outer is None:
            return Cut(self._base.shape, box.lower, dropped)
        kept = [d for d in range(len(outer.shape)) if d not in outer.dropped]
        both = (*outer.dropped, *(kept[d] for d in dropped))
        return Cut(outer.shape, outer.box(box).lower, tuple(sorted(both)))

    @property
    def shape(self) -> Point:
        """Extent along the kept axes: tuple of int, voxels."""
        shape = self._local_box().shape
        return tuple(shape[d] for d in self._kept)

    @property
    def source(self) -> Any:
        """The source that is sliced.

        Returns
        -------
        Source
        """
        return self._base

    @property
    def id(self) -> int:
        """Id of the source that is sliced, int."""
        return int(self._base.id)

    @property
    def identifier(self) -> Any:
        """The tile position, tuple of int, where there is one; else the id, int."""
        return self.id if self.tile_position is None else self.tile_position

    @property
    def tile_position(self) -> Point | None:
        """Place on a grid: that of the source, tuple of int, unless set; or None.

        Setting anything but whole numbers raises `InputError`.
        """
        if self._tile_position is not None:
            return self._tile_position
        found: Point | None = self._base.tile_position
        return found

    @tile_position.setter
    def tile_position(self, tile_position: Any) -> None:
        self._tile_position = (
            None if tile_position is None else whole_numbers(tile_position, "tile_position")
        )

    @property
    def location(self) -> str | None:
        """Absolute name of the image file of the source: str, or None."""
        found: str | None = self._base.location
        return found

    @property
    def position(self) -> Point:
        """Lower corner in the layout along the kept axes: tuple of int, voxels.

        It can be set; a wrong number of axes raises `InputError`.
        """
        if self._position is not None:
            return self._position
        corner = self.position_unsliced
        return tuple(corner[d] for d in self._kept)

    @position.setter
    def position(self, position: Any) -> None:
        self._position = whole_numbers(position, "position", len(self._kept))

    @property
    def position_unsliced(self) -> Point:
        """Lower corner in the layout along all axes of the source: tuple of int, voxels."""
        corner = list(self._local_box().shifted(self._base.position).lower)
        if self._position is not None:
            for d, p in zip(self._kept, self._position, strict=True):
                corner[d] = p
        return tuple(corner)

    def copy(self) -> Self:
        """Return another slice of the same source at the same place.

        Returns
        -------
        Slice
        """
        return type(self)(self._base, self._position, self._tile_position, self.slicing)

    def _with(self, base: Any, array: NDArray[Any] | None) -> Self:
        other = type(self)(base, self._position, self._tile_position, self.slicing)
        other._array = array
        return other

    def as_virtual(self) -> Self:
        """Return this slice without voxels, to be sent to another process.

        Returns
        -------
        Slice
            It keeps which part of the image it is.
        """
        return self._with(self._base.as_virtual(), None)

    def as_real(self) -> Self:
        """Return this slice with its voxels, and no others, read into memory.

        Returns
        -------
        Slice

        Raises
        ------
        InputError
            Where the file cannot be read.
        """
        return self._with(self._base, np.array(self.array, order="K"))

    def relocate(self, reader: Reader) -> None:
        """Show the same part of another image."""
        self._base.relocate(reader)
        self._array = None


def as_source(image: Any) -> Any:
    """Return a source as it is, and anything else as a new `Source` at the origin."""
    return image if isinstance(image, SourceRegion) else Source(image)


def slice_of(source: Any, coordinate: Any, local_coordinate: Any, axis: int) -> Slice:
    """Slice a source at a coordinate in the layout, or in the image, along an axis."""
    if (coordinate is None) == (local_coordinate is None):
        raise InputError("slice_along_axis: give either coordinate or local_coordinate")
    axis = check_axis(axis, source.ndim)
    if local_coordinate is None:
        local = whole_number(coordinate, "coordinate") - source.position[axis]
    else:
        local = whole_number(local_coordinate, "local_coordinate")
    if not 0 <= local < source.shape[axis]:
        first = source.position[axis]
        raise InputError(
            f"{source!r}: has no plane {coordinate if local_coordinate is None else local} along "
            f"axis {axis}; it has {first} to {first + source.shape[axis] - 1} in the layout"
        )
    slicing: list[Any] = [slice(None)] * source.ndim
    slicing[axis] = local
    return Slice(source, slicing=tuple(slicing))
