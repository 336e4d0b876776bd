"""The JSON schemas of configuration, tile sheet and corrections, wherever the package lives."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from stitchlib.errors import InputError

_PACKAGE = Path(__file__).parent

NAME_RULE = "a name starts with a letter or digit, then letters, digits, '.', '_', '-'; at most 100"
"""What the pattern of names in the schemas says, for a person."""


@cache
def schema(name: str) -> dict[str, Any]:
    """Return the schema ``name`` ('config', 'tiles' or 'corrections')."""
    import yaml  # noqa: PLC0415 - jobs that read no table from people do without

    file = f"{name}.schema.yaml"
    folder = _PACKAGE / "schemas"  # in a wheel; in a checkout they stand with the workflow
    if not folder.is_dir():
        folder = _PACKAGE.parent / "workflow" / "schemas"
    # Where PyYAML has it, libyaml's parser takes a tenth of the time.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (folder / file).read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.load(text, loader)  # noqa: S506 - both are safe
    return loaded


def suggestion(name: str, known: Sequence[str], given: Sequence[str] = ()) -> str:
    """Say which known name that is not given was meant, or where none is near, which there are."""
    close = difflib.get_close_matches(name, [other for other in known if other not in given], 1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def check_columns(path: Path, columns: Sequence[str], table: str) -> None:
    """Refuse columns of a ``table`` ('tiles' or 'corrections') that is not as its schema says.

    Raises
    ------
    InputError
        Where one is not known, or one that is required is not there.
    """
    known, required = list(schema(table)["properties"]), schema(table)["required"]
    unknown = [name for name in columns if name not in known]
    if unknown and len(columns) == 1:
        raise InputError(
            f"{path}: {unknown[0]!r} is the only column; columns must be separated by tabs"
        )
    if unknown:
        way_out = suggestion(unknown[0], known, columns)
        raise InputError(f"{path}: unknown column {unknown[0]!r}; {way_out}")
    missing = [name for name in required if name not in columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing (header: {columns})")
