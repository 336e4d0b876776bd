"""Plots and tables for the documentation: shares of links, and how surely they are known."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import scipy.stats
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from benchmarks.calibration import Judged
    from benchmarks.photons import Figures

EDGES = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)
"""Of the stated confidence; the last range includes its upper end."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
"""That every eye tells apart (Okabe and Ito)."""
MARKS = "osD^v"


def interval(hits: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval (Wilson) of a share of which ``hits`` of ``of`` were seen."""
    found = scipy.stats.binomtest(hits, of).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def _binned(links: Sequence[Judged]) -> list[tuple[int, int]]:
    """Return how many links are right, of how many, in every range of the stated confidence."""
    stated = np.array([link.confidence for link in links])
    right = np.array([not link.wrong for link in links])
    bins = np.clip(np.digitize(stated, EDGES[1:-1]), 0, len(EDGES) - 2)
    return [(int(right[bins == b].sum()), int((bins == b).sum())) for b in range(len(EDGES) - 1)]


def _names() -> list[str]:
    closed = [")"] * (len(EDGES) - 2) + ["]"]
    return [f"[{a:g}, {b:g}{c}" for a, b, c in zip(EDGES[:-1], EDGES[1:], closed, strict=True)]


def shares_table(groups: Mapping[str, Sequence[Judged]]) -> Iterator[str]:
    """Yield the lines of a table: which share of links is right, by stated confidence."""
    yield "| stated confidence | " + " | ".join(_names()) + " |"
    yield "|---" * len(EDGES) + "|"
    for name, links in groups.items():
        cells = [f"{100 * hits / of:.4g} % of {of}" if of else "–" for hits, of in _binned(links)]
        yield f"| {name} | " + " | ".join(cells) + " |"


def reliability(groups: Mapping[str, Sequence[Judged]], path: Path) -> None:
    """Draw which share of links is right against their stated confidence.

    Parameters
    ----------
    groups : mapping
        Links by name.
    path : Path
        Of the picture.
    """
    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for b, ends in enumerate(itertools.pairwise(EDGES)):
        axes.fill_between([b - 0.45, b + 0.45], *ends, color="0.88", lw=0)
        axes.plot([b - 0.45, b + 0.45], [ends[1]] * 2, color="0.6", lw=0.8)
    for number, (name, links) in enumerate(groups.items()):
        style = {"color": COLOURS[number], "marker": MARKS[number]}
        for b, (hits, of) in enumerate(_binned(links)):
            if not of:
                continue
            at = b + 0.17 * (number - (len(groups) - 1) / 2)
            label = name if b == len(EDGES) - 2 else None
            _shares(axes, np.array([at]), [hits], of, label=label, ms=5, lw=1.2, **style)
            axes.annotate(
                str(of), (at, 0), (0, -3), textcoords="offset points", rotation=90,
                ha="center", va="top", fontsize=7, color=COLOURS[number], annotation_clip=False,
            )  # fmt: skip
    axes.set_xticks(range(len(EDGES) - 1), _names())
    axes.tick_params(axis="x", length=0, pad=28)
    axes.set(
        xlabel="stated confidence (above: number of links)", ylabel="share within one voxel",
        ylim=(0, 1.02),
    )  # fmt: skip
    title = "grey: what is stated\nbars: 95 % interval"
    figure.legend(loc="outside right upper", frameon=False, title=title)
    figure.savefig(path, dpi=110)


def against_photons(figures: Figures, path: Path) -> None:
    """Draw how many links are wrong, and how far links are off, against the number of photons.

    Parameters
    ----------
    figures : dict
        By kind of tiles, number of photons and method.
    path : Path
        Of the picture.
    """
    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    figure, grid = plt.subplots(
        2, len(figures), figsize=(9, 6.2), layout="constrained", sharex=True, sharey="row"
    )
    for column, (tiles, levels) in zip(grid.T, figures.items(), strict=True):
        photons = np.array(list(levels))
        first = next(iter(levels.values()))
        count = next(iter(first.values())).off.size
        for number, name in enumerate(first):
            seen = [methods[name] for methods in levels.values()]
            look = {"color": COLOURS[number], "marker": MARKS[number], "ms": 5, "lw": 1.3}
            # A little aside, so that no bar hides another.
            at = photons * 1.04 ** (number - 1)
            wrong = [s.wrong_but_ok for s in seen]
            _shares(column[0], at, wrong, count, label=name, **look)
            column[1].plot(at, [np.median(s.off) for s in seen], **look)
            if not all(s.ok.all() for s in seen):
                unsure = [int((~s.ok).sum()) for s in seen]
                look |= {"ls": ":", "mfc": "white"}
                _shares(column[0], at, unsure, count, label=f"{name}: not called ok", **look)
        column[0].set(title=f"{tiles}, {count} links a point", ylim=(-0.03, 1.03))
        column[1].axhline(1, color="0.6", lw=0.8)
        column[1].set(xscale="log", yscale="log", xlabel="photons at a bright voxel")
        column[1].set_xticks(photons, [f"{p:g}" for p in photons])
        column[1].minorticks_off()
    grid[0, 0].set_ylabel("share of links called ok\nand off by more than a voxel")
    grid[1, 0].set_ylabel("median error of all links, voxels\n(line: one voxel)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


def _shares(axes: Axes, at: NDArray[Any], hits: Sequence[int], of: int, **style: Any) -> None:
    """Draw shares and their 95 % intervals."""
    share = np.array(hits) / of
    ends = np.array([interval(k, of) for k in hits])
    bars = np.abs(np.column_stack([share - ends[:, 0], ends[:, 1] - share]).T)
    axes.errorbar(at, share, bars, **{"elinewidth": 0.8, **style})
