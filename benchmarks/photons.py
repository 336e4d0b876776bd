"""Links against the number of photons, beside what other stitchers are built on.

``python -m benchmarks.photons docs`` prints the table of docs/confidence.md and draws its
``photons.png`` (ten minutes). It needs scikit-image, the extra ``bench``.

Every method is given the same parts of two tiles, what the searched displacements can reach, and
the same range. Only ours says how far to trust a displacement; those of the others are counted as
they are.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation

from benchmarks import plots
from stitchlib.core.confidence import CERTAIN
from stitchlib.core.correlate import search
from stitchlib.core.register import register
from stitchlib.phantom import Phantom
from stitchlib.phantom.links import PhantomLink, mosaic_links

PHOTONS = (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
"""At a bright voxel."""
SHAPES = {"3-D": (160, 128, 32), "2-D": (320, 256)}
READ_NOISE = 3.0
"""Of the camera, photons."""
SEED = 3_000_000
LINKS = 100
"""For every number of photons and shape."""

Found = tuple[tuple[float, ...], bool]
"""A displacement, and whether it is called ok."""


def by_stitchlib(link: PhantomLink) -> Found:
    """Our default."""
    match = register(link.pre, link.post, link.search, least=link.least)
    return match.refined, match.confidence >= CERTAIN


def by_ssd(link: PhantomLink) -> Found:
    """Least mean squared difference of all displacements, as `align_layout_rigid` does."""
    peak = search(
        link.pre, link.post, link.search, measure="ssd", nominal=link.nominal,
        min_overlap=link.least,
    )  # fmt: skip
    return peak.displacement, True


def by_phase(link: PhantomLink) -> Found:
    """Phase correlation of the nominal overlap, to a tenth of a voxel."""
    windows = [
        (slice(max(0, k), min(n, k + m)), slice(max(0, -k), min(m, n - k)))
        for k, n, m in zip(link.nominal, link.pre.shape, link.post.shape, strict=True)
    ]
    pre, post = link.pre[tuple(w[0] for w in windows)], link.post[tuple(w[1] for w in windows)]
    shift, _, _ = phase_cross_correlation(
        pre.astype(np.float32), post.astype(np.float32), upsample_factor=10
    )
    return tuple(float(n + s) for n, s in zip(link.nominal, shift, strict=True)), True


def by_projections(link: PhantomLink) -> Found:
    """NCC of maximum projections along each axis; what the higher of two peaks says on an axis.

    Planes have no projections: they are compared as they are.
    """
    if link.pre.ndim == 2:
        peak = search(
            link.pre, link.post, link.search, measure="ncc", nominal=link.nominal,
            min_overlap=link.least,
        )  # fmt: skip
        return peak.displacement, True
    best = [(-np.inf, 0)] * 3
    for along in range(3):
        kept = [axis for axis in range(3) if axis != along]
        peak = search(
            link.pre.max(axis=along), link.post.max(axis=along), link.search.without(along),
            measure="ncc", nominal=tuple(link.nominal[a] for a in kept),
            min_overlap=tuple(link.least[a] for a in kept),
        )  # fmt: skip
        for axis, d in zip(kept, peak.displacement, strict=True):
            best[axis] = max(best[axis], (peak.quality, d))
    return tuple(float(d) for _, d in best), True


METHODS: dict[str, Callable[[PhantomLink], Found]] = {
    "stitchlib": by_stitchlib,
    "least squared difference": by_ssd,
    "phase correlation": by_phase,
    "NCC of projections": by_projections,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a method found on links of one shape and number of photons."""

    off: NDArray[np.float64]
    """How far every link is off, on its worst axis, voxels."""
    ok: NDArray[np.bool_]
    """Whether it is called ok."""

    @property
    def wrong(self) -> int:
        """Links that are off by more than a voxel."""
        return int((self.off > 1).sum())

    @property
    def wrong_but_ok(self) -> int:
        """Of these, the ones that are called ok."""
        return int(((self.off > 1) & self.ok).sum())


def links(shape: tuple[int, ...], photons: float, count: int) -> Iterator[PhantomLink]:
    """Yield links whose tiles are off by parts of a voxel, too."""
    for seed in range(SEED, SEED + count):
        yield from mosaic_links(
            Phantom(
                grid=(2, 1), tile_shape=shape, overlap=0.2, jitter=(6, 6, 2), subvoxel=True,
                photons=photons, counts_per_photon=2.0, read_noise=2 * READ_NOISE, seed=seed,
            )
        )  # fmt: skip


def judged(job: tuple[str, float, int]) -> dict[str, Seen]:
    """Return what every method finds."""
    shape, photons, count = job
    found: dict[str, list[tuple[float, bool]]] = {name: [] for name in METHODS}
    for link in links(SHAPES[shape], photons, count):
        for name, method in METHODS.items():
            displacement, ok = method(link)
            off = float(np.abs(np.subtract(displacement, link.truth)).max())
            found[name].append((off, ok))
    return {
        name: Seen(np.array([off for off, _ in each]), np.array([ok for _, ok in each]))
        for name, each in found.items()
    }


Figures = dict[str, dict[float, dict[str, Seen]]]
"""By shape, number of photons and method."""


def table(figures: Figures) -> Iterator[str]:
    """Yield the lines of a table: how many links are ok, and wrong, in percent."""
    ours, *others = METHODS
    heads = ["tiles", "photons", f"{ours}: ok", "wrong but ok", "wrong"]
    heads += [f"{name}: wrong" for name in others]
    yield "| " + " | ".join(heads) + " |"
    yield "|---" * len(heads) + "|"
    for shape, levels in figures.items():
        for photons, seen in levels.items():
            mine = seen[ours]
            counts = [int(mine.ok.sum()), mine.wrong_but_ok, *(s.wrong for s in seen.values())]
            cells = " | ".join(f"{100 * count / mine.ok.size:.0f} %" for count in counts)
            yield f"| {shape} | {photons:g} | {cells} |"


def main() -> None:
    """Print the table and draw the plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photons", description=__doc__)
    parser.add_argument("folder", type=Path, help="where photons.png goes")
    parser.add_argument("--links", type=int, default=LINKS, metavar="N")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    jobs = [(shape, photons, given.links) for shape in SHAPES for photons in PHOTONS]
    figures: Figures = {shape: {} for shape in SHAPES}
    with ProcessPoolExecutor(given.processes) as pool:
        for (shape, photons, _), seen in zip(jobs, pool.map(judged, jobs), strict=True):
            figures[shape][photons] = seen
    print(*table(figures), sep="\n")
    plots.against_photons(figures, given.folder / "photons.png")


if __name__ == "__main__":
    main()
