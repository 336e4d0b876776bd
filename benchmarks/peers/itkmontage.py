"""ITKMontage: montage with the set's range, merge, write MetaImage (no pyramid)."""

import itk
from task import read, write_positions

data, out, grid, rows = read()
axes = "xyz"[: grid["dimensions"]]
kind = itk.Image[itk.US, len(axes)]
montage = itk.TileMontage[kind, itk.F].New()
merge = itk.TileMergeImageFilter[kind, itk.D, itk.LinearInterpolateImageFunction[kind, itk.D]].New()
size = [grid["grid"].get(axis, 1) for axis in axes]
for tool in (montage, merge):
    tool.SetMontageSize(size)
montage.SetPositionTolerance(max(grid["max_shift"].values()))
tiles = {}
for row in rows:
    index = [int(row.get(f"tile_{axis}") or 0) for axis in axes]
    corner = [i * grid["step"].get(axis, 0) for i, axis in zip(index, axes, strict=True)]
    image = itk.imread(str(data / row["path"]), itk.US)
    image.SetOrigin([float(c) for c in corner])
    number = index[0] + size[0] * index[1]
    for tool in (montage, merge):
        tool.SetInputTile(number, image)
    tiles[row["tile"]] = (index, corner)
montage.Update()
corners = {}
for name, (index, corner) in tiles.items():
    transform = montage.GetOutputTransform(index)
    merge.SetTileTransform(index, transform)
    # The transform leads from the montage to the tile.
    corners[name] = [c - o for c, o in zip(corner, transform.GetOffset(), strict=True)]
merge.Update()
itk.imwrite(merge.GetOutput(), str(out / "fused.mha"), compression=True)
write_positions(out, corners)
