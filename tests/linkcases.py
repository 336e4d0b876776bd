"""Link sets of made-up acquisitions whose truth is known: placement without pixels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from stitchlib.core.graph import components
from stitchlib.pairs import Link

STEP = 200


@dataclass(frozen=True)
class Case:
    """Tiles, where they truly lie, and what was measured."""

    tiles: list[str]
    index: list[tuple[int, int, int]]
    nominal: list[tuple[int, int, int]]
    truth: np.ndarray
    """Corners, voxels, shape (tiles, 3)."""
    links: list[Link]
    wrong: list[bool]
    """For every link, whether it was made wrong."""
    empty: list[bool]
    """For every tile, whether it holds background only."""
    ndim: int

    @property
    def ends(self):
        number = {tile: i for i, tile in enumerate(self.tiles)}
        return np.array([(number[k.pre], number[k.post]) for k in self.links], int).reshape(-1, 2)

    @property
    def determined(self):
        """Label tiles: those with one label are held together by what right links decide.

        A right link that alone holds a part of the tiles decides nothing where a wrong link
        contradicts it.
        """
        pre, post = self.ends.T
        wrong, n = np.array(self.wrong, bool), len(self.tiles)
        kept = ~wrong
        for k in np.flatnonzero(~wrong):
            others = ~wrong
            others[k] = False
            part = components(n, pre[others], post[others])
            if part[pre[k]] != part[post[k]]:
                side = part == part[pre[k]]
                if (side[pre[wrong]] != side[post[wrong]]).any():
                    kept[k] = False
        return components(n, pre[kept], post[kept])


def make(
    shape,
    seed,
    *,
    jitter=4.0,
    noise=0.15,
    wrong=0.0,
    most=50.0,
    least=3.0,
    empty=0.0,
    missing=(),
    unlinked=(),
    scale=(0.0, 0.0),
    drift=0.0,
    backlash=0.0,
    wrong_row=None,
    agreeing_row=None,
):
    """Make a case.

    jitter: most voxels a tile is off, uniform; noise: error of right links; wrong: share of links
    that are off by up to ``most`` voxels; empty: share of tiles without links; missing: indices
    without a tile; unlinked: pairs of columns (x, x + 1) that no link joins; scale: voxels per step
    in x and y (along x: scale, along y: skew); drift: voxels at the last index, growing with its
    square; backlash: x of odd rows; wrong_row: all links of that row are wrong; agreeing_row: its
    links to other rows are wrong by the same.
    """
    rng = np.random.default_rng([seed, *shape])
    shape = (*shape, 1)[:3] if len(shape) < 3 else shape
    ndim = 2 if shape[2] == 1 else 3
    index = [i for i in itertools.product(*map(range, shape)) if i[:2] not in missing]
    grid = np.array(index, float)
    nominal = np.array(index) * STEP
    truth = nominal + rng.uniform(-jitter, jitter, (len(index), 3))
    truth[:, 0] += scale[0] * grid[:, 0] + scale[1] * grid[:, 1]
    truth[:, 1] += scale[0] * grid[:, 1] - scale[1] * grid[:, 0]
    far = max(1, shape[0] - 1)
    truth[:, 0] += drift * (grid[:, 0] / far) ** 2
    truth[:, 1] += drift * grid[:, 0] * grid[:, 1] / far**2
    truth[:, 0] += backlash * (grid[:, 1] % 2)
    if ndim == 2:
        truth[:, 2] = 0
    blank = rng.random(len(index)) < empty
    number = {i: k for k, i in enumerate(index)}
    pairs = []
    for k, i in enumerate(index):
        for axis in range(3):
            j = tuple(a + (d == axis) for d, a in enumerate(i))
            if j not in number or blank[k] or blank[number[j]]:
                continue
            if axis == 0 and i[0] in unlinked:
                continue
            pairs.append((k, number[j], axis))
    pre, post, axis = np.array(pairs, int).reshape(-1, 3).T
    m = len(pre)
    bad = np.zeros(m, bool)
    bad[rng.permutation(m)[: round(wrong * m)]] = True
    off = rng.uniform(-most, most, (m, 3))
    while (small := np.abs(off[:, :2]).max(axis=1, initial=0) < least).any():
        off[small] = rng.uniform(-most, most, (small.sum(), 3))
    row = grid[:, 1]
    if wrong_row is not None:
        bad |= (row[pre] == wrong_row) | (row[post] == wrong_row)
    if agreeing_row is not None:
        down, up = (
            (axis == 1) & (row[post] == agreeing_row),
            (axis == 1) & (row[pre] == agreeing_row),
        )
        off[down], off[up] = [25, 10, 0], [-25, -10, 0]
        bad |= down | up
    error = noise * rng.uniform(0.5, 1.5, (m, 3))
    found = truth[post] - truth[pre] + error * rng.standard_normal((m, 3))
    found[bad] += off[bad]
    if ndim == 2:
        found[:, 2] = 0
    names = ["x{}y{}z{}".format(*i) for i in index]
    links = [
        Link(
            names[a], names[b], int(d), tuple(v.tolist()),
            tuple((v - nominal[b] + nominal[a]).tolist()), 0.8, "ncc", tuple(e.tolist()), 0.999,
            "ok",
        )
        for a, b, d, v, e in zip(pre, post, axis, found, error, strict=True)
    ]  # fmt: skip
    return Case(
        names, index, [tuple(p) for p in nominal.tolist()], truth, links, bad.tolist(),
        blank.tolist(), ndim,
    )  # fmt: skip


ISLANDS = {"unlinked": (2,)}
CASES = {
    "clean": {},
    "25 % of the tiles empty": {"empty": 0.25},
    "holes in the grid": {"missing": ((1, 1), (2, 2), (3, 1)), "wrong": 0.1},
    "two islands": {**ISLANDS, "wrong": 0.1},
    "10 % wrong links": {"wrong": 0.1},
    "20 % wrong links": {"wrong": 0.2},
    "25 % empty, 10 % wrong": {"empty": 0.25, "wrong": 0.1},
    "a row all wrong": {"wrong_row": 1},
    "a wrong row that agrees": {"agreeing_row": 1},
    "drift, 25 % empty, 10 % wrong": {"drift": 25.0, "empty": 0.25, "wrong": 0.1},
}
"""What is tested and compared, by name."""


def block_errors(case, fit):
    """Error of every tile within its determined block, median taken off; nan where it is alone."""
    blocks = case.determined
    found = np.full(len(case.tiles), np.nan)
    for block in np.unique(blocks):
        mine = np.flatnonzero(blocks == block)
        if len(mine) > 1:
            error = fit[mine] - case.truth[mine]
            found[mine] = np.abs(error - np.median(error, axis=0)).max(axis=1)
    return found


def component_errors(case, fit, component, linked):
    """Error of every linked tile relative to the first linked one of its component, per axis."""
    found = np.full((len(case.tiles), 3), np.nan)
    for c in np.unique(component):
        mine = np.flatnonzero((component == c) & linked)
        if len(mine) > 1:
            error = fit[mine] - case.truth[mine]
            found[mine] = np.abs(error - error[0])
    return found
