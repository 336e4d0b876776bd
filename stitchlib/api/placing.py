"""Placement functions: alignments to positions, and what is connected to what."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.api.alignments import Numbers
from stitchlib.arrange import METHODS, Links, connected_positions, grouped_positions
from stitchlib.core.boxes import Point
from stitchlib.core.shifts import check_axis, whole_number
from stitchlib.errors import InputError

log = logging.getLogger(__name__)


def sources_from_alignments(alignments: Sequence[Any]) -> list[Any]:
    """Return the sources of alignments.

    Parameters
    ----------
    alignments : list of Alignment

    Returns
    -------
    list of Source
        Each once, in the order in which they come first.

    Raises
    ------
    InputError
        Where an alignment lacks a source.
    """
    found: dict[int, Any] = {}
    for alignment in alignments:
        for source in alignment.sources:
            if source is None:
                raise InputError(f"alignment {alignment.name}: lacks a source; set pre and post")
            found.setdefault(source.id, source)
    return list(found.values())


def filter_alignments(alignments: Sequence[Any], min_quality: Any = -np.inf) -> list[Any]:
    """Return the alignments above a quality.

    Parameters
    ----------
    alignments : list of Alignment
    min_quality : float, tuple of float or None
        The quality must be above it; (least, most): strictly between; None keeps all of them, also
        those without signal (−inf).

    Returns
    -------
    list of Alignment

    Raises
    ------
    InputError
        For a tuple of another length.
    """
    if min_quality is None:
        return list(alignments)
    if np.ndim(min_quality) == 0:
        return [a for a in alignments if a.quality > min_quality]
    if len(min_quality) != 2:
        raise InputError(f"min_quality = {min_quality!r}: must be a number or (least, most)")
    least, most = min_quality
    return [a for a in alignments if least < a.quality < most]


def check_alignments_and_sources(
    alignments: Sequence[Any], sources: Sequence[Any], verbose: bool = False
) -> bool:
    """Check that alignments and sources belong together.

    Parameters
    ----------
    alignments : list of Alignment
    sources : list of Source
    verbose : bool
        Log how many there are.

    Returns
    -------
    bool
        True.

    Raises
    ------
    InputError
        Where an alignment has a source that is not in the list, lacks one, or has the same twice,
        or a source is in the list twice; names it.
    """
    seen: set[int] = set()
    for source in sources:
        if id(source) in seen:
            raise InputError(f"{source!r}: is in the list of sources twice")
        seen.add(id(source))
    numbers = Numbers(sources)
    for alignment in alignments:
        for source in alignment.sources:
            if source is None or numbers.find(source) is None:
                raise InputError(
                    f"alignment {alignment.name}: its source {source!r} is not in the list of "
                    f"{len(sources)} sources; add it or remove the alignment"
                )
        if numbers.find(alignment.pre) == numbers.find(alignment.post):
            raise InputError(f"alignment {alignment.name}: aligns a source with itself")
    level = logging.INFO if verbose else logging.DEBUG
    log.log(level, "%d alignments of %d sources belong together", len(alignments), len(sources))
    return True


def links_of(alignments: Sequence[Any], sources: Sequence[Any], axis: int | None = None) -> Links:
    """Return the alignments between numbered sources, of one axis only where it is given."""
    check_alignments_and_sources(alignments, sources)
    numbers = Numbers(sources)
    ndim = sources[0].ndim if sources and axis is None else 1
    part = slice(None) if axis is None else slice(axis, axis + 1)
    return Links.of(
        len(sources),
        ndim,
        [
            (numbers.find(a.pre) or 0, numbers.find(a.post) or 0, a.displacement[part])
            for a in alignments
        ],
    )


def connected(alignments: Sequence[Any], sources: Any = None) -> bool:
    """Return whether alignments connect all sources.

    Parameters
    ----------
    alignments : list of Alignment
    sources : list of Source, optional
        Default those of the alignments.

    Returns
    -------
    bool

    Raises
    ------
    InputError
        Where alignments and sources do not belong together.
    """
    return len(connected_components(alignments, sources)) <= 1


def connected_components(
    alignments: Sequence[Any], sources: Any = None, min_quality: Any = None,
    with_sources: bool = False,
) -> Any:  # fmt: skip
    """Return the groups that alignments connect.

    Parameters
    ----------
    alignments : list of Alignment
    sources : list of Source, optional
        Default those of the alignments.
    min_quality : float, tuple of float or None
        Only alignments above it count; as in `filter_alignments`.
    with_sources : bool
        Also return the sources of each group.

    Returns
    -------
    components : list of list of Alignment
        In the order of their first source; a source without alignments is an empty list.
    component_sources : list of list of Source
        With ``with_sources`` only.

    Raises
    ------
    InputError
        Where alignments and sources do not belong together.
    """
    sources = sources_from_alignments(alignments) if sources is None else list(sources)
    used = filter_alignments(alignments, min_quality)
    groups = links_of(used, sources).groups()
    group_of = {i: number for number, group in enumerate(groups) for i in group}
    numbers = Numbers(sources)
    components: list[list[Any]] = [[] for _ in groups]
    for alignment in used:
        components[group_of[numbers.find(alignment.pre) or 0]].append(alignment)
    if not with_sources:
        return components
    return components, [[sources[i] for i in group] for group in groups]


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


def copy_sources_and_alignments(sources: Any, alignments: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Copy sources and alignments, but not the voxels.

    Parameters
    ----------
    sources : list of Source or None
        None = those of the alignments.
    alignments : list of Alignment

    Returns
    -------
    sources : list of Source
        With ids of their own.
    alignments : list of Alignment
        Of the copied sources, with the same displacements (voxels) and qualities.

    Raises
    ------
    InputError
        Where an alignment has a source that is not in the list.
    """
    sources = sources_from_alignments(alignments) if sources is None else list(sources)
    check_alignments_and_sources(alignments, sources)
    return rebound(sources, [source.copy() for source in sources], alignments)


def rebound(
    sources: Sequence[Any], others: Sequence[Any], alignments: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Return other sources, and copies of the alignments between them instead of ``sources``.

    Alignments of sources that are not in the list are left out.
    """
    numbers = Numbers(sources)
    copies = []
    for alignment in alignments:
        pre, post = numbers.find(alignment.pre), numbers.find(alignment.post)
        if pre is None or post is None:
            continue
        copy = alignment.copy()
        copy.pre, copy.post = others[pre], others[post]
        copies.append(copy)
    return list(others), copies
