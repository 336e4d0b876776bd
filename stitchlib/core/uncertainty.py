"""Standard deviations of positions: the diagonal of the inverse normal equations."""

from __future__ import annotations

import numpy as np

from stitchlib.core.graph import components
from stitchlib.core.links import Floats, Ints, Links, Mask
from stitchlib.core.solve import Network

_EXACT = 1200
"""Up to so many nodes the diagonal is solved for, column by column."""
_SAMPLES = 256
"""Beyond, it is estimated from so many draws: 4.4 % error of a standard deviation."""
_MANY, _FEWER = 20_000, 64
"""Beyond so many nodes, from so many draws: 9 %."""
_BATCH = 32
_PRIOR = 3.0
"""Weight of the errors that came with the links against residuals, degrees of freedom."""


def common_error(links: Links, good: Mask, single: Mask, x: Floats) -> Floats:
    """Estimate what all links err beyond their standard errors (e.g. lens distortion).

    Returns
    -------
    array of float, shape (axes,)
        Standard deviation, voxels: from the median absolute residual of the links in loops,
        widened by what the fit has taken up.
    """
    use = good & ~single
    free = _freedom(links, good)
    if use.sum() < 4 or free < 3:
        return np.zeros(links.displacement.shape[1])
    spread = 1.4826 * np.median(np.abs(links.residual(x)[use]), axis=0)
    spread *= np.sqrt(use.sum() / free)
    return np.sqrt(np.maximum(spread**2 - np.median(links.error[use] ** 2, axis=0), 0))


def _freedom(links: Links, good: Mask) -> int:
    """Degrees of freedom of the believed links, per axis: independent loops."""
    parts = int(components(links.n, *links.some(good)).max(initial=-1)) + 1
    return int(good.sum()) - (links.n - parts)


def position_sigma(
    links: Links, good: Mask, weight: Floats, extra: Floats, x: Floats, ground: Ints
) -> tuple[Floats, Floats]:
    """Estimate the standard deviation of every position relative to its component's anchor.

    The variance is the diagonal of the inverse of the normal equations, scaled by the residuals:
    by their weighted mean square over the degrees of freedom, pooled with the links' own errors
    that count as three more. Up to 1200 nodes it is exact; beyond, it is the variance of 256
    (64 beyond 20 000 nodes) solutions of links perturbed by their errors (Papandreou and Yuille
    2010, Adv. Neural Inf. Process. Syst. 23), from fixed random numbers.

    Parameters
    ----------
    links : Links
        All links.
    good : array of bool, shape (links,)
        Those that are believed.
    weight : array of float, shape (links, axes)
        Inverse variances that the positions were solved with.
    extra : array of float, shape (links, axes)
        Further variance of links, not scaled, voxels².
    x : array of float, shape (n, axes)
        The positions.
    ground : array of int
        Nodes that are held; their standard deviation is 0.

    Returns
    -------
    sigma : array of float, shape (n, axes)
        Voxels.
    scale : array of float, shape (axes,)
        Residuals over errors, root mean square.
    """
    pre, post = links.some(good)
    network = Network(links.n, pre, post, ground)
    free = max(0, len(pre) - len(network.free))
    square = (weight * links.residual(x) ** 2)[good].sum(axis=0)
    scale = np.sqrt((_PRIOR + square) / (_PRIOR + free))
    sigma = np.zeros_like(x)
    if not len(network.free):
        return sigma, scale
    with np.errstate(divide="ignore"):
        full = scale**2 / weight[good] + extra[good]
    cache: dict[bytes, Floats] = {}
    for axis in range(x.shape[1]):
        key = full[:, axis].tobytes()
        if key not in cache:
            cache[key] = _diagonal(network, 1 / full[:, axis])
        sigma[network.free, axis] = np.sqrt(cache[key])
    return sigma, scale


def _diagonal(network: Network, weight: Floats) -> Floats:
    """Diagonal of the inverse of the normal equations, for the free nodes in their order."""
    factor, n = network.factorise(weight), len(network.free)
    if n <= _EXACT:
        inverse: Floats = np.diagonal(factor.solve(np.eye(n))).copy()
        return inverse
    rng = np.random.default_rng(0)
    total = np.zeros(n)
    samples = _SAMPLES if n <= _MANY else _FEWER
    for _ in range(samples // _BATCH):
        noise = rng.standard_normal((len(weight), _BATCH)) * np.sqrt(weight)[:, None]
        total += (factor.solve(network.right(noise)) ** 2).sum(axis=1)
    return total / samples
