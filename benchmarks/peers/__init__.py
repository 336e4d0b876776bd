"""Other stitchers, each run as its documentation recommends, in an environment of its own.

Every module here but this one and `task` is a program: ``python NAME.py SET OUT`` reads the tiles
of the set (``tiles.tsv``, ``set.json``), writes a volume and ``positions.json`` (tile → x, y, z)
into the folder OUT. It runs with the peer's Python, so it imports nothing of ours but `task`, which
needs nothing but Python.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Peer:
    """A program to compare with."""

    name: str
    """Its name on PyPI."""
    program: str
    """The module here that runs it."""
    requirements: tuple[str, ...]
    """What pip installs; pins where the newest of a dependency breaks it."""
    dimensions: tuple[int, ...]
    """What tiles it takes, 2-D or 3-D."""


ZETA = (
    *("zetastitcher", "numpy<1.24", "cvxpy<1.6", "qpsolvers==2.0.0"),
    *("opencv-python<4.11", "pandas<2.3"),
)
"""What it works with: newer qpsolvers lack its solver; newer numpy leave its volume empty."""
PEERS = (
    Peer("zetastitcher", "zeta", ZETA, (3,)),
    Peer("multiview-stitcher", "multiview", ("multiview-stitcher",), (3,)),
    Peer("itk-montage", "itkmontage", ("itk-montage",), (2, 3)),
    Peer("ashlar", "ashlar_", ("ashlar",), (2,)),
    Peer("m2stitch", "m2", ("m2stitch", "tifffile"), (2,)),
    Peer("stitch2d", "stitch2d_", ("stitch2d",), (2,)),
)


def command(peer: Peer, environments: Path, data: Path, out: Path) -> list[str]:
    """Return what runs a peer on a set; installs it where it is not there yet."""
    python = environment(peer.name, peer.requirements, environments)
    return [str(python), str(HERE / f"{peer.program}.py"), str(data), str(out)]


def environment(name: str, requirements: Sequence[str], environments: Path) -> Path:
    """Return the Python of an environment of its own; makes it where it is not there yet."""
    folder = environments / name
    python = folder / "bin" / "python"
    done = folder / ".installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True)
        done.touch()
    return python
