"""Our library alone: layout, alignment, placement, one HDF5 volume (no pyramid)."""

from task import read, write_positions

import stitchlib


def main() -> None:
    """Run it."""
    data, out, grid, rows = read()
    axes = "xyz"[: grid["dimensions"]]
    layout = stitchlib.TiledLayout(
        expression=str(data / "tiles" / "x<X>_y<Y>_c0.tif"), overlaps=(grid["overlap"],) * 2
    )
    least = tuple(grid["overlap"] // 2 if axis in "xy" else 1 for axis in axes)
    layout.align(
        max_shifts=[grid["max_shift"][axis] for axis in axes], normalize=True, min_overlap=least
    )
    layout.place()
    layout.stitch(str(out / "fused.h5"))
    at = dict(zip(map(tuple, layout.tile_positions), layout.source_positions(), strict=True))
    write_positions(out, {row["tile"]: at[int(row["tile_x"]), int(row["tile_y"])] for row in rows})


if __name__ == "__main__":
    main()
