"""Tag expressions: file names with numbered parts, such as ``tile_<Y,2>_<X,2>.tif``.

``<Y,2>`` stands for exactly two digits and ``<Y>`` for any number of digits.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stitchlib.errors import InputError

_TAG = re.compile(r"<([A-Za-z_]\w*)(?:,(\d+))?>")


@dataclass(frozen=True, slots=True)
class Expression:
    """A file name with tags."""

    text: str
    """As it was written."""

    @classmethod
    def of(cls, text: Any) -> Expression:
        """Return the expression of a string, path or expression."""
        return text if isinstance(text, Expression) else cls(os.fspath(text))

    def __post_init__(self) -> None:
        for found in re.findall(r"<[^<>]*>", self.text):
            if not _TAG.fullmatch(found):
                raise InputError(
                    f"expression {self.text!r}: {found!r} is not a tag; write <NAME> or "
                    f"<NAME,DIGITS>, such as <Y,2>"
                )

    @property
    def tags(self) -> list[str]:
        """Names of the tags, in the order in which they appear first."""
        return list(dict.fromkeys(name for name, _ in _TAG.findall(self.text)))

    def _pattern(self) -> re.Pattern[str]:
        parts, start, seen = [], 0, set()
        for found in _TAG.finditer(self.text):
            name, digits = found.groups()
            parts.append(re.escape(self.text[start : found.start()]))
            count = f"{{{digits}}}" if digits else "+"
            parts.append(f"(?P={name})" if name in seen else rf"(?P<{name}>[0-9]{count})")
            seen.add(name)
            start = found.end()
        parts.append(re.escape(self.text[start:]))
        return re.compile("".join(parts))

    def read(self, text: str) -> dict[str, str] | None:
        """Return the digits of every tag in ``text``, or None where it does not fit."""
        found = self._pattern().fullmatch(text)
        return found and found.groupdict()

    def replaced(self, text: str, by: Expression) -> str | None:
        """Replace the part of ``text`` that fits by another expression with the same tags.

        Returns None where no part fits.
        """
        found = list(self._pattern().finditer(text))
        if not found:
            return None
        last = found[-1]
        return text[: last.start()] + by.render(last.groupdict()) + text[last.end() :]

    def render(self, values: Mapping[str, Any]) -> str:
        """Fill the tags.

        Parameters
        ----------
        values : mapping
            A whole number, padded with zeros to the tag's digits, or a string, taken as it is, for
            every tag.

        Raises
        ------
        InputError
            Where a tag has no value, or one of too many digits.
        """

        def fill(found: re.Match[str]) -> str:
            name, digits = found.groups()
            if name not in values:
                known = ", ".join(map(str, values)) or "none"
                raise InputError(
                    f"expression {self.text!r}: there is no value for tag <{name}>; "
                    f"substitute it (known: {known})"
                )
            value = values[name]
            text = str(value)
            if not digits or not text.isdigit():
                return text
            # Digits that were read with another width are the same number.
            text = str(int(text)).zfill(int(digits))
            if len(text) > int(digits):
                raise InputError(
                    f"expression {self.text!r}: {value} has more digits than <{name},{digits}>"
                )
            return text

        return _TAG.sub(fill, self.text)

    def files(self) -> list[tuple[Path, dict[str, str]]]:
        """Return the files that fit, each with the digits of its tags, sorted by name.

        Raises
        ------
        InputError
            Where there is none.
        """
        pattern = "*".join(glob.escape(part) for part in _TAG.split(self.text)[::3])
        found = []
        for name in sorted(glob.glob(pattern)):  # noqa: PTH207 - it may be absolute
            values = self.read(name)
            if values is not None:
                found.append((Path(name), values))
        if not found:
            raise InputError(
                f"expression {self.text!r}: no file fits it ({Path.cwd()} is the working "
                f"directory); check folder, name and number of digits"
            )
        return found


def grid_axes(expression: Expression, tile_axes: Sequence[str] | None) -> list[str]:
    """Return the tags that are grid axes, in the order of the image axes.

    Default: those named X, Y, Z in this order; without any, all in the order of the expression.
    """
    if tile_axes is None:
        named = [name for name in "XYZ" if name in expression.tags]
        return named or expression.tags
    for name in tile_axes:
        if name not in expression.tags:
            raise InputError(
                f"tile_axes = {list(tile_axes)!r}: there is no tag <{name}> in "
                f"{expression.text!r}; its tags are {', '.join(expression.tags) or 'none'}"
            )
    return list(tile_axes)


def tiles_of(
    expression: Expression, tile_axes: Sequence[str]
) -> list[tuple[Path, tuple[int, ...]]]:
    """Return the file of every tile with its place on the grid, first axis slowest.

    Raises
    ------
    InputError
        Where no file fits, or several fit one tile; names the tags that make the difference.
    """
    found = expression.files()
    others = [name for name in expression.tags if name not in tile_axes]
    several = {name: sorted({values[name] for _, values in found}) for name in others}
    several = {name: values for name, values in several.items() if len(values) > 1}
    if several:
        listed = "; ".join(f"<{name}> is {', '.join(v)}" for name, v in several.items())
        raise InputError(
            f"expression {expression.text!r}: tags that are no grid axes must have one value, but "
            f"{listed}. Write the one you want into the expression, name the tag in tile_axes, or "
            f"save the planes of a tile as one stack"
        )
    tiles: dict[tuple[int, ...], Path] = {}
    for path, values in found:
        place = tuple(int(values[name]) for name in tile_axes)
        if place in tiles:
            raise InputError(
                f"expression {expression.text!r}: {tiles[place]} and {path} are both tile {place}; "
                f"give the tags a number of digits"
            )
        tiles[place] = path
    return [(tiles[place], place) for place in sorted(tiles)]
