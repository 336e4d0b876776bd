"""How a workflow script runs: its arguments are paths, its errors one clear message."""

from __future__ import annotations

import atexit
import ctypes
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stitchlib.errors import InputError, StitchlibError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""


def _keep_freed() -> None:
    """Have the C library keep what is freed: pages that are new to a process cost as much as work.

    Up to 64 MiB, and of arrays of less than 4 MiB.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc has it, others do not
        mallopt(_TRIM_THRESHOLD, 64 << 20)
        mallopt(_MMAP_THRESHOLD, 4 << 20)


def run_job(job: Callable[..., None]) -> None:
    """Call ``job`` with the command line's paths; exit with its message where it fails."""
    _keep_freed()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        job(*map(Path, sys.argv[1:]))
    except (StitchlibError, MemoryError, OSError, ImportError) as error:
        _fail(explain(error))
    atexit.register(_leave)


def _leave() -> None:
    """End at once: files are closed, and to take the modules apart takes a tenth of a second."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _fail(message: str) -> None:
    text = f"ERROR: {message}\n"
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # it is the log, which may lie on the disk that is full
        sys.stdout.write(text)
    sys.exit(1)


_WAYS_OUT = {
    errno.ENOSPC: "make room on that disk, and run again: what is done is kept",
    errno.EDQUOT: "make room within your quota, and run again: what is done is kept",
    errno.EROFS: "set `results` to a folder that can be written to, or mount it so",
    errno.EACCES: "you lack the right; change it, or set `results` to a folder of yours",
    errno.EPERM: "you lack the right; change it, or set `results` to a folder of yours",
    errno.EMFILE: "raise the limit of open files (ulimit -n), and run again",
}


def explain(error: BaseException) -> str:
    """Tell a person what went wrong and what to do, in a line, where that can be known."""
    cause: BaseException | None = error
    while cause is not None:
        if _lacks_memory(cause):
            return f"not enough memory ({cause}); allow the job more, or run fewer at a time"
        cause = cause.__cause__
    if isinstance(error, ImportError):
        return f"{error}; the environment is not whole, install it again (docs: README.md)"
    if not isinstance(error, OSError):
        return str(error)
    # HDF5 gives the number in its text alone.
    number = error.errno or next((n for n in _WAYS_OUT if f"errno = {n}," in str(error)), None)
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{what}; {_WAYS_OUT[number]}" if number in _WAYS_OUT else what


def _lacks_memory(error: BaseException) -> bool:
    """Whether an error comes from a lack of memory; libraries say so in several ways."""
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, ImportError) and "failed to map segment" in str(error))
    )


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
    # Only jobs that read images pay for loading it.
    from stitchlib.io.planes import stamp  # noqa: PLC0415

    for image in images:
        path = folder / image["path"]
        size, date, planes = stamp(path)
        if (size, date, planes) != (image["size"], image["mtime_ns"], image.get("planes", "")):
            raise InputError(
                f"{path}: was replaced since the run was planned ({image['size']} bytes then, "
                f"{size} now; or its date differs). Start the run again"
            )
