"""Fit the confidence of links on phantoms, and check it on others and on real tiles.

``python -m benchmarks.calibration fit`` prints `GATES` and `STEADY` of
stitchlib/core/confidence.py (three minutes).
``python -m benchmarks.calibration check docs`` prints the tables of docs/confidence.md and draws
its ``reliability.png``, from other seeds and from the real sets that are there (a quarter of an
hour).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import scipy.optimize
import scipy.special

from benchmarks import plots
from benchmarks.stages import Figure
from stitchlib.align import align_block
from stitchlib.core.confidence import CERTAIN, GATES, STEADY
from stitchlib.core.register import Method, register, weighings
from stitchlib.phantom.links import (
    HOPELESS,
    KINDS,
    PhantomLink,
    faint_mosaic,
    mosaic_links,
    phantom_link,
)
from stitchlib.runs import Run
from tests.realdata import DATA, SETS, true_positions, write_sheet

FIT_SEED = 1_000_000
CHECK_SEED = 2_000_000
TEST_SEED = 0
"""Where the seeds of the fit, of the check and of the tests begin; they never meet."""
LINKS = 150
"""Links of each kind for the fit, unless told otherwise."""
CHECKED = 400
"""Links of each kind for the check."""
LARGE = 20
"""The check takes one of so many as large as needs a coarse level, too."""
SIZE = 2.5
"""How much larger, along every axis."""
FEW = 20
"""Links of each kind that `make bench` looks at."""
SIGNAL = 0.2
"""NCC of the true overlap from which a link is expected to be ok."""
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
        (view.features.numbers(), not wrong(link, view.refined))
        for view in weighings(link.pre, link.post, link.search, link.least)
        if not any(view.features.border)
    ]


def _views_of_kind(job: tuple[str, int]) -> list[list[tuple[Numbers, bool]]]:
    return [_views(phantom_link(*job))]


def _views_of_mosaic(seed: int) -> list[list[tuple[Numbers, bool]]]:
    return [_views(link) for link in mosaic_links(faint_mosaic(seed, (4, 3)))]


def collect(links: int, processes: int) -> list[list[tuple[Numbers, bool]]]:
    """Return the views of all links of the fit, so many of a kind."""
    jobs = [(kind, FIT_SEED + n) for kind in KINDS for n in range(links)]
    mosaics = range(FIT_SEED, FIT_SEED + MOSAICS)
    with ProcessPoolExecutor(processes) as pool:
        found = [*pool.map(_views_of_kind, jobs, chunksize=20)]
        found += pool.map(_views_of_mosaic, mosaics)
    return [views for links in found for views in links if views]


def fit(links: list[list[tuple[Numbers, bool]]]) -> tuple[float, ...]:
    """Fit the gates by maximum likelihood, slopes positive, with a weak prior.

    A stated standard error is worth no more than it says, however few links disagree.

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
    steady = min(1.0, np.exp(parameters[4]))
    return tuple(round(float(v), 2) for v in (*parameters[:2], *np.exp(parameters[2:4]), steady))


