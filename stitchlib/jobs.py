"""How a workflow script runs: its arguments are paths, its errors one clear message."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stitchlib.errors import InputError, StitchlibError
from stitchlib.io.planes import stamp


def run_job(job: Callable[..., None]) -> None:
    """Call ``job`` with the command line's paths; exit with its message where it fails."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        job(*map(Path, sys.argv[1:]))
    except StitchlibError as error:
        sys.exit(f"ERROR: {error}")
    except MemoryError as error:
        sys.exit(f"ERROR: not enough memory: {error}; allow the job more or use fewer at a time")
    except OSError as error:
        sys.exit(f"ERROR: {error.filename or 'a file'}: {error.strerror or error}")


@contextmanager
def unchanged(images: Iterable[Mapping[str, Any]], folder: Path, result: Path) -> Iterator[None]:
    """Make sure that images are, before and after, those that the card describes.

    A result is trusted for ever by its card's digest, so what was made from a file that is replaced
    while the run goes on must not get that name.

    Parameters
    ----------
    images : iterable of mapping
        ``path``, ``size`` and ``mtime_ns`` of each, from the card.
    folder : Path
        Where relative paths start.
    result : Path
        What the block makes; removed where an image changed meanwhile.

    Raises
    ------
    InputError
        Naming the first image that changed.
    """
    expected = list(images)
    _check_images(expected, folder)
    yield
    try:
        _check_images(expected, folder)
    except (InputError, OSError):
        result.unlink(missing_ok=True)
        raise


def _check_images(images: Iterable[Mapping[str, Any]], folder: Path) -> None:
    for image in images:
        path = folder / image["path"]
        size, date, planes = stamp(path)
        if (size, date, planes) != (image["size"], image["mtime_ns"], image.get("planes", "")):
            raise InputError(
                f"{path}: was replaced since the run was planned ({image['size']} bytes then, "
                f"{size} now; or its date differs). Start the run again"
            )
