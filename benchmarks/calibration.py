"""Fit the confidence of links on phantoms, and check it on others.

``python -m benchmarks.calibration fit`` prints `GATES` and `STEADY` of
stitchlib/core/confidence.py;
``python -m benchmarks.calibration check docs`` draws the reliability diagram from other seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import scipy.optimize
import scipy.special

from stitchlib.core.register import register, weighings
from stitchlib.phantom.links import (
    HOPELESS,
    KINDS,
    PhantomLink,
    faint_mosaic,
    mosaic_links,
    phantom_link,
)

FIT_SEED = 1_000_000
CHECK_SEED = 2_000_000
TEST_SEED = 0
"""Where the seeds of the fit, of the check and of the tests begin; they never meet."""
LINKS = 150
"""Links of each kind for the fit."""
MOSAICS = 4
"""Faint mosaics of 4 × 3 tiles for the fit."""
CAUTION = 2.0
"""Weight of a wrong link against a right one."""


def wrong(link: PhantomLink, displacement: tuple[float, ...]) -> bool:
    """Whether a displacement is off by more than a voxel, or nobody could know."""
    off = np.abs(np.subtract(displacement, link.truth)).max()
    return bool(off > 1 or link.kind in HOPELESS)


Numbers = tuple[float, float, float]


def _views(link: PhantomLink) -> list[tuple[Numbers, bool]]:
    """Return features and rightness of every filtered view of a link."""
    return [
        (view.features.numbers(), not wrong(link, view.evidence.refined))
        for view in weighings(link.pre, link.post, link.search, link.least)
        if not any(view.features.border)
    ]


def _views_of_kind(job: tuple[str, int]) -> list[list[tuple[Numbers, bool]]]:
    return [_views(phantom_link(*job))]


def _views_of_mosaic(seed: int) -> list[list[tuple[Numbers, bool]]]:
    return [_views(link) for link in mosaic_links(faint_mosaic(seed, (4, 3)))]


def collect() -> list[list[tuple[Numbers, bool]]]:
    """Return the views of all links of the fit."""
    jobs = [(kind, FIT_SEED + n) for kind in KINDS for n in range(LINKS)]
    mosaics = range(FIT_SEED, FIT_SEED + MOSAICS)
    with ProcessPoolExecutor(2) as pool:
        found = [*pool.map(_views_of_kind, jobs, chunksize=20)]
        found += pool.map(_views_of_mosaic, mosaics)
    return [views for links in found for views in links if views]


def fit(links: list[list[tuple[Numbers, bool]]]) -> tuple[float, ...]:
    """Fit the gates by maximum likelihood, slopes positive, with a weak prior.

    Of the views of a link the surest counts, as in `register`: so fit and choice take turns.
    A wrong link weighs as much as `CAUTION` right ones.

    Returns
    -------
    tuple of float
        Both constants, both slopes, and what a stated standard error is worth.
    """
    parameters = np.array([-1.0, -1.0, 1.0, 1.0, 0.0])
    for _ in range(6):
        chosen = [
            max(views, key=lambda v: _log(parameters, np.array([v[0]]))[0]) for views in links
        ]
        numbers, right = np.array([c[0] for c in chosen]), np.array([c[1] for c in chosen])

        def loss(p: np.ndarray, numbers: np.ndarray = numbers, right: np.ndarray = right) -> float:
            each = _log(p, numbers)
            failed = CAUTION * np.log(-np.expm1(np.minimum(each, -1e-9)))
            prior = 0.01 * (p[:2] ** 2).sum() + 0.05 * (p[2:] ** 2).sum()
            return float(prior - np.where(right, each, failed).sum())

        parameters = scipy.optimize.minimize(
            loss, parameters, method="Nelder-Mead", options={"maxiter": 8000, "maxfev": 8000}
        ).x
    return tuple(round(float(v), 2) for v in (*parameters[:2], *np.exp(parameters[2:])))


def _log(parameters: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Log-probability of being right for rows of features."""
    gates = parameters[:2] + np.exp(parameters[2:4]) * numbers[:, :2]
    margin = np.maximum(0.05, np.exp(parameters[4]) * numbers[:, 2])
    within = np.log(scipy.special.erf(margin / np.sqrt(2)))
    return np.asarray(within - np.logaddexp(0, -gates).sum(axis=1))


def _judged(job: tuple[str, int]) -> tuple[str, float, bool, float]:
    link = phantom_link(*job)
    match = register(link.pre, link.post, link.search, least=link.least)
    return link.kind, match.confidence, wrong(link, match.refined), link.true_ncc()


def judged(first_seed: int, count: int) -> Iterator[tuple[str, float, bool, float]]:
    """Yield kind, confidence, whether it is wrong, and the true NCC of links of every kind."""
    jobs = [(kind, first_seed + n) for kind in KINDS for n in range(count)]
    with ProcessPoolExecutor(2) as pool:
        yield from pool.map(_judged, jobs, chunksize=20)


if __name__ == "__main__":
    if sys.argv[1:2] == ["fit"]:
        print("constants, slopes, STEADY:", fit(collect()))
    else:
        from benchmarks.plots import reliability

        reliability(list(judged(CHECK_SEED, 200)), Path(sys.argv[2]))
