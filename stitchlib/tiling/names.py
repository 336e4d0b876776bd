"""Guessing what the parts of file names mean, such as ``tile_r<Y,1>_c<X,1>_DAPI.tif``.

Names are cut at separators. What differs between the names is a field; the letters before its
digits (``x``, ``row``, ``ch``, ``z``, …) say what it means, and where they don't, two numbers are
row and column. What remains in doubt is asked for, never made up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stitchlib.errors import InputError
from stitchlib.tags import Expression

Meaning = Literal["X", "Y", "Z", "C", "T", "I", "W", ""]
"""Column, row, plane or layer, channel, time, running number, well; '' = not known."""

LABELS: Mapping[str, tuple[str, ...]] = {
    "X": ("x", "col", "column", "cols", "xpos", "posx", "tilex"),
    "Y": ("y", "row", "rows", "ypos", "posy", "tiley", "r"),
    "Z": ("z", "slice", "plane", "zstep", "zplane", "zpos", "zslice", "stack"),
    "C": ("c", "ch", "chan", "channel", "w", "wv", "wavelength", "colour", "color", "laser"),
    "T": ("t", "time", "tp", "timepoint", "frame"),
    "I": ("i", "s", "m", "p", "f", "n", "site", "tile", "pos", "position", "fov", "field",
          "image", "img", "no", "scan", "series"),
    "W": ("well",),
}  # fmt: skip
"""What the letters before a number say."""

_MEANING = {label: meaning for meaning, labels in LABELS.items() for label in labels}
_CUT = re.compile(r"([^A-Za-z0-9]+)")
_PARTS = re.compile(r"[0-9]+|[A-Za-z]+")
_WELL = re.compile(r"[A-Pa-p][0-9]{2}")


@dataclass(frozen=True, slots=True)
class Named:
    """A file and what its name says."""

    path: Path
    expression: Expression
    """The name with tags in place of its numbers."""
    numbers: Mapping[str, str]
    """Digits of every tag."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Parts that are told by words: C (channel) and W (well)."""

    def with_tag(self, name: str) -> str:
        """Return the path with one tag left as a tag: what a stack of files is called."""
        found = re.search(rf"<{name}(?:,\d+)?>", self.expression.text)
        assert found is not None  # noqa: S101 - asked for tags that there are
        return self.expression.render({**self.numbers, name: found.group()})


@dataclass(frozen=True, slots=True)
class Guess:
    """What names were taken to mean."""

    pattern: str
    """For people: the tag expression, with the tags C and W also for words."""
    files: tuple[Named, ...]
    left_out: tuple[Path, ...]
    """Files with names of another form."""
    sure: bool
    """Whether the names themselves say which number is the row and which the column."""


@dataclass(slots=True)
class _Field:
    """A part of the names that is not the same in all of them."""

    where: list[int]
    """Which tokens: the same number may stand in a name several times."""
    values: list[str]
    label: str = ""
    meaning: Meaning = ""

    @property
    def numeric(self) -> bool:
        return all(value.isdigit() for value in self.values)

    @property
    def tag(self) -> str:
        widths = {len(value) for value in self.values}
        fixed = self.numeric and len(widths) == 1
        return f"<{self.meaning},{widths.pop()}>" if fixed else f"<{self.meaning}>"


def guess(paths: Sequence[Path], folder: Path) -> Guess:
    """Guess what the names of files below ``folder`` mean.

    Raises
    ------
    InputError
        Where it cannot be told; names the parts that differ and how to say what they are.
    """
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    groups: dict[tuple[str, ...], list[Path]] = {}
    for path in sorted(paths):
        cut = _CUT.split(names[path])
        groups.setdefault((*cut[1::2], cut[-1]), []).append(path)
    chosen = max(groups.values(), key=len)
    left_out = tuple(path for path in sorted(paths) if path not in set(chosen))
    tokens = _tokens([_CUT.split(names[path]) for path in chosen])
    fields = _fields(tokens)
    sure = _interpret(fields, names[chosen[0]])
    texts = [f for f in fields if not f.numeric]
    _check_distinct(fields, [names[path] for path in chosen])
    files = []
    for i, path in enumerate(chosen):
        parts = _with_tags(tokens[i], [f for f in fields if f.numeric])
        files.append(
            Named(
                path,
                Expression((folder / "".join(parts)).as_posix()),
                {f.meaning: f.values[i] for f in fields if f.numeric and f.meaning},
                {f.meaning: f.values[i] for f in texts if f.meaning},
            )
        )
    pattern = (folder / "".join(_with_tags(tokens[0], fields))).as_posix()
    return Guess(pattern, tuple(files), left_out, sure)


