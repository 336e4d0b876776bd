"""Tiles, and groups of tiles that hang together, move to wherever more of their links agree."""

from __future__ import annotations

import numpy as np

from stitchlib.core.graph import bridges, components, forest
from stitchlib.core.links import Floats, Ints, Links, Mask, structure

_CROWD = 200
"""A group with more links to others is not moved: the others are."""


def agreeing(links: Links, x: Floats, allowed: Floats) -> Mask:
    """Links that are off by no more than they may be, and those that are sure."""
    return (np.abs(links.residual(x)) <= allowed).all(axis=1) | links.sure


def relocate(links: Links, x: Floats, closed: Mask, allowed: Floats, held: Mask) -> Floats:
    """Move tiles and groups of tiles where more links agree.

    Groups are those that links in closed loops hold together, those that hang on single links, with
    and without all that hangs on them, and those that nothing holds to the others.
    """
    x = x.copy()
    for _ in range(4):
        moved = _move_groups(links, x, np.arange(links.n), allowed, held)
        agree = agreeing(links, x, allowed)
        firm = components(links.n, *links.some(agree & closed))
        moved |= _move_groups(links, x, firm, allowed, held)
        pre, post = links.some(agreeing(links, x, allowed))
        apart = components(links.n, pre, post)
        roots = np.unique(apart, return_index=True)[1]
        single = bridges(links.n, pre, post, forest(links.n, pre, post, roots))
        groups = components(links.n, pre[~single], post[~single])
        moved |= _move_groups(links, x, groups, allowed, held)
        moved |= _move_groups(links, x, apart, allowed, held, least=2)
        moved |= _move_branches(links, x, allowed, held)
        if not moved:
            break
    return x


def rejoin(links: Links, good: Mask, out: Mask, x: Floats, allowed: Floats, pinned: Mask) -> Mask:
    """Join components, which may be moved, by links that lost their rivals; take in what fits.

    Parameters
    ----------
    links : Links
        All links.
    good, out : array of bool, shape (links,)
        Those that are believed, and those that never may be.
    x : array of float, shape (n, axes)
        Positions, voxels.
    allowed : array of float, shape (links, axes)
        By how much a link may be off, voxels.
    pinned : array of bool, shape (n,)
        Nodes that stay.

    Returns
    -------
    array of bool, shape (links,)
        Links that are believed now.
    """
    rest = links.only(~out)
    x, held = x.copy(), pinned.copy()
    component = components(links.n, *links.some(good))
    held[component == np.bincount(component).argmax()] = True
    before = component[rest.pre] == component[rest.post]
    moved = _move_groups(rest, x, component, allowed[~out], held, least=2)
    joined = agreeing(rest, x, allowed[~out]) & (before | moved)
    found = good.copy()
    found[~out] |= joined
    return found


def _move_groups(
    links: Links, x: Floats, group: Ints, allowed: Floats, held: Mask, *, least: int = 1
) -> bool:
    """Move groups of tiles, one after the other, where that costs less; tell whether any moved.

    It takes ``least`` further links that agree, where several contradict each other.
    """
    a, b = group[links.pre], group[links.post]
    crossing = np.flatnonzero(a != b)
    off = (np.abs(links.residual(x)[crossing]) > allowed[crossing]).any(axis=1)
    n = int(group.max(initial=0)) + 1
    ends = np.concatenate([a[crossing], b[crossing]])
    bad = np.bincount(ends, np.tile(off, 2), n)
    # It takes more links than now agree.
    worth = (bad > 0) & (2 * bad >= np.bincount(ends, minlength=n))
    worth[group[held]] = False
    worth &= np.bincount(ends, minlength=n) <= _CROWD
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
        step = _better(wanted, allowed[k], links.sure[k], min(least, len(k)))
        if step is not None:
            x[members[firsts[g] : firsts[g + 1]]] += step
            moved = True
    return moved


def _move_branches(links: Links, x: Floats, allowed: Floats, held: Mask) -> bool:
    """Move all that hangs on a single link where several of the others agree against it."""
    good = agreeing(links, x, allowed)
    graph = structure(links, good)
    against: dict[int, list[int]] = {}
    for k in graph.contradicted(links, good).tolist():
        for j in graph.ways(links, k):
            against.setdefault(j, []).append(k)
    off = links.residual(x)
    moved, touched = False, np.zeros(links.n, bool)
    for j, others in sorted(against.items()):
        if len(others) < 2:
            continue
        branch = graph.branch(links, j)
        if (branch & (held | touched)).any():
            continue
        k = np.array([j, *others])
        sign = np.where(branch[links.post[k]], 1.0, -1.0)[:, None]
        step = _better(sign * off[k], allowed[k], links.sure[k])
        if step is not None:
            x[branch] += step
            touched |= branch
            moved = True
    return moved


def _better(wanted: Floats, allowed: Floats, sure: Mask, least: int = 1) -> Floats | None:
    """Return the step that most links agree on if it beats staying; steps wanted by each link."""
    steps = np.concatenate([np.zeros((1, wanted.shape[1])), wanted])
    off = ((steps[:, None] - wanted) / allowed) ** 2
    cost = np.minimum(off.max(axis=2), 1.0)
    cost = (cost * np.where(sure, 100.0, 1.0)).sum(axis=1)
    best = int(np.argmin(cost))
    return steps[best] if cost[best] < cost[0] - (least - 0.75) else None
