"""How a workflow script runs: its arguments are paths, its errors one clear message."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from stitchlib.errors import StitchlibError


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
