"""Compare the placement with plain least squares and a tree, on links with known truth.

Usage: python benchmarks/placement_robustness.py   (prints the table of docs/placement.md)
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stitchlib.core.solve import least_squares
from stitchlib.place import place
from tests.linkcases import CASES, Case, block_errors, component_errors, make

SIZES, SEEDS = (3, 5, 7, 10), range(5)


def plain(case: Case) -> np.ndarray:
    """Corners by plain least squares over all links, voxels; tiles without links at nominal."""
    wanted = np.array([k.shift for k in case.links]).reshape(-1, 3)
    x, _ = least_squares(len(case.tiles), *case.ends.T, wanted)
    return x + np.array(case.nominal)


def main() -> None:
    """Print the table."""
    logging.disable()
    print("| case | tiles determined | plain least squares | tree | ours | wrong links named "
          "| off and not flagged |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for name, options in CASES.items():
        row = np.zeros(8, int)
        for size in SIZES:
            for seed in SEEDS:
                row += compare(make((size, size), 100 + seed, **options))
        print(f"| {name} | {row[0]} | {row[1]} | {row[2]} | {row[3]} | {row[5]} of {row[4]} "
              f"| {row[6]} of {row[7]} |")  # fmt: skip


def compare(case: Case) -> np.ndarray:
    """Count: determined, off (plain, tree, ours), wrong links, named, silent, placed."""
    common = {"index": case.index, "ndim": case.ndim}
    ours = place(case.tiles, case.nominal, case.links, 0.99, **common)
    tree = place(case.tiles, case.nominal, case.links, 0.99, method="tree", **common)
    fit, straight = (np.array([p.fit for p in q.positions]) for q in (ours, tree))
    found = [block_errors(case, x) for x in (plain(case), straight, fit)]
    status = {(k.pre, k.post): k.status for k in ours.links}
    named = [
        status[k.pre, k.post] == "rejected"
        for k, wrong in zip(case.links, case.wrong, strict=True)
        if wrong
    ]
    sigma = np.array([p.sigma or (np.nan,) * 3 for p in ours.positions])
    linked = np.array([p.status == "placed" for p in ours.positions])
    component = np.array([p.component for p in ours.positions])
    error = component_errors(case, fit, component, linked)
    off = ((error > 1) & (error > 3 * sigma)).any(axis=1)
    silent = off & (np.nan_to_num(sigma).max(axis=1) < 1)
    return np.array(
        [np.isfinite(found[2]).sum(), *((e > 1).sum() for e in found), len(named), sum(named),
         silent.sum(), linked.sum()]
    )  # fmt: skip


if __name__ == "__main__":
    main()
