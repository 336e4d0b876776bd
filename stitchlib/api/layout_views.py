"""How a layout is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stitchlib.api import maps, pictures
from stitchlib.api.layout_verbs import LayoutVerbs

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class LayoutViews(LayoutVerbs):
    """The methods of `Layout` that plot and overlay."""

    def overlay(
        self,
        colors: Any = None,
        percentile: Any = 98,
        normalize: bool = True,
        coordinate: Any = None,
        axis: int = 2,
        *,
        color_ids: Any = None,
    ) -> NDArray[np.float32]:
        """Add up the sources at their places, each in its colour.

        Parameters
        ----------
        colors, color_ids
            As in `layout_coloring`.
        percentile, normalize
            As in `overlay_sources`.
        coordinate : int, optional
            Only the slice there, in the layout, voxels; default everything.
        axis : int
            The axis of the slice.

        Returns
        -------
        array of float32, shape (shape of the layout, voxels, without the sliced axis, 3)

        Raises
        ------
        InputError
            Where an argument cannot be used.
        """
        return pictures.overlay_layout(
            self, colors, percentile, normalize, color_ids, coordinate=coordinate, axis=axis
        )

    def plot(
        self,
        colors: Any = None,
        percentile: Any = 98,
        normalize: bool = True,
        color_ids: Any = None,
        coordinate: Any = None,
        axis: int = 2,
        *,
        annotate: bool = True,
        voxel_size: Any = None,
        ax: Any = None,
    ) -> Axes:
        """Plot the sources at their places, each in its colour, with borders and names.

        Parameters
        ----------
        colors, color_ids
            As in `layout_coloring`.
        percentile, normalize, coordinate, axis, annotate, voxel_size, ax
            As in `plot_sources`; voxels and µm.

        Returns
        -------
        Axes
            Of matplotlib; nothing is shown yet.

        Raises
        ------
        InputError
            Where an argument cannot be used.
        """
        return pictures.plot_layout(
            self, colors, percentile, normalize, color_ids,
            coordinate=coordinate, axis=axis, annotate=annotate, voxel_size=voxel_size, ax=ax,
        )  # fmt: skip

    def plot_regions(
        self,
        cmap: Any = "viridis",
        annotate: bool = True,
        axes: Any = [0, 1],  # noqa: B006 - as documented; never changed
        *,
        voxel_size: Any = None,
        ax: Any = None,
    ) -> Axes:
        """Plot the regions of the embedding in the colour of how many sources cover them.

        Parameters
        ----------
        cmap, annotate, axes, voxel_size, ax
            As in the function `plot_regions`; voxels and µm.

        Returns
        -------
        Axes
            Of matplotlib; nothing is shown yet.

        Raises
        ------
        InputError
            Where there is no source, or an argument cannot be used.
        """
        return maps.plot_regions(
            self.embedding().regions, self.sources, cmap, annotate, axes,
            voxel_size=voxel_size, ax=ax,
        )  # fmt: skip

    def plot_alignments(
        self,
        cmap: Any = "viridis",
        annotate: bool = True,
        axes: Any = [0, 1],  # noqa: B006 - as documented; never changed
        *,
        min_quality: Any = -np.inf,
        voxel_size: Any = None,
        ax: Any = None,
    ) -> Axes:
        """Plot the alignments as lines between the sources, in the colour of their quality.

        Parameters
        ----------
        cmap, annotate, axes, min_quality, voxel_size, ax
            As in the function `plot_alignments`; voxels and µm.

        Returns
        -------
        Axes
            Of matplotlib; nothing is shown yet.

        Raises
        ------
        InputError
            Where there is no source, or an argument cannot be used.
        """
        return maps.plot_alignments(
            self.alignments, self.sources, axes, annotate, min_quality, cmap,
            voxel_size=voxel_size, ax=ax,
        )  # fmt: skip
