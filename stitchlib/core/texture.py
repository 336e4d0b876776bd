"""Tissue-like texture over all of integer space: any box can be rendered alone.

Every voxel is a function of its coordinates, the seed and the channel, computed elementwise with
additions, products, comparisons and square roots only. These are exact to the last bit wherever
they run, so that a box equals the same part of a larger rendering (BLAS, ``exp`` and the like may
differ with array size, alignment or processor).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Box

F32 = NDArray[np.float32]
U64 = NDArray[np.uint64]
Triple = tuple[int, int, int]

_MASK = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15
# A stripe of rows is worked through all its planes before the next: what is at hand stays in cache.
_STRIPE_VOXELS = 1 << 16
# Standard deviation of ±1 uniform lattice values after cubic B-spline interpolation in 2-D and 3-D.
_DEVIATION_2D = 0.2766
_DEVIATION_3D = 0.1916
# Background at which shade ends, relative to a bright voxel; grain takes two thirds off at most.
_LEAST = 0.03
# Cells: lattice blocks (z, y, x) in voxels, cells per block at most, and the largest radius.
_CELL_BLOCK: Triple = (14, 28, 28)
_CELLS_PER_BLOCK = 3
_CELL_REACH: Triple = (6, 11, 11)
# Squared noise (in variances) at which the wall of a vessel is, in 2-D and 3-D.
_WALL_2D = 0.16**2
_WALL_3D = 0.24**2
# Photons below which normal noise is too poor a likeness of Poisson's.
_EXACT_BELOW = 12.0


def render_tissue(box: Box, *, seed: int, channel: int = 0, eighths: Sequence[int] = ()) -> F32:
    """Render the noiseless tissue inside a box.

    Parameters
    ----------
    box : Box
        Voxels to render, in two or three axes (x, y[, z]); corners may be negative. Two axes
        show a section through cells, with vessels drawn as lines.
    seed : int
        Which tissue; any integer of at most 64 bits.
    channel : int
        Channel number. All channels have the same vessels and part of the grain, in different
        strength, and cells and fine grain of their own.
    eighths : sequence of int, optional
        How far beyond the voxels of the box the samples are taken, in eighths of a voxel, −8 to 8,
        axes as in the box; default: on them.

    Returns
    -------
    ndarray of float32, shape ``box.shape``, axes (x, y[, z]), Fortran order
        Intensities: background about 0.15 and never below 0.01, a bright voxel about 1.
    """
    flat = len(box.lower) == 2
    lower = _zyx(box.lower, 0)
    shape = _zyx(box.shape, 1)
    beyond = _zyx(tuple(eighths) or (0,) * len(shape), 0)
    volume = np.zeros(shape, np.float32)
    if volume.size:
        _draw_cells(volume, lower, _key(seed, 1, channel), beyond)
        rows = max(1, _STRIPE_VOXELS // shape[2])
        for y in range(0, shape[1], rows):
            stripe = volume[:, y : y + rows]
            start = (8 * lower[0] + beyond[0], 8 * (lower[1] + y) + beyond[1])
            _draw_tissue(stripe, (*start, 8 * lower[2] + beyond[2]), seed, channel, flat=flat)
    return volume[0].T if flat else volume.T


def render_blobs(
    box: Box, *, seed: int, channel: int = 0, eighths: Sequence[int] = (), share: float = 0.1
) -> F32:
    """Render sparse soft blobs on a dark ground, as of labelled nuclei.

    Parameters
    ----------
    box, seed, channel, eighths
        As in `render_tissue`; a seed has other blobs than it has cells.
    share : float
        Probability of each possible cell; there are three to a block of 28 × 28 × 14 voxels.

    Returns
    -------
    ndarray of float32, shape ``box.shape``, axes (x, y[, z]), Fortran order
        Intensities: 0.03 where there is nothing, a bright voxel about 1.
    """
    shape = _zyx(box.shape, 1)
    volume = np.zeros(shape, np.float32)
    beyond = _zyx(tuple(eighths) or (0,) * len(shape), 0)
    if volume.size:
        _draw_cells(volume, _zyx(box.lower, 0), _key(seed, 17, channel), beyond, share)
    volume += np.float32(_LEAST)
    return volume[0].T if len(box.lower) == 2 else volume.T


def shot_noise(mean: F32, rng: np.random.Generator) -> F32:
    """Draw photon counts around their means.

    Poisson where the mean is small. Elsewhere the Cornish–Fisher expansion of the Poisson
    distribution about a normal one (Cornish & Fisher, 1938), rounded to whole photons: mean,
    variance and third moment are those of Poisson, at a quarter of the time.

    Parameters
    ----------
    mean : ndarray of float32
        Expected photons per voxel, not negative.
    rng : numpy.random.Generator
        Where randomness is drawn from.

    Returns
    -------
    ndarray of float32, shape of ``mean``
        Whole photons.
    """
    normal = rng.standard_normal(mean.shape, dtype=np.float32)
    # Rounding adds 1/12 to the variance and the quadratic term 1/18: 5/36 in all.
    deviation: F32 = np.sqrt(np.maximum(mean - np.float32(5 / 36), np.float32(0)))
    photons = deviation * normal
    photons += mean
    normal *= normal
    normal -= np.float32(1)
    normal *= np.float32(1 / 6)
    photons += normal
    np.rint(photons, out=photons)
    np.maximum(photons, np.float32(0), out=photons)
    few = mean < _EXACT_BELOW
    if few.any():
        photons[few] = rng.poisson(mean[few])
    return photons


def _zyx(xyz: tuple[int, ...], missing: int) -> Triple:
    """Reverse a point of two or three axes, with ``missing`` for the z of two."""
    x, y, z = (*xyz, missing)[:3]
    return z, y, x


def _mix(number: int) -> int:
    """Scramble 64 bits (the finaliser of splitmix64; Steele, Lea & Flood, 2014)."""
    number &= _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def _mix_array(numbers: U64) -> U64:
    """Scramble an array in place as `_mix` does a number, and return it."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers ^= numbers >> np.uint64(shift)
        numbers *= np.uint64(factor)
    numbers ^= numbers >> np.uint64(31)
    return numbers


