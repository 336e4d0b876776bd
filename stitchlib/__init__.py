"""Stitching of overlapping 2-D and 3-D microscopy tiles.

The documented classes and functions are importable from here; their modules are imported when they
are first asked for, so that ``import stitchlib`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stitchlib._version import __version__

if TYPE_CHECKING:
    from stitchlib.api.aligning import (
        align_layout,
        align_layout_axis,
        align_layout_on_tiling,
        align_layout_rigid_mip,
        align_layout_rigid_mips,
    )
    from stitchlib.api.alignment_base import (
        AlignmentBase,
    )
    from stitchlib.api.alignments import (
        Alignment,
        source_index,
    )
    from stitchlib.api.functions import (
        layout_along_axis_mip,
        load_layout,
        save_layout,
        slice_layout_along_axis,
    )
    from stitchlib.api.layouts import (
        Layout,
    )
    from stitchlib.api.linking import (
        check_alignments_and_sources,
        connected,
        connected_components,
        copy_sources_and_alignments,
        filter_alignments,
        sources_from_alignments,
    )
    from stitchlib.api.maps import (
        plot_alignments,
        plot_regions,
    )
    from stitchlib.api.overlaps import (
        Overlap,
        embedding,
        overlap,
    )
    from stitchlib.api.pairing import (
        align_2_sources,
        align_2_sources_along_axis,
        align_2_sources_along_axis_mip,
        max_intensity_projection,
    )
    from stitchlib.api.pictures import (
        layout_coloring,
        overlay_layout,
        overlay_sources,
        plot_layout,
        plot_sources,
    )
    from stitchlib.api.placing import (
        alignments_from_source_positions,
        place_layout,
        place_layout_axis,
        positions_from_optimization,
        positions_from_tree,
    )
    from stitchlib.api.projections import (
        overlay_along_axis_mip,
        plot_along_axis_mip,
    )
    from stitchlib.api.regions import (
        Region,
        SourceRegion,
    )
    from stitchlib.api.sources import (
        Slice,
        Source,
    )
    from stitchlib.api.stitching import (
        stitch_by_function,
        stitch_by_function_with_weights,
        stitch_by_interpolation,
        stitch_by_interpolation_adjust_max,
        stitch_by_max,
        stitch_by_mean,
        stitch_by_min,
        stitch_layout,
        stitch_weights,
    )
    from stitchlib.api.tiled import (
        TiledLayout,
    )

_MODULES = {
    "aligning": (
        "align_layout",
        "align_layout_axis",
        "align_layout_on_tiling",
        "align_layout_rigid_mip",
        "align_layout_rigid_mips",
    ),
    "alignment_base": ("AlignmentBase",),
    "alignments": (
        "Alignment",
        "source_index",
    ),
    "functions": (
        "layout_along_axis_mip",
        "load_layout",
        "save_layout",
        "slice_layout_along_axis",
    ),
    "layouts": ("Layout",),
    "linking": (
        "check_alignments_and_sources",
        "connected",
        "connected_components",
        "copy_sources_and_alignments",
        "filter_alignments",
        "sources_from_alignments",
    ),
    "maps": (
        "plot_alignments",
        "plot_regions",
    ),
    "overlaps": (
        "Overlap",
        "embedding",
        "overlap",
    ),
    "pairing": (
        "align_2_sources",
        "align_2_sources_along_axis",
        "align_2_sources_along_axis_mip",
        "max_intensity_projection",
    ),
    "pictures": (
        "layout_coloring",
        "overlay_layout",
        "overlay_sources",
        "plot_layout",
        "plot_sources",
    ),
    "placing": (
        "alignments_from_source_positions",
        "place_layout",
        "place_layout_axis",
        "positions_from_optimization",
        "positions_from_tree",
    ),
    "projections": (
        "overlay_along_axis_mip",
        "plot_along_axis_mip",
    ),
    "regions": (
        "Region",
        "SourceRegion",
    ),
    "sources": (
        "Slice",
        "Source",
    ),
    "stitching": (
        "stitch_by_function",
        "stitch_by_function_with_weights",
        "stitch_by_interpolation",
        "stitch_by_interpolation_adjust_max",
        "stitch_by_max",
        "stitch_by_mean",
        "stitch_by_min",
        "stitch_layout",
        "stitch_weights",
    ),
    "tiled": ("TiledLayout",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Alignment",
    "AlignmentBase",
    "Layout",
    "Overlap",
    "Region",
    "Slice",
    "Source",
    "SourceRegion",
    "TiledLayout",
    "__version__",
    "align_2_sources",
    "align_2_sources_along_axis",
    "align_2_sources_along_axis_mip",
    "align_layout",
    "align_layout_axis",
    "align_layout_on_tiling",
    "align_layout_rigid_mip",
    "align_layout_rigid_mips",
    "alignments_from_source_positions",
    "check_alignments_and_sources",
    "connected",
    "connected_components",
    "copy_sources_and_alignments",
    "embedding",
    "filter_alignments",
    "layout_along_axis_mip",
    "layout_coloring",
    "load_layout",
    "max_intensity_projection",
    "overlap",
    "overlay_along_axis_mip",
    "overlay_layout",
    "overlay_sources",
    "place_layout",
    "place_layout_axis",
    "plot_alignments",
    "plot_along_axis_mip",
    "plot_layout",
    "plot_regions",
    "plot_sources",
    "positions_from_optimization",
    "positions_from_tree",
    "save_layout",
    "slice_layout_along_axis",
    "source_index",
    "sources_from_alignments",
    "stitch_by_function",
    "stitch_by_function_with_weights",
    "stitch_by_interpolation",
    "stitch_by_interpolation_adjust_max",
    "stitch_by_max",
    "stitch_by_mean",
    "stitch_by_min",
    "stitch_layout",
    "stitch_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"stitchlib.api.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
