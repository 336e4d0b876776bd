"""The whole placement in arrays: which links to believe, where tiles lie, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stitchlib.core.challenge import challenge
from stitchlib.core.doubt import Doubts, arbitrate, doubts, learn_stage
from stitchlib.core.graph import components, squares
from stitchlib.core.links import Floats, Ints, Links, Mask, structure
from stitchlib.core.moves import rejoin
from stitchlib.core.prediction import Prediction, joined_frame, predict
from stitchlib.core.robust import FINE, LEAST, MANY_LOOPS, select, tolerance
from stitchlib.core.solve import Network, least_tree
from stitchlib.core.stage import StageShifts, fit_shifts
from stitchlib.core.uncertainty import common_error, position_sigma


@dataclass(frozen=True, slots=True)
class Problem:
    """What a placement starts from; all positions are relative to nominal."""

    links: Links
    """Links that may be believed."""
    index: Ints
    """Grid index of every tile, shape (n, 3)."""
    pinned: Mask
    """Tiles whose position is given, shape (n,)."""
    pins: Floats
    """Their positions less the nominal ones, voxels, shape (n, axes); others do not count."""

    def ground(self, component: Ints) -> Ints:
        """Pinned tiles, and the first tile of every component that has none."""
        first = np.unique(component, return_index=True)[1]
        held = np.isin(component[first], component[self.pinned])
        return np.sort(np.concatenate([first[~held], np.flatnonzero(self.pinned)]))

    def fixed(self) -> Floats:
        """Positions of the grounded tiles."""
        return np.where(self.pinned[:, None], self.pins, 0.0)


@dataclass(frozen=True, slots=True)
class Solution:
    """Where the tiles lie, and what became of the links."""

    x: Floats
    """Positions less the nominal ones, voxels, shape (n, axes)."""
    sigma: Floats
    """Standard deviations, voxels, nan = unknown, shape (n, axes): for tiles with links relative
    to the first of their component, for others those of the stage's model."""
    component: Ints
    """Component of every tile, numbered by first tile; one without links has that which it
    follows."""
    placed: Mask
    """Tiles with believed links, or pinned."""
    good: Mask
    """Links that are believed, shape (links,)."""
    implausible: Mask
    """Links that only the stage speaks against, shape (links,)."""
    doubts: Doubts
    """What may be wrong although it was believed."""
    stage: StageShifts
    """How links differ from nominal."""
    prediction: Prediction
    """Where the stage's model expects tiles."""
    loops: Ints
    """Smallest loops of the links, see `graph.squares`."""
    scale: Floats
    """Residuals over errors, root mean square, per axis."""

    def islands(self) -> dict[int, tuple[Ints, Floats]]:
        """By component but the first: its placed tiles, and how far the stage's model would move
        them to where it expects them relative to the first component's, voxels, shape (axes,).
        """
        rest = self.x - self.prediction.trend
        tiles = {c: np.flatnonzero(self.placed & (self.component == c))
                 for c in np.unique(self.component[self.placed]).tolist()}  # fmt: skip
        level = {c: rest[mine].mean(axis=0) for c, mine in tiles.items()}
        first = min(tiles, default=0)
        return {c: (mine, level[first] - level[c]) for c, mine in tiles.items() if c != first}


def optimise(problem: Problem) -> Solution:
    """Place tiles by robust weighted least squares."""
    links = problem.links
    loops = squares(problem.index, links.pre, links.post)
    good, implausible = _believe(problem, loops)
    common = np.zeros(links.displacement.shape[1])
    for _ in range(2):
        weight = 1 / (links.error**2 + common**2)
        weight[links.sure] *= 1e4
        component = components(links.n, *links.some(good))
        ground = problem.ground(component)
        x = _solve(problem, good, weight, ground)
        single = structure(links, good).single
        common = common_error(links, good, single, x)
    unsure = doubts(links, good, x, ground)
    sigma, scale = position_sigma(links, good, weight, unsure.variance, x, ground)
    linked = _Linked(x, np.hypot(sigma, unsure.step), component, good, implausible, unsure)
    return _complete(problem, linked, loops, scale)


def _solve(problem: Problem, good: Mask, weight: Floats, ground: Ints) -> Floats:
    links = problem.links
    network = Network(links.n, *links.some(good), ground, often=False)
    if good.any() and np.ptp(weight[good] / weight[good][:, :1], axis=0).max(initial=0) < 1e-9:
        weight = weight[:, 0]  # the same ratio of axes everywhere: one factorisation does
    return network.solve(weight[good], links.displacement[good], problem.fixed())


