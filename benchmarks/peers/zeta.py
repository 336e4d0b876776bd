"""ZetaStitcher, by its two commands: align with the set's range, fuse into a TIFF (no pyramid)."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import yaml

data, out = map(Path, sys.argv[1:])
grid = json.loads((data / "set.json").read_text())
folder = out / "tiles"
folder.mkdir()
names = {}
with (data / "tiles.tsv").open() as file:
    for row in csv.DictReader(file, delimiter="\t"):
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
positions = {names[Path(t["filename"]).name]: (t["Xs"], t["Ys"], t["Zs"]) for t in found}
(out / "positions.json").write_text(json.dumps(positions))
