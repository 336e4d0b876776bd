"""Placement functions: from alignments to positions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.api.alignments import Numbers
from stitchlib.api.linking import filter_alignments, links_of, sources_from_alignments
from stitchlib.arrange import METHODS, connected_positions, grouped_positions
from stitchlib.core.boxes import Point
from stitchlib.core.shifts import check_axis, whole_number
from stitchlib.errors import InputError

log = logging.getLogger(__name__)


def positions_from_optimization(
    alignments: Sequence[Any], sources: Any = None, min_quality: Any = None,
    fixed_source: Any = None, lower_to_origin: bool = False,
) -> list[Point]:  # fmt: skip
    """Return positions that fit all displacements best, by least squares.

    The sum of |x_post − x_pre − displacement|² is least; the solution relative to the fixed source
    is rounded half to even.

    Parameters
    ----------
    alignments : list of Alignment
    sources : list of Source, optional
        Default those of the alignments.
    min_quality : float, tuple of float or None
        Only alignments above it count; as in `filter_alignments`.
    fixed_source : Source or int, optional
        The source, or its place in the list, that stays where it is; default the first.
    lower_to_origin : bool
        Move all such that the smallest corner is 0.

    Returns
    -------
    list of tuple of int, shape (ndim,) each
        Positions in the order of ``sources``, voxels; nothing is moved.

    Raises
    ------
    DisconnectedError
        Where the alignments do not connect all sources; names the groups.
    InputError
        Where alignments, sources and fixed source do not belong together.
    """
    fixed = 0 if fixed_source is None else fixed_source
    return _positions(alignments, sources, min_quality, (fixed, "optimization", lower_to_origin))


def positions_from_tree(
    alignments: Sequence[Any], sources: Any = None, min_quality: Any = None,
    fixed_source: Any = None, lower_to_origin: bool = False,
) -> list[Point]:  # fmt: skip
    """Return positions by adding up displacements along shortest paths from one source.

    Parameters
    ----------
    alignments : list of Alignment
    sources : list of Source, optional
        Default those of the alignments.
    min_quality : float, tuple of float or None
        Only alignments above it count; as in `filter_alignments`.
    fixed_source : Source or int, optional
        The source, or its place in the list, that stays where it is; default: the first one, put
        at the origin.
    lower_to_origin : bool
        Move all such that the smallest corner is 0.

    Returns
    -------
    list of tuple of int, shape (ndim,) each
        Positions in the order of ``sources``, voxels; nothing is moved.

    Raises
    ------
    DisconnectedError
        Where the alignments do not connect all sources; names the groups.
    InputError
        Where alignments, sources and fixed source do not belong together.
    """
    return _positions(alignments, sources, min_quality, (fixed_source, "tree", lower_to_origin))


def _positions(
    alignments: Sequence[Any], sources: Any, min_quality: Any, how: tuple[Any, str, bool]
) -> list[Point]:
    fixed_source, method, lower_to_origin = how
    sources = sources_from_alignments(alignments) if sources is None else list(sources)
    if not sources:
        return []
    fixed = 0 if fixed_source is None else _number(fixed_source, sources)
    links = links_of(filter_alignments(alignments, min_quality), sources)
    names = [str(source.identifier) for source in sources]
    positions = connected_positions(links, fixed, method, names)
    if fixed_source is not None:
        positions = positions + sources[fixed].lower
    if lower_to_origin:
        positions = positions - positions.min(axis=0)
    return points(positions)


def _number(source: Any, sources: Sequence[Any]) -> int:
    if hasattr(source, "id"):
        found = Numbers(sources).find(source)
        if found is None:
            raise InputError(f"fixed_source = {source!r}: is not one of the sources")
        return found
    number = whole_number(source, "fixed_source")
    if not -len(sources) <= number < len(sources):
        raise InputError(f"fixed_source = {number}: there are {len(sources)} sources")
    return number % len(sources)


def points(positions: NDArray[np.int64]) -> list[Point]:
    """Return the rows of an array of int as tuples of plain int."""
    return [tuple(row) for row in positions.tolist()]


def place_layout(
    layout: Any, method: str = "optimization", min_quality: Any = None,
    lower_to_origin: bool = False, verbose: bool = False,
) -> Any:  # fmt: skip
    """Place the sources of a layout; every connected group keeps its middle source in place.

    Parameters
    ----------
    layout : Layout
    method : {'optimization', 'tree'}
        Least squares over all alignments, or sums along shortest paths.
    min_quality : float, tuple of float or None
        Only alignments above it count; as in `filter_alignments`.
    lower_to_origin : bool
        Move all such that the smallest corner is 0.
    verbose : bool
        Log how many groups there are.

    Returns
    -------
    Layout
        The same one; its sources are at the new positions, voxels.

    Raises
    ------
    InputError
        For an unknown method, or alignments of other sources.
    """
    _place(layout, method, min_quality, None, verbose)
    if lower_to_origin:
        layout.lower_to_origin()
    return layout


def place_layout_axis(
    layout: Any, axis: int | None = 2, method: str = "optimization", min_quality: Any = None,
    lower_to_origin: bool = False, verbose: bool = False,
) -> Any:  # fmt: skip
    """Place the sources of a layout along one axis only.

    Parameters
    ----------
    layout : Layout
    axis : int or None
        None = the last.
    method : {'optimization', 'tree'}
        As in `place_layout`.
    min_quality : float, tuple of float or None
        Only alignments above it count; as in `filter_alignments`.
    lower_to_origin : bool
        Move all along the axis such that the smallest corner is 0 there.
    verbose : bool
        Log how many groups there are.

    Returns
    -------
    Layout
        The same one; its sources are at the new positions, voxels.

    Raises
    ------
    InputError
        For an unknown method or axis, or alignments of other sources.
    """
    axis = check_axis(-1 if axis is None else axis, layout.ndim)
    _place(layout, method, min_quality, axis, verbose)
    if lower_to_origin:
        least = min(source.position[axis] for source in layout.sources)
        layout.move(tuple(-least if d == axis else 0 for d in range(layout.ndim)))
    return layout


def _place(layout: Any, method: str, min_quality: Any, axis: int | None, verbose: bool) -> None:
    if method not in METHODS:
        raise InputError(f"method = {method!r}: must be one of {', '.join(METHODS)}")
    if not layout.sources:
        return
    part = slice(None) if axis is None else slice(axis, axis + 1)
    links = links_of(filter_alignments(layout.alignments, min_quality), layout.sources, axis)
    positions = np.array([source.position for source in layout.sources], np.int64)
    positions[:, part] = grouped_positions(links, positions[:, part], method)
    for source, position in zip(layout.sources, points(positions), strict=True):
        source.position = position
    level = logging.INFO if verbose else logging.DEBUG
    log.log(level, "placed %d sources in %d groups", links.n, len(links.groups()))


def alignments_from_source_positions(alignments: Sequence[Any]) -> list[Any]:
    """Set the displacements of alignments to what their sources' positions are.

    Parameters
    ----------
    alignments : list of Alignment

    Returns
    -------
    list of Alignment
        The same ones; their shifts are 0, voxels.

    Raises
    ------
    InputError
        Where an alignment lacks a source.
    """
    for alignment in alignments:
        if alignment.pre is None or alignment.post is None:
            raise InputError(f"alignment {alignment.name}: lacks a source; set pre and post")
        alignment.shift = (0,) * alignment.ndim
    return list(alignments)
