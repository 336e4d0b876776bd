"""Phantom acquisitions: noisy tiles of a made-up tissue, whose true positions are known."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray

from stitchlib.core.boxes import Box, Point, hull
from stitchlib.core.texture import F32, render_tissue, shot_noise
from stitchlib.errors import InputError

AXES = "xyz"
_T = TypeVar("_T")
_DTYPES = ("uint8", "uint16", "float32")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
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
        _check_geometry(self)
        n = len(self.tile_shape)
        object.__setattr__(self, "overlap", _each(self.overlap, len(self.grid)))
        object.__setattr__(self, "jitter", _each(self.jitter, n)[:n])
        object.__setattr__(self, "voxel_size", tuple(self.voxel_size)[:n])
        _check_overlap(self)
        _check_camera(self)

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
                index, least, self.tile_shape, self._overlap_voxels(), strict=False
            )
        ]
        return (*corner, *(0,) * (len(self.tile_shape) - len(corner)))

    def _true(self, index: Point, least: Point) -> Point:
        """Return the true corner of the tile at a grid index."""
        most = np.array(self.jitter)
        jitter = _generator(self.seed, 1, *index).integers(-most, most, endpoint=True)
        return tuple(a + int(b) for a, b in zip(self._nominal(index, least), jitter, strict=True))

    def _overlap_voxels(self) -> tuple[float, ...]:
        """Return the nominal overlap per grid axis in voxels, not rounded."""
        return tuple(
            o if isinstance(o, int) else o * n
            for o, n in zip(_each(self.overlap, len(self.grid)), self.tile_shape, strict=False)
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


@dataclass(frozen=True, slots=True)
class PhantomFiles:
    """Where `write_phantom` put what."""

    sheet: Path
    """The tile sheet, ``tiles.tsv``."""
    config: Path
    """A configuration that stitches it, ``config.yaml``."""
    truth: Path
    """True corners, ``truth.tsv``: tile, x, y, z in voxels (2-D: z = 0)."""
    tiles: tuple[Path, ...]
    """The images, in the order of the sheet's rows."""


def write_phantom(
    phantom: Phantom,
    folder: str | os.PathLike[str],
    *,
    format: Literal["tif", "npy"] = "tif",  # noqa: A002
    compression: Literal["zlib"] | None = None,
    results: str | os.PathLike[str] = "results",
    dataset: str = "phantom",
) -> PhantomFiles:
    """Write a phantom acquisition: images, tile sheet, configuration and truth.

    One tile is in memory at a time. Every file appears whole or not at all, the sheet last.

    Parameters
    ----------
    phantom : Phantom
        What to write.
    folder : path
        Where to; made if needed. The configuration names the sheet by this path, so a relative one
        counts from the working directory of the workflow.
    format : {'tif', 'npy'}
        TIFF with axes (z, y, x) or (y, x); or arrays with axes (x, y[, z]).
    compression : {'zlib'} or None
        Of TIFFs; None can be memory mapped.
    results : path
        Where the configuration has results go.
    dataset : str
        Name of the dataset in the configuration.

    Returns
    -------
    PhantomFiles
        Paths of what was written.

    Raises
    ------
    InputError
        If the folder already has a sheet, configuration or truth, or an argument is none of those
        above.
    """
    _check_writing(format, compression, dataset)
    base = Path(folder)
    sheet, config, truth = (base / name for name in ("tiles.tsv", "config.yaml", "truth.tsv"))
    for file in (sheet, config, truth):
        if file.exists():
            raise InputError(f"{file} is there already; remove it, or give another folder.")
    (base / "tiles").mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str | int, ...]] = []
    files: list[Path] = []
    for index, channel in itertools.product(phantom.indices, phantom.channels):
        name = phantom.name(index)
        file = base / "tiles" / f"{name}_{channel}.{format}"
        _write_image(file, phantom.tile(index, channel), compression)
        rows.append((name, channel, f"tiles/{file.name}", *index))
        files.append(file)
    corners = ((tile, *_three(p)) for tile, p in phantom.truth.items())
    _write_table(truth, ("tile", *AXES), corners)
    text = _configuration(phantom, sheet, Path(results), dataset)
    _write_whole(config, lambda f: f.write(text.encode()))
    columns = ("tile", "channel", "path", *(f"tile_{a}" for a in AXES[: len(phantom.grid)]))
    _write_table(sheet, columns, rows)
    return PhantomFiles(sheet, config, truth, tuple(files))


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
        [np.subtract(_three(positions[tile]), _three(truth[tile])) for tile in truth]
    )
    return float(np.abs(difference - np.median(difference, axis=0)).max())


