"""Stitching functions: all sources of a layout become one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from stitchlib.core.blend import BLENDINGS, Order, weights
from stitchlib.core.boxes import Box, hull
from stitchlib.core.shifts import whole_numbers
from stitchlib.errors import InputError
from stitchlib.io.images import Reader
from stitchlib.io.sinks import open_sink
from stitchlib.plans import FusionPlan
from stitchlib.stitch import fuse, stitch_window

ADJUSTED = "interpolation-adjust-max"
METHODS = (*BLENDINGS, ADJUSTED)


def stitch_weights(shape: Any) -> NDArray[np.int64]:
    """Return the weights of a source's pixels: 1 + the distance to the nearest face.

    Parameters
    ----------
    shape : tuple of int, shape (ndim,)
        Extent of the source, voxels.

    Returns
    -------
    array of int, of that shape

    Raises
    ------
    InputError
        Where the shape is not made of positive whole numbers.
    """
    extents = whole_numbers(shape, "shape")
    if any(n < 1 for n in extents):
        raise InputError(f"shape = {shape!r}: must be at least 1 voxel along each axis")
    return weights(extents)


def plan_of(
    layout: Any,
    method: str,
    function: Callable[..., Any] | None = None,
    weight_function: Callable[..., Any] | None = None,
) -> tuple[FusionPlan, list[Reader]]:
    """Return the plan of a layout's stitch, and the images of its sources."""
    sources = layout.whole_sources if method == ADJUSTED else layout.sources
    boxes = [source.box for source in sources]
    # What is found of a region as a whole must not depend on the window that is wanted of it.
    window = hull(boxes) if method == ADJUSTED and boxes else layout.box
    plan = FusionPlan.of(
        boxes,
        window,
        method,
        function=function,
        weight_function=weight_function,
        cuts=tuple(source.cut for source in sources),
    )
    return plan, [source.reader for source in sources]


def stitched(
    layout: Any,
    sink: Any,
    method: str,
    *,
    function: Callable[..., Any] | None = None,
    weight_function: Callable[..., Any] | None = None,
    processes: Any = None,
    verbose: bool = False,
) -> Any:
    """Stitch a layout into a sink, and return the array or the sink."""
    if method not in (*METHODS, "function", "weighted"):
        raise InputError(f"method = {method!r}: must be one of {', '.join(METHODS)}")
    plan, readers = plan_of(layout, method, function, weight_function)
    order = cast("Order", layout.order)
    _check_apart(sink, layout.sources)
    inputs = [source.location for source in layout.sources if source.location is not None]
    with open_sink(sink, layout.shape, layout.dtype, order, inputs) as (target, result):
        stitch_window(
            plan, readers, target, layout.box, order=order, processes=processes, verbose=verbose
        )
    return result


def _check_apart(sink: Any, sources: list[Any]) -> None:
    if not isinstance(sink, np.ndarray):
        return
    for source in sources:
        array = getattr(source.reader, "array", None)
        if array is not None and np.may_share_memory(sink, array):
            raise InputError(f"the sink shares its memory with {source!r}; give another one")


def read_stitched(layout: Any, box: Box) -> NDArray[Any]:
    """Return a part of the interpolated stitch, given in the layout's own voxels."""
    plan, readers = plan_of(layout, "interpolation")
    out = np.zeros(box.shape, layout.dtype, layout.order)
    fuse(plan, readers, out, box.shifted(layout.position))
    return out


