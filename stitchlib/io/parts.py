"""Which part of an image file a tile's channel is: files may hold several series and axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

COLOUR = "S"
"""The axis of colours."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an image file; by default all of its first series."""

    series: int = 0
    """Which series, from 0."""
    select: tuple[tuple[str, int], ...] = ()
    """Axes with the one index that is taken along them, from 0, sorted by axis."""
    luminance: bool = False
    """Whether the three colours are made one."""

    @classmethod
    def parse(cls, series: int | None, select: str | None) -> Part:
        """Return what the sheet says: a series, and text like ``C=1,T=0``.

        Raises
        ------
        ValueError
            With what is expected, where an axis is named twice.
        """
        pairs = [pair.split("=") for pair in (select or "").split(",") if pair]
        if len({axis for axis, _ in pairs}) < len(pairs):
            raise ValueError("names an axis twice")
        return cls(series or 0, tuple(sorted((axis, int(index)) for axis, index in pairs)))

    def colour(self, index: int) -> Part:
        """Return the same part in one colour."""
        return replace(self, select=tuple(sorted((*self.select, (COLOUR, index)))))

    @property
    def is_colour(self) -> bool:
        """Whether it is one of several colours, or made of them."""
        return self.luminance or COLOUR in dict(self.select)

    def __str__(self) -> str:
        """Return it as a person reads it; nothing for all of the first series."""
        words = [f"series {self.series}"] if self.series else []
        words += [f"{axis}={index}" for axis, index in self.select]
        return ", ".join(words + ["luminance"] * self.luminance)

    def of(self, path: str) -> str:
        """Return the name of this part of a file, another one for each part."""
        return f"{path} ({self})" if self != Part() else path

    def as_json(self) -> dict[str, Any]:
        """Return the plain values that tell it from a whole file: none for all of the first series.

        What is left out keeps the cards of plain files as short as they can be.
        """
        value: dict[str, Any] = {}
        if self.series:
            value["series"] = self.series
        if self.select:
            value["select"] = ",".join(f"{axis}={index}" for axis, index in self.select)
        if self.luminance:
            value["luminance"] = True
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Part:
        """Return the part that `as_json` described, among other values or not."""
        part = cls.parse(value.get("series"), value.get("select"))
        return replace(part, luminance=value.get("luminance", False))


WHOLE = Part()
"""All of a file that holds one image."""
