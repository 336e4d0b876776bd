"""Which links to believe: robust positions in spite of links that are wrong altogether."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.graph import bridges, components, forest
from stitchlib.core.solve import Network

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

LEAST = 1.5
"""A link is never called wrong for less, voxels."""
SPREAD = 4.0
"""Standard deviations beyond which a link is called wrong."""
MOST_SCALE = 1.25
"""Common error of right links that is believed at most, voxels; more is called wrong."""
_FEW = 4
"""Loops that it takes to say anything about the common error."""
_TINY = 1e-7
"""Weight of a link that is not believed; it keeps the system solvable."""


@dataclass(frozen=True, slots=True)
class Links:
    """Links as arrays."""

    n: int
    """Number of nodes."""
    pre: Ints
    """First ends, shape (links,)."""
    post: Ints
    """Second ends, shape (links,)."""
    displacement: Floats
    """x_post − x_pre, voxels, shape (links, axes)."""
    error: Floats
    """Standard errors, voxels, > 0, shape (links, axes)."""
    sure: Mask
    """Links that are believed whatever the others say, shape (links,)."""

    def residual(self, x: Floats) -> Floats:
        """Displacement − (x_post − x_pre)."""
        return self.displacement - (x[self.post] - x[self.pre])

    def some(self, mask: Mask) -> tuple[Ints, Ints]:
        """Ends of some of the links."""
        return self.pre[mask], self.post[mask]


def loop_scale(links: Links, loops: Ints) -> Floats:
    """Estimate the error of right links, per axis, from how loops close.

    A loop of four right links with errors s closes within 2 s. The lower quartile over all loops
    is taken, because most loops are broken where a fifth of the links is wrong.

    Returns
    -------
    array of float, shape (axes,)
        Standard deviation, voxels; 0 where there are too few loops.
    """
    if len(loops) < _FEW:
        return np.zeros(links.displacement.shape[1])
    closing = np.abs(closure(links.displacement, loops))
    # 0.3186: lower quartile of the absolute value of a standard normal variable.
    return np.minimum(np.quantile(closing, 0.25, axis=0) / 0.3186 / 2, MOST_SCALE)


def closure(displacement: Floats, loops: Ints) -> Floats:
    """By how much loops (`graph.squares`) do not close, shape (loops, axes)."""
    a, b, c, d = (displacement[k] for k in loops.T)
    return a + b - c - d


def tolerance(links: Links, scale: Floats) -> Floats:
    """How far links may be off, voxels, shape (links, axes)."""
    wide = SPREAD * np.sqrt(links.error**2 + scale**2)
    # A link so vague that it could never be wrong would vouch for anything.
    return np.clip(wide, LEAST, max(LEAST, SPREAD * MOST_SCALE))


def select(links: Links, loops: Ints, fixed: Floats, ground: Ints) -> tuple[Mask, Floats, Floats]:
    """Find the links that agree with one another, and the positions that they give.

    Least absolute deviations first (iteratively reweighted), then the redescending loss of Geman
    and McClure with a shrinking scale (graduated non-convexity: Yang et al. 2020, IEEE Robot.
    Autom. Lett. 5, 1127-1134), then tiles, and groups of tiles that hang on one link, are moved to
    wherever more of their links agree.

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
    x = _graduated(network, links, base, allowed, fixed)
    good = _agree(links, x, allowed)
    for _ in range(8):
        if good.all():
            break
        held = np.zeros(links.n, bool)
        held[ground] = True
        x = _relocate(links, x, good, allowed, held)
        x = network.solve(np.where(_agree(links, x, allowed), base, base * _TINY),
                          links.displacement, fixed)  # fmt: skip
        before, good = good, _agree(links, x, allowed)
        if (good == before).all():
            break
    return good, x, allowed


def _agree(links: Links, x: Floats, allowed: Floats) -> Mask:
    return (np.abs(links.residual(x)) <= allowed).all(axis=1) | links.sure


def _graduated(
    network: Network, links: Links, base: Floats, allowed: Floats, fixed: Floats
) -> Floats:
    x = network.solve(base, links.displacement, fixed)
    off = np.linalg.norm(links.residual(x) / allowed, axis=1)
    if off.max(initial=0) <= 0.5:  # nothing is wrong
        return x
    for least in (4.0, 2.0, 1.0, 0.5, 0.25):
        weight = base / np.maximum(off, least)
        weight[links.sure] = base[links.sure]
        x = network.solve(weight, links.displacement, fixed)
        off = np.linalg.norm(links.residual(x) / allowed, axis=1)
    for scale in (4.0, 2.0, 1.0, 1.0):
        weight = base * np.maximum((scale**2 / (scale**2 + off**2)) ** 2, _TINY)
        weight[links.sure] = base[links.sure]
        x = network.solve(weight, links.displacement, fixed)
        off = np.linalg.norm(links.residual(x) / allowed, axis=1)
    return x


def _relocate(links: Links, x: Floats, good: Mask, allowed: Floats, held: Mask) -> Floats:
    """Move single tiles, then groups that hang on single links, where more links agree."""
    x = x.copy()
    for _ in range(4):
        if not _move_groups(links, x, np.arange(links.n), allowed, held):
            break
    good = _agree(links, x, allowed)
    pre, post = links.some(good)
    roots = np.unique(components(links.n, pre, post), return_index=True)[1]
    single = bridges(links.n, pre, post, forest(links.n, pre, post, roots))
    groups = components(links.n, pre[~single], post[~single])
    if 1 < groups.max(initial=0) + 1 < links.n:
        _move_groups(links, x, groups, allowed, held)
    return x


def _move_groups(links: Links, x: Floats, group: Ints, allowed: Floats, held: Mask) -> bool:
    """Move groups of tiles, one after the other, where that costs less; tell whether any moved."""
    a, b = group[links.pre], group[links.post]
    crossing = np.flatnonzero(a != b)
    off = (np.abs(links.residual(x)[crossing]) > allowed[crossing]).any(axis=1)
    n = int(group.max(initial=0)) + 1
    ends = np.concatenate([a[crossing], b[crossing]])
    bad = np.bincount(ends, np.tile(off, 2), n)
    # It takes more links than now agree.
    worth = (bad > 0) & (2 * bad >= np.bincount(ends, minlength=n))
    worth[group[held]] = False
    order = np.argsort(ends, kind="stable")
    starts = np.searchsorted(ends[order], np.arange(n + 1))
    members = np.argsort(group, kind="stable")
    firsts = np.searchsorted(group[members], np.arange(n + 1))
    moved = False
    for g in np.flatnonzero(worth).tolist():
        mine = order[starts[g] : starts[g + 1]]
        sign = np.where(mine < len(crossing), -1.0, 1.0)[:, None]
        k = crossing[mine % len(crossing)]
        wanted = sign * (links.displacement[k] - (x[links.post[k]] - x[links.pre[k]]))
        step = _better(wanted, allowed[k], links.sure[k])
        if step is not None:
            x[members[firsts[g] : firsts[g + 1]]] += step
            moved = True
    return moved


def _better(wanted: Floats, allowed: Floats, sure: Mask) -> Floats | None:
    """Return the step that most links agree on if it beats staying; steps wanted by each link."""
    steps = np.concatenate([np.zeros((1, wanted.shape[1])), wanted])
    off = ((steps[:, None] - wanted) / allowed) ** 2
    cost = np.minimum(off.max(axis=2), 1.0)
    cost = (cost * np.where(sure, 100.0, 1.0)).sum(axis=1)
    best = int(np.argmin(cost))
    return steps[best] if cost[best] < cost[0] - 0.25 else None
