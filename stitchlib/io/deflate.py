"""zlib streams of shuffled voxels: standard ones, which every reader of gzip datasets opens.

The lowest bytes of noisy voxels hardly compress, and to try costs as much as all the rest. Deflate
has blocks that hold bytes as they are: they take no time to write, and little to read.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

codec: Any
try:
    from isal import isal_zlib as codec
except ImportError:  # a platform without isal's wheels: slower, the voxels are the same
    codec = zlib

LEVEL = 1

LEAST_GAIN = 0.1
"""A plane of bytes that deflate makes smaller by less is stored as it is."""

SAMPLES, SAMPLE_BYTES = 2, 2**12
"""Pieces of a plane that tell what it would gain."""

LEAST_PLANE = 2**16
"""To try a part of a smaller plane would cost as much as to deflate it: its neighbours tell."""

LEAST_STORED = 2**10
"""A plane that is smaller is deflated: there is nothing to save."""

_HEADER = b"\x78\x01"
_BLOCK = 2**16 - 1
"""Most bytes of a stored block."""


def stored_planes(chunks: Sequence[NDArray[Any]]) -> int | None:
    """Tell of small chunks that lie side by side how many planes of each are to be stored.

    Parameters
    ----------
    chunks : list of array of uint8, shape (bytes of a voxel, …)
        The lowest bytes of all voxels of a chunk first.

    Returns
    -------
    int or None
        For `deflated`; None where the chunks are large, and each tells of itself.
    """
    size = chunks[0][0].nbytes
    if size >= LEAST_PLANE:
        return None
    if size < LEAST_STORED:
        return 0
    count = min(2 * SAMPLES * SAMPLE_BYTES // size + 1, len(chunks))
    some = [chunks[(2 * k + 1) * len(chunks) // (2 * count)] for k in range(count)]
    some = [chunk for chunk in some if np.ptp(chunk[0])] or some  # gaps tell nothing
    return _not_gaining(lambda i: b"".join(c[i].tobytes() for c in some), len(chunks[0]) - 1)


def deflated(planes: NDArray[Any], stored: int | None = None) -> bytes:
    """Return a zlib stream of bytes, C-contiguous, the lowest bytes of all voxels first.

    The first ``stored`` planes are stored as they are; None: of large ones those that gain little,
    but never the plane of the highest bytes.
    """
    if stored is None:
        most = len(planes) - 1 if planes[0].nbytes >= LEAST_PLANE else 0
        stored = _not_gaining(lambda i: _sample(planes[i]), most)
    if not stored:
        whole: bytes = codec.compress(planes, LEVEL)
        return whole
    blocks = _stored(planes[:stored].reshape(-1).data)
    rest = codec.compress(planes[stored:], LEVEL, -zlib.MAX_WBITS)
    return b"".join((_HEADER, *blocks, rest, codec.adler32(planes).to_bytes(4, "big")))


def _not_gaining(sample: Callable[[int], bytes], most: int) -> int:
    """Return how many of the first planes, ``most`` at most, gain little, by samples of them."""
    return next((i for i in range(most) if _gains(sample(i))), most)


def _gains(sample: bytes) -> bool:
    return len(codec.compress(sample, LEVEL)) <= (1 - LEAST_GAIN) * len(sample)


def _sample(plane: NDArray[Any]) -> bytes:
    """Return pieces of a plane, spread evenly."""
    values = plane.reshape(-1)
    starts = (np.arange(SAMPLES) * 2 + 1) * len(values) // (2 * SAMPLES) - SAMPLE_BYTES // 2
    return b"".join(values[start : start + SAMPLE_BYTES].data for start in starts.tolist())


def _stored(values: memoryview) -> Iterator[bytes | memoryview]:
    """Yield stored blocks, none of them the last of the stream: header, length twice, bytes."""
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        yield _block_header(len(block))
        yield block


@cache
def _block_header(length: int) -> bytes:
    return b"\0" + length.to_bytes(2, "little") + (_BLOCK - length).to_bytes(2, "little")
