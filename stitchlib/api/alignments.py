"""Alignments: the wanted displacement between two neighbouring sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stitchlib.api import pictures, projections
from stitchlib.core.boxes import Point
from stitchlib.core.shifts import check_axis, shift_range, whole_numbers
from stitchlib.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class AlignmentBase:
    """Two sources that are neighbours.

    Parameters
    ----------
    pre : Source, optional
        The first source.
    post : Source, optional
        The second source.
    """

    def __init__(self, pre: Any = None, post: Any = None) -> None:
        self._pre, self._post = pre, post

    @property
    def pre(self) -> Any:
        """The first source: Source or None."""
        return self._pre

    @pre.setter
    def pre(self, source: Any) -> None:
        self._pre = source

    @property
    def post(self) -> Any:
        """The second source: Source or None."""
        return self._post

    @post.setter
    def post(self, source: Any) -> None:
        self._post = source

    @property
    def sources(self) -> list[Any]:
        """Both sources: list of Source, first and second."""
        return [self.pre, self.post]

    @property
    def ndim(self) -> int:
        """Number of axes of the sources, int.

        Without a source it raises `InputError`.
        """
        for source in self.sources:
            if source is not None:
                return int(source.ndim)
        raise InputError("an alignment without sources has no number of axes; set pre and post")

    def copy(self) -> Self:
        """Return another alignment of the same sources.

        Returns
        -------
        AlignmentBase
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def overlay(self, **kwargs: Any) -> NDArray[np.float32]:
        """Add up both sources, magenta and green, the second one as the displacement says.

        Parameters
        ----------
        **kwargs
            ``colors``, ``percentile``, ``normalize``, ``color_ids``, ``coordinate``, ``axis`` as in
            `overlay_layout`.

        Returns
        -------
        array of float32, shape (extent of both, voxels, 3)
        """
        return pictures.overlay_pair(self, **kwargs)

    def overlay_mip(self, *args: Any, **kwargs: Any) -> NDArray[np.float32]:
        """Add up the aligned maximum projections of both sources.

        Parameters
        ----------
        *args, **kwargs
            As in `overlay_along_axis_mip`, from ``axis`` on; its default is that of the tiling.

        Returns
        -------
        array of float32, shape (extent of both, voxels, without the axis, 3)
        """
        return projections.overlay_along_axis_mip(*self._projected(args, kwargs), **kwargs)

    def overlay_overlap(self, max_shifts: Any = 0) -> NDArray[np.float32]:
        """Add up both sources where they overlap.

        Parameters
        ----------
        max_shifts : int, tuple or list
            By how much the overlap is grown, voxels; as in `align_2_sources`.

        Returns
        -------
        array of float32, shape (extent of the overlap, voxels, 3)

        Raises
        ------
        InputError
            Where they don't overlap.
        """
        return pictures.overlay_pair(self, window=pictures.grown_overlap(self, max_shifts))

    def plot(self, *args: Any, **kwargs: Any) -> Axes:
        """Plot both sources, magenta and green, the second one as the displacement says.

        Parameters
        ----------
        *args, **kwargs
            As in `plot_sources`, from ``colors`` on.

        Returns
        -------
        Axes
            Of matplotlib; nothing is shown yet.
        """
        return pictures.plot_pair(self, *args, **kwargs)

    def plot_overlay(self, **kwargs: Any) -> Axes:
        """Plot what `overlay` returns: the same as `plot`.

        Parameters
        ----------
        **kwargs
            As in `plot_sources`, from ``colors`` on.

        Returns
        -------
        Axes
            Of matplotlib; nothing is shown yet.
        """
        return pictures.plot_pair(self, **kwargs)

    def plot_mip(self, *args: Any, **kwargs: Any) -> Axes:
        """Plot the aligned maximum projections of both sources.

        Parameters
        ----------
        *args, **kwargs
            As in `plot_along_axis_mip`, from ``axis`` on; its default is that of the tiling.

        Returns
        -------
        Axes
            Of matplotlib; nothing is shown yet.
        """
        return projections.plot_along_axis_mip(*self._projected(args, kwargs), **kwargs)

    def plot_overlap(self, **kwargs: Any) -> Axes:
        """Plot both sources where they overlap.

        Parameters
        ----------
        **kwargs
            ``max_shifts`` as in `overlay_overlap`, default 0, voxels; else as in `plot_sources`,
            from ``colors`` on.

        Returns
        -------
        Axes
            Of matplotlib; nothing is shown yet.

        Raises
        ------
        InputError
            Where they don't overlap.
        """
        window = pictures.grown_overlap(self, kwargs.pop("max_shifts", 0))
        return pictures.plot_pair(self, window=window, **kwargs)

    def _projected(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        pictures.pair_boxes(self)  # both are there
        if not args and "axis" not in kwargs:
            args = (mip_axis(self, None, None),)
        return (self.pre, self.post, *args)


class Alignment(AlignmentBase):
    """The wanted displacement between two sources, and how good it is.

    Parameters
    ----------
    pre, post : Source, optional
        First and second source.
    shift : tuple of int, shape (ndim,), optional
        What is to be added to the second source's position, voxels.
    displacement : tuple of int, shape (ndim,), optional
        Wanted position of post minus position of pre, voxels. It wins over ``shift``; without both
        it is the difference of the sources' positions.
    quality : float, optional
        −MSE (intensity²) or NCC; default −inf, no signal.
    """

    def __init__(
        self,
        pre: Any = None,
        post: Any = None,
        shift: Any = None,
        displacement: Any = None,
        quality: Any = None,
    ) -> None:
        super().__init__(pre, post)
        self._displacement: NDArray[np.int64] | None = None
        self.quality = quality
        if displacement is not None:
            self.displacement = displacement
        elif shift is not None:
            self.shift = shift
        elif pre is not None and post is not None:
            self.displacement = self._difference()

    def __repr__(self) -> str:
        wanted = None if self._displacement is None else tuple(self._displacement.tolist())
        return f"Alignment({self.name}, displacement={wanted}, quality={self.quality:g})"

    def copy(self) -> Self:
        """Return another alignment of the same sources, displacement and quality.

        Returns
        -------
        Alignment
        """
        other = super().copy()
        if self._displacement is not None:
            other._displacement = self._displacement.copy()
        return other

    def _difference(self) -> NDArray[np.int64]:
        if self.pre is None or self.post is None:
            raise InputError("an alignment without both sources has no shift; set pre and post")
        if self.pre.ndim != self.post.ndim:
            raise InputError(f"{self.name}: the sources have different numbers of axes")
        difference: NDArray[np.int64] = self.post.lower - self.pre.lower
        return difference

    def _vector(self, value: Any, name: str) -> NDArray[np.int64]:
        known = self.pre is not None or self.post is not None
        return np.array(whole_numbers(value, name, self.ndim if known else None), np.int64)

    @property
    def displacement(self) -> NDArray[np.int64]:
        """Wanted position of post minus position of pre: array of int, shape (ndim,), voxels.

        It can be set; a wrong number of axes raises `InputError`.
        """
        if self._displacement is None:
            self._displacement = self._difference()
        return self._displacement.copy()

    @displacement.setter
    def displacement(self, displacement: Any) -> None:
        self._displacement = self._vector(displacement, "displacement")

    @property
    def shift(self) -> NDArray[np.int64]:
        """Displacement minus the difference of the positions: array of int, shape (ndim,), voxels.

        Setting it sets the displacement. After the sources are placed it is the residual.
        """
        return self.displacement - self._difference()

    @shift.setter
    def shift(self, shift: Any) -> None:
        self._displacement = self._difference() + self._vector(shift, "shift")

    @property
    def quality(self) -> float:
        """−MSE (intensity²) or NCC, float; −inf = no signal.

        It can be set; None is −inf.
        """
        return self._quality

    @quality.setter
    def quality(self, quality: Any) -> None:
        self._quality = -float("inf") if quality is None else float(quality)

    @property
    def name(self) -> str:
        """Which sources it aligns: str of their tile positions or ids."""
        ends = (None if s is None else s.identifier for s in self.sources)
        return " -> ".join(map(str, ends))

    def mip_axis(self, axis: Any = None, max_shifts: Any = None) -> int:
        """Return the axis along which to project both sources.

        Parameters
        ----------
        axis : int, optional
            The axis to be measured, which is never projected along.
        max_shifts : int, tuple or list, optional
            Shifts that will be tried, voxels; overlaps are compared as they are at most with them.

        Returns
        -------
        int
            The axis on which the tile positions differ, without tile positions the axis of the
            smallest overlap; where that is ``axis``, the one with the smallest overlap among the
            others.

        Raises
        ------
        InputError
            Where there is no such axis, or no other.
        """
        return mip_axis(self, axis, max_shifts)


def mip_axis(alignment: AlignmentBase, axis: Any, max_shifts: Any) -> int:
    """Return the axis along which to project the sources of an alignment."""
    ndim = alignment.ndim
    measured = None if axis is None else check_axis(axis, ndim)
    shared = _overlap_extents(alignment, max_shifts)
    usual = tiling_axes(alignment) or range(ndim)
    found = min(usual, key=lambda d: shared[d])
    if found != measured:
        return found
    others = [d for d in range(ndim) if d != measured]
    if not others:
        raise InputError("the sources have one axis only, there is none to project along")
    return min(others, key=lambda d: shared[d])


def tiling_axes(alignment: AlignmentBase) -> list[int]:
    """Return the axes on which the tile positions of both sources differ."""
    pre, post = alignment.pre.tile_position, alignment.post.tile_position
    if pre is None or post is None or len(pre) != len(post):
        return []
    return [d for d, (a, b) in enumerate(zip(pre, post, strict=True)) if a != b]


def _overlap_extents(alignment: AlignmentBase, max_shifts: Any) -> list[int]:
    """Voxels along each axis that both sources share, at most with the shifts that are tried."""
    pre, post = alignment.pre.box, alignment.post.box
    lower: Point = (0,) * alignment.ndim
    upper = lower
    if max_shifts is not None:
        shifts = shift_range(max_shifts, alignment.ndim)
        lower, upper = shifts.lower, shifts.upper
    extents = []
    for d in range(alignment.ndim):
        tried = range(lower[d], upper[d] + 1)
        extents.append(
            max(
                min(pre.upper[d], post.upper[d] + s) - max(pre.lower[d], post.lower[d] + s)
                for s in tried
            )
        )
    return extents


def source_index(sources: Sequence[Any], source: Any) -> int | None:
    """Return where a source stands in a list.

    Parameters
    ----------
    sources : list of Source
    source : Source
        It matches by its id, so that copies made for other processes match too.

    Returns
    -------
    int or None
        None where it is not in the list.

    Raises
    ------
    InputError
        Where ``source`` is no source.
    """
    for i, other in enumerate(sources):
        if other is source:
            return i
    if not hasattr(source, "id"):
        raise InputError(f"{source!r} is no source")
    return next((i for i, other in enumerate(sources) if other.id == source.id), None)


class Numbers:
    """Which source of a list an alignment means, looked up at once."""

    def __init__(self, sources: Sequence[Any]) -> None:
        self._same = {id(source): i for i, source in enumerate(sources)}
        self._by_id: dict[int, int] = {}
        for i, source in enumerate(sources):
            self._by_id.setdefault(source.id, i)

    def find(self, source: Any) -> int | None:
        """Return the number of a source in the list, None where it is not there."""
        found = self._same.get(id(source))
        return found if found is not None else self._by_id.get(getattr(source, "id", -1))