def _key(*parts: int) -> int:
    """Fold integers into the 64-bit key of one independent lattice."""
    key = 0
    for part in parts:
        key = _mix(key + _ODD + part)
    return key


def _hash_last(keys: U64, first: int, count: int) -> U64:
    """Extend hashes by a last axis of lattice indices ``first … first + count``."""
    steps = np.arange(first, first + count, dtype=np.int64).astype(np.uint64)
    steps *= np.uint64(_ODD)
    return _mix_array(keys[..., None] + steps)


def _unit(hashes: U64) -> F32:
    """Map hashes to uniform numbers in [0, 1), from their upper 24 bits."""
    numbers = (hashes >> np.uint64(40)).astype(np.float32)
    numbers *= np.float32(2.0**-24)
    return numbers


@dataclass(frozen=True, slots=True)
class _Taps:
    """Cubic B-spline weights of the lattice points around each voxel of a range, along one axis."""

    first: int
    """Lattice index of the first point used."""
    count: int
    """Lattice points used."""
    index: NDArray[np.intp]
    """First of the four lattice points of each voxel, counted from ``first``; shape (n,)."""
    weights: F32
    """Their weights; shape (4, n)."""

    @classmethod
    def of(cls, lower: int, n: int, eighths: int) -> _Taps:
        """Return the taps of ``n`` voxels from ``lower`` / 8; lattice points: eighths / 8 apart."""
        scaled = np.arange(n, dtype=np.int64) * 8 + lower
        cell = scaled // eighths
        t = (scaled - cell * eighths) / eighths
        u = 1 - t
        weights = np.stack([u * u * u, 4 - 3 * t * t * (2 - t), 4 - 3 * u * u * (2 - u), t * t * t])
        weights /= 6
        first = int(cell[0]) - 1
        count = int(cell[-1] - cell[0]) + 4
        return cls(first, count, (cell - cell[0]).astype(np.intp), weights.astype(np.float32))


