"""CPU time of the placement: one weighted solve, and all of it with a tenth of the links wrong.

Usage: python benchmarks/place.py [TILES ...]   (default: 10000 100000)
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stitchlib.core.placement import Problem, optimise
from stitchlib.core.robust import Links
from stitchlib.core.solve import least_squares


def problem(tiles: int, wrong: float, axes: int = 3) -> tuple[Problem, np.ndarray]:
    """Make a square grid: jitter 4, errors of 0.15, wrong links by up to 50 voxels."""
    side = round(tiles**0.5)
    rng = np.random.default_rng(0)
    number = np.arange(side * side).reshape(side, side)
    pre = np.concatenate([number[:-1].ravel(), number[:, :-1].ravel()])
    post = np.concatenate([number[1:].ravel(), number[:, 1:].ravel()])
    axis = np.repeat([0, 1], side * (side - 1))
    index = np.column_stack([*np.divmod(np.arange(side * side), side), np.zeros(side * side, int)])
    truth = rng.uniform(-4, 4, (side * side, axes))
    error = 0.15 * rng.uniform(0.5, 1.5, (len(pre), axes))
    found = truth[post] - truth[pre] + error * rng.standard_normal(error.shape)
    bad = rng.random(len(pre)) < wrong
    found[bad] += rng.uniform(-50, 50, (bad.sum(), axes))
    n = side * side
    links = Links(n, pre, post, found, error, np.zeros(len(pre), bool), axis, index[pre])
    return Problem(links, index, np.zeros(n, bool), np.zeros((n, axes))), bad


def best(function, times: int) -> float:
    """Return the least CPU seconds of several calls."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return min(seconds)


def main() -> None:
    """Print one line a size."""
    print("tiles    one solve (s)   per-axis weights (s)   robust, 10 % wrong (s)   wrong kept")
    for tiles in [int(a) for a in sys.argv[1:]] or [10_000, 100_000]:
        what, bad = problem(tiles, 0.1)
        links = what.links
        ends = (links.n, links.pre, links.post, links.displacement)
        weight = 1 / links.error**2
        one = best(lambda: least_squares(*ends, weight=weight[:, 0]), 3)  # noqa: B023
        each = best(lambda: least_squares(*ends, weight=weight), 1)  # noqa: B023
        start = time.process_time()
        solution = optimise(what)
        whole = time.process_time() - start
        kept = int((bad & solution.good).sum())
        print(f"{links.n:7d}  {one:13.3f}   {each:20.3f}   {whole:22.2f}   {kept} of {bad.sum()}")


if __name__ == "__main__":
    main()
