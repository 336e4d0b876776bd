"""Plots for the documentation."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

EDGES = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)


def reliability(links: list[tuple[str, float, bool, float]], folder: Path) -> None:
    """Draw and print which share of links is right against their stated confidence.

    Parameters
    ----------
    links : list of tuple
        Kind, confidence, whether wrong, NCC of the true overlap.
    folder : Path
        Where ``reliability.png`` goes.
    """
    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    confidence = np.array([link[1] for link in links])
    wrong = np.array([link[2] for link in links])
    bins = np.clip(np.digitize(confidence, EDGES[1:-1]), 0, len(EDGES) - 2)
    stated, right = [], []
    for b in range(len(EDGES) - 1):
        here = bins == b
        if here.any():
            stated.append(confidence[here].mean())
            right.append(1 - wrong[here].mean())
            print(f"{EDGES[b]:g}-{EDGES[b + 1]:g}: {here.sum()} links, {right[-1]:.4f} right")
    figure, axes = plt.subplots(figsize=(4, 4), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.7")
    axes.plot(stated, right, "o-")
    axes.set(xlabel="stated confidence", ylabel="share within one voxel")
    figure.savefig(folder / "reliability.png", dpi=100)
