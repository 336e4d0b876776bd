"""What all alignments share: two neighbouring sources, and how both are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stitchlib.api import pictures, projections
from stitchlib.core.boxes import Point
from stitchlib.core.shifts import check_axis, shift_range
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
        ends = " -> ".join(str(source.identifier) for source in alignment.sources)
        raise InputError(f"{ends}: has one axis only, there is none to project along")
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
