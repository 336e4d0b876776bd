"""zlib streams of shuffled voxels: standard ones, which every reader of gzip datasets opens.

The lowest bytes of noisy voxels hardly compress, and to try costs as much as all the rest. Deflate
has blocks that hold bytes as they are: they take no time to write, and little to read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
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
"""A smaller plane is deflated at once: to try a part of it would cost as much."""

_HEADER = b"\x78\x01"
_BLOCK = 2**16 - 1
"""Most bytes of a stored block."""


def deflated(planes: NDArray[Any]) -> bytes:
    """Return a zlib stream of bytes, C-contiguous, the lowest bytes of all voxels first.

    What is stored depends on the bytes alone; the plane of the highest bytes never is.
    """
    last = len(planes) - 1 if planes[0].nbytes >= LEAST_PLANE else 0
    stored = next((i for i in range(last) if _gains(planes[i])), last)
    if not stored:
        whole: bytes = codec.compress(planes, LEVEL)
        return whole
    rest = codec.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    checksum = codec.adler32(planes).to_bytes(4, "big")
    blocks = _stored(planes[:stored].reshape(-1).data)
    return b"".join((_HEADER, *blocks, rest.compress(planes[stored:]), rest.flush(), checksum))


def _gains(plane: NDArray[Any]) -> bool:
    """Tell from pieces of a plane, spread evenly, whether deflate makes it smaller."""
    values = plane.reshape(-1)
    starts = (np.arange(SAMPLES) * 2 + 1) * len(values) // (2 * SAMPLES) - SAMPLE_BYTES // 2
    sample = b"".join(values[start : start + SAMPLE_BYTES].data for start in starts.tolist())
    return len(codec.compress(sample, LEVEL)) <= (1 - LEAST_GAIN) * len(sample)


def _stored(values: memoryview) -> Iterator[bytes | memoryview]:
    """Yield stored blocks, none of them the last of the stream: header, length twice, bytes."""
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        yield b"\0" + len(block).to_bytes(2, "little") + (_BLOCK - len(block)).to_bytes(2, "little")
        yield block
