"""The graph of tiles and links: its connected components, and trees in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def components(n: int, pre: NDArray[np.int64], post: NDArray[np.int64]) -> NDArray[np.int64]:
    """Label the connected components of ``n`` nodes.

    Parameters
    ----------
    n : int
        Number of nodes.
    pre, post : array of int, shape (links,)
        The two ends of every link.

    Returns
    -------
    array of int, shape (n,)
        Component of each node, numbered 0, 1, … by their first node.
    """
    links = coo_array((np.ones(len(pre)), (pre, post)), shape=(n, n))
    labels = connected_components(links, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def tree_positions(
    n: int,
    pre: NDArray[np.int64],
    post: NDArray[np.int64],
    displacement: NDArray[np.int64],
    roots: Sequence[int],
) -> NDArray[np.int64]:
    """Add up displacements along breadth-first trees.

    Parameters
    ----------
    n : int
        Number of nodes.
    pre, post : array of int, shape (links,)
        The two ends of every link; of links to equally near nodes, the earlier one counts.
    displacement : array of int, shape (links, axes)
        Position of post minus position of pre.
    roots : sequence of int
        One node of every component; they stay at zero.

    Returns
    -------
    array of int, shape (n, axes)
    """
    beside: list[list[tuple[int, int, int]]] = [[] for _ in range(n)]
    for link, (a, b) in enumerate(zip(pre.tolist(), post.tolist(), strict=True)):
        beside[a].append((b, link, 1))
        beside[b].append((a, link, -1))
    positions = np.zeros((n, displacement.shape[1]), np.int64)
    seen = set(roots)
    queue = deque(roots)
    while queue:
        node = queue.popleft()
        for other, link, sign in beside[node]:
            if other not in seen:
                seen.add(other)
                positions[other] = positions[node] + sign * displacement[link]
                queue.append(other)
    return positions
