"""Alignments: the wanted displacement between two neighbouring sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stitchlib.api.alignment_base import AlignmentBase, mip_axis
from stitchlib.core.shifts import whole_numbers
from stitchlib.errors import InputError


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
