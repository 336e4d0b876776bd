"""Whatever happens in whatever order: after each step the volume is that of a fresh run."""

from __future__ import annotations

import os
import random
import shutil

import pytest

from tests.acquisition import Setup, changed_shards, different, same

STEPS = 32


class Changes:
    """Things that people do to an acquisition and its results, chosen by a seed."""

    def __init__(self, setup: Setup, seed: int) -> None:
        self.setup = setup
        self.random = random.Random(seed)

    def names(self) -> list[str]:
        return [name for _, name in self.setup.tiles]

    def change_tile(self):
        name = self.random.choice(self.names())
        self.setup.change(name, self.random.choice(list(self.setup.tiles["d", name].channels)))

    def move_tile(self):
        name = self.random.choice(self.names())
        true = self.setup.tiles["d", name].true
        index = self.setup.tiles["d", name].index
        to = [self.random.choice((0, 1, 2)) for _ in range(3)]
        nominal = (index[0] * 28, index[1] * 28, 0)
        by = [n + t - a for n, t, a in zip(nominal, to, true, strict=True)]
        self.setup.move(name, by)

    def remove_tile(self):
        indices = {tile.index: name for (_, name), tile in self.setup.tiles.items()}

        def lonely(left):
            return any(not left & {(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)} for x, y in left)

        able = [n for i, n in indices.items() if not lonely(set(indices) - {i})]
        if able and len(indices) > 4:
            self.setup.remove(self.random.choice(able))

    def add_tile(self):
        taken = {tile.index for tile in self.setup.tiles.values()}
        near = {(x + a, y + b) for x, y in taken for a, b in ((1, 0), (0, 1), (-1, 0), (0, -1))}
        free = sorted(i for i in near - taken if 0 <= i[0] <= 3 and 0 <= i[1] <= 2)
        if free and len(taken) < 8:
            channels = self.random.choice([("c0",), ("c0", "c1")])
            self.setup.add(*self.random.choice(free), channels)

    def change_channel(self):
        name = self.random.choice(self.names())
        tile = self.setup.tiles["d", name]
        if "c1" in tile.channels:
            del tile.channels["c1"]
        else:
            tile.channels["c1"] = 5
            self.setup.save("d", name, "c1")
        self.setup.write()

    def reorder(self):
        items = list(self.setup.tiles.items())
        self.random.shuffle(items)
        self.setup.tiles = dict(items)
        self.setup.write()

    def set_option(self):
        group, key, values = self.random.choice(
            [
                ("stitch", "blending", ["interpolation", "max", "min", "mean"]),
                ("stitch", "fill", [0, 9, 1000]),
                ("stitch", "region", [None, {"x": [5, 77]}, {"y": [-3, 50], "z": [1, 7]}]),
                ("place", "min_confidence", [0.9, 0.99]),
                ("align", "max_shift", [{"x": m, "y": m, "z": 2} for m in (3, 4)]),
                ("output", "levels", [1, 2, 3]),
                ("output", "compression", ["gzip", "none"]),
                ("output", "assembly", ["copy", "virtual"]),
                ("output", "keep_old", [False, True]),
                ("output", "chunk", [16, 32]),
            ]
        )
        self.setup.set(**{group: {key: self.random.choice(values)}})

    def lose(self):
        patterns = ["pairs/*", "shards/c0/*", "d.h5", "*.tsv", "*.json", "*.xml", "records/*"]
        files = self.setup.files(self.random.choice(patterns))
        if files:
            self.random.choice(files).unlink()

    def forget(self):
        what = self.random.choice(["results/d/cards", "results/d/logs", ".snakemake"])
        shutil.rmtree(self.setup.folder / what, ignore_errors=True)

    def lie_about_dates(self):
        for path in self.setup.results().rglob("*"):
            if self.random.random() < 0.3:
                os.utime(path, (10**9 + self.random.randrange(10**8),) * 2)

    def interrupt(self):
        self.setup.start("-n").communicate(timeout=300)

    def step(self) -> list[str]:
        kinds = [
            self.change_tile, self.move_tile, self.remove_tile, self.add_tile, self.change_channel,
            self.reorder, self.set_option, self.set_option, self.set_option, self.lose, self.forget,
            self.lie_about_dates, self.interrupt,
        ]  # fmt: skip
        chosen = self.random.sample(kinds, self.random.choice((1, 1, 2)))
        for kind in chosen:
            kind()
        return [kind.__name__ for kind in chosen]


def _walk(setup, seed, steps):
    changes = Changes(setup, seed)
    history = []
    for step in range(steps):
        before = setup.touched()
        done = changes.step()
        history.append(done)
        ran = setup.run()
        fresh = setup.fresh()
        assert same(setup.volume(), fresh), (seed, history, different(setup.volume(), fresh))
        if {*done} <= {"change_tile", "move_tile"} and not setup.config["stitch"].get("region"):
            # Fewer where an old shard was kept.
            assert ran.counts[2] <= changed_shards(before, setup.touched()), (seed, history)
        if step % 4 == 0:
            assert setup.run().counts == (0, 0, 0, 0), (seed, history)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_after_any_sequence_the_volume_is_that_of_a_fresh_run(done, seed):
    done.set(stitch={"blending": "interpolation"})
    _walk(done, seed, STEPS // 2)
