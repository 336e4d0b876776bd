"""Which links to believe: robust positions in spite of links that are wrong altogether."""

from __future__ import annotations

import numpy as np

from stitchlib.core.links import Floats, Ints, Links, Mask
from stitchlib.core.moves import agreeing, relocate
from stitchlib.core.solve import Network

LEAST = 1.5
"""A link is never called wrong for less, voxels."""
FINE, MANY_LOOPS = 1.0, 12
"""The same where so many loops tell what right links err."""
SPREAD = 4.0
"""Standard deviations beyond which a link is called wrong."""
MOST_SCALE = 1.25
"""Common error of right links that is believed at most, voxels; more is called wrong."""
_FEW = 6
"""Loops that it takes to say anything about the common error."""
_CHANCE = 0.002
"""Share of the links that may be in loops that close by chance."""
TINY = 1e-7
"""Weight of a link that is not believed; it keeps the system solvable."""


def loop_scale(links: Links, loops: Ints) -> Floats:
    """Estimate the error of right links, per axis, from how loops close.

    A loop of four right links with errors s closes within 2 s. Loops that are off by more than
    right links could make them hold a wrong one, and do not count.

    Returns
    -------
    array of float, shape (axes,)
        Standard deviation, voxels; 0 where there are too few loops.
    """
    closing = np.abs(closure(links.displacement, loops))
    closing = closing[(closing <= 2 * SPREAD * MOST_SCALE).all(axis=1)]
    if len(closing) < _FEW:
        return np.zeros(links.displacement.shape[1])
    # 0.6745: median of the absolute value of a standard normal variable.
    scale: Floats = np.minimum(np.median(closing, axis=0) / 0.6745 / 2, MOST_SCALE)
    return scale


def closure(displacement: Floats, loops: Ints) -> Floats:
    """By how much loops (`graph.squares`) do not close, shape (loops, axes)."""
    a, b, c, d = (displacement[k] for k in loops.T)
    error: Floats = a + b - c - d
    return error


def tolerance(links: Links, scale: Floats, least: float = LEAST) -> Floats:
    """How far links may be off, at least ``least`` voxels; shape (links, axes)."""
    wide = SPREAD * np.sqrt(links.error**2 + scale**2)
    # A link so vague that it could never be wrong would vouch for anything.
    return np.clip(wide, least, max(least, SPREAD * MOST_SCALE))


def select(
    links: Links, loops: Ints, fixed: Floats, ground: Ints, plausible: Floats
) -> tuple[Mask, Floats, Floats]:
    """Find the links that agree with one another, and the positions that they give.

    Least absolute deviations first (iteratively reweighted), then the redescending loss of Geman
    and McClure with a shrinking scale (graduated non-convexity: Yang et al. 2020, IEEE Robot.
    Autom. Lett. 5, 1127-1134), then tiles, and groups of tiles that hang together, are moved to
    wherever more of their links agree. That starts from the plausible links; where the outcome
    breaks loops that close among themselves, also from all links alike and from those in such
    loops, and the outcome with which most links agree is returned.

    Parameters
    ----------
    links : Links
        All that may be used.
    loops : array of int, shape (loops, 4)
        Smallest loops, see `graph.squares`.
    fixed : array of float, shape (n, axes)
        Positions of the grounded nodes; others do not count.
    ground : array of int
        Nodes that are held, at least one per component.
    plausible : array of float, shape (links,)
        How well each link fits what is usual, 0 to 1; it decides where links are equally many.

    Returns
    -------
    good : array of bool, shape (links,)
        Links that are believed.
    positions : array of float, shape (n, axes)
        Least squares of these, voxels.
    allowed : array of float, shape (links, axes)
        By how much a link may be off without being called wrong, voxels.
    """
    network = Network(links.n, links.pre, links.post, ground)
    base = 1 / np.mean(links.error**2, axis=1)
    base[links.sure] *= 1e4
    allowed = tolerance(links, loop_scale(links, loops))
    x = network.solve(base, links.displacement, fixed)
    if (np.abs(links.residual(x)) <= allowed / 2).all():
        return np.ones(len(links.pre), bool), x, allowed
    closed = _closed(links, loops, allowed) | links.sure
    held = np.zeros(links.n, bool)
    held[ground] = True
    found = []
    for start in (np.maximum(plausible, 1e-3), np.ones(len(base)), np.where(closed, 1.0, 0.01)):
        x = _graduated(network, links, base, allowed, fixed, start)
        for _ in range(8):
            good = agreeing(links, x, allowed)
            x = relocate(links, x, closed, allowed, held)
            again = agreeing(links, x, allowed)
            x = network.solve(np.where(again, base, base * TINY), links.displacement, fixed)
            if (agreeing(links, x, allowed) == good).all():
                break
        good = agreeing(links, x, allowed)
        off = (links.residual(x)[good] / allowed[good]) ** 2
        agreement = (1 - np.minimum(off.max(axis=1), 1) + 0.3 * plausible[good]).sum()
        found.append((float(agreement), good, x))
        if (closed & ~good).sum() <= _CHANCE * len(good):
            break
    _, good, x = max(found, key=lambda f: f[0])
    return good, x, allowed


def _closed(links: Links, loops: Ints, allowed: Floats) -> Mask:
    """Links in a loop that closes."""
    off = np.abs(closure(links.displacement, loops))
    # Four errors add up to twice one.
    good = (off <= 2 * allowed[loops].mean(axis=1)).all(axis=1)
    closed = np.zeros(len(links.pre), bool)
    closed[loops[good].ravel()] = True
    return closed


def _graduated(
    network: Network, links: Links, base: Floats, allowed: Floats, fixed: Floats, start: Floats
) -> Floats:
    base = base * start
    x = network.solve(base, links.displacement, fixed)
    off = np.linalg.norm(links.residual(x) / allowed, axis=1)
    for least in (4.0, 2.0, 1.0, 0.5):
        weight = base / np.maximum(off, least)
        weight[links.sure] = base[links.sure]
        x = network.solve(weight, links.displacement, fixed)
        off = np.linalg.norm(links.residual(x) / allowed, axis=1)
    for scale in (4.0, 2.0, 1.0):
        weight = base * np.maximum((scale**2 / (scale**2 + off**2)) ** 2, TINY)
        weight[links.sure] = base[links.sure]
        x = network.solve(weight, links.displacement, fixed)
        off = np.linalg.norm(links.residual(x) / allowed, axis=1)
    return x