def _smooth(
    lower: Triple, shape: Triple, spacing: tuple[float, float], key: int, *, flat: bool
) -> Iterator[F32]:
    """Yield smooth noise of mean 0 and standard deviation 1, plane by plane.

    ``lower`` (in eighths of voxels) and ``shape`` are (z, y, x), ``spacing`` is the distance of
    lattice points along z and along the others, in voxels (multiples of 1/8). Planes are (y, x).
    Where ``flat``, the one plane is one of the lattice: there is no z to interpolate along.
    """
    eighths = [round(8 * s) for s in (spacing[0], spacing[1], spacing[1])]
    z, y, x = (_Taps.of(a, n, e) for a, n, e in zip(lower, shape, eighths, strict=True))
    if flat:
        yield _lattice_plane(0, y, x, key) * np.float32(1 / _DEVIATION_2D)
        return
    gain = np.float32(1 / _DEVIATION_3D)
    planes: dict[int, F32] = {}
    for n in range(shape[0]):
        start = z.first + int(z.index[n])
        planes = {
            k: planes[k] if k in planes else _lattice_plane(k, y, x, key)
            for k in range(start, start + 4)
        }
        total = planes[start] * (z.weights[0, n] * gain)
        for tap in range(1, 4):
            total += planes[start + tap] * (z.weights[tap, n] * gain)
        yield total


def _lattice_plane(k: int, y: _Taps, x: _Taps, key: int) -> F32:
    """Return plane ``k`` of a lattice interpolated along y and x: in [-1, 1), axes (y, x)."""
    rows = _hash_last(np.array(_mix(key + k * _ODD), np.uint64), y.first, y.count)
    values = _unit(_hash_last(rows, x.first, x.count))
    values *= np.float32(2)
    values -= np.float32(1)
    along_x: F32 = values[:, x.index] * x.weights[0]
    for tap in range(1, 4):
        along_x += values[:, x.index + tap] * x.weights[tap]
    plane: F32 = along_x[y.index] * y.weights[0][:, None]
    for tap in range(1, 4):
        plane += along_x[y.index + tap] * y.weights[tap][:, None]
    return plane


def _draw_tissue(stripe: F32, lower: Triple, seed: int, channel: int, *, flat: bool) -> None:
    """Add background, vessels and grain to a (z, y, x) stripe that has the cells, in place.

    ``lower`` is in eighths of voxels.
    """

    def noise(spacing: tuple[float, float], *name: int) -> Iterator[F32]:
        return _smooth(lower, shape, spacing, _key(seed, *name), flat=flat)

    shape: Triple = (stripe.shape[0], stripe.shape[1], stripe.shape[2])
    strength = _strengths(seed, channel)
    layers = zip(
        noise((30, 70), 10),
        noise((18, 42), 11),
        noise((18, 42), 12),
        noise((18, 42), 13),
        noise((2.125, 3.625), 14),
        noise((1.375, 1.875), 15, channel),
        strict=True,
    )
    for plane, (shade, sheet, branch, twig, shared, own) in zip(stripe, layers, strict=True):
        vessels = _vessels(None if flat else sheet, branch, twig)
        _blend(plane, shade, vessels, shared, own, strength)


def _blend(
    plane: F32,
    shade: F32,
    vessels: F32,
    shared: F32,
    own: F32,
    strength: tuple[np.float32, np.float32],
) -> None:
    """Make a plane of tissue from one of cells, in place; the other planes are overwritten."""
    shade *= np.float32(0.035)
    shade += np.float32(0.15)
    np.maximum(shade, np.float32(_LEAST), out=shade)
    plane += shade
    vessels *= strength[0]
    plane += vessels
    shared *= strength[1]
    own *= np.float32(0.12)
    shared += own
    shared += np.float32(1)
    np.maximum(shared, np.float32(1 / 3), out=shared)
    plane *= shared


