"""Random links with known truth, one kind of difficulty at a time: for calibration and tests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.peaks import score
from stitchlib.core.searches import reachable
from stitchlib.core.shifts import SearchRange
from stitchlib.errors import InputError
from stitchlib.phantom.acquisition import Phantom

KINDS = (
    "clean",
    "noise",
    "photons",
    "faint",
    "blobs",
    "half-gain",
    "offset",
    "vignetting",
    "subvoxel",
    "repeated",
    "background",
    "elsewhere",
)
"""What makes a link hard; ``repeated``, ``background`` and ``elsewhere`` have no right answer
that could be known: the texture repeats within the range, a tile is empty, or the tiles show
different places."""

HOPELESS = ("repeated", "background", "elsewhere")


@dataclass(frozen=True, slots=True, eq=False)
class PhantomLink:
    """Parts of two tiles that are to be compared, what is to be searched, and the truth.

    Displacements are in coordinates of the parts.
    """

    kind: str
    seed: int
    pre: NDArray[Any]
    """What displacements can reach; axes (x, y[, z])."""
    post: NDArray[Any]
    axis: int
    """Grid axis along which they are neighbours."""
    nominal: Point
    """Nominal displacement, voxels."""
    search: SearchRange
    """Displacements that are searched, voxels."""
    min_overlap: int
    """Least overlap along the axis, voxels."""
    truth: tuple[float, ...]
    """True displacement, voxels."""

    @property
    def least(self) -> Point:
        """Least overlap along every axis, voxels."""
        return tuple(self.min_overlap if d == self.axis else 1 for d in range(self.pre.ndim))

    def true_ncc(self) -> float:
        """NCC of the true overlap (at the nearest whole displacement)."""
        d = [round(t) for t in self.truth]
        windows = [
            (slice(max(0, k), min(n, k + m)), slice(max(0, -k), min(m, n - k)))
            for k, n, m in zip(d, self.pre.shape, self.post.shape, strict=True)
        ]
        a = self.pre[tuple(w[0] for w in windows)]
        return score(a, self.post[tuple(w[1] for w in windows)], "ncc")


def phantom_link(kind: str, seed: int, *, size: float = 1.0, subvoxel: bool = False) -> PhantomLink:
    """Make a random link.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    seed : int
        Everything else about it: even seeds are 2-D, odd ones 3-D. Overlaps are 12 to 25 % of the
        tile, tiles off by up to 20 voxels.
    size : float
        Factor of the tiles' extents.
    subvoxel : bool
        Whether displacements have parts of a voxel in kinds other than ``subvoxel``, too.

    Returns
    -------
    PhantomLink
        Whose true overlap is at least ``min_overlap``.
    """
    if kind not in KINDS:
        raise InputError(f"kind={kind!r}: give one of {KINDS}.")
    rng = np.random.default_rng((seed, KINDS.index(kind)))
    phantom, axis = _phantom(kind, seed, rng, size)
    if subvoxel:
        phantom = replace(phantom, subvoxel=True)
    other = _changed(kind, phantom, rng)
    second = (1, 0) if axis == 0 else (0, 1)
    tiles = phantom.tile((0, 0), "c0"), other.tile(second, "c0")
    return replace(_between(phantom, ((0, 0), second), tiles), kind=kind, seed=seed)


def mosaic_links(phantom: Phantom) -> Iterator[PhantomLink]:
    """Yield the links between all neighbours of a phantom acquisition, as alignment meets them.

    Their kind is ``background`` where one of the tiles is empty, else ``mosaic``.
    """
    images: dict[Point, NDArray[Any]] = {}
    for index in phantom.indices:
        images[index] = phantom.tile(index, "c0")
        for axis in range(len(index)):
            before = tuple(i - (d == axis) for d, i in enumerate(index))
            if before in images:
                yield _between(phantom, (before, index), (images[before], images[index]))


def faint_mosaic(seed: int, grid: tuple[int, int] = (5, 5)) -> Phantom:
    """Make an acquisition of four photons at a bright voxel, a quarter of its tiles empty.

    The read noise is that of about three photons, which hides the tissue from the eye and, but for
    smoothing, from every search.
    """
    rng = np.random.default_rng((seed, len(KINDS)))
    every = [(x, y) for x in range(grid[0]) for y in range(grid[1])]
    empty = [every[i] for i in rng.permutation(len(every))[: len(every) // 4]]
    return Phantom(
        grid=grid,
        tile_shape=(192, 192, 32),
        overlap=0.15,
        jitter=(8, 8, 2),
        photons=4.0,
        read_noise=6.0,
        counts_per_photon=float(rng.uniform(1.8, 2.6)),
        empty=tuple(empty),
        seed=seed,
    )


def _between(
    phantom: Phantom, indices: tuple[Point, Point], tiles: tuple[NDArray[Any], NDArray[Any]]
) -> PhantomLink:
    """Return the link of two neighbours, cut to what displacements can compare."""
    axis = [a != b for a, b in zip(*indices, strict=True)].index(True)
    names = [phantom.name(index) for index in indices]
    nominal = _difference(phantom.nominal, names)
    jitter: tuple[int, ...] = phantom.jitter  # type: ignore[assignment]
    # Halves of a voxel either way come on top of the jitter.
    reach = [2 * j + (2 if phantom.subvoxel else 1) for j in jitter]
    search = SearchRange(
        tuple(int(v) - m for v, m in zip(nominal, reach, strict=True)),
        tuple(int(v) + m for v, m in zip(nominal, reach, strict=True)),
    )
    parts = reachable(phantom.tile_shape, phantom.tile_shape, search)
    by = [a - b for a, b in zip(parts[0].lower, parts[1].lower, strict=True)]
    return PhantomLink(
        "background" if any(index in phantom.empty for index in indices) else "mosaic",
        phantom.seed,
        tiles[0][parts[0].slices()],
        tiles[1][parts[1].slices()],
        axis,
        tuple(int(v) - k for v, k in zip(nominal, by, strict=True)),
        SearchRange(
            tuple(v - k for v, k in zip(search.lower, by, strict=True)),
            tuple(v - k for v, k in zip(search.upper, by, strict=True)),
        ),
        max(1, (phantom.tile_shape[axis] - int(nominal[axis])) // 4),
        tuple(v - k for v, k in zip(_difference(phantom.truth, names), by, strict=True)),
    )


def _difference(corners: Any, names: list[str]) -> list[float]:
    return [b - a for a, b in zip(corners[names[0]], corners[names[1]], strict=True)]


def _phantom(kind: str, seed: int, rng: np.random.Generator, size: float) -> tuple[Phantom, int]:
    axis = int(rng.integers(2))
    if seed % 2:
        shape = [round(size * int(rng.integers(*r))) for r in ((56, 128), (56, 128), (10, 40))]
        shape[axis] = round(size * int(rng.integers(110, 190)))
    else:
        shape = [round(size * int(rng.integers(150, 400))) for _ in range(2)]
    overlap = round(shape[axis] * rng.uniform(0.12, 0.25))
    # So that a quarter of the nominal overlap is always left.
    most = min(20, int(0.75 * overlap / 2) - 1)
    jitter = [int(rng.integers(1, most + 1))] * 2
    if seed % 2:
        jitter.append(int(rng.integers(0, 3)))
    grid = (2, 1) if axis == 0 else (1, 2)
    phantom = Phantom(
        grid=grid,
        tile_shape=tuple(shape),
        overlap=overlap,
        jitter=tuple(jitter),
        photons=float(np.exp(rng.uniform(math.log(30), math.log(500)))),
        seed=int(rng.integers(2**62)),
    )
    return replace(phantom, **_difficulty(kind, phantom, rng)), axis


def _difficulty(kind: str, phantom: Phantom, rng: np.random.Generator) -> dict[str, Any]:
    def between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(math.log(low), math.log(high))))

    tiles = [(0, 0), (1, 0) if phantom.grid[0] == 2 else (0, 1)]
    empty = tiles if rng.random() < 0.5 else [tiles[int(rng.integers(2))]]
    shading = float(rng.uniform(0.1, 0.5)) if rng.random() < 0.5 else 0.0
    fields: dict[str, dict[str, Any]] = {
        "clean": {"photons": math.inf, "read_noise": between(0.5, 3)},
        "noise": {"photons": math.inf, "read_noise": between(3, 2000)},
        "photons": {"photons": between(5, 1000)},
        "faint": {"photons": between(2, 4), "read_noise": float(rng.uniform(5, 8))},
        "blobs": {"texture": "blobs", "photons": between(10, 500)},
        "vignetting": {
            "vignetting": float(rng.uniform(0.1, 0.5)),
            "gain_spread": 0.2,
            "offset_spread": 30.0,
            "photons": between(20, 500),
        },
        "subvoxel": {"subvoxel": True, "photons": between(50, 1000)},
        "repeated": {"period": min(_period(phantom), int(rng.integers(6, 20)))},
        "background": {"empty": tuple(empty), "vignetting": shading, "photons": between(5, 500)},
    }
    return fields.get(kind, {})


def _period(phantom: Phantom) -> int:
    """Return a period that is found at least twice in the range along x and y."""
    jitter: tuple[int, ...] = phantom.jitter  # type: ignore[assignment]
    return max(3, jitter[0])


def _changed(kind: str, phantom: Phantom, rng: np.random.Generator) -> Phantom:
    """Return the phantom that the second tile is taken from."""
    if kind == "half-gain":
        return replace(phantom, counts_per_photon=phantom.counts_per_photon / 2)
    if kind == "offset":
        return replace(phantom, offset=phantom.offset + 50)
    if kind == "elsewhere":
        return replace(phantom, seed=int(rng.integers(2**62)))
    return phantom
