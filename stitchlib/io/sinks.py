"""Where a stitched image goes: a new array, an array-like, or a file that is made whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.blend import Order
from stitchlib.core.boxes import Box, Point
from stitchlib.errors import InputError
from stitchlib.io.files import replacing

SUFFIXES = (".npy", ".tif", ".tiff", ".h5", ".hdf5")


class Target:
    """An array-like that is written box by box."""

    def __init__(self, array: Any, *, transposed: bool = False) -> None:
        self.array = array
        self.transposed = transposed
        """Whether the array's axes are (z, y, x), as in image files."""
        self.shape: Point = tuple(array.shape)[::-1] if transposed else tuple(array.shape)
        self.dtype = np.dtype(array.dtype)
        chunks = getattr(array, "chunks", None) if transposed else None
        self.chunk: Point | None = chunks and tuple(chunks)[::-1]
        """Extent of the chunks that are stored as a whole; None where there are none."""

    def view(self, box: Box) -> NDArray[Any] | None:
        """Return the voxels of ``box`` to be written where they are; None where that can't be."""
        if not isinstance(self.array, np.ndarray):
            return None
        index = box.slices()
        return self.array[index[::-1]].T if self.transposed else self.array[index]

    def read(self, box: Box) -> NDArray[Any]:
        """Return a copy of the voxels of ``box``, of an array with chunks."""
        voxels: NDArray[Any] = self.array[box.slices()[::-1]]
        return voxels.T

    def write(self, box: Box, voxels: NDArray[Any]) -> None:
        """Write the voxels of ``box``."""
        if self.transposed:
            self.array[box.slices()[::-1]] = voxels.T
        else:
            self.array[box.slices()] = voxels


@contextmanager
def open_sink(
    sink: Any, shape: Point, dtype: np.dtype[Any], order: Order, inputs: Sequence[str]
) -> Iterator[tuple[Target, Any]]:
    """Give what is written to, and what the caller gets back.

    Parameters
    ----------
    sink : None, array-like, str or Path
        None = a new array of zeros; an array-like (array, memmap, HDF5 dataset) holds at least
        ``shape``; a file name ends in .npy, .tif or .h5, and the file is replaced when all is done.
    shape : tuple of int
        Extent of the image, voxels.
    dtype : dtype
        Type of new arrays and files.
    order : {'C', 'F'}
        Memory layout of new arrays.
    inputs : sequence of str
        Absolute names of files that must not be written.

    Raises
    ------
    InputError
        For any other sink, one that is too small or read-only, or a file that is an input.
    """
    if sink is None:
        array = np.zeros(shape, dtype, order)
        yield Target(array), array
    elif isinstance(sink, (str, os.PathLike)):
        path = Path(os.path.abspath(sink))  # noqa: PTH100 - also without the folders on the way
        _check_file(path, inputs)
        with replacing(path) as temporary, _created(temporary, path, shape, dtype, order) as target:
            yield target, sink
    else:
        target = _array_target(sink, inputs)
        if len(target.shape) != len(shape) or any(
            n < m for n, m in zip(target.shape, shape, strict=True)
        ):
            axes = " (axes z, y, x)" if target.transposed else ""
            raise InputError(
                f"the sink has shape {tuple(sink.shape)}{axes}, too small for an image of "
                f"shape {shape}"
            )
        yield target, sink


def _array_target(sink: Any, inputs: Sequence[str]) -> Target:
    if not all(hasattr(sink, name) for name in ("shape", "dtype", "__setitem__")):
        raise InputError(
            f"sink of type {type(sink).__name__}: must be None, an array, a memmap, an HDF5 "
            f"dataset, or a file name ending in {', '.join(SUFFIXES)}"
        )
    if isinstance(sink, np.ndarray):
        if not sink.flags.writeable:
            raise InputError("the sink is a read-only array; give one that can be written")
        if isinstance(sink, np.memmap) and sink.filename is not None:
            _check_input(Path(sink.filename), inputs)
        return Target(sink)
    file = getattr(getattr(sink, "file", None), "filename", None)
    if file is not None:
        _check_input(Path(os.fsdecode(file)), inputs)
    return Target(sink, transposed=type(sink).__module__.partition(".")[0] in ("h5py", "zarr"))


def _check_input(path: Path, inputs: Sequence[str]) -> None:
    if str(path.absolute()) in inputs or any(
        path.exists() and Path(name).exists() and path.samefile(name) for name in inputs
    ):
        raise InputError(f"{path}: is an image of the layout; choose another sink")


def _check_file(path: Path, inputs: Sequence[str]) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a sink's name must end in one of {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise InputError(f"{path}: is a directory; give a file name as sink")
    _check_input(path, inputs)


@contextmanager
def _created(
    temporary: Path, path: Path, shape: Point, dtype: np.dtype[Any], order: Order
) -> Iterator[Target]:
    """Make a file of zeros; image files hold (z, y, x)."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        # numpy adds its own suffix to names only; an open file keeps the name it has.
        array: Any = np.lib.format.open_memmap(
            str(temporary), "w+", dtype, shape, fortran_order=order == "F"
        )
        yield Target(array)
        array.flush()
    elif suffix in (".tif", ".tiff"):
        import tifffile  # noqa: PLC0415 - only who writes one pays for it

        axes = "ZYX"[-len(shape) :]
        array = tifffile.memmap(
            temporary, shape=shape[::-1], dtype=dtype, photometric="minisblack",
            metadata={"axes": axes}, ome=False,
        )  # fmt: skip
        array[...] = 0
        yield Target(array, transposed=True)
        array.flush()
    else:
        import h5py  # noqa: PLC0415 - only who writes one pays for it

        with h5py.File(temporary, "w") as file:
            yield Target(file.create_dataset("data", shape[::-1], dtype), transposed=True)
