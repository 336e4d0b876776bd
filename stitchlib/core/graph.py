"""The graph of tiles and links: components, a spanning forest, bridges and the ways around."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def components(n: int, pre: Ints, post: Ints) -> Ints:
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
    links = scipy.sparse.coo_array((np.ones(len(pre)), (pre, post)), shape=(n, n))
    labels = scipy.sparse.csgraph.connected_components(links, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


@dataclass(frozen=True, slots=True)
class Forest:
    """A tree of links in every component, breadth first from its root."""

    order: Ints
    """Nodes, parents before children; shape (n,)."""
    parent: Ints
    """Parent of each node; −1 at a root; shape (n,)."""
    link: Ints
    """Link to the parent; −1 at a root; shape (n,)."""
    levels: tuple[Ints, ...]
    """The nodes again, by their depth; roots first."""

    def accumulate(self, step: NDArray[Any]) -> NDArray[Any]:
        """Add up a value per node, shape (n, …), along the way from the root."""
        total = step.copy()
        for nodes in self.levels[1:]:
            total[nodes] += total[self.parent[nodes]]
        return total

    def path(self, a: int, b: int) -> list[int]:
        """Links of the tree between two nodes of one component."""
        ways: tuple[list[int], list[int]] = ([], [])
        depth = {}
        for i, nodes in enumerate((a, b)):
            node, links = nodes, ways[i]
            while node >= 0:
                if i == 0:
                    depth[node] = len(links)
                elif node in depth:
                    del ways[0][depth[node] :]
                    break
                links.append(int(self.link[node]))
                node = int(self.parent[node])
        return ways[0] + ways[1][::-1]


def forest(n: int, pre: Ints, post: Ints, roots: Ints) -> Forest:
    """Span every component breadth first from its root.

    Parameters
    ----------
    n : int
        Number of nodes.
    pre, post : array of int, shape (links,)
        The two ends of every link.
    roots : array of int
        One node of each component.
    """
    # A further node that links to every root makes one walk of it.
    rows = np.concatenate([pre, roots])
    columns = np.concatenate([post, np.full(len(roots), n, np.int64)])
    graph = scipy.sparse.coo_array(
        (np.ones(len(rows)), (rows, columns)), shape=(n + 1, n + 1)
    ).tocsr()
    walk = scipy.sparse.csgraph.breadth_first_order(graph, n, directed=False)
    order, parent = (np.array(part, np.int64) for part in walk)
    parent = parent[:n]
    parent[parent == n] = -1
    order = order[1:]
    depth = np.zeros(n + 1, np.int64)
    for node, up in zip(order.tolist(), parent[order].tolist(), strict=True):
        depth[node] = depth[up] + 1 if up >= 0 else 0
    link = np.full(n, -1, np.int64)
    for a, b in ((pre, post), (post, pre)):
        down = np.flatnonzero(parent[b] == a)[::-1]
        link[b[down]] = down  # the first of parallel links stays
    bounds = np.flatnonzero(np.diff(depth[order])) + 1
    return Forest(order, parent, link, tuple(np.split(order, bounds)))


def tree_positions(
    n: int, pre: Ints, post: Ints, displacement: NDArray[Any], roots: Sequence[int]
) -> NDArray[Any]:
    """Add up displacements along breadth-first trees.

    Parameters
    ----------
    n : int
        Number of nodes.
    pre, post : array of int, shape (links,)
        The two ends of every link; of parallel ones, the first counts.
    displacement : array, shape (links, axes)
        Position of post minus position of pre.
    roots : sequence of int
        One node of every component; they stay at zero.

    Returns
    -------
    array of the same type, shape (n, axes)
    """
    tree = forest(n, pre, post, np.array(roots, np.int64))
    below = np.flatnonzero(tree.link >= 0)
    link = tree.link[below]
    sign = np.where(post[link] == below, 1, -1)[:, None]
    step = np.zeros((n, displacement.shape[1]), displacement.dtype)
    step[below] = sign * displacement[link]
    return tree.accumulate(step)


def bridges(n: int, pre: Ints, post: Ints, tree: Forest) -> NDArray[np.bool_]:
    """Tell which links are bridges: the only ones between two parts of their component.

    Every link outside the tree gets a random number; a link of the tree gets the exclusive or of
    all those that go around it, and no number at all is a bridge (Pritchard and Thurimella 2011,
    ACM Trans. Algorithms 7, 46; wrong with a probability of links · 2⁻⁶⁴).
    """
    inside = np.zeros(len(pre), bool)
    inside[tree.link[tree.link >= 0]] = True
    outside = np.flatnonzero(~inside)
    number = np.random.default_rng(0).integers(1, 2**63, len(outside), dtype=np.uint64)
    around = np.zeros(n, np.uint64)
    np.bitwise_xor.at(around, pre[outside], number)
    np.bitwise_xor.at(around, post[outside], number)
    for nodes in tree.levels[:0:-1]:
        np.bitwise_xor.at(around, tree.parent[nodes], around[nodes])
    found = np.zeros(len(pre), bool)
    below = np.flatnonzero(tree.link >= 0)
    found[tree.link[below]] = around[below] == 0
    return found


def way_around(
    neighbours: Mapping[int, list[tuple[int, int]]], start: int, end: int, most: int = 8
) -> list[int]:
    """Return the nodes of a shortest way between two nodes, ends included; [] if none is short.

    Parameters
    ----------
    neighbours : mapping of node to list of (node, link)
        The graph.
    start, end : int
        Nodes.
    most : int
        Links of the longest way that is looked for.
    """
    came = {start: -1}
    queue = deque([(start, 0)])
    while queue:
        node, length = queue.popleft()
        if node == end:
            way = [node]
            while came[way[-1]] >= 0:
                way.append(came[way[-1]])
            return way[::-1]
        if length < most:
            for other, _ in neighbours.get(node, ()):
                if other not in came:
                    came[other] = node
                    queue.append((other, length + 1))
    return []


def adjacency(pre: Ints, post: Ints, links: Ints) -> dict[int, list[tuple[int, int]]]:
    """List (neighbour, link) of every node for some of the links."""
    found: dict[int, list[tuple[int, int]]] = {}
    for k, a, b in zip(links.tolist(), pre[links].tolist(), post[links].tolist(), strict=True):
        found.setdefault(a, []).append((b, k))
        found.setdefault(b, []).append((a, k))
    return found


def squares(index: Ints, pre: Ints, post: Ints) -> Ints:
    """Find the smallest loops of a grid: four links around a unit square.

    Parameters
    ----------
    index : array of int, shape (n, axes)
        Grid index of every node; all different.
    pre, post : array of int, shape (links,)
        The two ends of every link.

    Returns
    -------
    array of int, shape (loops, 4)
        Links a, b, c, d with a + b − c − d = 0 where displacements are right.
    """
    n, axes = index.shape
    step = index[post] - index[pre]
    along = np.full((axes, n), -1, np.int64)
    for axis in range(axes):
        unit = np.zeros(axes, np.int64)
        unit[axis] = 1
        links = np.flatnonzero((step == unit).all(axis=1))
        along[axis, pre[links]] = links
    found = [np.zeros((0, 4), np.int64)]
    for first in range(axes):
        for second in range(first + 1, axes):
            nodes = np.flatnonzero((along[first] >= 0) & (along[second] >= 0))
            a, c = along[first, nodes], along[second, nodes]
            b, d = along[second, post[a]], along[first, post[c]]
            good = (b >= 0) & (d >= 0)
            found.append(np.column_stack([a, b, c, d])[good])
    return np.concatenate(found)
