"""What links among themselves cannot decide: single links that others contradict, and the stage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stitchlib.core.graph import components
from stitchlib.core.links import Floats, Ints, Links, Mask, Structure, structure
from stitchlib.core.stage import FEW_LINKS, LEAST_SCATTER, StageShifts, fit_shifts

DECISIVE = np.log(100.0)
"""Log-likelihood ratio from which the stage decides between two links."""
FAR = 5.0
"""Standard deviations of the stage beyond which a link is not believed on its own word."""
TOGETHER = 3.0
"""As many beyond which several links that agree are believed, but not for sure."""
SEAMS = 4
"""Seams along a grid axis that it takes to say how the stage slips from one to the next."""
_WORTH = 0.5
"""Log-likelihood ratio from which a link is exchanged for another."""
_AS_FAR = 3.0
"""An unnoticed wrong link is off by about so many standard deviations of the stage."""


def learn_stage(links: Links, good: Mask, single: Mask) -> StageShifts:
    """Fit the stage's shifts to the links that loops support, or to all if these are too few."""
    use = good & ~single
    if use.sum() < FEW_LINKS:
        use = good
    return fit_shifts(links.axis[use], links.where[use], links.displacement[use])


def arbitrate(links: Links, good: Mask, out: Mask) -> tuple[Mask, Mask]:
    """Let the stage decide where one link stands against another.

    A link that alone holds a part of the tiles, contradicted by a link that is not believed, may be
    the wrong one of the two. The one that agrees with what the stage does elsewhere is kept. A
    single link far from what the stage does is not believed at all.

    Parameters
    ----------
    links : Links
        All links; displacements are relative to nominal.
    good : array of bool, shape (links,)
        Those that agree with one another.
    out : array of bool, shape (links,)
        Those that never may be believed.

    Returns
    -------
    good, implausible : array of bool, shape (links,)
        Links to believe; and of the others, those that only the stage speaks against.
    """
    good, implausible = good.copy(), np.zeros(len(good), bool)
    dropped = out.copy()
    stage = learn_stage(links, good, structure(links, good).single)
    if not stage.known:
        return good, implausible
    likelihood = stage.likelihood(*links.steps)
    units = stage.units(*links.steps)
    while True:
        graph = structure(links, good)
        swaps = _swaps(links, good, graph, likelihood, dropped)
        for old, into in swaps:
            good[old], good[into] = False, True
            dropped[old] = True
        if not swaps:
            far = (
                graph.single & ~links.sure & (units > FAR) & _unheard_of(links, good, graph, stage)
            )
            if not far.any():
                return good, implausible & ~good
            good &= ~far
            implausible |= far
            dropped |= far


def _unheard_of(links: Links, good: Mask, graph: Structure, stage: StageShifts) -> Mask:
    """Links with shifts that no link which others check comes near, along the same grid axis."""
    found = np.ones(len(good), bool)
    checked = good & ~graph.single
    margin = TOGETHER * stage.width
    for d in np.unique(links.axis).tolist():
        mine = links.axis == d
        seen = links.displacement[checked & mine]
        if len(seen) < FEW_LINKS // 2:
            continue
        shift = links.displacement[mine]
        low, high = seen.min(axis=0) - margin, seen.max(axis=0) + margin
        found[mine] = ((shift < low) | (shift > high)).any(axis=1)
    return found


def _swaps(
    links: Links, good: Mask, graph: Structure, likelihood: Floats, dropped: Mask
) -> list[tuple[int, int]]:
    """Return (single link, contradicting link) that are worth to be exchanged, the best first.

    No two of them concern the same single links.
    """
    found = []
    for k in graph.contradicted(links, good).tolist():
        way = [j for j in graph.ways(links, k) if not links.sure[j]]
        if dropped[k] or not way:
            continue
        worst = min(way, key=lambda j: likelihood[j])
        gain = float(likelihood[k] - likelihood[worst])
        if gain > _WORTH:
            found.append((-gain, k, worst, way))
    touched: set[int] = set()
    swaps = []
    for _, k, worst, way in sorted(found):
        if touched.isdisjoint(way):
            swaps.append((worst, k))
            touched.update(way)
    return swaps


@dataclass(frozen=True, slots=True)
class Doubts:
    """What may be wrong although it was believed."""

    variance: Floats
    """Of the single links, beyond their errors, voxels², shape (links, axes)."""
    step: Floats
    """How far parts that agree among themselves lie off the stage's model, relative to the part
    of their component's anchor, voxels, shape (n, axes); 0 where that is nothing unusual."""
    undecided: tuple[tuple[int, int], ...]
    """(contradicting link, believed link): nothing tells which is wrong."""


def doubts(links: Links, good: Mask, x: Floats, anchors: Ints) -> Doubts:
    """Say what the links and the stage leave open.

    Parameters
    ----------
    links : Links
        All links; displacements are relative to nominal.
    good : array of bool, shape (links,)
        Those that are believed.
    x : array of float, shape (n, axes)
        Positions that they give.
    anchors : array of int
        Anchors of the components.
    """
    graph = structure(links, good, anchors)
    stage = learn_stage(links, good, graph.single)
    variance = np.zeros_like(links.displacement)
    undecided = []
    likelihood = stage.likelihood(*links.steps) if stage.known else None
    residual = links.residual(x)
    for k in graph.contradicted(links, good).tolist():
        for j in graph.ways(links, k):
            lead = likelihood[j] - likelihood[k] if likelihood is not None else 0.0
            if not links.sure[j] and lead < DECISIVE:
                variance[j] = np.maximum(variance[j], residual[k] ** 2)
                undecided.append((k, j))
    lonely = graph.single & ~links.sure
    # Links that others check, or that join nothing, tell how often links are wrong.
    share = ((~good).sum() + 0.2) / (len(good) - lonely.sum() + 10)
    variance[lonely] += share * (_AS_FAR * stage.width) ** 2
    return Doubts(variance, _steps(links, good, graph, stage), tuple(undecided))


