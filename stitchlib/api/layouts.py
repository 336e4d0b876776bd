"""Layouts: sources at positions with the alignments between them, and what is done with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, cast

from stitchlib.api import filing, placing, relocating, slicing
from stitchlib.api.alignments import Numbers
from stitchlib.api.layout_views import LayoutViews
from stitchlib.api.placing import positions_from_tree
from stitchlib.api.regions import box_of
from stitchlib.core.boxes import Box
from stitchlib.core.shifts import whole_numbers
from stitchlib.errors import InputError


class Layout(LayoutViews):
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

    def layout_from_region(
        self,
        region: Any = None,
        position: Any = None,
        shape: Any = None,
        lower: Any = None,
        upper: Any = None,
    ) -> Self:
        """Return a layout of the sources that a region needs; it shows that region.

        Parameters
        ----------
        region : Region, optional
        position, shape, lower, upper : tuple of int, shape (ndim,), optional
            As of `Region`, voxels; instead of ``region``. What is open is that of the layout.

        Returns
        -------
        Layout
            Of the same sources, with the alignments among them. Its stitch is that part of this
            layout's stitch.

        Raises
        ------
        InputError
            Where the arguments contradict each other.
        """
        box = self._box_of(region, (position, shape, lower, upper))
        kept = [i for i, s in enumerate(self._sources) if not s.box.intersection(box).empty]
        sources = [self._sources[i] for i in kept]
        numbers = Numbers(sources)
        part = self._like(
            sources,
            [a for a in self._alignments
             if numbers.find(a.pre) is not None and numbers.find(a.post) is not None],
        )  # fmt: skip
        part._position, part._shape = box.lower, box.shape
        part._dtype, part._order = self.dtype, cast("Literal['C', 'F']", self.order)
        part._context = list(self.whole_sources)
        return part

    def _box_of(self, region: Any, corners: tuple[Any, Any, Any, Any]) -> Box:
        given = [corner for corner in corners if corner is not None]
        if region is not None:
            if given:
                raise InputError("layout_from_region: give a region or its corners, not both")
            return cast("Box", region.box)
        position, shape, lower, upper = corners
        if shape is None and position is None and lower is None:
            lower = self.position
        if shape is None and upper is None:
            upper = self.upper
        box = box_of(position, shape, lower, upper)
        assert box is not None  # noqa: S101 - two corners are given
        if len(box.lower) != self.ndim:
            raise InputError(f"the region has {len(box.lower)} axes, the layout {self.ndim}")
        return box
