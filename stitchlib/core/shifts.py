"""Ranges of integer displacements to search, and the one parser of the loose forms they come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from stitchlib.core.boxes import Point
from stitchlib.errors import InputError

Interval = tuple[int | None, int | None]
"""Half-open ``[lower, upper)`` along one axis; None = no bound on that side."""


@dataclass(frozen=True, slots=True)
class SearchRange:
    """Every integer displacement from ``lower`` to ``upper``, both included, in voxels."""

    lower: Point
    """Smallest displacement (post corner minus pre corner), per axis."""
    upper: Point
    """Largest displacement, per axis; never below ``lower``."""

    def __post_init__(self) -> None:
        if len(self.lower) != len(self.upper):
            raise InputError(
                f"search range {self.lower} to {self.upper} has {len(self.lower)} and "
                f"{len(self.upper)} axes; give both ends one entry per axis."
            )
        if any(a > b for a, b in zip(self.lower, self.upper, strict=True)):
            raise InputError(
                f"search range {self.lower} to {self.upper} is empty on some axis; "
                f"the lower end must not exceed the upper one."
            )

    @property
    def shape(self) -> Point:
        """Number of displacements per axis."""
        return tuple(b - a + 1 for a, b in zip(self.lower, self.upper, strict=True))

    def shifted(self, by: Sequence[int]) -> SearchRange:
        """Return the range moved by ``by`` voxels."""
        return SearchRange(
            tuple(a + s for a, s in zip(self.lower, by, strict=True)),
            tuple(b + s for b, s in zip(self.upper, by, strict=True)),
        )

    def without(self, axis: int) -> SearchRange:
        """Return the range of the other axes."""
        keep = [d for d in range(len(self.lower)) if d != axis]
        return SearchRange(tuple(self.lower[d] for d in keep), tuple(self.upper[d] for d in keep))


def whole_number(value: Any, name: str) -> int:
    """Return a Python or NumPy integer as int.

    Raises
    ------
    InputError
        For anything else; ``name`` says which argument it was.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iu":
        return int(value)
    raise InputError(f"{name} = {value!r}: must be a whole number")


def whole_numbers(values: Any, name: str, n: int | None = None) -> Point:
    """Return a sequence of ``n`` Python or NumPy integers as a tuple of int."""
    if np.ndim(values) == 0 or isinstance(values, str):
        raise InputError(f"{name} = {values!r}: must have one whole number per axis")
    result = tuple(whole_number(value, name) for value in values)
    if n is not None and len(result) != n:
        raise InputError(f"{name} = {values!r}: has {len(result)} entries, but must have {n}")
    return result


