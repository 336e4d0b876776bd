"""Colours that neighbouring tiles don't share."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from stitchlib.core.boxes import Box, touching

Colour = tuple[float, float, float]

PAIR: tuple[Colour, ...] = ((1.0, 0.0, 1.0), (0.0, 1.0, 0.0))
"""Magenta and green: white where both agree, also to the colour-blind."""

WHITE: Colour = (1.0, 1.0, 1.0)

PALETTE: tuple[Colour, ...] = (
    (0.38, 0.78, 1.0),
    (1.0, 0.67, 0.0),
    (0.0, 1.0, 0.73),
    (1.0, 0.59, 0.81),
    (1.0, 0.95, 0.28),
    (0.0, 0.64, 1.0),
    (1.0, 0.44, 0.0),
    WHITE,
)
"""The hues of Okabe and Ito, which colour-blind people can tell apart, at full brightness."""


def palette(n: int) -> tuple[Colour, ...]:
    """Return at least ``n`` colours: the palette, and further hues where that is not enough.

    Eight do for any grid of tiles in three dimensions.
    """
    golden = 0.618034  # steps along the hues that never come back to where they were
    more = (
        colorsys.hsv_to_rgb(k * golden % 1, 0.5 + 0.5 * (k % 2), 1) for k in range(n - len(PALETTE))
    )
    return (*PALETTE, *more)


def colour_numbers(boxes: Sequence[Box], pairs: Sequence[tuple[int, int]] = ()) -> list[int]:
    """Return a number for each box, such that those that overlap have different ones.

    Parameters
    ----------
    boxes : list of Box
        In one space, voxels.
    pairs : list of tuple of int
        Further neighbours, by their index.

    Returns
    -------
    list of int
        The least number that no neighbour earlier in the list has.
    """
    neighbours = [set(others) for others in touching(boxes)]
    for a, b in pairs:
        neighbours[a].add(b)
        neighbours[b].add(a)
    numbers: list[int] = []
    for i, others in enumerate(neighbours):
        taken = {numbers[j] for j in others if j < i}
        numbers.append(next(n for n in range(len(taken) + 1) if n not in taken))
    return numbers


def default_colours(boxes: Sequence[Box], pairs: Sequence[tuple[int, int]] = ()) -> list[Colour]:
    """Return a colour for each box: white for one, `PAIR` for two, else one no neighbour has."""
    if len(boxes) == 1:
        return [WHITE]
    if len(boxes) == 2:
        return list(PAIR)
    numbers = colour_numbers(boxes, pairs)
    colours = palette(max(numbers, default=0) + 1)
    return [colours[n] for n in numbers]