def stitch_layout(
    layout: Any,
    sink: Any = None,
    method: str = "interpolation",
    verbose: bool = False,
    *,
    processes: Any = None,
) -> Any:
    """Stitch the sources of a layout at their current positions.

    Integer results are the exact quotient rounded half to even.

    Parameters
    ----------
    layout : Layout
    sink : array-like, str or Path, optional
        Where the image is written: an array, memmap or HDF5 dataset (axes z, y, x as in all image
        files) at least as large as the layout, whose index 0 is the layout's position, or a file
        name ending in .npy, .tif or .h5. Default: a new array.
    method : {'interpolation', 'max', 'min', 'mean', 'interpolation-adjust-max'}
        How the voxels of overlapping sources become one.
    verbose : bool
        Show a progress bar.
    processes : int, 'serial' or None
        Parts that are stitched at one time; None = as many as there are cores.

    Returns
    -------
    array, shape of the layout, or the sink
        Voxels without source are 0 in a new array and untouched in a sink.

    Raises
    ------
    InputError
        For an unknown method, a sink that is too small or an input, or images that can't be read.
    """
    return stitched(layout, sink, method, processes=processes, verbose=verbose)


def stitch_by_function(
    layout: Any, sink: Any = None, function: Any = np.max, *, processes: Any = None
) -> Any:
    """Stitch a layout; a function of the overlapping sources' voxels gives the result.

    Parameters
    ----------
    layout : Layout
    sink : array-like, str or Path, optional
        As in `stitch_layout`.
    function : callable
        Called as ``function(stack, axis=0)``, stack of shape (sources, voxels of a region…).
    processes : int, 'serial' or None
        As in `stitch_layout`.

    Returns
    -------
    array, shape of the layout, or the sink
        Rounded half to even where it is an integer type; where one source covers, its voxels.

    Raises
    ------
    InputError
        As `stitch_layout`.
    """
    return stitched(layout, sink, "function", function=function, processes=processes)


def stitch_by_function_with_weights(
    layout: Any,
    sink: Any = None,
    function: Any = np.sum,
    weight_function: Any = stitch_weights,
    *,
    processes: Any = None,
) -> Any:
    """Stitch a layout as function(w·v) / function(w) of overlapping voxels v and weights w.

    Parameters
    ----------
    layout : Layout
    sink : array-like, str or Path, optional
        As in `stitch_layout`.
    function : callable
        Called as ``function(stack, axis=0)``; the sum makes the weighted mean.
    weight_function : callable
        Called with the shape of a source, voxels; returns an array of weights of that shape.
    processes : int, 'serial' or None
        As in `stitch_layout`.

    Returns
    -------
    array, shape of the layout, or the sink
        Rounded half to even where it is an integer type; where one source covers, its voxels.

    Raises
    ------
    InputError
        As `stitch_layout`, or for weights of another shape.
    """
    # The engine makes its own weights as they are needed, and stores none.
    own = None if weight_function is stitch_weights else weight_function
    return stitched(
        layout, sink, "weighted", function=function, weight_function=own, processes=processes
    )


def _stitch_by(method: str, how: str, name: str) -> Callable[..., Any]:
    def stitch_by(layout: Any, sink: Any = None, *, processes: Any = None) -> Any:
        return stitched(layout, sink, method, processes=processes)

    stitch_by.__name__ = stitch_by.__qualname__ = name
    stitch_by.__doc__ = f"""Stitch a layout; {how}.

    Parameters
    ----------
    layout : Layout
    sink : array-like, str or Path, optional
        As in `stitch_layout`.
    processes : int, 'serial' or None
        As in `stitch_layout`.

    Returns
    -------
    array, shape of the layout, or the sink
        Voxels without source are 0 in a new array and untouched in a sink.

    Raises
    ------
    InputError
        As `stitch_layout`.
    """
    return stitch_by


stitch_by_interpolation = _stitch_by(
    "interpolation",
    "overlapping voxels are weighted by their distance to their source's nearest face",
    "stitch_by_interpolation",
)
stitch_by_interpolation_adjust_max = _stitch_by(
    ADJUSTED,
    "interpolated, and scaled in each region such that its highest voxel is that of its sources",
    "stitch_by_interpolation_adjust_max",
)
stitch_by_max = _stitch_by("max", "the highest of overlapping voxels counts", "stitch_by_max")
stitch_by_mean = _stitch_by("mean", "the mean of overlapping voxels counts", "stitch_by_mean")
stitch_by_min = _stitch_by("min", "the lowest of overlapping voxels counts", "stitch_by_min")
