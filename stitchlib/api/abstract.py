"""What sources, slices and layouts share, and the forms in which images and slices are given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.boxes import Point
from stitchlib.core.shifts import whole_number
from stitchlib.errors import InputError
from stitchlib.io.images import Reader
from stitchlib.io.views import whole
from stitchlib.plans import Cut


class AbstractSource:
    """Anything with voxels: the part that sources, slices and layouts share."""

    @property
    def reader(self) -> Reader:
        """The image: shape (ndim,), voxel type, and ``read(box)``."""
        raise NotImplementedError

    cut: Cut | None = None
    """Which part of a tile it is; None = all of it."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return self.reader.dtype

    @property
    def order(self) -> str:
        """Contiguous order of the axes: 'F' where the first one runs fastest, else 'C'."""
        return self.reader.order

    @property
    def array(self) -> NDArray[Any]:
        """All voxels: array, shape of the source."""
        return self.reader.read(whole(self.reader))

    def __getitem__(self, index: Any) -> Any:
        return self.array[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.array
        if dtype is not None and np.dtype(dtype) != array.dtype:
            return array.astype(dtype)
        return array.copy() if copy else array


def checked(image: Any) -> NDArray[Any]:
    """Return an image that was given as an array, or refuse what is none."""
    array = image if isinstance(image, np.ndarray) else np.asarray(image)
    if array.dtype.kind not in "iuf":
        raise InputError(
            f"an array of type {array.dtype} is no image; convert it to an integer or floating "
            f"point type"
        )
    if array.ndim == 0 or 0 in array.shape:
        raise InputError(f"an array of shape {array.shape} is no image: it has no voxels")
    return array


def normalised(slicing: Any, shape: Point) -> tuple[int | slice, ...]:
    """Return one int or slice with both ends per axis."""
    parts = (
        (slicing if isinstance(slicing, (tuple, list)) else (slicing,))
        if slicing is not None
        else ()
    )
    if any(part is Ellipsis for part in parts):
        at = [part is Ellipsis for part in parts].index(True)
        fill = (slice(None),) * (len(shape) - len(parts) + 1)
        parts = (*parts[:at], *fill, *parts[at + 1 :])
    if len(parts) > len(shape):
        raise InputError(f"slicing = {slicing!r}: has {len(parts)} entries for {len(shape)} axes")
    parts = (*parts, *(slice(None),) * (len(shape) - len(parts)))
    return tuple(_part(part, n) for part, n in zip(parts, shape, strict=True))


def _part(part: Any, n: int) -> int | slice:
    if isinstance(part, slice):
        start, stop, step = part.indices(n)
        if step != 1 or start >= stop:
            raise InputError(f"slicing {part}: must be a part without steps of {n} voxels")
        return slice(start, stop)
    number = whole_number(part, "slicing")
    if not -n <= number < n:
        raise InputError(f"slicing {number}: is outside of {n} voxels")
    return number % n