def _each(value: _T | tuple[_T, ...], n: int) -> tuple[_T, ...]:
    """Return one value per axis: a tuple as it is, a single one repeated ``n`` times."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * n


def _three(corner: Sequence[_T]) -> tuple[_T | int, ...]:
    """Return a corner with z, which is 0 in two dimensions."""
    return (*corner, *(0,) * (3 - len(corner)))


def _generator(*key: int) -> np.random.Generator:
    """Return the random numbers of one purpose."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


def _check_geometry(phantom: Phantom) -> None:
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


def _check_overlap(phantom: Phantom) -> None:
    """Refuse overlaps and jitters that leave neighbours nothing in common."""
    overlap, jitter = _each(phantom.overlap, 0), _each(phantom.jitter, 0)
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
    sizes = zip(AXES, overlap, phantom._overlap_voxels(), phantom.tile_shape, strict=False)  # noqa: SLF001
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


def _check_camera(phantom: Phantom) -> None:
    """Refuse channels and cameras that cannot be."""
    names = phantom.channels
    if not names or len(set(names)) < len(names):
        raise InputError(f"channels={names}: give one or more different names.")
    for name in names:
        _check_name("channel", name)
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


def _check_name(kind: str, name: str) -> None:
    """Refuse a name that the tile sheet cannot hold."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{kind} {name!r}: start with a letter or digit, then letters, digits, '.', '_', '-'."
        )


def _check_writing(format: str, compression: str | None, dataset: str) -> None:  # noqa: A002
    """Refuse ways of writing that there are not."""
    if format not in ("tif", "npy"):
        raise InputError(f"format={format!r}: give 'tif' or 'npy'.")
    if compression not in (None, "zlib"):
        raise InputError(f"compression={compression!r}: give None or 'zlib'.")
    if compression and format == "npy":
        raise InputError(
            "compression='zlib' with format='npy': arrays are not compressed; use tif."
        )
    _check_name("dataset", dataset)


def _write_whole(file: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name beside it, then give it its own."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            write(stream)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _write_image(file: Path, image: NDArray[Any], compression: str | None) -> None:
    """Write a tile (x, y[, z]) as .npy as it is, or as .tif with its axes reversed."""
    if file.suffix == ".npy":
        _write_whole(file, lambda stream: np.save(stream, image))
        return
    axes = "ZYX"[-image.ndim :]
    _write_whole(
        file,
        lambda stream: tifffile.imwrite(
            stream,
            image.T,
            compression=compression,
            photometric="minisblack",
            metadata={"axes": axes},
        ),
    )


def _write_table(file: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a tab-separated table."""
    text = "".join("\t".join(map(str, row)) + "\n" for row in (tuple(columns), *rows))
    _write_whole(file, lambda stream: stream.write(text.encode()))


def _configuration(phantom: Phantom, sheet: Path, results: Path, dataset: str) -> str:
    """Return the YAML that stitches the phantom: the keys whose defaults do not do."""
    wanted: dict[str, Any] = {"tiles": sheet.as_posix()}
    if results != Path("results"):
        wanted["results"] = results.as_posix()
    wanted["dataset"] = dataset
    if any(size != 1 for size in phantom.voxel_size):
        wanted["voxel_size"] = dict(zip(AXES, map(float, phantom.voxel_size), strict=False))
    jitter = _each(phantom.jitter, 0)
    wanted["align"] = {
        "overlap": dict(zip(AXES, _each(phantom.overlap, 0), strict=False)),
        "max_shift": {axis: 2 * j + 1 for axis, j in zip(AXES, jitter, strict=False)},
    }
    text: str = yaml.safe_dump(wanted, sort_keys=False, default_flow_style=None)
    note = (
        "# A phantom: made-up tissue, truth in truth.tsv. Keys that are not here: their defaults."
    )
    return f"{note}\n{text}"