def _strengths(seed: int, channel: int) -> tuple[np.float32, np.float32]:
    """Return how strong the shared vessels and the shared grain are in a channel."""
    vessels, grain = _unit(_hash_last(np.array(_key(seed, 16, channel), np.uint64), 0, 2))
    return (
        np.float32(0.3) + np.float32(0.3) * vessels,
        np.float32(0.08) + np.float32(0.06) * grain,
    )


def _vessels(sheet: F32 | None, branch: F32, twig: F32) -> F32:
    """Return tubes of height 1 around the zeros of smooth noises, which are overwritten.

    On the surface where ``sheet`` is 0, the zeros of ``branch`` and of ``twig`` are two families of
    curves that cross, hence the branches. Without a sheet (2-D) the curves are all there is.
    """
    branch *= branch
    twig *= twig
    # Twigs are half as wide.
    twig *= np.float32(4)
    np.minimum(branch, twig, out=branch)
    if sheet is not None:
        sheet *= sheet
        branch += sheet
    branch *= np.float32(-1 / (_WALL_2D if sheet is None else _WALL_3D))
    branch += np.float32(1)
    np.maximum(branch, np.float32(0), out=branch)
    branch *= branch
    return branch


def _draw_cells(
    volume: F32, lower: Triple, key: int, beyond: Triple = (0, 0, 0), share: float = 0.6
) -> None:
    """Draw soft ellipsoids at hashed positions into a (z, y, x) volume; the brighter one wins.

    Samples are ``beyond`` / 8 voxels past the volume's. A maximum does not depend on the order of
    the cells, so neither does it on the box.
    """
    first = [
        (a - (e < 0) - r) // b
        for a, r, b, e in zip(lower, _CELL_REACH, _CELL_BLOCK, beyond, strict=True)
    ]
    last = [
        (a + n - 1 + r + (e > 0)) // b
        for a, n, r, b, e in zip(lower, volume.shape, _CELL_REACH, _CELL_BLOCK, beyond, strict=True)
    ]
    hashes = np.array(key, np.uint64)
    for a, b in zip(first, last, strict=True):
        hashes = _hash_last(hashes, a, b - a + 1)
    # Per cell: whether it is there, its centre in the block (z, y, x), radius and brightness.
    cells = _unit(_hash_last(_hash_last(hashes, 0, _CELLS_PER_BLOCK), 0, 6))
    for where in np.argwhere(cells[..., 0] < share):
        there = cells[tuple(where)]
        centre = [
            (f + int(w)) * b - a + float(u) * b - e / 8
            for f, w, b, u, a, e in zip(
                first, where[:3], _CELL_BLOCK, there[1:4], lower, beyond, strict=True
            )
        ]
        _draw_cell(volume, centre, float(there[4]), float(there[5]))


def _draw_cell(volume: F32, centre: list[float], size: float, light: float) -> None:
    """Raise a (z, y, x) volume to one cell; ``centre`` in its voxels, the others in [0, 1)."""
    squares, slices = [], []
    for c, n, reach in zip(centre, volume.shape, _CELL_REACH, strict=True):
        radius = reach * (0.4 + 0.6 * size)
        a, b = max(0, int(np.ceil(c - radius))), min(n, int(np.floor(c + radius)) + 1)
        if a >= b:
            return
        distance = (np.arange(a, b) - c) / radius
        squares.append((distance * distance).astype(np.float32))
        slices.append(slice(a, b))
    z, y, x = squares
    spot = (z[:, None] + y)[:, :, None] + x
    np.subtract(np.float32(1), spot, out=spot)
    np.maximum(spot, np.float32(0), out=spot)
    spot *= spot
    spot *= np.float32(0.12 + 0.88 * light * light)
    target = volume[tuple(slices)]
    np.maximum(target, spot, out=target)
