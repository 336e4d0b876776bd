"""Fit the confidence of links on phantoms, and check it on others and on real tiles.

``python -m benchmarks.calibration fit`` prints `GATES` of
stitchlib/core/confidence.py (ten minutes).
``python -m benchmarks.calibration check docs`` prints the tables of docs/confidence.md and draws
its ``reliability.png``, from other seeds and from the real sets that are there (three quarters of
an hour of a processor).
``python -m benchmarks.calibration faint`` prints its table of faint mosaics (seven minutes).
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
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
from stitchlib.core.confidence import CERTAIN, GATES
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
LINKS = 300
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
MOSAICS = 8
"""Faint mosaics of 4 × 3 tiles for the fit."""
FAINT = (*range(101, 113), *range(201, 213))
"""Seeds of the faint mosaics that are looked at one by one; none is of the fit."""
NOISES = (2.3, 2.6, 2.9, 3.1, 3.4)
"""Read noises, photons, that tell them apart."""
CAUTION = 2.0
"""Weight of a wrong link against a right one."""
PRIOR = np.array([0.0, 0.0, np.log(5), np.log(5)])
"""Both constants and the logarithms of both slopes, if distance and chance, which are fifths of
log-odds, are worth what they say."""
SPREAD = np.array([7.0, 7.0, 0.7, 0.7])
"""How far from that they may well be, standard deviations: slopes a factor of two."""
STARTS = 10
"""Places from which a minimum is looked for."""


def wrong(link: PhantomLink, displacement: tuple[float, ...]) -> bool:
    """Whether a displacement is off by more than a voxel, or nobody could know."""
    off = np.abs(np.subtract(displacement, link.truth)).max()
    return bool(off > 1 or link.kind in HOPELESS)


View = tuple[tuple[float, float, float], bool]
"""Features, and whether it is right."""


def _views(link: PhantomLink) -> list[View]:
    """Return every filtered view of a link."""
    return [
        (view.features.numbers(), not wrong(link, view.refined))
        for view in weighings(link.pre, link.post, link.search, link.least)
        if not any(view.features.border)
    ]


def _views_of_kind(job: tuple[str, int]) -> list[list[View]]:
    return [_views(phantom_link(*job))]


def _views_of_mosaic(seed: int) -> list[list[View]]:
    return [_views(link) for link in mosaic_links(faint_mosaic(seed, (4, 3)))]


def collect(links: int, processes: int) -> list[list[View]]:
    """Return the views of all links of the fit, so many of a kind."""
    jobs = [(kind, FIT_SEED + n) for kind in KINDS for n in range(links)]
    mosaics = range(FIT_SEED, FIT_SEED + MOSAICS)
    with ProcessPoolExecutor(processes) as pool:
        found = [*pool.map(_views_of_kind, jobs, chunksize=20)]
        found += pool.map(_views_of_mosaic, mosaics)
    return [views for links in found for views in links if views]


def fit(links: list[list[View]], starts: int = STARTS) -> tuple[float, ...]:
    """Fit the gates by maximum likelihood, with a prior that evidence is worth what it says.

    Of the views of a link the surest counts, as in `register`. A wrong link weighs as much as
    `CAUTION` right ones. Stated errors are taken at their word: tests see to that.

    Returns
    -------
    tuple of float
        Both constants and both slopes.
    """
    numbers = np.array([n for views in links for n, _ in views])
    right = np.array([r for views in links for _, r in views])
    sizes = [len(views) for views in links]
    first = np.cumsum([0, *sizes[:-1]])
    link = np.repeat(np.arange(len(links)), sizes)
    within = np.log(scipy.special.erf(np.maximum(0.05, numbers[:, 2]) / np.sqrt(2)))

    def loss(p: np.ndarray) -> float:
        each = within - np.logaddexp(0, -(p[:2] + _slopes(p) * numbers[:, :2])).sum(axis=1)
        best = np.flatnonzero(each == np.maximum.reduceat(each, first)[link])
        chosen = best[np.unique(link[best], return_index=True)[1]]
        surest = np.minimum(each[chosen], -1e-9)
        known = np.where(right[chosen], surest, CAUTION * np.log(-np.expm1(surest)))
        return float(np.sum(((p - PRIOR) / SPREAD) ** 2) / 2 - known.sum())

    # Where another view becomes the surest the loss has a kink, so there are several minima.
    steps = np.random.default_rng(0).normal(0, 1, (starts, 4))
    p = min((_minimum(loss, PRIOR + step) for step in steps), key=loss)
    return tuple(round(float(v), 2) for v in (*p[:2], *_slopes(p)))


def _slopes(parameters: np.ndarray) -> np.ndarray:
    """Return the slopes of both gates: evidence is worth no more than it says."""
    return np.exp(np.minimum(parameters[2:], PRIOR[2:]))


def _minimum(loss: Callable[[np.ndarray], float], start: np.ndarray) -> np.ndarray:
    """Return the nearest minimum; the simplex is unfolded again where it got stuck."""
    for _ in range(3):
        start = scipy.optimize.minimize(loss, start, method="Nelder-Mead").x
    return start


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
                for link in align_block(card.content, folder):
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


@dataclass(frozen=True, slots=True)
class FaintMosaic:
    """What was said of the links of a faint mosaic."""

    noise: float
    """Read noise, photons."""
    links: list[Judged]
    """Between tiles with content."""
    empty: list[Judged]
    """To empty tiles."""

    @property
    def ok(self) -> list[Judged]:
        """Links between tiles with content that are ok."""
        return [link for link in self.links if link.confidence >= CERTAIN]


def _judged_mosaic(seed: int) -> FaintMosaic:
    phantom = faint_mosaic(seed)
    judged = []
    for link in mosaic_links(phantom):
        match = register(link.pre, link.post, link.search, least=link.least)
        bad = wrong(link, match.refined)
        judged.append(Judged(link.kind, match.confidence, bad, link.kind not in HOPELESS))
    return FaintMosaic(
        phantom.read_noise / phantom.counts_per_photon,
        [link for link in judged if link.signal],
        [link for link in judged if not link.signal],
    )


def faint_mosaics(count: int, processes: int) -> list[FaintMosaic]:
    """Judge the links of so many faint mosaics."""
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(_judged_mosaic, FAINT[:count]))


def faint_table(mosaics: list[FaintMosaic]) -> Iterator[str]:
    """Yield the lines of a table of faint mosaics, by their read noise."""
    columns = ("read noise, photons", "mosaics", "links", "off by more than a voxel", "ok, %")
    more = ("fewest of a mosaic, %", "ok and off", "highest confidence to an empty tile")
    yield f"| {' | '.join(columns + more)} |"
    yield "|---|---|---|---|---|---|---|---|"
    for low, high in itertools.pairwise(NOISES):
        some = [mosaic for mosaic in mosaics if low <= mosaic.noise < high]
        if some:
            yield f"| {low} to {high} {_faint_row(some)}"
    yield f"| all {_faint_row(mosaics)}"


def _faint_row(mosaics: list[FaintMosaic]) -> str:
    links = [link for mosaic in mosaics for link in mosaic.links]
    ok = [link for mosaic in mosaics for link in mosaic.ok]
    fewest = min(len(mosaic.ok) / len(mosaic.links) for mosaic in mosaics)
    empty = max(link.confidence for mosaic in mosaics for link in mosaic.empty)
    return (
        f"| {len(mosaics)} | {len(links)} | {sum(link.wrong for link in links)} "
        f"| {100 * len(ok) / len(links):.0f} | {100 * fewest:.0f} "
        f"| {sum(link.wrong for link in ok)} | {empty:.2f} |"
    )


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
    parser.add_argument("what", choices=["fit", "check", "faint"])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="where plots go")
    parser.add_argument("--links", type=int, metavar="N", help="links of each kind, or mosaics")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    if given.what == "check":
        check(given.folder, given.links or CHECKED, given.processes)
        return
    if given.what == "faint":
        mosaics = faint_mosaics(given.links or len(FAINT), given.processes)
        print(*faint_table(mosaics), sep="\n")
        return
    found = fit(collect(given.links or LINKS, given.processes))
    print(f"GATES = (({found[0]}, {found[2]}), ({found[1]}, {found[3]}))")
    print(f"now:    {GATES}")


if __name__ == "__main__":
    main()
