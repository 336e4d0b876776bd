"""TIFF stacks and planes, (z, y, x) in the file and (x, y[, z]) here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from stitchlib.core.boxes import Box
from stitchlib.core.signal import luminance
from stitchlib.errors import InputError
from stitchlib.io import positioned
from stitchlib.io.images import native
from stitchlib.io.parts import COLOUR, WHOLE, Part


class TiffReader:
    """A series of a TIFF file: one plane, or planes along one further axis taken as z.

    Further axes have one index each, which ``part`` selects. Where it selects no colour of an RGB
    image, ``rgb`` is true, and the image must be opened anew in one colour or as luminance.

    Voxels that stand in the file as they are, plane after plane or wherever, are read where they
    stand; of other files, only the needed planes are decoded.
    """

    order = "F"

    def __init__(self, path: Path, part: Part = WHOLE) -> None:
        self._path = path
        self._part = part
        try:
            with tifffile.TiffFile(path) as file:
                every = [f"{s.axes} {tuple(map(int, s.shape))}" for s in file.series]
                series = file.series[min(part.series, len(every) - 1)]
                axes, dtype = series.axes, series.dtype
                self._stored = tuple(map(int, series.shape))
                self._offset: int | None = series.dataoffset
                self._byteorder = file.byteorder
                self._n_pages = len(series.pages)
                page = series.keyframe.size
                starts = _plain_pages(series)
                elsewhere = series.is_multifile
                whole = _whole_chain(file)
        except MemoryError:
            raise
        except Exception as error:  # tifffile raises many kinds on broken files
            raise InputError(f"{path}: cannot be read as TIFF: {error}") from error
        if part.series >= len(every):
            raise InputError(
                f"{path}: series {part.series} is asked for, but the file has {len(every)}: "
                + "; ".join(f"{i}: {text}" for i, text in enumerate(every))
            )
        if not whole:
            raise InputError(f"{path}: pages are missing at the end of the file; truncated?")
        if elsewhere:
            raise InputError(f"{path}: its voxels lie in other files too; write it as one file")
        if dtype is None:
            raise InputError(f"{path}: the planes of this TIFF have different types")
        self._chosen = self._choose(axes)
        shape = self._kept
        self.shape: tuple[int, ...] = shape[::-1]
        self.dtype: np.dtype[Any] = dtype.newbyteorder("=")
        self._paged = _paged_axes(self._stored, self._n_pages, page)
        if self._offset is None:
            if self._paged is None:
                raise InputError(f"{path}: {self._n_pages} pages for {axes} of {self._stored}")
        elif path.stat().st_size < self._offset + math.prod(self._stored) * dtype.itemsize:
            raise InputError(f"{path}: the file is shorter than its {shape} voxels; truncated?")
        self._planes = self._in_planes(starts)

    @property
    def rgb(self) -> bool:
        """Whether the three colours of an RGB image are still to choose from."""
        return _COLOURS in self._chosen and not self._part.luminance

    @property
    def planewise(self) -> bool:
        """Whether the least part of a plane costs decoding all of it: compressed files."""
        return self._offset is None and self._planes is None

    @property
    def _kept(self) -> tuple[int, ...]:
        """Extent along z, y, x, or y, x."""
        return tuple(n for n, i in zip(self._stored, self._chosen, strict=True) if i == _KEPT)

    def _choose(self, axes: str) -> tuple[int, ...]:
        """Return the index that is taken along each axis of the file, or what else it is."""
        select = dict(self._part.select)
        for axis, index in select.items():
            self._check_selected(axis, index, axes)
        chosen = []
        for axis, extent in zip(axes, self._stored, strict=True):
            if axis in select:
                chosen.append(select[axis])
            elif axis == COLOUR and extent == len("RGB"):
                chosen.append(_COLOURS)
            else:
                chosen.append(_KEPT if extent > 1 or axis in "YXZ" else 0)
        names = "".join(a for a, i in zip(axes, chosen, strict=True) if i == _KEPT)
        if not re.fullmatch("[^CTS]?YX", names):
            others = dict.fromkeys(a for a in names if a not in "ZYX")
            raise InputError(
                f"{self._path}: axes {axes} with shape {self._stored}; a tile is one plane (YX) or "
                "one stack (ZYX). In a tile sheet, column 'select' takes one index along an axis, "
                f"e.g. {','.join(f'{a}=0' for a in others)}"
            )
        return tuple(chosen)

    def _check_selected(self, axis: str, index: int, axes: str) -> None:
        where = f"{self._path}: {axis}={index} is selected, but"
        if axis in "YX" or axes.count(axis) > 1:
            raise InputError(f"{where} {axis} is not one further axis of {axes}")
        extent = self._stored[axes.index(axis)] if axis in axes else 1
        if index >= extent:
            raise InputError(
                f"{where} there is only {axis}=0 … {extent - 1}: axes {axes}, shape {self._stored}"
                if extent > 1
                else f"{where} there is only one: axes {axes}, shape {self._stored}"
            )

    def read(self, box: Box) -> NDArray[Any]:
        """Read the voxels of ``box`` (inside the image) as an array of ``box.shape``."""
        if self._offset is None:
            return self.read_boxes([box])[0]
        return self._image(self._mapped(self._index(box)))

    def read_boxes(self, boxes: Sequence[Box]) -> list[NDArray[Any]]:
        """Read several boxes into memory: of every plane, no byte twice, and no more than needed.

        Planes of compressed files are decoded once.
        """
        if self._planes is not None:
            try:
                return positioned.read_boxes(self._planes, boxes)
            except (OSError, EOFError) as error:
                raise InputError(f"{self._path}: cannot be read as TIFF: {error}") from error
        if self._offset is not None:
            return [self.read(box) for box in boxes]
        with self._pages() as pages:
            return [self._image(stack) for stack in self._decode(boxes, pages)]

    def read_in_turn(self, boxes: Iterable[Box]) -> Iterator[NDArray[Any]]:
        """Read one box after another; where they are decoded, the file is opened once."""
        if not self.planewise:
            yield from map(self.read, boxes)
            return
        with self._pages() as pages:
            for box in boxes:
                yield self._image(self._decode([box], pages)[0])

    def _in_planes(self, pages: Sequence[int]) -> positioned.Stored | None:
        """Return where planes lie in the file, None where they are not rows of voxels there.

        ``pages`` are the places of pages whose voxels stand there as they are.
        """
        shape, chosen = self._stored, self._chosen
        if self._offset is not None:
            starts = [self._offset]
        elif pages and self._paged is not None:
            shape, chosen = shape[self._paged :], chosen[self._paged :]
            index = tuple(slice(None) if i < 0 else i for i in self._chosen[: self._paged])
            starts = np.reshape(pages, self._stored[: self._paged])[index].ravel().tolist()
        else:
            return None
        item = self.dtype.itemsize
        steps = [item * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        kept = [(n, k) for n, k, i in zip(shape, steps, chosen, strict=True) if i == _KEPT]
        if _COLOURS in self._chosen or len(kept) < 2 or kept[-1][1] != item:
            return None
        inside = sum(i * step for i, step in zip(chosen, steps, strict=True) if i >= 0)
        depth, step = kept[0] if len(kept) == 3 else (1, 0)
        planes = [start + inside + z * step for start in starts for z in range(depth)]
        dtype = self.dtype.newbyteorder(self._byteorder)
        return positioned.Stored(self._path, planes, dtype, kept[-2][1])

    def _index(self, box: Box) -> _Index:
        """Return the index of a box in the array that is stored."""
        kept = iter(box.slices()[::-1])
        return tuple(
            next(kept) if i == _KEPT else slice(None) if i == _COLOURS else i for i in self._chosen
        )

    def _image(self, stack: NDArray[Any]) -> NDArray[Any]:
        """Return the image (x, y[, z]) that an indexed array is."""
        if _COLOURS in self._chosen:
            before = sum(i == _KEPT for i in self._chosen[: self._chosen.index(_COLOURS)])
            stack = luminance(np.moveaxis(stack, before, 0))
        return stack.T

    def _mapped(self, index: _Index) -> NDArray[Any]:
        assert self._offset is not None  # noqa: S101 - asked for nothing else
        dtype = self.dtype.newbyteorder(self._byteorder)
        try:
            stack = np.memmap(self._path, dtype, "r", self._offset, self._stored)
        except (OSError, ValueError) as error:
            raise InputError(f"{self._path}: cannot be read as TIFF: {error}") from error
        return native(np.asarray(stack[index]))

    @contextmanager
    def _pages(self) -> Iterator[tifffile.TiffPageSeries]:
        """Open the file to decode its pages."""
        try:
            with tifffile.TiffFile(self._path) as file:
                yield file.series[self._part.series].pages
        except MemoryError:
            raise
        except Exception as error:  # decoders raise many kinds on broken files
            raise InputError(f"{self._path}: cannot be decoded: {error}") from error

    def _decode(self, boxes: Sequence[Box], pages: tifffile.TiffPageSeries) -> list[NDArray[Any]]:
        """Decode what boxes need of pages: every strip or tile of them once, and no others."""
        assert self._paged is not None  # noqa: S101 - checked when it was opened
        numbers = np.arange(self._n_pages).reshape(self._stored[: self._paged])
        shape = self._stored[self._paged :]
        stacks = []
        wanted: dict[int, list[tuple[Box, NDArray[Any], _Index]]] = {}
        for box in boxes:
            index = self._index(box)
            inside = index[self._paged :]
            pages_of = numbers[index[: self._paged]]
            extent = np.empty(0).reshape((0, *shape))[(slice(None), *inside)].shape[1:]
            stacks.append(np.empty((*pages_of.shape, *extent), self.dtype))
            for where, number in np.ndenumerate(pages_of):
                wanted.setdefault(int(number), []).append((box, stacks[-1][where], inside))
        plane, reached = np.empty(shape, self.dtype), cache(_reached)
        for page_number in sorted(wanted):
            here = wanted[page_number]
            page = _checked(pages[page_number])
            needed = reached(page.keyframe, tuple(box for box, _, _ in here))
            found = _decoded(page, needed, plane).reshape(shape)
            for _, part, inside in here:
                part[...] = found[inside]
        return stacks


_Index = tuple[int | slice, ...]

_KEPT, _COLOURS = -1, -2
"""Instead of an index along an axis: it is one of the image's, or that of its three colours."""


