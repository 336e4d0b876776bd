"""Ranges of integer displacements to search."""

from __future__ import annotations

from dataclasses import dataclass

from stitchlib.core.boxes import Point
from stitchlib.errors import InputError


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
