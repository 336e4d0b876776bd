"""Regions: rectangular parts of the space in which a layout lies."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point
from stitchlib.core.shifts import check_axis, whole_number, whole_numbers
from stitchlib.errors import InputError


class Region:
    """A half-open box ``[position, position + shape)``, voxels.

    Parameters
    ----------
    position : tuple of int, shape (ndim,), optional
        Lower corner, voxels; default the origin, or upper − shape.
    shape : tuple of int, shape (ndim,), optional
        Extent, voxels.
    lower : tuple of int, shape (ndim,), optional
        Another name of ``position``.
    upper : tuple of int, shape (ndim,), optional
        Upper corner, voxels; instead of ``shape``.

    Raises
    ------
    InputError
        Where the arguments contradict each other or leave the extent open.
    """

    _position: Point | None
    _shape: Point | None

    def __init__(
        self, position: Any = None, shape: Any = None, lower: Any = None, upper: Any = None
    ) -> None:
        box = box_of(position, shape, lower, upper)
        if box is None:
            raise InputError("a region needs a shape, or a lower and an upper corner")
        self._position, self._shape = box.lower, box.shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}(position={self.position}, shape={self.shape})"

    @property
    def box(self) -> Box:
        """The region as a `Box`: lower and upper corner, voxels."""
        return Box.at(self.position, self.shape)

    @property
    def position(self) -> Point:
        """Lower corner: tuple of int, shape (ndim,), voxels.

        It can be set; a wrong number of axes raises `InputError`.
        """
        if self._position is None:
            return (0,) * len(self.shape)
        return self._position

    @position.setter
    def position(self, position: Any) -> None:
        self._position = whole_numbers(position, "position", self.ndim)

    @property
    def shape(self) -> Point:
        """Extent: tuple of int, shape (ndim,), voxels."""
        assert self._shape is not None  # noqa: S101 - classes without one override this
        return self._shape

    @property
    def ndim(self) -> int:
        """Number of axes, int."""
        return len(self.shape)

    @property
    def lower(self) -> NDArray[np.int64]:
        """Lower corner: array of int, shape (ndim,), voxels."""
        return np.array(self.position, np.int64)

    @property
    def upper(self) -> NDArray[np.int64]:
        """Upper corner, the first voxel outside: array of int, shape (ndim,), voxels."""
        return self.lower + np.array(self.shape, np.int64)

    @property
    def extent(self) -> Point:
        """Upper minus lower corner: tuple of int, shape (ndim,), voxels."""
        return tuple((self.upper - self.lower).tolist())

    @property
    def origin(self) -> Point:
        """Lower corner with coordinates below zero set to zero: tuple of int, voxels."""
        return tuple(max(0, p) for p in self.position)

    def copy(self) -> Self:
        """Return a region of the same place and extent.

        Returns
        -------
        Region
        """
        return type(self)(position=self.position, shape=self.shape)

    def local_slicing(self, source: Any = None, position: Any = None) -> tuple[slice, ...]:
        """Return where this region lies in a source, or in an array at a position.

        Parameters
        ----------
        source : Region, optional
            The source to slice; default this region itself.
        position : tuple of int, shape (ndim,), optional
            Lower corner of the array to slice, voxels; instead of ``source``.

        Returns
        -------
        tuple of slice
            One per axis, voxels; right only where the region is inside, which is not checked.

        Raises
        ------
        InputError
            Where both are given.
        """
        if source is not None and position is not None:
            raise InputError("local_slicing: give a source or a position, not both")
        if source is not None:
            position = source.position
        return self.box.relative_to(self.position if position is None else position).slices()

    def position_to_local(self, position: Any) -> Point:
        """Return a position relative to the region's lower corner.

        Parameters
        ----------
        position : tuple of int, shape (ndim,)
            Voxels.

        Returns
        -------
        tuple of int, shape (ndim,), voxels

        Raises
        ------
        InputError
            For another number of axes.
        """
        point = whole_numbers(position, "position", self.ndim)
        return tuple(p - o for p, o in zip(point, self.position, strict=True))

    def position_from_local(self, local_position: Any) -> Point:
        """Return the position of a point given relative to the region's lower corner.

        Parameters
        ----------
        local_position : tuple of int, shape (ndim,)
            Voxels.

        Returns
        -------
        tuple of int, shape (ndim,), voxels

        Raises
        ------
        InputError
            For another number of axes.
        """
        point = whole_numbers(local_position, "local_position", self.ndim)
        return tuple(p + o for p, o in zip(point, self.position, strict=True))

    def coordinate_to_local(self, coordinate: Any, axis: int) -> int:
        """Return a coordinate along one axis relative to the region's lower corner.

        Parameters
        ----------
        coordinate : int
            Voxels.
        axis : int

        Returns
        -------
        int, voxels

        Raises
        ------
        InputError
            Where there is no such axis.
        """
        return whole_number(coordinate, "coordinate") - self.position[check_axis(axis, self.ndim)]

    def coordinate_from_local(self, loacl_coordinate: Any, axis: int) -> int:
        """Return the coordinate of one given relative to the region's lower corner.

        Parameters
        ----------
        loacl_coordinate : int
            Voxels (spelled as documented).
        axis : int

        Returns
        -------
        int, voxels

        Raises
        ------
        InputError
            Where there is no such axis.
        """
        local = whole_number(loacl_coordinate, "loacl_coordinate")
        return local + self.position[check_axis(axis, self.ndim)]


class SourceRegion(Region):
    """A region that a source fills: the base of everything that has voxels and a place.

    Parameters
    ----------
    position, shape, lower, upper : tuple of int, shape (ndim,), optional
        As of `Region`, voxels.
    """


def box_of(position: Any, shape: Any, lower: Any, upper: Any) -> Box | None:
    """Return the box that the four loose arguments mean, or None where they leave it open.

    Raises
    ------
    InputError
        Where they contradict each other.
    """
    position = _point(position, "position")
    shape, lower, upper = _point(shape, "shape"), _point(lower, "lower"), _point(upper, "upper")
    if position is not None and lower is not None and position != lower:
        raise InputError(f"position = {position} and lower = {lower} contradict each other")
    lower = position if lower is None else lower
    known = [point for point in (lower, shape, upper) if point is not None]
    if len({len(point) for point in known}) > 1:
        raise InputError(f"{known}: the corners and the shape have different numbers of axes")
    if shape is None and (lower is None or upper is None):
        return None
    if shape is None:
        shape = tuple(b - a for a, b in zip(lower, upper, strict=True))
    if lower is None:
        start = tuple(b - n for b, n in zip(upper, shape, strict=True)) if upper else None
        lower = start or (0,) * len(shape)
    box = Box.at(lower, shape)
    if upper is not None and box.upper != upper:
        raise InputError(f"lower = {lower}, shape = {shape}, upper = {upper} contradict each other")
    if any(n < 0 for n in shape):
        raise InputError(f"the region from {box.lower} to {box.upper} has a negative extent")
    return box


def _point(value: Any, name: str) -> Any:
    return None if value is None else whole_numbers(value, name)