def _paged_axes(shape: tuple[int, ...], n_pages: int, page: int) -> int | None:
    """Return how many leading axes run over pages, None where pages and shape don't agree."""
    for axes in range(len(shape) + 1):
        if math.prod(shape[:axes]) == n_pages and math.prod(shape[axes:]) == page:
            return axes
    return None


def _plain_pages(series: tifffile.TiffPageSeries) -> list[int]:
    """Return where pages start that lie apart, their voxels as they are; else nothing."""
    starts: list[int] = []
    if series.dataoffset is None:
        for page in series.pages:
            if page is None or not page.is_final or not page.dataoffsets:
                return []
            starts.append(page.dataoffsets[0])
    return starts


_Page = tifffile.TiffPage | tifffile.TiffFrame


def _checked(page: _Page | None) -> _Page:
    """Return a page whose voxels are all in the file: some decoders make do with what is there."""
    if page is None:
        raise ValueError("a page is missing")
    ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
    if max(ends, default=0) > page.parent.filehandle.size:
        raise ValueError("the file ends before its voxels; truncated?")
    return page


def _reached(page: tifffile.TiffPage, boxes: Sequence[Box]) -> list[int] | None:
    """Return the strips or tiles of pages in which boxes (x, y[, z]) have voxels; None = all."""
    count = len(page.dataoffsets)
    if count == 1 or page.jpegheader is not None or page.is_contiguous:
        return None
    found = []
    for number in range(count):
        _, (_, _, y, x, _), (_, height, width, _) = page.decode(None, number)
        if any(
            x < box.upper[0] and box.lower[0] < x + width
            and y < box.upper[1] and box.lower[1] < y + height
            for box in boxes
        ):  # fmt: skip
            found.append(number)
    return found if len(found) < count else None


