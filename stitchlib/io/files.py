"""Whole files or none: everything is written under a temporary name and renamed."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stitchlib.errors import InputError

_PATIENCE = 60.0
"""How long a file that another run may be making is waited for, seconds."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; it becomes ``path`` when the block succeeds.

    A reader sees the old file or the new one, never a part of it. On an error the temporary file
    is removed and ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Jobs on two nodes may write the same file at once, with the same process number.
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def awaited(path: Path) -> Path:
    """Return ``path`` as soon as there is such a file, or after a minute without one.

    Of two runs at once on the same results, the second may make a file of the first anew, and
    Snakemake removes the old one before the job that makes it has started.
    """
    end = time.monotonic() + _PATIENCE
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.2)
    return path


@contextmanager
def replacing_from_scratch(path: Path) -> Iterator[Path]:
    """Give a temporary name on the node's own disk, where there is one; else as `replacing`.

    The folder is that of the environment variable ``STITCHLIB_SCRATCH``, in which variables such
    as ``$TMPDIR`` are those of the node. When the block succeeds, the file is copied beside
    ``path`` under a temporary name, and renamed.

    Raises
    ------
    InputError
        Where the variable names no folder.
    """
    wanted = os.environ.get("STITCHLIB_SCRATCH", "")
    if not wanted:
        with replacing(path) as temporary:
            yield temporary
        return
    scratch = Path(os.path.expandvars(wanted))
    if not scratch.is_dir():
        raise InputError(
            f"STITCHLIB_SCRATCH={wanted}: {scratch} is no folder on {os.uname().nodename}; name "
            "one that every node has, or unset the variable"
        )
    with tempfile.TemporaryDirectory(prefix="stitchlib-", dir=scratch) as folder:
        made = Path(folder, path.name)
        yield made
        with replacing(path) as temporary:
            shutil.copyfile(made, temporary)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def canonical_json(value: Any) -> str:
    """Return the one JSON text of ``value``: sorted keys, no floats that JSON lacks.

    A line for each key, and for each member of a list of mappings: good to read, and, as each line
    is encoded by itself, ten times faster than ``indent``, for which `json` has no fast encoder.
    """
    if not isinstance(value, Mapping) or not value:
        return _json(value) + "\n"
    lines = (f" {_json(key)}: {_members(value[key])}" for key in sorted(value))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _members(value: Any) -> str:
    if isinstance(value, list) and any(isinstance(member, Mapping) for member in value):
        return "[\n  " + ",\n  ".join(map(_json, value)) + "\n ]"
    return _json(value)


_json = json.JSONEncoder(sort_keys=True, allow_nan=False, ensure_ascii=False).encode


def read_json(path: Path) -> Any:
    """Read a JSON file; an unreadable one is an `InputError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error


def digest_text(text: str) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def digest_file(path: Path) -> str:
    """Return the digest of a file's bytes; of a text, that of `digest_text`."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a tab-separated table with a header; None is an empty field, floats keep all digits."""
    write_text(path, table_text(columns, rows))


def table_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the text that `write_table` writes."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(_field(row[name]) for name in columns) for row in rows]
    return "\n".join(lines) + "\n"


def _field(value: Any) -> str:
    return "" if value is None else str(value)


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a tab-separated table.

    Returns
    -------
    columns : list of str
        The header.
    rows : list of dict
        One per line that is not blank, by column name.

    Raises
    ------
    InputError
        Where the file is missing, not UTF-8 text, has no header, a column twice, or a row with
        another number of fields.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, delimiter="\t", strict=True))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory, not a table") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a tab-separated table: {error}") from error
    if not lines or not any(lines[0]):
        raise InputError(f"{path}: the table is empty; its first line must name the columns")
    columns = [name.strip() for name in lines[0]]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise InputError(f"{path}: column {twice[0]!r} stands twice in the header")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not any(field.strip() for field in line):
            continue
        if len(line) != len(columns):
            raise InputError(
                f"{path}, line {number}: {len(line)} fields, but the header names {len(columns)}; "
                "fields are separated by tabs"
            )
        fields = (field.strip() for field in line)
        rows.append({"#": str(number), **dict(zip(columns, fields, strict=True))})
    return columns, rows


def write_record(record: Path, files: Iterable[Path], **more: Any) -> None:
    """Write the record of a job that is done.

    Parameters
    ----------
    record : Path
        ``{dataset's folder}/records/…json``.
    files : iterable of Path
        Files with fixed names in the dataset's folder that the job made; the record holds the
        digests of their bytes, so that it can be told later whether they are still these.
    **more
        Further content.
    """
    digests = {path.name: digest_file(path) for path in files}
    write_text(record, canonical_json({"files": digests, **more}))


def record_problem(record: Path) -> str:
    """Tell why a record cannot be trusted, or '' where it can.

    A record says that its job is done; it names the files with fixed names that the job made, with
    the digests of their texts. It is worth nothing where they are gone or are not these.
    """
    if not record.exists():
        return "not made yet"
    try:
        files: Mapping[str, str] = read_json(record)["files"]
    except (InputError, KeyError, TypeError):
        return f"{record.name} is damaged"
    for name, digest in files.items():
        try:
            found = digest_file(record.parent.parent / name)
        except OSError:
            return f"{name} is gone"
        if found != digest:
            return f"{name} is not the one that was made"
    return ""