def _steps(links: Links, good: Mask, graph: Structure, stage: StageShifts) -> Floats:
    """Offsets of parts that only links far from the stage's model join; see `Doubts.step`."""
    step = np.zeros((links.n, links.displacement.shape[1]))
    if not stage.known:
        return step
    deviation = _deviation(links, good, stage)
    seam, usual = _seams(links, good, deviation)
    unusual = TOGETHER * usual
    far = seam | (np.abs(deviation) > np.fmax(TOGETHER * stage.narrow, unusual)).any(axis=1)
    far &= good & ~links.sure
    pre, post = links.some(good & ~far)
    part = components(links.n, pre, post)
    far &= part[links.pre] != part[links.post]
    if not far.any():
        return step
    joints: dict[int, dict[int, list[Floats]]] = {}
    for k in np.flatnonzero(far).tolist():
        a, b = int(part[links.pre[k]]), int(part[links.post[k]])
        joints.setdefault(a, {}).setdefault(b, []).append(deviation[k])
        joints.setdefault(b, {}).setdefault(a, []).append(-deviation[k])
    offset = _walk(joints, part[graph.tree.levels[0]].tolist(), step.shape[1])
    for p, value in offset.items():
        if (np.abs(value) > unusual).any():
            step[part == p] = value
    return step


def _seams(links: Links, good: Mask, deviation: Floats) -> tuple[Mask, Floats]:
    """Return the links of seams that step together by more than is usual, and what is usual.

    A seam is all links between two neighbouring rows, columns or layers of the grid. Of tiles that
    are off independently, a whole seam is hardly ever off by more than single links about its
    median. Where the grid has seams enough, what these scatter is usual too: a stage may slip.

    Returns
    -------
    together : array of bool, shape (links,)
        Links of an unusual seam that agree with its median.
    usual : array of float, shape (axes,)
        Standard deviation, voxels.
    """
    together, rest = np.zeros(len(good), bool), np.zeros_like(deviation)
    seams = _members(links, good)
    middles = {d: [np.median(deviation[k], axis=0) for k in seams[d]] for d in seams}
    for d, members in seams.items():
        for mine, middle in zip(members, middles[d], strict=True):
            rest[mine] = deviation[mine] - middle
    free = max(1, int(good.sum()) - sum(map(len, seams.values())))
    usual: Floats = np.maximum(np.sqrt((rest**2).sum(axis=0) / free), LEAST_SCATTER)
    for d, members in seams.items():
        width = usual
        if len(members) >= SEAMS:
            # The lower of two: half of the seams of a small grid may be those of one wrong row.
            slip = np.quantile(np.abs(middles[d]), 0.4, axis=0, method="lower") / 0.5244
            width = np.maximum(usual, slip)
        for mine, middle in zip(members, middles[d], strict=True):
            if len(mine) > 1 and (np.abs(middle) > TOGETHER * width).any():
                together[mine] = (np.abs(rest[mine]) <= TOGETHER * usual).all(axis=1)
    return together, usual


def _deviation(links: Links, good: Mask, stage: StageShifts) -> Floats:
    """Shifts less what is usual, voxels, shape (links, axes).

    Usual is what the stage's model expects; along grid axes with few seams, of which one wrong row
    would make most, the median of these.
    """
    deviation = stage.deviation(*links.steps)
    for d, members in _members(links, good).items():
        if len(members) < SEAMS:
            middles = [np.median(links.displacement[k], axis=0) for k in members]
            mine = links.axis == d
            deviation[mine] = links.displacement[mine] - np.median(middles, axis=0)
    return deviation


def _members(links: Links, good: Mask) -> dict[int, list[Ints]]:
    """Believed links by grid axis and seam."""
    use = np.flatnonzero(good)
    key = links.axis[use], links.where[use, links.axis[use]]
    order = np.lexsort(key[::-1])
    change = (np.diff(key[0][order]) != 0) | (np.diff(key[1][order]) != 0)
    found: dict[int, list[Ints]] = {}
    for members in np.split(use[order], np.flatnonzero(change) + 1):
        if len(members):
            found.setdefault(int(links.axis[members[0]]), []).append(members)
    return found


def _walk(
    joints: dict[int, dict[int, list[Floats]]], roots: list[int], axes: int
) -> dict[int, Floats]:
    """Add up the median steps from part to part, beginning at the roots."""
    offset: dict[int, Floats] = {}
    for root in roots:
        offset.setdefault(root, np.zeros(axes))
        queue = [root]
        for a in queue:
            for b, steps in joints.get(a, {}).items():
                if b not in offset:
                    offset[b] = offset[a] + np.median(steps, axis=0)
                    queue.append(b)
    return offset
