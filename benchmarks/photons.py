"""Accuracy of links against the number of photons, beside what other stitchers are built on.

``python -m benchmarks.photons docs`` prints a table and draws ``photons.png`` (extra ``bench``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from skimage.registration import phase_cross_correlation

from benchmarks.plots import against_photons
from stitchlib.core.correlate import search
from stitchlib.core.register import register
from stitchlib.phantom import Phantom
from stitchlib.phantom.links import PhantomLink, mosaic_links

PHOTONS = (1, 2, 3, 4, 6, 10, 20, 50, 200, 1000)
SEED = 3_000_000
PHANTOMS = 10
"""Mosaics of 2 × 2 tiles, four links each, for every number of photons."""
READ_NOISE = 3.0
"""Photons."""
OK = 0.99

Found = tuple[tuple[float, ...], bool]
"""A displacement, and whether it is called ok."""


def by_stitchlib(link: PhantomLink) -> Found:
    """Our default."""
    match = register(link.pre, link.post, link.search, least=link.least)
    return match.refined, match.confidence >= OK


def by_ssd(link: PhantomLink) -> Found:
    """Least mean squared difference of all displacements; it has no measure of trust."""
    peak = search(
        link.pre, link.post, link.search, measure="ssd", nominal=link.nominal,
        min_overlap=link.least,
    )  # fmt: skip
    return peak.displacement, True


def by_projections(link: PhantomLink) -> Found:
    """NCC of maximum projections along each axis, the median of what they say on an axis."""
    found: list[list[float]] = [[], [], []]
    for along in range(3):
        kept = [axis for axis in range(3) if axis != along]
        peak = search(
            link.pre.max(axis=along),
            link.post.max(axis=along),
            link.search.without(along),
            measure="ncc",
            nominal=tuple(link.nominal[axis] for axis in kept),
            min_overlap=tuple(link.least[axis] for axis in kept),
        )
        for axis, d in zip(kept, peak.displacement, strict=True):
            found[axis].append(d)
    return tuple(float(np.median(values)) for values in found), True


def by_phase(link: PhantomLink) -> Found:
    """Phase correlation of the nominal overlap."""
    parts = [
        (slice(max(0, k), min(n, k + m)), slice(max(0, -k), min(m, n - k)))
        for k, n, m in zip(link.nominal, link.pre.shape, link.post.shape, strict=True)
    ]
    shift, _, _ = phase_cross_correlation(
        link.pre[tuple(part[0] for part in parts)].astype(np.float32),
        link.post[tuple(part[1] for part in parts)].astype(np.float32),
        upsample_factor=4,
    )
    return tuple(float(n + s) for n, s in zip(link.nominal, shift, strict=True)), True


METHODS: dict[str, Callable[[PhantomLink], Found]] = {
    "stitchlib": by_stitchlib,
    "SSD": by_ssd,
    "phase correlation": by_phase,
    "NCC of projections": by_projections,
}


def _links(photons: float) -> Iterator[PhantomLink]:
    for n in range(PHANTOMS):
        yield from mosaic_links(
            Phantom(
                grid=(2, 2), tile_shape=(160, 144, 32), overlap=0.2, jitter=(6, 6, 2),
                photons=photons, counts_per_photon=1.0, read_noise=READ_NOISE, seed=SEED + n,
            )
        )  # fmt: skip


def _judged(photons: float) -> dict[str, tuple[float, float, float]]:
    """Return per method the shares of links within a voxel, called ok, and wrong but ok."""
    found: dict[str, list[tuple[bool, bool]]] = {name: [] for name in METHODS}
    for link in _links(photons):
        for name, method in METHODS.items():
            displacement, ok = method(link)
            right = np.abs(np.subtract(displacement, link.truth)).max() <= 1
            found[name].append((bool(right), ok))
    return {
        name: (
            float(np.mean([right for right, _ in judged])),
            float(np.mean([ok for _, ok in judged])),
            float(np.mean([ok and not right for right, ok in judged])),
        )
        for name, judged in found.items()
    }


def main(folder: Path) -> None:
    """Print the table and draw the plot."""
    with ProcessPoolExecutor(2) as pool:
        figures = dict(zip(PHOTONS, pool.map(_judged, PHOTONS), strict=True))
    print("| photons | " + " | ".join(METHODS) + " |\n" + "|---" * (len(METHODS) + 1) + "|")
    for photons, shares in figures.items():
        cells = [
            f"{right:.0%} right, {wrong:.0%} wrong but ok" for right, _, wrong in shares.values()
        ]
        print(f"| {photons} | " + " | ".join(cells) + " |")
    against_photons(figures, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
