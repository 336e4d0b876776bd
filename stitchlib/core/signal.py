"""What of an image's intensities counts: clipping, and whether there is any signal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.errors import InputError


def luminance(colours: NDArray[Any]) -> NDArray[Any]:
    """Return the brightness of an RGB image, in its type: 0.299 R + 0.587 G + 0.114 B.

    Parameters
    ----------
    colours : array, axes (3, …)
        Red, green, blue.

    Notes
    -----
    Weights of ITU-R BT.601. Sums of integers are exact, so they are the same on every machine.
    """
    red, green, blue = colours
    bright = red * 299.0
    bright += green * 587.0
    bright += blue * 114.0
    bright /= 1000
    if colours.dtype.kind in "iu":
        np.rint(bright, out=bright)
    result: NDArray[Any] = bright.astype(colours.dtype)
    return result


@dataclass(frozen=True, slots=True)
class Clip:
    """Intensities are moved into ``[lower, upper]``; None = no bound."""

    lower: float | None
    upper: float | None

    @classmethod
    def parse(cls, clip: Any) -> Clip | None:
        """Parse ``clip``: None, a number (the upper bound), or (lower, upper).

        Raises
        ------
        InputError
            For any other form, or a lower bound above the upper one.
        """
        if clip is None:
            return None
        if isinstance(clip, Real):
            return cls(None, _number(clip, "clip"))
        if isinstance(clip, str) or np.ndim(clip) == 0 or len(clip) != 2:
            raise InputError(f"clip = {clip!r}: must be a number or (lower, upper)")
        lower, upper = (None if v is None else _number(v, "clip") for v in clip)
        if lower is not None and upper is not None and lower > upper:
            raise InputError(f"clip = {clip!r}: the lower bound must not exceed the upper one")
        return None if lower is None and upper is None else cls(lower, upper)

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a clipped copy; of the same type where that holds the bounds, else float64."""
        lower, upper = self.lower, self.upper
        if array.dtype.kind in "iu":
            info = np.iinfo(array.dtype)
            lower = None if lower is not None and lower <= info.min else lower
            upper = None if upper is not None and upper >= info.max else upper
            bounds = [bound for bound in (lower, upper) if bound is not None]
            if not all(b == int(b) and info.min <= b <= info.max for b in bounds):
                array = array.astype(np.float64)
            else:
                lower, upper = (None if b is None else int(b) for b in (lower, upper))
        if lower is None and upper is None:
            return array.copy()
        clipped: NDArray[Any] = np.clip(array, lower, upper)
        return clipped


@dataclass(frozen=True, slots=True)
class Background:
    """An image has signal where enough of its pixels reach a threshold."""

    threshold: float
    """Pixels at or above it are signal."""
    pixels: int | None
    """So many pixels of signal are needed; None = see ``fraction``."""
    fraction: float
    """Where ``pixels`` is None: this part of all pixels is needed."""

    @classmethod
    def parse(cls, background: Any) -> Background | None:
        """Parse ``background``: None, a threshold t, or (t, k), k pixels (int) or a fraction.

        Raises
        ------
        InputError
            For any other form.
        """
        if background is None:
            return None
        if isinstance(background, Real):
            return cls(_number(background, "background"), 1, 0.0)
        if isinstance(background, str) or np.ndim(background) == 0 or len(background) != 2:
            raise InputError(
                f"background = {background!r}: must be a number t or (t, k), "
                f"k pixels (int) or a fraction of them (float)"
            )
        threshold, needed = background
        if isinstance(needed, Integral):
            return cls(_number(threshold, "background"), int(needed), 0.0)
        return cls(_number(threshold, "background"), None, _number(needed, "background"))

    def signal(self, array: NDArray[Any]) -> bool:
        """Whether ``array`` has signal."""
        needed = self.fraction * array.size if self.pixels is None else self.pixels
        return bool(np.count_nonzero(array >= self.threshold) >= needed)


def _number(value: Any, name: str) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or math.isnan(value):
        raise InputError(f"{name}: {value!r} is not a number")
    return int(value) if isinstance(value, Integral) else float(value)


def measurable(array: NDArray[Any]) -> NDArray[Any]:
    """Return ``array`` in a type that images are compared in exactly.

    Booleans become 8-bit, and 64-bit integers 32-bit ones where their values fit.

    Raises
    ------
    InputError
        Where they don't fit.
    """
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind not in "iu" or array.dtype.itemsize <= 4 or not array.size:
        return array
    low, high = int(array.min()), int(array.max())
    for kind in (np.int32, np.uint32):
        info = np.iinfo(kind)
        if info.min <= low and high <= info.max:
            return array.astype(kind)
    raise InputError(
        f"integers from {low} to {high} do not fit 32 bits; convert the image to float64"
    )
