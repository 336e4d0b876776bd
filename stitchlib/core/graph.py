"""The graph of tiles and links: its connected components."""

from __future__ import annotations

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
