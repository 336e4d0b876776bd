"""Wrong links that hide: they pull the tiles along, and a right link looks wrong instead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stitchlib.core.graph import components
from stitchlib.core.links import Floats, Ints, Links, Mask, structure
from stitchlib.core.moves import agreeing
from stitchlib.core.robust import TINY, loop_scale
from stitchlib.core.solve import Network
from stitchlib.core.uncertainty import common_error

_SUSPECT, _NEVER_LESS = 3.0, 0.1
"""Standard errors from which a believed link is put to the test; voxels that they are at least."""
_ANYWHERE = 20.0
"""Wrong links are off by anything within some such range, voxels."""
_CLEARLY = 3.0
"""Log-likelihood ratio that it takes to leave out another link."""
_CHALLENGES, _TRIALS = 4, 8
"""Links that are left out near one another at most, and tried for each."""


def challenge(
    links: Links, loops: Ints, good: Mask, x: Floats, allowed: Floats, fixed: Floats, ground: Ints
) -> tuple[Mask, Floats]:
    """Leave out one link after the other where believed ones are off by many standard errors.

    The tiles are placed without it, and who agrees is asked anew. That which makes the links around
    most likely stays out.

    Parameters
    ----------
    links : Links
        All links.
    loops : array of int, shape (loops, 4)
        Smallest loops, see `graph.squares`.
    good : array of bool, shape (links,)
        Those that are believed.
    x : array of float, shape (n, axes)
        The positions that they give, voxels.
    allowed, fixed, ground :
        As in `robust.select`.

    Returns
    -------
    good, positions :
        What is believed after all, and where that puts the tiles.
    """
    if not good.any():
        return good, x
    spread = _spread(links, loops, good, x)
    settled = np.zeros(links.n, bool)
    trial: _Trial | None = None
    for _ in range(_CHALLENGES):
        suspects, zone = _suspects(links, good & ~settled[links.pre], x, spread)
        if not suspects:
            break
        trial = trial or _Trial(
            links, spread, allowed, fixed, Network(links.n, links.pre, links.post, ground)
        )
        out = trial.choose(good, x, suspects, zone)
        inside = zone >= 0
        settled[inside] |= (out < 0)[zone[inside]]
        if (out < 0).all():
            break
        good, x = trial.settle(good, out[out >= 0])
    return good, x


@dataclass(frozen=True, slots=True)
class _Trial:
    """Places the tiles without some links; the fields are those of `challenge`."""

    links: Links
    spread: Floats
    """Standard deviations of right links, voxels, shape (links, axes)."""
    allowed: Floats
    fixed: Floats
    network: Network

    def settle(self, good: Mask, without: Ints) -> tuple[Mask, Floats]:
        """Return who agrees when some of the believed links are left out, and the positions."""
        links, some = self.links, good.copy()
        some[without] = False
        base = np.where(links.sure, 1e4, 1.0) / np.mean(links.error**2, axis=1)
        for _ in range(2):
            weight = np.where(some, base, base * TINY)
            x = self.network.solve(weight, links.displacement, self.fixed)
            some = agreeing(links, x, self.allowed)
        return some, x

    def choose(self, good: Mask, x: Floats, suspects: list[Ints], zone: Ints) -> Ints:
        """Return for every zone the link without which its links are most likely; −1 = none."""
        zones = int(zone.max()) + 1
        best, choice = np.full(zones, -_CLEARLY), np.full(zones, -1)
        now = self._unlikely(good, x)
        a, b = zone[self.links.pre], zone[self.links.post]
        first, other = a >= 0, (b >= 0) & (a != b)
        for some in suspects:
            change = self._unlikely(*self.settle(good, some)) - now
            # A link counts for the zone of either end, once.
            gain = np.bincount(a[first], change[first], zones)
            gain += np.bincount(b[other], change[other], zones)
            mine = zone[self.links.pre[some]]
            better = gain[mine] < best[mine]
            best[mine[better]], choice[mine[better]] = gain[mine][better], some[better]
        return choice

    def _unlikely(self, good: Mask, x: Floats) -> Floats:
        """Negative log-likelihood: believed links are normal about the fit, others anywhere."""
        off = self.links.residual(x) / self.spread
        believed = (off**2 / 2 + np.log(self.spread)).sum(axis=1)
        each: Floats = np.where(good, believed, off.shape[1] * np.log(_ANYWHERE))
        return each


def _spread(links: Links, loops: Ints, good: Mask, x: Floats) -> Floats:
    """Return standard deviations of right links that wrong ones don't widen, shape (links, axes).

    Residuals hold a share of what hidden wrong links are off; how loops close does not, in the
    median. Where loops are too few, the links' own errors are trusted.
    """
    common = common_error(links, good, structure(links, good).single, x)
    beyond = loop_scale(links, loops) ** 2 - np.median(links.error**2, axis=0)
    common = np.minimum(common, np.sqrt(np.maximum(beyond, 0)))
    spread: Floats = np.maximum(np.hypot(links.error, common), _NEVER_LESS)
    return spread


def _suspects(links: Links, good: Mask, x: Floats, spread: Floats) -> tuple[list[Ints], Ints]:
    """Return believed links to leave out for a trial, at most one a zone at a time, worst first.

    A zone is the nodes that links far off connect, and their neighbours; −1 is elsewhere. In it,
    who hides may be less off than what it pulls at.
    """
    off = (np.abs(links.residual(x)) / spread).max(axis=1, initial=0)
    hot = np.flatnonzero(good & ~links.sure & (off > _SUSPECT))
    if not len(hot):
        return [], np.full(links.n, -1)
    near = np.zeros(links.n, bool)
    near[links.pre[hot]] = near[links.post[hot]] = True
    around = near[links.pre] | near[links.post]
    label = components(links.n, *links.some(around))
    ends = np.zeros(links.n, bool)
    ends[links.pre[around]] = ends[links.post[around]] = True
    zone = np.full(links.n, -1)
    zone[ends] = np.unique(label[ends], return_inverse=True)[1]
    some = np.flatnonzero(good & ~links.sure & around & (off > _SUSPECT / 2))
    some = some[np.lexsort((-off[some], zone[links.pre[some]]))]
    mine = zone[links.pre[some]]
    rank = np.arange(len(some)) - np.searchsorted(mine, mine)
    return [some[rank == r] for r in range(min(_TRIALS, int(rank.max()) + 1))], zone
