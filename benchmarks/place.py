"""CPU time of the placement, a tenth of the links wrong: python -m benchmarks.place [TILES ...]."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.stages import Figure, cpu_seconds
from stitchlib.core.links import Links
from stitchlib.core.placement import Problem, optimise
from stitchlib.core.solve import least_squares

GOALS = {10_000: 50.0, 100_000: 1000.0}
"""Most milliseconds of one solve, by number of tiles."""


def problem(
    tiles: int, wrong: float = 0.1, axes: int = 3
) -> tuple[Problem, np.ndarray, np.ndarray]:
    """Make a square grid; return it, which links are wrong, and where the tiles are.

    Tiles are off by up to 4 voxels, links err by 0.15, wrong ones by up to 50.
    """
    side = round(tiles**0.5)
    n = side * side
    rng = np.random.default_rng(0)
    number = np.arange(n).reshape(side, side)
    pre = np.concatenate([number[:-1].ravel(), number[:, :-1].ravel()])
    post = np.concatenate([number[1:].ravel(), number[:, 1:].ravel()])
    axis = np.repeat([0, 1], side * (side - 1))
    index = np.column_stack([*np.divmod(np.arange(n), side), np.zeros(n, int)])
    truth = rng.uniform(-4, 4, (n, axes))
    error = 0.15 * rng.uniform(0.5, 1.5, (len(pre), axes))
    found = truth[post] - truth[pre] + error * rng.standard_normal(error.shape)
    bad = rng.random(len(pre)) < wrong
    found[bad] += rng.uniform(-50, 50, (bad.sum(), axes))
    links = Links(n, pre, post, found, error, np.zeros(len(pre), bool), axis, index[pre])
    return Problem(links, index, np.zeros(n, bool), np.zeros((n, axes))), bad, truth


def place_figures(
    sizes: Sequence[int] = tuple(GOALS), robust: Sequence[int] | None = None
) -> Iterator[Figure]:
    """One weighted solve, and the whole robust placement, of grids of so many tiles.

    The latter of the sizes ``robust`` alone, where they are given: a large one takes a minute.
    """
    for tiles in sizes:
        what, bad, truth = problem(tiles)
        links = what.links
        ends = (links.n, links.pre, links.post, links.displacement)
        weight = 1 / links.error.mean(axis=1) ** 2
        (seconds,) = cpu_seconds(lambda e=ends, w=weight: least_squares(*e, weight=w))
        yield Figure.most(f"place: solve {tiles} tiles", seconds * 1e3, GOALS.get(tiles), "ms CPU")
        if robust is not None and tiles not in robust:
            continue
        start = time.process_time()
        solution = optimise(what)
        seconds = time.process_time() - start
        off = solution.x - truth
        off = np.abs(off - np.median(off, axis=0)).max(axis=1)
        astray = int((off[solution.placed] > 1).sum())
        kept = int((bad & solution.good).sum())
        yield Figure(
            f"place: {tiles} tiles, robust, 10 % of links wrong",
            f"{seconds:.1f} s CPU; {kept} of {bad.sum()} wrong links believed; "
            f"{astray} of {solution.placed.sum()} placed tiles off by more than a voxel",
            "no tile off",
            astray == 0,
        )


if __name__ == "__main__":
    for figure in place_figures([int(a) for a in sys.argv[1:]] or tuple(GOALS)):
        print(figure.row(), flush=True)
