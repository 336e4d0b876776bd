"""What is done with a layout: align, place, stitch."""

from __future__ import annotations

from typing import Any, Self

from stitchlib.api import aligning, linking, overlaps, placing, stitching
from stitchlib.api.layout_base import LayoutBase


class LayoutVerbs(LayoutBase):
    """The methods of `Layout` that align, place and stitch."""

    def align(
        self,
        max_shifts: Any = 10,
        clip: Any = None,
        background: Any = None,
        processes: Any = None,
        verbose: bool = False,
        *,
        normalize: bool = False,
        min_overlap: Any = 1,
    ) -> Self:
        """Align all pairs around their current positions.

        Parameters
        ----------
        max_shifts : int, tuple or list
            Shifts that are tried, voxels; as in `align_2_sources`.
        clip, background, normalize, min_overlap
            As in `align_2_sources`.
        processes : int, 'serial' or None
            Pairs that are aligned at one time; None = as many as there are cores.
        verbose : bool
            Show a progress bar.

        Returns
        -------
        Layout
            This one.

        Raises
        ------
        NoOverlapError
            Where a pair overlaps at no shift of the range; names it.
        InputError
            For arguments that cannot be used.
        """
        return aligning.align_layout(  # type: ignore[no-any-return]
            self, max_shifts, clip, background, processes, verbose,
            normalize=normalize, min_overlap=min_overlap,
        )  # fmt: skip

    def align_axis(
        self,
        depth: Any = 10,
        max_shifts: Any = 10,
        axis: Any = None,
        axis_range: Any = None,
        clip: Any = None,
        background: Any = None,
        processes: Any = None,
        verbose: bool = False,
        *,
        normalize: bool = False,
        min_overlap: Any = 1,
    ) -> Self:
        """Align all pairs along one axis only, from maximum projections.

        Parameters
        ----------
        depth, max_shifts, axis_range
            As in `align_layout_axis`, planes and voxels.
        axis : int or None
            None = the last.
        clip, background, normalize, min_overlap
            As in `align_2_sources`.
        processes : int, 'serial' or None
            Pairs that are aligned at one time; None = as many as there are cores.
        verbose : bool
            Show a progress bar.

        Returns
        -------
        Layout
            This one; of the displacements only the components along the axis are new.

        Raises
        ------
        NoOverlapError
            Where a pair overlaps at no shift of the range; names it.
        InputError
            For arguments that cannot be used.
        """
        return aligning.align_layout_axis(  # type: ignore[no-any-return]
            self, axis, depth, max_shifts, axis_range, clip, background, processes, verbose,
            normalize=normalize, min_overlap=min_overlap,
        )  # fmt: skip

    def place(
        self,
        method: str = "optimization",
        lower_to_origin: bool = False,
        processes: Any = None,  # noqa: ARG002 - documented
        verbose: bool = False,
        min_quality: Any = None,
    ) -> Self:
        """Place the sources; every connected group keeps its middle source in place.

        Parameters
        ----------
        method : {'optimization', 'tree'}
            Least squares over all alignments, or sums along shortest paths.
        lower_to_origin : bool
            Move all such that the smallest corner is 0.
        processes : int, 'serial' or None
            Not used: it takes no time. Accepted for old scripts.
        verbose : bool
            Log how many groups there are.
        min_quality : float, tuple of float or None
            Only alignments above it count; as in `filter_alignments`.

        Returns
        -------
        Layout
            This one; its sources are at the new positions, voxels.

        Raises
        ------
        InputError
            For an unknown method.
        """
        return placing.place_layout(  # type: ignore[no-any-return]
            self, method, min_quality, lower_to_origin, verbose
        )

    def place_axis(
        self,
        axis: Any = None,
        method: str = "optimization",
        min_quality: Any = None,
        lower_to_origin: bool = False,
        verbose: bool = False,
    ) -> Self:
        """Place the sources along one axis only.

        Parameters
        ----------
        axis : int or None
            None = the last.
        method, min_quality, lower_to_origin, verbose
            As in `place_layout_axis`.

        Returns
        -------
        Layout
            This one; its sources are at the new positions, voxels.

        Raises
        ------
        InputError
            For an unknown method or axis.
        """
        return placing.place_layout_axis(  # type: ignore[no-any-return]
            self, axis, method, min_quality, lower_to_origin, verbose
        )

    def stitch(
        self,
        sink: Any = None,
        method: str = "interpolation",
        processes: Any = None,
        verbose: bool = False,
    ) -> Any:
        """Stitch the sources at their current positions.

        Parameters
        ----------
        sink : array-like, str or Path, optional
            Where the image is written; as in `stitch_layout`. Default: a new array.
        method : {'interpolation', 'max', 'min', 'mean', 'interpolation-adjust-max'}
            How the voxels of overlapping sources become one.
        processes : int, 'serial' or None
            Parts that are stitched at one time; None = as many as there are cores.
        verbose : bool
            Show a progress bar.

        Returns
        -------
        array, shape of the layout, or the sink

        Raises
        ------
        InputError
            For an unknown method, a sink that is too small or an input, or images that cannot be
            read.
        """
        return stitching.stitch_layout(self, sink, method, verbose, processes=processes)

    @property
    def array(self) -> Any:
        """The stitched image: array, shape of the layout."""
        return self.stitch()

    def embedding(self) -> overlaps.Embedding:
        """Split the window of the layout into disjoint regions.

        Returns
        -------
        shape : tuple of int, shape (ndim,)
            Extent of the window, voxels.
        position : tuple of int, shape (ndim,)
            Its lower corner, voxels.
        regions : list of Overlap
            Each with all and only the sources that cover it.
        """
        return overlaps.embedding(self.sources, self.shape, self.position)

    def connected(self) -> bool:
        """Return whether the alignments connect all sources.

        Returns
        -------
        bool
        """
        return linking.connected(self.alignments, self.sources)

    def connected_components(self, min_quality: Any = None, with_sources: bool = False) -> Any:
        """Return the groups that the alignments connect.

        Parameters
        ----------
        min_quality : float, tuple of float or None
            Only alignments above it count; as in `filter_alignments`.
        with_sources : bool
            Also return the sources of each group.

        Returns
        -------
        components : list of list of Alignment
            A source without alignments is an empty list.
        component_sources : list of list of Source
            With ``with_sources`` only.
        """
        return linking.connected_components(
            self.alignments, self.sources, min_quality, with_sources
        )
