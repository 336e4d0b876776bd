"""Layouts of tiles on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from stitchlib.api import aligning
from stitchlib.api.alignments import Alignment
from stitchlib.api.grids import check_grid, flat_points, on_grid, place_of
from stitchlib.api.layouts import Layout
from stitchlib.api.linking import links_of
from stitchlib.api.placing import points
from stitchlib.api.regions import SourceRegion
from stitchlib.api.sources import Source, as_source
from stitchlib.arrange import grid_positions, relative_positions
from stitchlib.core.boxes import Point
from stitchlib.core.shifts import nominal_overlaps, whole_number
from stitchlib.errors import InputError
from stitchlib.layouts import LayoutRecord
from stitchlib.tags import Expression, grid_axes, tiles_of


class TiledLayout(Layout):
    """Tiles on a grid, each aligned with its next neighbours along every grid axis.

    Grid axis d is image axis d. Gaps are allowed, and indices may start anywhere.

    Parameters
    ----------
    sources : nested list, object array or list, optional
        Source, array, str or Path of every tile: nested as the grid is (first axis outermost, None
        = no tile), or a flat list with ``tile_positions``, or with ``tile_shape`` (last axis
        fastest), or along the first axis.
    expression : str, optional
        Tag expression of the tiles' file names, such as ``tile_<Y,2>_<X,2>.tif``, instead of
        ``sources``.
    tile_axes : list of str, optional
        The tags that are grid axes, in the order of the image axes; default those named X, Y, Z,
        else all in the order of the expression.
    tile_shape : tuple of int, optional
        Number of tiles along each grid axis.
    tile_positions : list of tuple of int, optional
        Place of every tile on the grid.
    positions : list of tuple of int, shape (ndim,) each, optional
        Lower corners, voxels. They define the displacements.
    overlaps : int or tuple of int, optional
        Overlap of neighbours, voxels: one for all grid axes or one per grid axis; without
        ``positions`` they define the displacements: extent − overlap.
    alignments : list of Alignment, optional
        Default: each tile with its next neighbour along every grid axis.
    position, shape, dtype, order, location
        As of `Layout`, voxels.

    Raises
    ------
    InputError
        Where the arguments contradict each other, no file fits the expression, or a tag has several
        values and is no grid axis; names it.
    """

    tile_axes: list[str] | None = None
    """Names of the tags that are grid axes, in the order of the image axes, or None."""
    expression: Expression | None = None
    """The expression that the tiles were found by, or None."""
    _overlaps: Any = None

    def __init__(
        self,
        sources: Any = None,
        expression: Any = None,
        tile_axes: Any = None,
        tile_shape: Any = None,
        tile_positions: Any = None,
        positions: Any = None,
        overlaps: Any = None,
        alignments: Any = None,
        position: Any = None,
        shape: Any = None,
        dtype: Any = None,
        order: Any = None,
        location: Any = None,
    ) -> None:
        if (sources is None) == (expression is None):
            raise InputError("a tiled layout needs either sources or an expression")
        tiles: list[tuple[Any, Point]]
        if expression is not None:
            self.expression = Expression.of(expression)
            self.tile_axes = grid_axes(self.expression, tile_axes)
            tiles = list(tiles_of(self.expression, self.tile_axes))
        else:
            tiles = on_grid(sources, tile_shape, tile_positions)
            self.tile_axes = None if tile_axes is None else list(tile_axes)
        check_grid([place for _, place in tiles], tile_shape)
        found = [as_source(tile) for tile, _ in tiles]
        own_place = all(_is_placed(source) for source in found)
        for source, (_, place) in zip(found, tiles, strict=True):
            source.tile_position = place
        self._overlaps = overlaps
        super().__init__(found, None, position, shape, dtype, order, location)
        if positions is not None:
            self._move_to(flat_points(positions), self.sources)
        elif overlaps is not None or not own_place:
            self._alignments = self._place_on_grid(0 if overlaps is None else overlaps)
        if alignments is not None:
            self.alignments = alignments
        elif positions is not None or (own_place and overlaps is None):
            self._alignments = [Alignment(*pair) for pair, _ in self._neighbours()]

    def _restore(
        self,
        sources: Sequence[Any],
        alignments: Sequence[Any],
        record: LayoutRecord,
        location: str,
    ) -> None:
        super()._restore(sources, alignments, record, location)
        self.expression, self._overlaps = None, None
        self.tile_axes = None if record.tile_axes is None else list(record.tile_axes)

    def _neighbours(self) -> list[tuple[tuple[Any, Any], int]]:
        """Return every tile with its next neighbour along every grid axis, and that axis."""
        at = {source.tile_position: source for source in self.sources}
        found = []
        for source in self.sources:
            place = source.tile_position
            for axis in range(len(place)):
                post = at.get((*place[:axis], place[axis] + 1, *place[axis + 1 :]))
                if post is not None:
                    found.append(((source, post), axis))
        return found

    def _place_on_grid(self, overlaps: Any) -> list[Alignment]:
        """Return neighbours displaced by extent − overlap, and place the tiles accordingly.

        Groups of neighbours start where the grid says.
        """
        if not self.sources:
            return []
        voxels = nominal_overlaps(overlaps, self.tile_dim)
        if self.tile_dim > self.ndim:
            raise InputError(f"a grid of {self.tile_dim} axes for images of {self.ndim} axes")
        grid = grid_positions(self.tile_positions, [s.shape for s in self.sources], voxels)
        alignments = []
        for (pre, post), axis in self._neighbours():
            nominal = [0] * self.ndim
            nominal[axis] = pre.shape[axis] - voxels[axis]
            alignments.append(Alignment(pre, post, displacement=nominal))
        links = links_of(alignments, self.sources)
        groups = links.groups()
        relative = relative_positions(links, [group[0] for group in groups], "tree")
        for group in groups:
            relative[group] += grid[group[0]]
        self._move_to(list(points(relative)), self.sources)
        return alignments

    @property
    def tile_dim(self) -> int:
        """Number of grid axes, int."""
        return len(self.tile_positions[0]) if self.sources else 0

    @property
    def tile_positions(self) -> list[Any]:
        """Places of the tiles on the grid: list of tuple of int, in the order of the sources."""
        return [source.tile_position for source in self.sources]

    def align_on_tiling(
        self,
        overlaps: Any = (50, 50),
        max_shifts: Any = (-50, 50),
        clip: Any = None,
        background: Any = None,
        processes: Any = None,
        verbose: bool = False,
        *,
        normalize: bool = False,
        min_overlap: Any = 1,
    ) -> Self:
        """Align all neighbours by the overlaps that are expected along the grid axes.

        Parameters
        ----------
        overlaps : int, or list of int or tuple
            Overlaps that are tried, voxels; one for all grid axes or one per grid axis; as in
            `align_layout_on_tiling`.
        max_shifts : int, tuple or list
            Shifts that are tried on the other axes, voxels.
        clip, background, normalize, min_overlap
            As in `align_2_sources`.
        processes : int, 'serial' or None
            Pairs that are aligned at one time; None = as many as there are cores.
        verbose : bool
            Show a progress bar.

        Returns
        -------
        TiledLayout
            This one.

        Raises
        ------
        NoOverlapError
            Where nothing in the range of a pair overlaps; names it.
        InputError
            For arguments that cannot be used.
        """
        return aligning.align_layout_on_tiling(  # type: ignore[no-any-return]
            self, overlaps, max_shifts, clip, background, processes, verbose,
            normalize=normalize, min_overlap=min_overlap,
        )  # fmt: skip

    def adjust_overlaps(self, overlaps: Any = None) -> None:
        """Place the tiles anew by an estimate of their overlaps.

        The displacements of the neighbours become extent − overlap, and their qualities −inf, as
        they are not measured any more; the first tile stays.

        Parameters
        ----------
        overlaps : int or tuple of int, optional
            Voxels: one for all grid axes or one per grid axis; default those that the layout was
            made with.

        Raises
        ------
        InputError
            For a wrong number of overlaps, or none where the layout was made without.
        """
        overlaps = self._overlaps if overlaps is None else overlaps
        if overlaps is None:
            raise InputError("the layout was made without overlaps; give some")
        if not self.sources:
            return
        first = self.sources[0].position
        nominal = {(a.pre.id, a.post.id): a.displacement for a in self._place_on_grid(overlaps)}
        self._overlaps = overlaps
        now = self.sources[0].position
        back = tuple(a - b for a, b in zip(first, now, strict=True))
        for source in self.sources:
            source.position = source.box.shifted(back).lower
        self.update_alignments_from_sources()
        for alignment in self.alignments:
            pair = (alignment.pre.id, alignment.post.id)
            alignment.displacement = nominal.get(pair, alignment.displacement)
            alignment.quality = None

    def alignment_from_tile_positions(self, tile_position1: Any, tile_position2: Any) -> Any:
        """Return the alignment between two tiles.

        Parameters
        ----------
        tile_position1, tile_position2 : tuple of int, shape (grid axes,)
            In any order.

        Returns
        -------
        Alignment or None
            None where there is none.
        """
        wanted = {place_of(tile_position1), place_of(tile_position2)}
        for alignment in self.alignments:
            if {alignment.pre.tile_position, alignment.post.tile_position} == wanted:
                return alignment
        return None

    def alignments_from_tile_position(self, tile_position: Any) -> list[Any]:
        """Return the alignments of a tile.

        Parameters
        ----------
        tile_position : tuple of int, shape (grid axes,)

        Returns
        -------
        list of Alignment
        """
        place = place_of(tile_position)
        return [a for a in self.alignments if place in (a.pre.tile_position, a.post.tile_position)]

    def center_tile_position(self) -> Point:
        """Return the middle of the grid: along each axis the lower median of the tiles' places.

        Returns
        -------
        tuple of int, shape (grid axes,)

        Raises
        ------
        InputError
            Where there is no tile.
        """
        if not self.sources:
            raise InputError("a layout without tiles has no center")
        columns = zip(*self.tile_positions, strict=True)
        return tuple(sorted(column)[(self.n_sources - 1) // 2] for column in columns)

    def center_tile_source(self) -> Any:
        """Return the tile at the middle of the grid, or the one next to it where there is a gap.

        Returns
        -------
        Source

        Raises
        ------
        InputError
            Where there is no tile.
        """
        center = self.center_tile_position()
        return min(
            self.sources,
            key=lambda s: (
                sum((a - b) ** 2 for a, b in zip(s.tile_position, center, strict=True)),
                s.tile_position,
            ),
        )

    def sort_sources_by_tile_position(self) -> None:
        """Sort the tiles by their places on the grid, the first axis first."""
        self._sources.sort(key=lambda source: source.tile_position)

    def source_from_tile_position(self, tile_position: Any) -> Any:
        """Return the tile at a place on the grid.

        Parameters
        ----------
        tile_position : tuple of int, shape (grid axes,)

        Returns
        -------
        Source or None
            None where there is none.
        """
        place = place_of(tile_position)
        return next((s for s in self.sources if s.tile_position == place), None)

    def source_to_tile_position(self, source: Any) -> Point | None:
        """Return the place of a tile on the grid.

        Parameters
        ----------
        source : Source or int
            The tile, or its id.

        Returns
        -------
        tuple of int, shape (grid axes,), or None
            None where it is not in the layout.
        """
        number = source.id if isinstance(source, SourceRegion) and isinstance(source, Source) \
            else whole_number(source, "source")  # fmt: skip
        return next((s.tile_position for s in self.sources if s.id == number), None)


def _is_placed(source: Any) -> bool:
    return source.__dict__.get("_position") is not None
