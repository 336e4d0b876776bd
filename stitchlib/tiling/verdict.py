"""What the pixels say about a sheet: warnings, the overlap, and how far tiles stray."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stitchlib.config import Overlap
from stitchlib.core.boxes import AXES
from stitchlib.tiling.found import Found, Triple
from stitchlib.tiling.metadata import Lengths
from stitchlib.tiling.trial import Trial, Tried

SCALE = 0.02
"""Relative error of a distance from which the voxel size is doubted."""


@dataclass(frozen=True, slots=True)
class Turn:
    """How the axes of a grid are put right: swapped first, then flipped."""

    swap: bool = False
    """Whether x and y are exchanged."""
    flip: tuple[int, ...] = ()
    """Axes that run the other way."""

    def __bool__(self) -> bool:
        return self.swap or bool(self.flip)

    def as_options(self) -> str:
        """Return the command line's options for it."""
        words = ["--swap-xy"] * self.swap
        return " ".join(words + [f"--flip {AXES[d]}" for d in self.flip])

    def apply(self, found: Sequence[Found]) -> list[Found]:
        """Return the tiles at their other places, each dataset within the bounds that it had."""
        result = list(found)
        for dataset in {f.dataset for f in found}:
            members = [i for i, f in enumerate(found) if f.dataset == dataset]
            places = [self._swapped(found[i].place) for i in members]
            corners = [found[i].corner for i in members]
            known = [self._swapped(c) for c in corners if c is not None]
            for k, i in enumerate(members):
                place = tuple(int(v) for v in self._flipped(places[k], places))
                corner = None
                if len(known) == len(members):
                    x, y, z = self._flipped(known[k], known)
                    corner = (x, y, z)
                result[i] = found[i].moved(place, corner)
        return result

    def _swapped(self, at: Sequence[float]) -> tuple[float, ...]:
        return (at[1], at[0], at[2]) if self.swap else tuple(at)

    def _flipped(self, at: Sequence[float], others: Sequence[Sequence[float]]) -> tuple[float, ...]:
        values = list(at)
        for d in self.flip:
            column = [other[d] for other in others]
            values[d] = min(column) + max(column) - at[d]
        return tuple(values)


def turn_of(trial: Trial) -> Turn:
    """Return the turn that would make the grid fit the pixels.

    One comparison that says otherwise may be chance; it counts where it is all there is.
    """
    sides = {axis: trial.side(axis) for axis in (0, 1) if trial.along(axis)}
    known = {axis: side for axis, side in sides.items() if side is not None}
    swap = bool(known) and all(side[0] != axis for axis, side in known.items())
    flip = {side[0] for side in known.values() if side[1] < 0}
    if not swap and any(side[0] != axis for axis, side in known.items()):
        return Turn()  # they contradict each other: nothing that a turn could mend
    return Turn(swap, tuple(sorted(flip)))


def overlaps(trial: Trial) -> dict[int, int]:
    """Return the measured overlap by grid axis, voxels."""
    found = {}
    for axis in (0, 1):
        pairs = [pair.overlap for pair in trial.along(axis) if pair.side == (axis, 1)]
        if pairs:
            found[axis] = round(float(np.median(pairs)))
    return found


def deviations(trial: Trial, overlap: Mapping[int, float]) -> Triple:
    """Return how far, at most, the tried pairs are from where the sheet puts them; voxels."""
    found = [_off(pair, overlap) for pair in trial.pairs if pair.side == (pair.axis, 1)]
    x, y, z = np.abs(found).max(axis=0) if found else (0.0, 0.0, 0.0)
    return float(x), float(y), float(z)


def _nominal(pair: Tried, overlap: Mapping[int, float]) -> Triple:
    a, b = pair.pre.corner, pair.post.corner
    if a is not None and b is not None:
        return b[0] - a[0], b[1] - a[1], b[2] - a[2]
    step = [0.0, 0.0, 0.0]
    step[pair.axis] = pair.shape[pair.axis] - overlap.get(pair.axis, pair.overlap)
    return step[0], step[1], step[2]


