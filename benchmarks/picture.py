"""A picture of a volume's middle plane, one colour per channel."""

from __future__ import annotations

from pathlib import Path

import h5py
import imagecodecs
import numpy as np

COLOURS = np.array([(1.0, 0.3, 1.0), (0.3, 1.0, 0.3), (0.3, 0.6, 1.0)])


def write_picture(volume: Path, path: Path) -> Path:
    """Write the middle plane of the first timepoint; return the picture's path."""
    with h5py.File(volume) as file:
        planes = [
            file[f"t00000/s{number:02d}/0/cells"] for number in range(len(file.attrs["channels"]))
        ]
        stack = [np.asarray(cells[cells.shape[0] // 2], float) for cells in planes]
    image = np.zeros((*stack[0].shape, 3))
    for plane, colour in zip(stack, COLOURS, strict=False):
        low, high = np.percentile(plane, [1, 99.8])
        image += np.clip((plane - low) / max(high - low, 1), 0, 1)[..., None] * colour
    path.write_bytes(imagecodecs.png_encode(np.uint8(255 * np.clip(image, 0, 1))))
    return path
