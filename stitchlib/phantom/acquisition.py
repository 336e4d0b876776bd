"""Phantom acquisitions: noisy tiles of a made-up tissue, whose true positions are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point, hull
from stitchlib.core.texture import F32, render_tissue, shot_noise
from stitchlib.errors import InputError
from stitchlib.phantom.checks import AXES, check_camera, check_geometry, check_overlap, each

# What a bright voxel is worth where there is no shot noise.
_NOISELESS_PHOTONS = 200.0
# Noise is drawn for this many voxels at a time, in the order of the tile's memory. It is part of
# what a seed means.
_NOISE_VOXELS = 1 << 16


@dataclass(frozen=True, slots=True)
class Phantom:
    """What a phantom acquisition looks like: a grid of tiles over one endless tissue.

    Frozen, and checked when made: every tile is a function of these fields, its grid index and its
    channel, never of the order in which tiles are made.

    Raises
    ------
    InputError
        If a field cannot be used, by name, with its value.
    """

    grid: tuple[int, ...] = (3, 2)
    """Tiles along x, y (and z)."""
    tile_shape: tuple[int, ...] = (160, 128, 40)
    """Voxels along x, y (and z, where the tiles are 3-D)."""
    overlap: tuple[float | int, ...] | float = 0.15
    """Nominal overlap of neighbours: a fraction of the tile (float) or voxels (int), one for all
    grid axes or one each; stored as one each."""
    jitter: tuple[int, ...] | int = (6, 6, 2)
    """Most voxels a tile is off its nominal corner, either way, uniformly: one for all image axes
    or one each (a z that the tiles do not have is dropped); stored as one each."""
    channels: tuple[str, ...] = ("c0",)
    """Names of the channels; the first is the reference."""
    photons: float = 200.0
    """Photons at a bright voxel; ``inf`` = no shot noise, at the brightness of 200 photons."""
    read_noise: float = 2.0
    """Standard deviation of the camera's own noise, in counts."""
    offset: float = 100.0
    """Counts where there is no light."""
    counts_per_photon: float = 5.0
    """Counts that one photon adds."""
    dtype: str = "uint16"
    """Type of the voxels, uint8, uint16 or float32; integers are rounded and clipped."""
    missing: tuple[tuple[int, ...], ...] = ()
    """Grid indices of tiles that were not taken."""
    seed: int = 0
    """Which tissue, jitter and noise: an integer in [0, 2⁶³)."""
    voxel_size: tuple[float, ...] = (1.0, 1.0, 1.0)
    """Micrometres along x, y (and z; dropped where the tiles have none). It is only told to the
    configuration; the tissue is made in voxels."""

    def __post_init__(self) -> None:
        for field in ("grid", "tile_shape", "channels"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        object.__setattr__(self, "missing", tuple(map(tuple, self.missing)))
        check_geometry(self)
        n = len(self.tile_shape)
        object.__setattr__(self, "overlap", each(self.overlap, len(self.grid)))
        object.__setattr__(self, "jitter", each(self.jitter, n)[:n])
        object.__setattr__(self, "voxel_size", tuple(self.voxel_size)[:n])
        check_overlap(self)
        check_camera(self)

    @property
    def indices(self) -> tuple[Point, ...]:
        """Grid indices of the tiles that exist, x slowest."""
        every = itertools.product(*map(range, self.grid))
        return tuple(index for index in every if index not in self.missing)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tiles that exist, in the order of `indices`."""
        return tuple(map(self.name, self.indices))

    @property
    def nominal(self) -> dict[str, Point]:
        """Nominal lower corner by tile name, in voxels, one entry per image axis."""
        least = self._least()
        return {self.name(index): self._nominal(index, least) for index in self.indices}

    @property
    def truth(self) -> dict[str, Point]:
        """True lower corner by tile name, in voxels: nominal plus jitter (first tile too)."""
        least = self._least()
        return {self.name(index): self._true(index, least) for index in self.indices}

    def name(self, index: Sequence[int]) -> str:
        """Name of the tile at a grid index, such as ``x02_y10``."""
        return "_".join(
            f"{axis}{i:0{len(str(n - 1))}d}"
            for axis, i, n in zip(AXES, index, self.grid, strict=False)
        )

    def number(self, channel: str) -> int:
        """Return the number of a channel, from 0, or raise `InputError` if there is none."""
        if channel not in self.channels:
            raise InputError(f"no channel {channel!r}; give one of {self.channels}.")
        return self.channels.index(channel)

    def box(self, index: Sequence[int]) -> Box:
        """Voxels that the tile at a grid index really covers."""
        return Box.at(self._true(self._known(index), self._least()), self.tile_shape)

    def tile(self, index: Sequence[int], channel: str) -> NDArray[Any]:
        """Take the picture of one tile.

        Parameters
        ----------
        index : sequence of int
            Grid index (x, y[, z]) of the tile.
        channel : str
            Name of the channel.

        Returns
        -------
        ndarray of ``dtype``, shape ``tile_shape``, axes (x, y[, z]), Fortran order
            Counts. The peak of memory is about two float32 copies of the tile.

        Raises
        ------
        InputError
            If there is no such tile or channel.
        """
        box, number = self.box(index), self.number(channel)
        light = render_tissue(box, seed=self.seed, channel=number)
        rng = _generator(self.seed, 2, number, *index)
        image = np.empty(self.tile_shape, self.dtype, order="F")
        source, target = light.T.reshape(-1), image.T.reshape(-1)
        for start in range(0, source.size, _NOISE_VOXELS):
            part = slice(start, start + _NOISE_VOXELS)
            target[part] = self._expose(source[part], rng)
        return image

    def expected(self, light: F32) -> F32:
        """Return the counts (float32, any shape) that intensities give without noise."""
        return light * np.float32(self._level * self.counts_per_photon) + np.float32(self.offset)

    @property
    def _level(self) -> float:
        """Photons at intensity 1."""
        return self.photons if math.isfinite(self.photons) else _NOISELESS_PHOTONS

    def _expose(self, light: F32, rng: np.random.Generator) -> F32:
        """Return noisy counts, rounded and clipped to what the dtype holds, as float32."""
        if math.isfinite(self.photons):
            counts = shot_noise(light * np.float32(self.photons), rng)
            counts *= np.float32(self.counts_per_photon)
            counts += np.float32(self.offset)
        else:
            counts = self.expected(light)
        if self.read_noise:
            noise = rng.standard_normal(counts.shape, dtype=np.float32)
            noise *= np.float32(self.read_noise)
            counts += noise
        if self.dtype != "float32":
            np.rint(counts, out=counts)
            np.clip(counts, 0, np.iinfo(self.dtype).max, out=counts)
        return counts

    def _least(self) -> Point:
        """Return the least grid index of the tiles that exist, per axis."""
        return tuple(min(column) for column in zip(*self.indices, strict=True))

    def _nominal(self, index: Point, least: Point) -> Point:
        """Return the nominal corner of the tile at a grid index, rounded half to even once."""
        corner = [
            round((i - low) * (n - overlap))
            for i, low, n, overlap in zip(
                index, least, self.tile_shape, self.overlap_voxels(), strict=False
            )
        ]
        return (*corner, *(0,) * (len(self.tile_shape) - len(corner)))

    def _true(self, index: Point, least: Point) -> Point:
        """Return the true corner of the tile at a grid index."""
        most = np.array(self.jitter)
        jitter = _generator(self.seed, 1, *index).integers(-most, most, endpoint=True)
        return tuple(a + int(b) for a, b in zip(self._nominal(index, least), jitter, strict=True))

    def overlap_voxels(self) -> tuple[float, ...]:
        """Return the nominal overlap per grid axis in voxels, not rounded."""
        return tuple(
            o if isinstance(o, int) else o * n
            for o, n in zip(each(self.overlap, len(self.grid)), self.tile_shape, strict=False)
        )

    def _known(self, index: Sequence[int]) -> Point:
        """Return the index of a tile that exists, or refuse it."""
        known = tuple(index)
        if known not in self.indices:
            raise InputError(
                f"no tile at grid index {known}: the grid is {self.grid} without {self.missing}. "
                f"Give one of Phantom.indices."
            )
        return known


def whole(phantom: Phantom, channel: str) -> F32:
    """Return what all tiles together see, without noise.

    Parameters
    ----------
    phantom : Phantom
        The acquisition; small, for the whole volume is in memory.
    channel : str
        Name of the channel.

    Returns
    -------
    ndarray of float32, axes (x, y[, z]), Fortran order
        Counts in the smallest box around the true boxes of all tiles; element 0 is the least true
        corner per axis. Gaps are filled too.
    """
    boxes = [Box.at(corner, phantom.tile_shape) for corner in phantom.truth.values()]
    number = phantom.number(channel)
    return phantom.expected(render_tissue(hull(boxes), seed=phantom.seed, channel=number))


def position_error(
    positions: Mapping[str, Sequence[float]], truth: Mapping[str, Sequence[float]]
) -> float:
    """Return how far positions are from the truth at worst, whatever the common shift.

    Parameters
    ----------
    positions, truth : mapping of tile name to corner
        Voxels, (x, y[, z]); a z that is left out is 0. The same tiles in both, at least one.

    Returns
    -------
    float
        Largest absolute difference over tiles and axes, in voxels, after the median difference of
        each axis is taken off.

    Raises
    ------
    InputError
        If the tiles are not the same, or there are none.
    """
    odd = sorted(positions.keys() ^ truth.keys())
    if odd or not truth:
        raise InputError(
            f"positions and truth name different tiles ({len(positions)} and {len(truth)}; only "
            f"in one of them: {odd}). Compare the tiles that both have."
        )
    difference = np.array(
        [np.subtract(three(positions[tile]), three(truth[tile])) for tile in truth]
    )
    return float(np.abs(difference - np.median(difference, axis=0)).max())


def three(corner: Sequence[float]) -> tuple[float, ...]:
    """Return a corner with z, which is 0 in two dimensions."""
    return (*corner, *(0,) * (3 - len(corner)))


def _generator(*key: int) -> np.random.Generator:
    """Return the random numbers of one purpose."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))
