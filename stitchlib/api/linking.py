"""Alignments as a graph: which sources they connect."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from stitchlib.api.alignments import Numbers
from stitchlib.arrange import Links
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