def _off(pair: Tried, overlap: Mapping[int, float]) -> list[float]:
    nominal = _nominal(pair, overlap)
    return [d - n for d, n in zip(pair.displacement, nominal, strict=True)]


def warnings(
    trial: Trial, said: Mapping[int, Overlap], voxel_size: Lengths, *, microns: bool
) -> Iterator[str]:
    """Yield what does not fit the pixels.

    Parameters
    ----------
    trial : Trial
        What was tried.
    said : mapping
        The overlap that a person named, by axis: a fraction, or voxels.
    voxel_size : tuple
        µm along x, y, z.
    microns : bool
        Whether positions come from µm.
    """
    if trial.tried and not trial.pairs:
        yield (
            f"no overlap was recognised in {trial.tried} pairs of neighbours: little to see there, "
            "tiles that do not overlap, or a wrong grid"
        )
        return
    turn = turn_of(trial)
    if turn:
        yield (
            "the pixels say that the grid's axes are "
            + " and ".join(_words(turn))
            + f"; remove the sheet and run again with {turn.as_options()}"
        )
        return
    sides = {(pair.axis, pair.side) for pair in trial.pairs}
    if any(side != (axis, 1) for axis, side in sides):
        yield "some neighbours fit at other sides than the grid says: are tiles mixed up?"
    yield from _overlap_warnings(trial, said)
    yield from _scale_warnings(trial, voxel_size, microns=microns)


def _words(turn: Turn) -> Iterator[str]:
    if turn.swap:
        yield "swapped (x is y)"
    for d in turn.flip:
        yield f"flipped along {AXES[d]}"


def _overlap_warnings(trial: Trial, said: Mapping[int, Overlap]) -> Iterator[str]:
    for axis, measured in overlaps(trial).items():
        extent = trial.along(axis)[0].shape[axis]
        asked = said.get(axis)
        if asked is None or isinstance(asked, tuple):
            continue
        voxels = asked * extent if isinstance(asked, float) else asked
        if abs(voxels - measured) > max(0.03 * extent, 2 * trial.precision):
            yield (
                f"the overlap along {AXES[axis]} is {measured} voxels ({measured / extent:.1%}) on "
                f"the pixels, not {voxels:.0f}"
            )


def _scale_warnings(trial: Trial, voxel_size: Lengths, *, microns: bool) -> Iterator[str]:
    for axis in (0, 1):
        pairs = [p for p in trial.along(axis) if p.side == (axis, 1) and p.pre.corner is not None]
        ratios = [p.displacement[axis] / n for p in pairs if (n := _nominal(p, {})[axis]) > 0]
        if not ratios or max(ratios) - min(ratios) > SCALE:
            continue
        ratio = float(np.median(ratios))
        if abs(ratio - 1) <= SCALE:
            continue
        text = (
            f"along {AXES[axis]}, neighbours are {ratio:.3f} times as far apart on the pixels as "
            "their positions say"
        )
        size = voxel_size[axis]
        if microns and size is not None:
            text += f"; is the voxel size {size / ratio:.4g} µm, not {size:.4g}?"
        yield text


def max_shift(off: Triple, shape: Sequence[int]) -> dict[str, int]:
    """Return a range to search around the nominal displacement, from how far tiles were seen to be.

    Few pairs were tried: twice as much, and some more; at most a quarter of the tile.
    """
    found = {
        AXES[d]: max(1, min(shape[d] // 4, 5 * math.ceil(max(15.0, 2 * off[d] + 10) / 5)))
        for d in range(2)
    }
    if shape[2] > 1:
        found["z"] = max(1, min(shape[2] // 2, math.ceil(max(8.0, 2 * off[2] + 2))))
    return found


def sheet_order(found: Sequence[Found]) -> list[Found]:
    """Sort for the sheet: a channel that all tiles have comes first, as it is the reference."""
    channels = list(dict.fromkeys(f.channel for f in found))
    count = {c: sum(f.channel == c for f in found) for c in channels}
    channels.sort(key=lambda c: -count[c])
    return sorted(
        (replace(f) for f in found),
        key=lambda f: (f.dataset, f.place[::-1], channels.index(f.channel)),
    )
