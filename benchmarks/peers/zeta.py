"""ZetaStitcher, by its two commands: align with the set's range, fuse into a TIFF (no pyramid)."""

import subprocess
import sys
from pathlib import Path

import yaml
from task import read, write_positions

data, out, grid, rows = read()
folder = out / "tiles"
folder.mkdir()
names = {}
for row in rows:
    x, y = (int(row[f"tile_{axis}"]) * grid["step"][axis] for axis in "xy")
    link = folder / f"{x:06d}_{y:06d}.tif"
    link.symlink_to(data / row["path"])
    names[link.name] = row["tile"]
programs = Path(sys.executable).parent
reach = {axis: str(grid["max_shift"][axis]) for axis in "xyz"}
subprocess.run(
    [
        programs / "stitch-align", "-j", "2", "--overlap", str(grid["overlap"]),
        "--dx", reach["x"], "--dy", reach["y"], "--dz", reach["z"], ".",
    ],
    cwd=folder, check=True,
)  # fmt: skip
subprocess.run(
    [programs / "stitch-fuse", "-o", str(out / "fused.tif"), "."], cwd=folder, check=True
)
found = yaml.safe_load((folder / "stitch.yml").read_text())["filematrix"]
corners = {names[Path(t["filename"]).name]: (t["Xs"], t["Ys"], t["Zs"]) for t in found}
write_positions(out, corners)
