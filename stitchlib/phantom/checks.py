"""What a phantom cannot be: each argument is refused by name, with its value and a way out."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from stitchlib.errors import InputError

if TYPE_CHECKING:
    from stitchlib.phantom.acquisition import Phantom

AXES = "xyz"
_T = TypeVar("_T")
_DTYPES = ("uint8", "uint16", "float32")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def each(value: _T | tuple[_T, ...], n: int) -> tuple[_T, ...]:
    """Return one value per axis: a tuple as it is, a single one repeated ``n`` times."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * n


def check_geometry(phantom: Phantom) -> None:
    """Refuse grids, shapes and missing tiles that cannot be."""
    grid, shape = phantom.grid, phantom.tile_shape
    if not all(isinstance(n, int) for n in (*grid, *shape)):
        raise InputError(f"grid={grid}, tile_shape={shape}: give whole numbers (int).")
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise InputError(f"tile_shape={shape}: give two or three extents (x, y[, z]) of 1 or more.")
    if not 2 <= len(grid) <= len(shape) or min(grid) < 1:
        raise InputError(
            f"grid={grid} with tile_shape={shape}: give 2 to {len(shape)} numbers of tiles, "
            f"along x, y[, z], of 1 or more."
        )
    if not 0 <= phantom.seed < 2**63:
        raise InputError(f"seed={phantom.seed}: give an integer in [0, 2**63).")
    for index in phantom.missing:
        if len(index) != len(grid) or any(not 0 <= i < n for i, n in zip(index, grid, strict=True)):
            raise InputError(
                f"missing: {index} is no index of grid={grid}; indices are (x, y[, z]) from 0."
            )
    if not phantom.indices:
        raise InputError(f"missing leaves no tile of grid={grid}; leave out fewer.")


def check_overlap(phantom: Phantom) -> None:
    """Refuse overlaps and jitters that leave neighbours nothing in common."""
    overlap, jitter = each(phantom.overlap, 0), each(phantom.jitter, 0)
    if len(overlap) != len(phantom.grid):
        raise InputError(
            f"overlap={overlap} with grid={phantom.grid}: give one value, or one per grid axis."
        )
    n = len(phantom.tile_shape)
    if len(jitter) != n or min(jitter) < 0:
        raise InputError(
            f"jitter={jitter} with tile_shape={phantom.tile_shape}: give one number of voxels, or "
            f"one per image axis, of 0 or more."
        )
    if len(phantom.voxel_size) != n or min(phantom.voxel_size) <= 0:
        raise InputError(
            f"voxel_size={phantom.voxel_size} with tile_shape={phantom.tile_shape}: give one "
            f"number of µm per image axis, above 0."
        )
    sizes = zip(AXES, overlap, phantom.overlap_voxels(), phantom.tile_shape, strict=False)
    for (axis, given, voxels, extent), tiles, off in zip(sizes, phantom.grid, jitter, strict=False):
        if not 0 <= voxels < extent:
            raise InputError(
                f"overlap={given} along {axis} is {voxels:g} of {extent} voxels: give a fraction "
                f"(float) in [0, 1), or voxels (int) below the tile's extent."
            )
        if tiles > 1 and voxels < 2 * off + 2:
            raise InputError(
                f"overlap={given} along {axis} is {voxels:g} voxels, and jitter={off} can take "
                f"{2 * off} off it. Raise overlap to {2 * off + 2} or more, or lower jitter."
            )


def check_camera(phantom: Phantom) -> None:
    """Refuse channels and cameras that cannot be."""
    names = phantom.channels
    if not names or len(set(names)) < len(names):
        raise InputError(f"channels={names}: give one or more different names.")
    for name in names:
        check_name("channel", name)
    if phantom.dtype not in _DTYPES:
        raise InputError(f"dtype={phantom.dtype!r}: give one of {_DTYPES}.")
    # Written so that not-a-number is refused too.
    if not phantom.photons > 0:
        raise InputError(f"photons={phantom.photons}: give a number above 0, or inf.")
    if not 0 < phantom.counts_per_photon < math.inf:
        raise InputError(f"counts_per_photon={phantom.counts_per_photon}: give a number above 0.")
    for field in ("read_noise", "offset"):
        value = getattr(phantom, field)
        if not 0 <= value < math.inf:
            raise InputError(f"{field}={value}: give a number of counts, 0 or more.")
    bright = float(phantom.expected(np.ones(1, np.float32))[0])
    if phantom.dtype != "float32" and not bright <= np.iinfo(phantom.dtype).max:
        raise InputError(
            f"a bright voxel would have {bright:g} counts, too many for dtype={phantom.dtype}. "
            f"Lower photons, counts_per_photon or offset."
        )


def check_name(kind: str, name: str) -> None:
    """Refuse a name that the tile sheet cannot hold."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{kind} {name!r}: start with a letter or digit, then letters, digits, '.', '_', '-'."
        )
