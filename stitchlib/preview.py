"""Pictures of a layout at low resolution: a plane of all tiles, before and after placement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stitchlib.core.boxes import Box, Point
from stitchlib.corrections import Corrections
from stitchlib.io.files import read_json, record_problem, replacing
from stitchlib.io.parts import Part
from stitchlib.io.views import ImageFile

if TYPE_CHECKING:
    from stitchlib.config import Config
    from stitchlib.runs import DatasetRun
    from stitchlib.tiles import Dataset

INCHES = (12.0, 6.0)
MARGINS = {"left": 0.07, "right": 0.985, "bottom": 0.09, "top": 0.94, "wspace": 0.14, "hspace": 0.3}
"""Around and between the axes: of the picture's extent, and of that of the axes."""
NAMED = 100
"""So many tiles are named in the picture."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A tile of a picture; axes x, y[, z]."""

    name: str
    image: ImageFile
    before: Point
    """Nominal lower corner, voxels."""
    after: Point | None = None
    """Where it was placed; None before placement."""

    def boxes(self) -> Iterator[Box]:
        """Yield the tile's box before placement, and after it where that is known."""
        for corner in (self.before, self.after):
            if corner is not None:
                yield Box.at(corner[: len(self.image.shape)], self.image.shape)


def draw(path: Path, tiles: Sequence[Shown], voxel_size: Sequence[float] | None) -> None:
    """Write a picture of a plane of all tiles: nominal, or before and after placement.

    Parameters
    ----------
    path : Path
        The PNG file.
    tiles : sequence of Shown
        All placed, or none.
    voxel_size : sequence of float or None
        µm along x, y, z; None = axes in voxels.
    """
    # Only who draws pays for loading it.
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    from stitchlib.plotting.figures import before_and_after, draw_slice  # noqa: PLC0415

    figure = Figure(figsize=INCHES, dpi=100)
    figure.subplots_adjust(**MARGINS)
    canvas: Any = FigureCanvasAgg(figure)
    readers = [tile.image for tile in tiles]
    ndim = len(readers[0].shape)
    options: dict[str, Any] = {
        "names": [tile.name for tile in tiles] if len(tiles) <= NAMED else None,
        "voxel_size": None if voxel_size is None else tuple(voxel_size)[:ndim],
    }
    boxes = list(zip(*(tile.boxes() for tile in tiles), strict=True))
    # Margins and titles that stand fast: to look for where they fit takes a fifth of the time.
    with rc_context({"axes.titley": 1.0}):
        if len(boxes) > 1:
            before_and_after(figure, list(boxes[0]), list(boxes[1]), readers, **options)
        else:
            draw_slice(figure.subplots(), list(boxes[0]), readers, **options)
    # `Figure.savefig` would draw all of it twice.
    with replacing(path) as temporary:
        canvas.print_png(temporary, pil_kwargs={"compress_level": 1})


def of_dataset(dataset: Dataset, config: Config) -> list[Shown]:
    """Return the tiles of a sheet at their nominal positions."""
    ndim, dtype = dataset.ndim, np.dtype(dataset.dtype)
    return [
        Shown(
            tile.name,
            ImageFile(
                (config.tiles.parent / tile.aligned.path).absolute(),
                tile.shape[:ndim],
                dtype,
                tile.aligned.part,
            ),
            tile.nominal,
        )
        for tile in dataset.tiles
    ]


def of_card(card: Mapping[str, Any], tiles: Path, record: Path | None) -> list[Shown]:
    """Return the tiles of a place job that are drawn.

    Parameters
    ----------
    card : mapping
        Content of the job's card.
    tiles : Path
        Folder where relative tile paths start.
    record : Path or None
        The job's result; None where it has not run.
    """
    excluded = Corrections.from_json(card["corrections"]).excluded
    placed = {} if record is None else read_json(record)["positions"]
    ndim, dtype = card["ndim"], np.dtype(card["dtype"])
    return [
        Shown(
            tile["tile"],
            ImageFile(
                (tiles / tile["path"]).absolute(),
                tuple(tile["shape"][:ndim]),
                dtype,
                Part.from_json(tile),
            ),
            tuple(tile["nominal"]),
            tuple(placed[tile["tile"]]) if placed else None,
        )
        for tile in card["tiles"]
        if tile["tile"] not in excluded
    ]


def draw_run(run: DatasetRun, path: Path) -> bool:
    """Draw a dataset of a run, placed where it is; return whether it is."""
    record = None if record_problem(run.place_record) else run.place_record
    tiles = of_card(run.place_card.content, run.config.tiles.parent, record)
    draw(path, tiles, known(run.config.voxel_size))
    return record is not None


def draw_finished(card: Mapping[str, Any], folder: Path, tiles: Path) -> Path:
    """Draw a dataset that is placed into its folder; ``card`` is that of its last job."""
    digest = card["place"]
    placed = read_json(folder / "cards" / "place" / f"{digest}.json")
    shown = of_card(placed, tiles, folder / "records" / f"place.{digest}.json")
    size = card["config"]["voxel_size"]
    path = folder / "preview.png"
    draw(path, shown, known(tuple(float(size[axis]) for axis in "xyz")))
    return path


def known(voxel_size: Sequence[float]) -> Sequence[float] | None:
    """Return the voxel size, or None where it is the one that means that nobody has said it."""
    return None if set(voxel_size) == {1.0} else voxel_size