def _log(parameters: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Log-probability of being right for rows of features."""
    gates = parameters[:2] + np.exp(parameters[2:4]) * numbers[:, :2]
    margin = np.maximum(0.05, min(1.0, np.exp(parameters[4])) * numbers[:, 2])
    within = np.log(scipy.special.erf(margin / np.sqrt(2)))
    return np.asarray(within - np.logaddexp(0, -gates).sum(axis=1))


@dataclass(frozen=True, slots=True)
class Judged:
    """A link with a known truth, and what was said of it."""

    kind: str
    """Kind of phantom, or name of the real set."""
    confidence: float
    wrong: bool
    """Whether it is off by more than a voxel (the set's bar), or nobody could know."""
    signal: bool
    """Whether its true overlap correlates; of a real link, whether the truth is known."""


def _judged(job: tuple[str, int], method: Method, size: float) -> Judged:
    link = phantom_link(*job, size=size)
    match = register(link.pre, link.post, link.search, least=link.least, method=method)
    signal = link.kind not in HOPELESS and link.true_ncc() >= SIGNAL
    return Judged(link.kind, match.confidence, wrong(link, match.refined), signal)


def phantoms(seeds: range, processes: int, method: Method, size: float = 1.0) -> list[Judged]:
    """Judge links of every kind."""
    jobs = [(kind, seed) for kind in KINDS for seed in seeds]
    with ProcessPoolExecutor(processes) as pool:
        judged = pool.map(partial(_judged, method=method, size=size), jobs, chunksize=10)
        return list(judged)


def real(name: str, method: Method) -> Iterator[Judged]:
    """Judge the links of a real set, as the workflow finds them."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        meta = write_sheet(name, folder / "tiles.tsv")
        aligning = {**SETS[name].align, "method": method}
        places = {"tiles": str(folder / "tiles.tsv"), "results": str(folder / "results")}
        run = Run.of({**places, "align": aligning})
        run.prepare()
        for well, dataset in run.datasets.items():
            truth = true_positions(name, meta, well)
            for card, _ in dataset.blocks:
                for link in align_block(json.loads(card.text), folder):
                    by = np.subtract(truth[link.post], truth[link.pre])
                    off = np.nanmax(np.abs(link.displacement - by), initial=0.0)
                    bad = bool(off > SETS[name].bar or np.isnan(by).all())
                    yield Judged(name, link.confidence, bad, not np.isnan(by).all())


def kinds_table(
    title: str, judged: list[Judged], signal: str = f"with signal (NCC of true overlap ≥ {SIGNAL})"
) -> Iterator[str]:
    """Yield the lines of a table: what is ok of every kind, and what of that is wrong."""
    yield f"\n{title}\n"
    yield f"| kind | links | ok, % | ok and wrong | {signal} | of these ok, % |"
    yield "|---|---|---|---|---|---|"
    for kind in dict.fromkeys(link.kind for link in judged):
        links = [link for link in judged if link.kind == kind]
        ok = [link for link in links if link.confidence >= CERTAIN]
        expected = sum(link.signal for link in links)
        seen = sum(link.signal for link in ok)
        of_these = f"{100 * seen / expected:.1f}" if expected else "–"
        yield (
            f"| {kind} | {len(links)} | {100 * len(ok) / len(links):.1f} "
            f"| {sum(link.wrong for link in ok)} | {expected} | {of_these} |"
        )


def check(folder: Path, count: int, processes: int) -> None:
    """Print the tables and draw the diagram of docs/confidence.md."""
    seeds = range(CHECK_SEED, CHECK_SEED + count)
    # Of planes, "mip" is "auto"; and they would have to be larger still for a coarse level.
    solid = range(CHECK_SEED + 1, CHECK_SEED + count, 2)
    large = range(CHECK_SEED + count + 1, CHECK_SEED + count + 2 * max(1, count // LARGE), 2)
    groups = {"phantoms": phantoms(seeds, processes, "auto")}
    print(*kinds_table("Phantoms, method auto", groups["phantoms"]), sep="\n", flush=True)
    groups["large 3-D phantoms"] = phantoms(large, processes, "auto", SIZE)
    groups["3-D phantoms, mip"] = phantoms(solid, processes, "mip")
    print(*kinds_table("3-D phantoms, method mip", groups["3-D phantoms, mip"]), sep="\n")
    there = [name for name in SETS if (DATA / name).is_dir()]
    for name in sorted(SETS.keys() - set(there)):
        print(f"left out: the real tiles {name!r} are not there (looked in {DATA})")
    methods: dict[str, Method] = {"real tiles": "auto", "real tiles, mip": "mip"}
    for group, method in methods.items() if there else ():
        groups[group] = [link for name in there for link in real(name, method)]
        title = f"Real tiles, method {method}"
        print(*kinds_table(title, groups[group], "of which the truth is known"), sep="\n")
    print("\nWhich share is within a voxel\n")
    print(*plots.shares_table(groups), sep="\n")
    plots.reliability(groups, folder / "reliability.png")


def exactness_figures() -> Iterator[Figure]:
    """Count links that are ok and wrong, and those that should be ok, on some of each kind."""
    seeds = range(CHECK_SEED - FEW, CHECK_SEED)
    yield from _ok_figures("phantoms", phantoms(seeds, 1, "auto"))
    there = [name for name in SETS if (DATA / name).is_dir()]
    if not there:
        yield Figure("real tiles", f"not there (looked in {DATA})")
        return
    yield from _ok_figures("real tiles", [link for name in there for link in real(name, "auto")])


def _ok_figures(what: str, judged: list[Judged]) -> Iterator[Figure]:
    ok = [link for link in judged if link.confidence >= CERTAIN]
    bad = sum(link.wrong for link in ok)
    name = f"exactness: {len(judged)} links of {what}"
    yield Figure(name, f"{bad} wrong of {len(ok)} called ok", "0 wrong", bad == 0)
    if what == "phantoms":
        signal = [link for link in judged if link.signal]
        share = 100 * sum(link.confidence >= CERTAIN for link in signal) / len(signal)
        name = f"exactness: called ok of {len(signal)} whose overlap correlates"
        yield Figure.least(name, share, 98, "%")


def main() -> None:
    """Fit or check, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    parser.add_argument("what", choices=["fit", "check"])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="where plots go")
    parser.add_argument("--links", type=int, metavar="N", help="links of each kind")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    if given.what == "check":
        check(given.folder, given.links or CHECKED, given.processes)
        return
    found = fit(collect(given.links or LINKS, given.processes))
    print(f"GATES = (({found[0]}, {found[2]}), ({found[1]}, {found[3]})); STEADY = {found[4]}")
    print(f"now:    {GATES}; {STEADY}")


if __name__ == "__main__":
    main()