def _tokens(cuts: Sequence[list[str]]) -> list[list[str]]:
    """Cut names further, into letters and digits, where all of them are alike."""
    result: list[list[str]] = [[] for _ in cuts]
    for column in zip(*cuts, strict=True):
        split = [_PARTS.findall(chunk) for chunk in column]
        wells = all(map(_WELL.fullmatch, column)) and column[0][0].lower() not in _MEANING
        letters = {tuple(p if p.isalpha() else "0" for p in parts) for parts in split}
        alike = len(letters) == 1 and not wells and _CUT.fullmatch(column[0]) is None
        for tokens, chunk, parts in zip(result, column, split, strict=True):
            tokens.extend(parts if alike and parts else [chunk])
    return result


def _fields(tokens: Sequence[list[str]]) -> list[_Field]:
    """Return what differs, without what only repeats another part."""
    fields: list[_Field] = []
    for where, column in enumerate(zip(*tokens, strict=True)):
        if len(set(column)) == 1:
            continue
        found = _Field([where], list(column))
        if found.numeric:
            before = tokens[0][:where]
            found.label = next((t.lower() for t in reversed(before) if t[0].isalnum()), "")
            found.label = "" if found.label.isdigit() else found.label
            found.meaning = _MEANING.get(found.label, "")  # type: ignore[assignment]
        elif all(map(_WELL.fullmatch, column)):
            found.meaning = "W"
        same = next((f for f in fields if f.values == found.values), None)
        if same is None:
            fields.append(found)
        else:
            same.where.append(where)
    return fields


def _interpret(fields: list[_Field], example: str) -> bool:
    """Decide what the fields mean; return whether the names say it themselves."""
    labels = {f.label for f in fields}
    rows = "r" in labels or re.search(r"(?:^|[^A-Za-z])r[0-9]", example, re.IGNORECASE)
    if rows and "c" in labels and not labels & set(LABELS["X"]):
        for f in fields:
            f.meaning = "X" if f.label == "c" else f.meaning
    _words(fields, example)
    _once(fields, example)
    known = {f.meaning for f in fields}
    open_ = [f for f in fields if f.meaning in ("", "I")]
    lacking: list[Meaning] = [m for m in ("Y", "X") if m not in known]
    needed = [f for f in open_ if not _told_by_others(f, fields)]
    if not lacking or not needed:
        for f in open_:
            f.meaning = ""
        if needed:
            raise _doubt(needed, example)
        return True
    if len(needed) == len(lacking):
        for f, meaning in zip(needed, lacking, strict=True):
            f.meaning = meaning
        return len(lacking) == 1
    if len(needed) == 1 and len(lacking) == 2:
        needed[0].meaning = "I"
        return True
    raise _doubt(needed, example)


def _words(fields: Sequence[_Field], example: str) -> None:
    words = [f for f in fields if not f.numeric and not f.meaning]
    if len(words) > 1:
        raise _doubt(words, example)
    for f in words:
        f.meaning = "C"


def _once(fields: Iterable[_Field], example: str) -> None:
    for meaning in ("X", "Y", "Z", "C", "T", "W"):
        same = [f for f in fields if f.meaning == meaning]
        if len(same) > 1:
            raise _doubt(same, example)


def _told_by_others(one: _Field, fields: Sequence[_Field]) -> bool:
    """Whether files with the same other numbers never differ in this one, as a running number."""
    others = [f for f in fields if f is not one and f.meaning not in ("", "I")]
    if not {f.meaning for f in others} & {"X", "Y"}:
        return False
    keys = list(zip(*(f.values for f in others), strict=True))
    return len(set(keys)) == len(set(zip(keys, one.values, strict=True)))


def _check_distinct(fields: Sequence[_Field], names: Sequence[str]) -> None:
    seen: dict[tuple[str, ...], str] = {}
    used = [f for f in fields if f.meaning]
    for i, name in enumerate(names):
        key = tuple(f.values[i] for f in used)
        if key in seen:
            raise InputError(
                f"the names {seen[key]} and {name} say the same tile; name one file only, or write "
                "a tag expression"
            )
        seen[key] = name


def _with_tags(tokens: Sequence[str], fields: Sequence[_Field]) -> list[str]:
    parts = list(tokens)
    for f in fields:
        for where in f.where if f.meaning else ():
            parts[where] = f.tag
    return parts


def _doubt(fields: Sequence[_Field], example: str) -> InputError:
    listed = "; ".join(f"'{f.label}' {_some(f.values)}" for f in fields)
    return InputError(
        f"the names do not tell what these parts mean: {listed} (as in {example}). Write a tag "
        "expression in quotes, with <X>, <Y>, <Z> (plane), <C> (channel) for the numbers: "
        "'folder/tile_<Y,2>_<X,2>_<C,1>.tif'"
    )


def _some(values: Iterable[str]) -> str:
    distinct = sorted(set(values))
    return ", ".join(distinct[:4]) + (", …" if len(distinct) > 4 else "")