_BUFFER = 1 << 17
"""Bytes of encoded strips or tiles that are in memory at one time, or one of them."""


def _decoded(page: _Page, needed: list[int] | None, plane: NDArray[Any]) -> NDArray[Any]:
    """Decode strips or tiles of a page into ``plane``, None = all, and return that."""
    if needed is None:
        return page.asarray(out=plane, maxworkers=1, buffersize=_BUFFER)
    form = page.keyframe
    assert form is not None  # noqa: S101 - what is needed was asked of it
    out = plane.reshape(form.shaped)
    _, depths, rows, columns, _ = form.shaped
    offsets, sizes = ([of[i] for i in needed] for of in (page.dataoffsets, page.databytecounts))
    segments = page.parent.filehandle.read_segments(offsets, sizes, needed, buffersize=_BUFFER)
    for data, number in segments:
        part, (s, z, y, x, _), (depth, height, width, _) = form.decode(
            data, number, jpegtables=page.jpegtables
        )
        out[s, z : z + depth, y : y + height, x : x + width] = (
            form.nodata if part is None else part[: depths - z, : rows - y, : columns - x]
        )
    return plane


def _whole_chain(file: tifffile.TiffFile) -> bool:
    """Whether the chain of pages ends inside the file: of a truncated one, tifffile reads less."""
    if file.is_ndpi or file.is_lsm:  # their offsets are not what TIFF says where files are large
        return True
    handle, form = file.filehandle, file.tiff
    where, seen = form.offsetsize, set[int]()  # the header is twice as long as its last offset
    while where + form.offsetsize <= handle.size:
        handle.seek(where)
        page = int.from_bytes(handle.read(form.offsetsize), _ENDIAN[form.byteorder])
        if page == 0 or page in seen:
            return True
        seen.add(page)
        handle.seek(page)
        tags = int.from_bytes(handle.read(form.tagnosize), _ENDIAN[form.byteorder])
        where = page + form.tagnosize + tags * form.tagsize
    return False


_ENDIAN: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
