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


def against_photons(
    figures: dict[int, dict[str, tuple[float, float, float]]], folder: Path
) -> None:
    """Draw which share of links is right, and which is wrong but called ok, against photons.

    Parameters
    ----------
    figures : dict
        By photons and method: shares right, ok, and wrong but ok.
    folder : Path
        Where ``photons.png`` goes.
    """
    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    figure, both = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharex=True)
    for name in next(iter(figures.values())):
        for axes, which in zip(both, (0, 2), strict=True):
            share = [methods[name][which] for methods in figures.values()]
            axes.semilogx(list(figures), share, "o-", label=name)
    ok = [methods["stitchlib"][1] for methods in figures.values()]
    both[0].semilogx(list(figures), ok, ":", color="C0", label="stitchlib, called ok")
    titles = ("within one voxel", "wrong, but called ok")
    for axes, title in zip(both, titles, strict=True):
        axes.set(title=title, xlabel="photons at a bright voxel", ylim=(-0.03, 1.03))
    both[0].set_ylabel("share of links")
    both[0].legend(fontsize="small")
    figure.savefig(folder / "photons.png", dpi=100)
