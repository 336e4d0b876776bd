"""Layouts: sources at positions with the alignments between them, and what is done with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from stitchlib.api import aligning, filing, overlaps, placing, relocating, slicing, stitching
from stitchlib.api.layout_base import LayoutBase
from stitchlib.api.placing import positions_from_tree
from stitchlib.core.shifts import whole_numbers
from stitchlib.errors import InputError


class Layout(LayoutBase):
    """Sources at positions, and the alignments between them.

    Parameters
    ----------
    sources : list of Source, array, str or Path
    alignments : list of Alignment, optional
        Default none.
    position : tuple of int, shape (ndim,), optional
        Lower corner of the window that is stitched, voxels; default that of all sources.
    shape : tuple of int, shape (ndim,), optional
        Extent of the window, voxels; default up to the last voxel of any source.
    dtype : dtype, optional
        Type of the stitched voxels; default the one that holds those of all sources.
    order : {'C', 'F'}, optional
        Memory layout of stitched arrays; default that of the sources.
    location : str, optional
        File in which the layout is to be written.

    Raises
    ------
    InputError
        Where sources cannot be read, or alignments have other sources.
    """

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
        return placing.connected(self.alignments, self.sources)

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
        return placing.connected_components(
            self.alignments, self.sources, min_quality, with_sources
        )

    def set_source_positions(
        self, positions: Any = None, sources: Any = None, update_alignments: bool = False
    ) -> None:
        """Move sources.

        Parameters
        ----------
        positions : list of tuple of int, shape (ndim,) each, optional
            Voxels; default: by the alignments, along shortest paths from the first source at the
            origin.
        sources : list of Source, optional
            Which sources the positions belong to; default all.
        update_alignments : bool
            Also set the displacements to the new positions.

        Raises
        ------
        InputError
            Where there are not as many positions as sources.
        """
        if positions is None:
            found = positions_from_tree(self.alignments, self.sources)
            wanted = range(len(found)) if sources is None else map(self._number, sources)
            positions = [found[i] for i in wanted]
        self._move_to(list(positions), self.sources if sources is None else list(sources))
        if update_alignments:
            self.update_alignments_from_sources()

    def _move_to(self, positions: list[Any], sources: Sequence[Any]) -> None:
        if len(positions) != len(sources):
            raise InputError(f"{len(positions)} positions for {len(sources)} sources")
        corners = [whole_numbers(position, "position", self.ndim) for position in positions]
        own = [self.sources[self._number(source)] for source in sources]
        for source, corner in zip(own, corners, strict=True):
            source.position = corner

    def update_alignments_from_sources(self) -> None:
        """Set all displacements to what the positions are; the shifts are 0, voxels."""
        placing.alignments_from_source_positions(self.alignments)

    def update_sources_from_alignments(self) -> None:
        """Place the sources along shortest paths from the first one, which stays, voxels.

        Where the alignments do not connect all sources it raises `DisconnectedError`.
        """
        self._move_to(
            list(positions_from_tree(self.alignments, self.sources, fixed_source=0)), self.sources
        )

    def change_sources(self, sources: Any) -> None:
        """Show other images at the same places, such as those of another channel.

        Parameters
        ----------
        sources : list of Source, array, str or Path
            As many as there are, of the same shapes, in the same order. They take over positions
            and tile positions, and the alignments follow.

        Raises
        ------
        InputError
            Where their number or a shape differs; nothing is changed then.
        """
        self._sources, self._alignments = relocating.changed_sources(self, sources)
        self._context = None

    def change_source_location(self, expression: Any, substitutions: Any) -> None:
        """Let the sources show other files, such as those of another channel.

        Parameters
        ----------
        expression : str
            Tag expression of the file names.
        substitutions : dict
            Values of tags, str or int; those of the grid axes come from the tile positions.

        Raises
        ------
        InputError
            Where a tag has no value, or a file is missing or has another shape or type; nothing is
            changed then, and no voxel was read.
        """
        relocating.change_location(self, expression, substitutions)

    def replace_source_location(self, match: Any, replace: Any, method: str = "expression") -> None:
        """Let the sources show other files, such as those of another channel.

        Parameters
        ----------
        match : str
            Tag expression, or text, that is part of every file name.
        replace : str
            What that part becomes.
        method : {'expression', 'replace'}
            'expression': the tags of ``replace`` are filled with those that ``match`` found;
            'replace': both are plain text.

        Raises
        ------
        InputError
            Where ``match`` does not fit, or a file is missing or has another shape or type;
            nothing is changed then, and no voxel was read.
        """
        relocating.replace_location(self, match, replace, method)

    def save(self, filename: Any) -> Any:
        """Write the layout, without voxels, as versioned JSON.

        Parameters
        ----------
        filename : str or Path

        Returns
        -------
        str or Path
            The file name.

        Raises
        ------
        InputError
            For a source that is neither an image nor a slice of one.
        """
        self._location = str(filename)
        return filing.write(filename, self)

    def load(self, filename: Any) -> Self:
        """Replace the content of this layout by that of a file.

        Parameters
        ----------
        filename : str or Path

        Returns
        -------
        Layout
            This one.

        Raises
        ------
        InputError
            Where the file is no layout file.
        """
        self._restore(*filing.read(filename), location=str(filename))
        return self

    def sink_slicing(self) -> tuple[slice, ...]:
        """Return where the layout lies in a larger array of absolute coordinates.

        Returns
        -------
        tuple of slice
            ``[origin, origin + shape)`` along each axis, voxels.
        """
        return tuple(slice(o, o + n) for o, n in zip(self.origin, self.shape, strict=True))

    def slice_along_axis(self, coordinate: Any, axis: int = 2) -> Layout:
        """Return the layout of the slices at a coordinate along an axis, which is dropped.

        Parameters
        ----------
        coordinate : int
            In the layout, voxels.
        axis : int

        Returns
        -------
        Layout
            Of the sources that contain the coordinate, with the alignments among them.

        Raises
        ------
        InputError
            Where the coordinate is outside of the layout.
        """
        return Layout(*slicing.slices(self, coordinate, axis), **slicing.settings(self, axis))

    def array_along_axis(self, sink: Any = None, coordinate: Any = None, axis: int = 2) -> Any:
        """Stitch the plane at a coordinate along an axis.

        Parameters
        ----------
        sink : array-like, str or Path, optional
            As in `stitch_layout`, without the axis.
        coordinate : int, optional
            In the layout, voxels; default the middle.
        axis : int

        Returns
        -------
        array, extent of the sources that contain the coordinate, without the axis; or the sink

        Raises
        ------
        InputError
            Where the coordinate is outside of the layout, or as in `stitch_layout`.
        """
        coordinate = slicing.middle(self, axis) if coordinate is None else coordinate
        return self.slice_along_axis(coordinate, axis).stitch(sink)
