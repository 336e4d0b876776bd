"""provenance.json: what a volume was made from, and with which versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stitchlib._version import __version__
from stitchlib.io.files import canonical_json, write_text

_LIBRARIES = ("numpy", "scipy", "h5py", "tifffile", "imagecodecs", "isal", "snakemake")


def write_provenance(path: Path, card: Mapping[str, Any]) -> None:
    """Write the dataset's card with the versions of everything that ran."""
    versions = {"stitchlib": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    content = {"versions": versions, "config": card["config"], "tiles": card["tiles"]}
    write_text(path, canonical_json({"dataset": card["dataset"], **content}))
