"""Small acquisitions that are changed step by step, and Snakemake runs whose jobs are counted."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
SHAPE = (40, 40, 8)
STEP = 28
RULES = ("align", "place", "stitch", "assemble")
_JOBS = {
    "align": r"^Job \d+: \S+: aligning the pairs of ",
    "place": r"^Job \d+: \S+: placing all tiles",
    "stitch": r"^Job \d+: \S+: stitching shard ",
    "assemble": r"^Job \d+: \S+: assembling the volume ",
}


def scene(channel: int) -> np.ndarray:
    """One picture of everything: coarse grains, so that two places never look alike."""
    rng = np.random.default_rng(channel + 7)
    picture = rng.integers(0, 3000, (240, 240, 16))
    for axis in range(3):
        picture = picture + np.roll(picture, 1, axis)
    return picture.astype(np.uint16)


SCENES = [scene(0), scene(1), scene(2)]


def jitter(x: int, y: int) -> tuple[int, int, int]:
    """How far off its nominal corner a tile is; never negative, none for the first."""
    return ((x * 5 + y * 3) % 3, (x * 2 + y * 7) % 3, (x + y) % 2)


@dataclass
class Tile:
    index: tuple[int, int]
    true: tuple[int, int, int]
    channels: dict[str, int] = field(default_factory=dict)
    """Version of each channel's file: another one is another noise."""

    def image(self, channel: str) -> np.ndarray:
        crop = tuple(slice(t + 4, t + 4 + n) for t, n in zip(self.true, SHAPE, strict=True))
        values = SCENES[int(channel[1:])][crop].copy()
        values[3, 4, 2] += self.channels[channel]
        return values


@dataclass
class Ran:
    code: int
    text: str

    @property
    def counts(self) -> tuple[int, ...]:
        """Executed jobs of align, place, stitch, assemble."""
        return tuple(len(re.findall(_JOBS[rule], self.text, re.MULTILINE)) for rule in RULES)


