"""Make the pictures of docs/gallery.md: ``python -m benchmarks.gallery [FOLDER]``."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

import stitchlib
from stitchlib.core.boxes import Box
from stitchlib.phantom import Phantom
from stitchlib.plotting import before_and_after

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "gallery"
STACKS = Phantom(grid=(3, 2), tile_shape=(160, 128, 24), jitter=(6, 6, 2))
PLANES = Phantom(grid=(4, 3), tile_shape=(160, 140), jitter=(8, 8), missing=((3, 2),))


def layout(phantom: Phantom) -> stitchlib.TiledLayout:
    """Return a phantom's tiles where the stage says, with alignments between neighbours."""
    return stitchlib.TiledLayout(
        [phantom.tile(index, "c0") for index in phantom.indices],
        tile_positions=list(phantom.indices),
        positions=[phantom.nominal[name] for name in phantom.names],
    )


def aligned(phantom: Phantom) -> stitchlib.TiledLayout:
    """Return the same, aligned and placed."""
    found = layout(phantom)
    shifts = [(-2 * j, 2 * j) for j in phantom.jitter]
    found.align(shifts, normalize=True, min_overlap=8, processes="serial")
    found.place()
    return found


def before_after(phantom: Phantom) -> Figure:
    """Draw nominal and found positions beside each other."""
    before, after = layout(phantom), aligned(phantom)
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    boxes = [[Box.at(s.position, s.shape) for s in each.sources] for each in (before, after)]
    names = [str(source.identifier) for source in after.sources]
    before_and_after(figure, *boxes, [s.reader for s in after.sources], names=names)
    return figure


def pictures() -> dict[str, Figure]:
    """Draw all of them, by name."""
    stacks, planes = aligned(STACKS), aligned(PLANES)
    pair = stacks.alignments[0]
    shared = [region for region in planes.embedding().regions if len(region.sources) == 2]
    shared.sort(key=lambda region: region.box.size)
    axes = {
        "layout_3d": stacks.plot(voxel_size=(0.5, 0.5, 2.0)),
        "layout_3d_xz": stacks.plot(axis=1),
        "layout_2d": planes.plot(),
        "regions": planes.plot_regions(),
        "alignments": planes.plot_alignments(),
        "alignment": pair.plot(),
        "alignment_mip": pair.plot_mip(depth=16),
        "alignment_overlap": pair.plot_overlap(max_shifts=8),
        "source": stacks.sources[0].plot(),
        "overlap": shared[-1].plot(),
    }
    return {"before_after": before_after(STACKS), **{n: ax.figure for n, ax in axes.items()}}


def write(figure: Figure, path: Path) -> None:
    """Write a small PNG: 128 colours are enough."""
    with BytesIO() as buffer:
        figure.savefig(buffer, dpi=60, bbox_inches="tight")
        image = Image.open(buffer).convert("RGB").quantize(128)
    image.save(path, optimize=True)


def main(folder: Path = FOLDER) -> None:
    """Write all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures().items():
        write(figure, folder / f"{name}.png")
        print(folder / f"{name}.png", np.round((folder / f"{name}.png").stat().st_size / 1e3), "kB")
    plt.close("all")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
