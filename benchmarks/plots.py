"""Plots and tables for the documentation: shares of links, and how surely they are known."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import scipy.stats

if TYPE_CHECKING:
    from benchmarks.calibration import Judged

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
            _point(axes, at, hits, of, label=name if b == len(EDGES) - 2 else None, **style)
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


def _point(axes: object, at: float, hits: int, of: int, **style: object) -> None:
    """Draw a share with its 95 % interval."""
    share = hits / of
    low, high = interval(hits, of)
    axes.errorbar(  # type: ignore[attr-defined]
        [at], [share], [[share - low], [max(0.0, high - share)]], ms=5, lw=1.2, **style
    )