def shift_range(max_shifts: Any, ndim: int) -> SearchRange:
    """Parse ``max_shifts``.

    Parameters
    ----------
    max_shifts : int, tuple of int, or sequence
        An int m is ±m on all axes; a tuple (lower, upper) holds for all axes; a list, array or
        tuple of tuples has one int or (lower, upper) per axis. Never changed.
    ndim : int
        Number of axes.

    Returns
    -------
    SearchRange
        Shifts, voxels, both ends included.

    Raises
    ------
    InputError
        For any other form, a wrong number of axes, or a lower end above the upper one.
    """
    name = "max_shifts"
    if np.ndim(_shell(max_shifts)) == 0 or (
        isinstance(max_shifts, tuple) and len(max_shifts) == 2 and _plain(max_shifts)
    ):
        entries = [max_shifts] * ndim
    else:
        entries = list(max_shifts)
    if len(entries) != ndim:
        raise InputError(
            f"{name} = {max_shifts!r}: has {len(entries)} entries, but the images have {ndim} axes"
        )
    pairs = [_shift_pair(entry, name) for entry in entries]
    if any(a > b for a, b in pairs):
        raise InputError(f"{name} = {max_shifts!r}: the lower end must not exceed the upper one")
    return SearchRange(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def _shift_pair(entry: Any, name: str) -> tuple[int, int]:
    if np.ndim(_shell(entry)) == 0:
        m = whole_number(entry, name)
        if m < 0:
            raise InputError(f"{name} = {entry!r}: one number is ± that many voxels, not negative")
        return -m, m
    lower, upper = whole_numbers(entry, name, 2)
    return lower, upper


def _shell(value: Any) -> Any:
    """Stand in for a value whose number of axes is asked, without building ragged arrays."""
    return [0] if isinstance(value, (list, tuple)) else value


def _plain(values: Sequence[Any]) -> bool:
    return all(np.ndim(_shell(value)) == 0 for value in values)


def overlap_range(overlap: Any, name: str = "overlap") -> tuple[int, int]:
    """Parse the overlap of two images: int o = 1..o, a pair = (least, most) in any order."""
    if np.ndim(_shell(overlap)) == 0:
        most = whole_number(overlap, name)
        if most < 1:
            raise InputError(f"{name} = {overlap!r}: must be at least 1 voxel")
        return 1, most
    least, most = sorted(whole_numbers(overlap, name, 2))
    if most < 1:
        raise InputError(f"{name} = {overlap!r}: the larger one must be at least 1 voxel")
    return least, most


def overlap_ranges(overlaps: Any, n: int) -> list[tuple[int, int]]:
    """Parse the overlaps along ``n`` grid axes: an int for all, or one int or pair per axis."""
    return [overlap_range(entry, "overlaps") for entry in _per_axis(overlaps, n, "overlaps")]


def nominal_overlaps(overlaps: Any, n: int) -> Point:
    """Parse the nominal overlaps along ``n`` grid axes: ints; a pair means its centre."""
    found = []
    for entry in _per_axis(overlaps, n, "overlaps"):
        if np.ndim(_shell(entry)) == 0:
            found.append(whole_number(entry, "overlaps"))
        else:
            found.append(round(sum(whole_numbers(entry, "overlaps", 2)) / 2))
    return tuple(found)


def _per_axis(values: Any, n: int, name: str) -> list[Any]:
    if np.ndim(_shell(values)) == 0:
        return [values] * n
    entries = list(values)
    if len(entries) != n:
        raise InputError(
            f"{name} = {values!r}: has {len(entries)} entries, but the grid has {n} axes; "
            f"give one int or (least, most) per grid axis, or one int for all"
        )
    return entries


def depth_along(depth: Any, axis: int) -> int:
    """Parse ``depth``, an int or one per axis, and return that of ``axis``, at least 1."""
    if np.ndim(_shell(depth)) > 0:
        if len(depth) <= axis:
            raise InputError(
                f"depth = {depth!r}: has no entry for axis {axis}; give an int for all"
            )
        depth = depth[axis]
    planes = whole_number(depth, "depth")
    if planes < 1:
        raise InputError(f"depth = {depth!r}: must be at least 1 plane")
    return planes


def interval(value: Any, name: str) -> Interval:
    """Parse a half-open range of coordinates: None = all, or (lower, upper), either may be None."""
    if value is None:
        return None, None
    if np.ndim(_shell(value)) == 0 or len(value) != 2:
        raise InputError(f"{name} = {value!r}: must be (lower, upper) or None")
    lower, upper = (None if v is None else whole_number(v, name) for v in value)
    if lower is not None and upper is not None and lower >= upper:
        raise InputError(f"{name} = {value!r}: is empty; lower must be below upper")
    return lower, upper


def intervals(ranges: Any, ndim: int) -> tuple[Interval, ...]:
    """Parse ``ranges``: None, (lower, upper) for all axes, or one such or None per axis."""
    if ranges is None or (
        isinstance(ranges, tuple)
        and len(ranges) == 2
        and all(isinstance(v, Integral) for v in ranges)
    ):
        return (interval(ranges, "ranges"),) * ndim
    if np.ndim(_shell(ranges)) == 0 or len(ranges) != ndim:
        raise InputError(
            f"ranges = {ranges!r}: must have one (lower, upper) or None for each of {ndim} axes"
        )
    return tuple(interval(entry, "ranges") for entry in ranges)


def check_axis(axis: Any, ndim: int) -> int:
    """Return an axis as 0 … ndim − 1; negative ones count from the end."""
    number = whole_number(axis, "axis")
    if not -ndim <= number < ndim:
        raise InputError(f"axis = {axis}: must be from 0 to {ndim - 1}")
    return number % ndim
