"""Links as arrays, and how those that are believed hold the tiles together."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.graph import Forest, bridges, components, forest

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Links:
    """Links as arrays."""

    n: int
    """Number of nodes."""
    pre: Ints
    """First ends, shape (links,)."""
    post: Ints
    """Second ends, shape (links,)."""
    displacement: Floats
    """x_post − x_pre, voxels, shape (links, axes)."""
    error: Floats
    """Standard errors, voxels, > 0, shape (links, axes)."""
    sure: Mask
    """Links that are believed whatever the others say, shape (links,)."""
    axis: Ints
    """Grid axis of each, shape (links,)."""
    where: Ints
    """Grid index of the first end, shape (links, 3)."""

    @property
    def steps(self) -> tuple[Ints, Ints, Floats]:
        """What the stage's model is about: grid axis, grid index, and displacement."""
        return self.axis, self.where, self.displacement

    def residual(self, x: Floats) -> Floats:
        """Displacement − (x_post − x_pre)."""
        return self.displacement - (x[self.post] - x[self.pre])

    def only(self, mask: Mask) -> Links:
        """Return some of the links, between the same nodes."""
        return Links(self.n, *(getattr(self, f.name)[mask] for f in fields(self)[1:]))

    def some(self, mask: Mask) -> tuple[Ints, Ints]:
        """Return the ends of some of the links."""
        return self.pre[mask], self.post[mask]


@dataclass(frozen=True, slots=True)
class Structure:
    """How the believed links hold the tiles together."""

    numbers: Ints
    """The believed links."""
    component: Ints
    """Component of every node."""
    block: Ints
    """Nodes that at least two separate ways connect share it."""
    single: Mask
    """Believed links that are the only ones between two parts, shape (links,)."""
    tree: Forest
    """Spans the believed links; its links count among these."""

    def ways(self, links: Links, k: int) -> list[int]:
        """Single links on the way between the ends of a link."""
        path = self.tree.path(int(links.pre[k]), int(links.post[k]))
        return [j for j in self.numbers[path].tolist() if self.single[j]]

    def contradicted(self, links: Links, good: Mask) -> Ints:
        """Links not believed whose ends single links hold together."""
        a, b = links.pre, links.post
        same = self.component[a] == self.component[b]
        return np.flatnonzero(~good & same & (self.block[a] != self.block[b]))

    def branch(self, links: Links, k: int) -> Mask:
        """Nodes beyond a single link, seen from the root; shape (n,)."""
        parent = self.tree.parent
        pre, post = int(links.pre[k]), int(links.post[k])
        beyond = np.zeros(links.n, bool)
        beyond[post if parent[post] == pre else pre] = True
        for nodes in self.tree.levels[1:]:
            beyond[nodes] |= beyond[parent[nodes]]
        return beyond


def structure(links: Links, good: Mask, roots_first: Ints | None = None) -> Structure:
    """Describe the graph of the believed links; ``roots_first`` are preferred as roots."""
    pre, post = links.some(good)
    numbers = np.flatnonzero(good)
    component = components(links.n, pre, post)
    roots = np.unique(component, return_index=True)[1]
    if roots_first is not None:
        roots[component[roots_first[::-1]]] = roots_first[::-1]
    tree = forest(links.n, pre, post, roots)
    lonely = bridges(links.n, pre, post, tree)
    single = np.zeros(len(good), bool)
    single[numbers[lonely]] = True
    block = components(links.n, pre[~lonely], post[~lonely])
    return Structure(numbers, component, block, single, tree)