class Setup:
    """A folder with a sheet, its tiles, a configuration and results."""

    def __init__(self, folder: Path, code: Path = ROOT) -> None:
        self.folder = folder
        self.code = code
        self.tiles: dict[tuple[str, str], Tile] = {}
        self.config: dict = {
            "tiles": "data/tiles.tsv",
            "dataset": "d",
            "voxel_size": {"z": 8},
            "align": {
                "overlap": {"x": 12, "y": 12},
                "max_shift": {"x": 3, "y": 3, "z": 2},
                "pairs_per_job": 1,
            },
            "output": {"chunk": 16, "shard": 32, "levels": 3},
        }
        self.sheet = "data/tiles.tsv"

    @classmethod
    def make(cls, folder: Path, grid=(3, 2), channels=("c0", "c1"), datasets=("d",)) -> Setup:
        setup = cls(folder)
        for name, x, y in product(datasets, range(grid[0]), range(grid[1])):
            setup.add(x, y, channels, name, write=False)
        setup.write()
        return setup

    def copy(self, folder: Path) -> Setup:
        shutil.copytree(self.folder, folder, symlinks=True)
        other = copy.deepcopy(self)
        other.folder = folder
        return other

    # Changes

    def add(self, x, y, channels=("c0", "c1"), dataset="d", write=True):
        off = jitter(x, y)
        true = (x * STEP + off[0], y * STEP + off[1], off[2])
        tile = Tile((x, y), true, dict.fromkeys(channels, 0))
        self.tiles[dataset, f"x{x}y{y}"] = tile
        for channel in channels:
            self.save(dataset, f"x{x}y{y}", channel)
        if write:
            self.write()

    def path(self, dataset: str, tile: str, channel: str) -> Path:
        return self.folder / "data" / "tiles" / f"{dataset}-{tile}-{channel}.npy"

    def save(self, dataset: str, tile: str, channel: str) -> None:
        path = self.path(dataset, tile, channel)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, self.tiles[dataset, tile].image(channel))

    def change(self, tile: str, channel: str = "c0", dataset: str = "d") -> None:
        """Another noise: the placement stays."""
        self.tiles[dataset, tile].channels[channel] += 1
        self.save(dataset, tile, channel)

    def move(self, tile: str, by: tuple[int, int, int], dataset: str = "d") -> None:
        """The tile was taken elsewhere: all its channels change."""
        entry = self.tiles[dataset, tile]
        entry.true = tuple(a + b for a, b in zip(entry.true, by, strict=True))
        for channel in entry.channels:
            entry.channels[channel] += 1
            self.save(dataset, tile, channel)

    def remove(self, tile: str, dataset: str = "d") -> None:
        del self.tiles[dataset, tile]
        self.write()

    def set(self, **groups) -> None:
        for name, value in groups.items():
            if isinstance(value, dict) and isinstance(self.config.get(name), dict):
                self.config[name] = {**self.config[name], **value}
            else:
                self.config[name] = value
        self.write()

    def write(self) -> None:
        channels = sorted({c for tile in self.tiles.values() for c in tile.channels})
        many = len({dataset for dataset, _ in self.tiles}) > 1
        lines = ["tile\tchannel\tpath\ttile_x\ttile_y" + "\tdataset" * many]
        for channel in channels:
            for (dataset, name), tile in self.tiles.items():
                if channel in tile.channels:
                    path = f"tiles/{dataset}-{name}-{channel}.npy"
                    x, y = tile.index
                    lines.append(f"{name}\t{channel}\t{path}\t{x}\t{y}" + f"\t{dataset}" * many)
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        (self.folder / "data" / "tiles.tsv").write_text("\n".join(lines) + "\n")
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config))

    @property
    def datasets(self) -> list[str]:
        return sorted({dataset for dataset, _ in self.tiles})

    # Runs

    def command(self, *args: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "snakemake",
            "-s",
            str(self.code / "Snakefile"),
            "--configfile",
            str(self.folder / "config.yaml"),
            "--cores",
            "2",
            *args,
        ]

    def start(self, *args: str, cwd: Path | None = None, **options) -> subprocess.Popen:
        return subprocess.Popen(
            self.command(*args),
            cwd=cwd or self.folder,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            # What runs the tests may ignore Ctrl-C, as a shell's background jobs do.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            **{"stdout": subprocess.PIPE, **options},
        )

    def run(self, *args: str, cwd: Path | None = None, fails: bool = False) -> Ran:
        process = self.start(*args, cwd=cwd)
        text = process.communicate(timeout=600)[0]
        assert (process.returncode != 0) == fails, text
        return Ran(process.returncode, text)

    def stitchlib(self, *args: str, fails: bool = False) -> str:
        command = [sys.executable, "-m", "stitchlib", *args]
        done = subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            env={**environment(), "PYTHONPATH": str(self.code)},
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    # Results

    def results(self, dataset: str = "d") -> Path:
        return self.folder / self.config.get("results", "results") / dataset

    def volume(self, dataset: str = "d") -> dict:
        return read_volume(self.results(dataset) / f"{dataset}.h5")

    def files(self, pattern: str, dataset: str = "d") -> list[Path]:
        return sorted(self.results(dataset).glob(pattern))

    def corners(self, dataset: str = "d") -> dict[str, tuple[int, ...]]:
        lines = (self.results(dataset) / "positions.tsv").read_text().splitlines()
        head = lines[0].split("\t")
        rows = [dict(zip(head, line.split("\t"), strict=True)) for line in lines[1:]]
        return {row["tile"]: tuple(int(row[a]) for a in "xyz") for row in rows}

    def touched(self, dataset: str = "d") -> dict[tuple, frozenset]:
        """What an independent look says each shard shows: tiles, where they lie, and which file."""
        corners = self.corners(dataset)
        least = [min(corner[d] for corner in corners.values()) for d in range(3)]
        depth = max(c[2] - least[2] + SHAPE[2] for c in corners.values())
        extent = [max(c[d] - least[d] + SHAPE[d] for c in corners.values()) for d in (0, 1)]
        shown: dict[tuple, set] = {}
        for name, corner in corners.items():
            lower = [a - b for a, b in zip(corner, least, strict=True)]
            for channel, version in self.tiles[dataset, name].channels.items():
                spans = [
                    range(a // 32, (a + n - 1) // 32 + 1) for a, n in zip(lower, SHAPE, strict=True)
                ]
                for index in product(*spans):
                    entry = (name, *lower, version, self.tiles[dataset, name].true)
                    key = (channel, *index)
                    # A chunk is no deeper than the volume, so that all depend on its depth.
                    shown.setdefault(key, {("depth", depth)}).add(entry)
                    # A halved voxel is the mean of those that exist: whether the volume ends at an
                    # odd voxel shows in the shards whose tiles reach its end.
                    for d in (0, 1):
                        end = lower[d] + SHAPE[d]
                        if end % 2 and end < 32 * (index[d] + 1):
                            shown[key].add(("end", d, end, extent[d] == end))
        return {key: _reaching(value) for key, value in shown.items()}

    def fresh(self, dataset: str = "d") -> dict:
        """The volume that the library makes of the same sheet and configuration, from nothing."""
        script = ROOT / "tests" / "fresh.py"
        target = self.folder / "fresh"
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(
            [sys.executable, str(script), "config.yaml", str(target)],
            cwd=self.folder,
            check=True,
            env={**environment(), "PYTHONPATH": str(self.code)},
        )
        volume = read_volume(target / dataset / f"{dataset}.h5")
        shutil.rmtree(target)
        return volume


def _reaching(shown: set) -> frozenset:
    """Of the ends along an axis, only the outermost one matters."""
    ends: dict[int, tuple] = {}
    for entry in shown:
        if entry[0] == "end":
            ends[entry[1]] = max(entry, ends.get(entry[1], entry))
    return frozenset({e for e in shown if e[0] != "end"} | set(ends.values()))


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def changed_shards(before: dict, after: dict) -> int:
    """How many shards have to be made: those that now show something else, but not nothing."""
    return sum(before.get(key) != shown for key, shown in after.items())


def read_volume(path: Path) -> dict:
    """All voxels of all levels, and what the file says about them."""
    found: dict = {}
    with h5py.File(path, "r") as file:
        found.update({f"@{k}": np.array(v) for k, v in file.attrs.items() if k != "card"})

        def visit(name: str, item: object) -> None:
            found.update({f"{name}@{k}": np.array(v) for k, v in item.attrs.items()})
            if isinstance(item, h5py.Dataset):
                found[name] = item[()]

        file.visititems(visit)
    found["xml"] = np.array(path.with_suffix(".xml").read_text())
    return found


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a
    )


def different(a: dict, b: dict) -> Counter:
    """Where two volumes differ, for a person."""
    keys = [k for k in {*a, *b} if k not in a or k not in b or not np.array_equal(a[k], b[k])]
    return Counter(keys)


def records(setup: Setup, dataset: str = "d") -> dict:
    return {p.name: json.loads(p.read_text()) for p in setup.files("records/*", dataset)}