def _believe(problem: Problem, loops: Ints) -> tuple[Mask, Mask]:
    """Choose the links to believe; and those that only the stage speaks against."""
    links = problem.links
    ground = problem.ground(components(links.n, links.pre, links.post))
    stage = fit_shifts(*links.steps)
    plausible = 1 / (1 + (stage.units(*links.steps) / 2) ** 2) ** 2
    if not stage.known:
        plausible[:] = 1
    good, x, allowed = select(links, loops, problem.fixed(), ground, plausible)
    for _ in range(3):
        # With the wrong ones gone, the right ones say better how far they may be off.
        common = common_error(links, good, structure(links, good).single, x)
        if len(loops):
            least = FINE if len(loops) >= MANY_LOOPS else LEAST
            allowed = np.minimum(allowed, tolerance(links, common, least))
        kept = good & ((np.abs(links.residual(x)) <= allowed).all(axis=1) | links.sure)
        if (kept == good).all():
            break
        good = kept
        weight = 1 / links.error**2
        x = _solve(problem, good, weight, problem.ground(components(links.n, *links.some(good))))
    ground = problem.ground(components(links.n, links.pre, links.post))
    good, x = challenge(links, loops, good, x, allowed, problem.fixed(), ground)
    out = np.zeros(len(good), bool)
    for _ in range(3):
        good, implausible = arbitrate(links, good, out)
        component = components(links.n, *links.some(good))
        x = _solve(problem, good, 1 / links.error**2, problem.ground(component))
        before, out = out, out | implausible
        good = rejoin(links, good, out, x, allowed, problem.pinned)
        if (out == before).all():
            break
    return good, out & ~good


def follow_tree(problem: Problem) -> Solution:
    """Place tiles along the trees of least variance; every link is believed."""
    links = problem.links
    x, variance, component = least_tree(
        links.n, links.pre, links.post, links.displacement, links.error**2
    )
    for c in np.unique(component[problem.pinned]).tolist():
        mine = component == c
        first = np.flatnonzero(mine & problem.pinned)[0]
        x[mine] += problem.pins[first] - x[first]
    x[problem.pinned] = problem.pins[problem.pinned]
    every, none = np.ones(len(links.pre), bool), np.zeros(len(links.pre), bool)
    unsure = Doubts(np.zeros_like(links.displacement), np.zeros_like(x), ())
    linked = _Linked(x, np.sqrt(variance), component, every, none, unsure)
    loops = squares(problem.index, links.pre, links.post)
    return _complete(problem, linked, loops, np.ones(x.shape[1]))


@dataclass(frozen=True, slots=True)
class _Linked:
    """What the links say; the fields are those of `Solution`."""

    x: Floats
    sigma: Floats
    component: Ints
    good: Mask
    implausible: Mask
    doubts: Doubts


def _complete(problem: Problem, linked: _Linked, loops: Ints, scale: Floats) -> Solution:
    """Put the tiles without links where the stage's model expects them."""
    links, good = problem.links, linked.good
    placed = problem.pinned.copy()
    for ends in links.some(good):
        placed[ends] = True
    if links.n == 1:
        placed[:] = True
    unsure = linked.sigma.max(axis=1, initial=0)
    usual = placed & (linked.doubts.step == 0).all(axis=1)
    usual &= unsure <= max(1.0, 3 * np.median(unsure[placed])) if placed.any() else True
    frame = joined_frame(problem.index, placed, linked.component)
    prediction = predict(
        problem.index, linked.x, usual if usual.sum() >= 0.6 * placed.sum() else placed, frame
    )
    x = np.where(placed[:, None], linked.x, prediction.offset)
    sigma = np.where(placed[:, None], linked.sigma, prediction.sigma)
    sigma[problem.pinned] = 0
    # Every component stands so that its first tile, with links or without, is at nominal.
    frame = np.unique(frame, return_inverse=True)[1]
    first = np.unique(frame, return_index=True)[1]
    free = ~np.isin(np.arange(len(first)), frame[problem.pinned])
    x = x - np.where(free[:, None], x[first], 0.0)[frame]
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    stage = learn_stage(links, good, structure(links, good).single)
    return Solution(
        x,
        sigma,
        rank[frame],
        placed,
        good,
        linked.implausible,
        linked.doubts,
        stage,
        prediction,
        loops,
        scale,
    )
