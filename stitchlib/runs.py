"""A run: which jobs a configuration asks for, and the files they make.

The Snakefile, and everything that wants to know what a run consists of, ask here. The main process
writes cards; jobs read their own and nothing else. Making a `Run` writes nothing in the results but
the memory of image headers, so that whoever only wants to look (``stitchlib status``) may do so
beside a run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stitchlib import assemble, jobcards
from stitchlib.cards import Card
from stitchlib.config import Config, parse_config
from stitchlib.core.boxes import Box, Point, hull
from stitchlib.errors import InputError, Problems
from stitchlib.inputs import Inputs, load_inputs
from stitchlib.io.files import digest_text, read_json, record_problem
from stitchlib.memory import card_mb, preview_mb
from stitchlib.neighbours import deal_out, plan_pairs
from stitchlib.pairs import Pair
from stitchlib.plans import ShardPlan, VolumePlan, auto_shard, plan_volume
from stitchlib.tiles import Dataset, Tile, load_datasets


@dataclass(frozen=True)
class Run:
    """All jobs of a configuration."""

    config: Config
    datasets: Mapping[str, DatasetRun]

    @classmethod
    def of(cls, value: Mapping[str, Any], problems: Problems | None = None) -> Run:
        """Check a configuration, its sheet and all image headers, and plan the run.

        Parameters
        ----------
        value : mapping
            The configuration.
        problems : Problems, optional
            Gathers what is wrong with sheet, images and tables; such a run is not whole.

        Raises
        ------
        InputError
            For anything that would make it fail later.
        """
        config = parse_config(value)
        for folder in (config.results, *config.results.parents):
            if folder.is_file():
                raise InputError(
                    f"results = {str(config.results)!r}: {folder} is a file; give a folder, which "
                    "need not be there yet"
                )
        problems = problems or Problems()
        datasets = load_datasets(config, config.results / ".headers.json", problems)
        runs: dict[str, DatasetRun] = {}
        with problems.each():
            inputs = load_inputs(config, datasets)
            runs = {d.name: DatasetRun(config, d, inputs[d.name]) for d in datasets}
        for run in runs.values():
            with problems.each():
                run.check()
        return cls(config, runs)

    def prepare(self, *, drop: bool = True) -> None:
        """Write the cards, and forget records that cannot be trusted; see `DatasetRun.prepare`."""
        for run in self.datasets.values():
            run.prepare(drop=drop)


@dataclass(frozen=True, slots=True)
class Finish:
    """The jobs of a dataset after its placement."""

    plan: VolumePlan
    shards: tuple[tuple[Card, ShardPlan], ...]
    """The stitch jobs."""
    last: Card
    """The assemble job's card."""

    def paths(self, folder: Path) -> list[Path]:
        """Return the shards' files."""
        return [folder / "shards" / f"{card.stem}.h5" for card, _ in self.shards]

    def record(self, folder: Path) -> Path:
        """Return the assemble job's result."""
        return folder / "records" / f"assemble.{self.last.digest}.json"


@dataclass(frozen=True)
class DatasetRun:
    """All jobs of one dataset; what depends on the placement is known once that is done."""

    config: Config
    dataset: Dataset
    inputs: Inputs
    """What a person or an earlier run has said about the placement."""
    _known: dict[str, Finish] = field(default_factory=dict)
    _wanted: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its results stand."""
        return self.config.results / self.dataset.name

    @property
    def volume(self) -> Path:
        """The HDF5 volume."""
        return self.folder / f"{self.dataset.name}.h5"

    # Before the placement

    @cached_property
    def pairs(self) -> list[Pair]:
        """All pairs of neighbours, in sheet order."""
        return plan_pairs(self.dataset, self.config)

    @cached_property
    def blocks(self) -> list[tuple[Card, list[Pair]]]:
        """The align jobs: card and pairs of each."""
        pairs = self.pairs if self.inputs.aligns else []
        blocks = deal_out(self.dataset, pairs, self.config.align.pairs_per_job)
        return list(jobcards.align_cards(self.config, self.dataset, blocks))

    @cached_property
    def place_card(self) -> Card:
        """The card of the place job."""
        tables = [path.name for path in self.tables]
        return jobcards.place_card(self.config, self.dataset, self.inputs, tables)

    @cached_property
    def dataset_card(self) -> Card:
        """The card of the last job."""
        return jobcards.dataset_card(self.config, self.dataset, self.inputs, self.place_card)

    def check(self) -> None:
        """Refuse what would fail later, before anything runs."""
        dtype = np.dtype(self.dataset.dtype)
        fill = self.config.stitch.fill
        if dtype.kind in "iu" and (
            fill != int(fill) or not np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max
        ):
            raise InputError(
                f"stitch.fill = {fill}: the voxels of dataset {self.dataset.name!r} are {dtype}; "
                f"give a whole number from {np.iinfo(dtype).min} to {np.iinfo(dtype).max}"
            )
        region = self.config.stitch.region
        if region is not None and self.dataset.ndim == 2 and region[2] not in (None, (0, 1)):
            raise InputError(
                f"stitch.region.z = {list(region[2] or ())}: dataset {self.dataset.name!r} is 2-D, "
                "its only plane is [0, 1]; leave z out"
            )
        if self.config.mem_mb is not None:
            self._check_memory(self.config.mem_mb)

    def _check_memory(self, limit: int) -> None:
        for card, _ in self.blocks:
            way_out = ", or lower align.max_shift, align.overlap or align.pairs_per_job"
            self._check_job(limit, f"aligning {card.name}", card_mb(card.content), way_out)
        place_card = self.place_card.content
        self._check_job(limit, "placing", card_mb(place_card))
        self._check_job(limit, "drawing the preview", preview_mb(place_card))
        # Where tiles will lie is not known yet, but what a job takes depends little on it.
        try:
            finish = self.after([tile.nominal for tile in self.drawn])
        except InputError:
            return  # Some may come to lie in the region yet.
        self._check_finish(finish, limit)

    def _check_finish(self, finish: Finish, limit: int) -> None:
        way_out = ", or lower output.chunk"
        for card, _ in finish.shards:
            self._check_job(limit, f"stitching {card.name}", card_mb(card.content), way_out)
        self._check_job(limit, "assembling", card_mb(finish.last.content), way_out)

    def _check_job(self, limit: int, what: str, needed: int, way_out: str = "") -> None:
        if needed > limit:
            raise InputError(
                f"resources.mem_mb = {limit}: {what} of dataset {self.dataset.name!r} needs "
                f"{needed} MB; allow as much{way_out}"
            )

    def write_cards(self) -> None:
        """Write the cards known before the placement."""
        for card, _ in self.blocks:
            card.write(self.folder)
        self.place_card.write(self.folder)
        self.dataset_card.write(self.folder)

    def prepare(self, *, drop: bool) -> None:
        """Write all cards that can be known, and forget records that cannot be trusted.

        Snakemake looks no further than a result that exists, so the dataset's own record goes
        wherever something that it stands for is missing.

        Parameters
        ----------
        drop : bool
            Whether records whose files are gone or not theirs are removed, so that their jobs run.
        """
        if drop:
            _date_back(self.folder)
        self.write_cards()
        if record_problem(self.place_record):
            if drop:
                self.place_record.unlink(missing_ok=True)
                self.dataset_record.unlink(missing_ok=True)
            return
        wanted = [*self.tables, *self.finish(drop=drop)]
        if not drop:
            return
        if record_problem(self.dataset_record) or not all(map(Path.exists, wanted)):
            self.dataset_record.unlink(missing_ok=True)
        else:
            _date_after(self.dataset_record, wanted)

    @property
    def tables(self) -> list[Path]:
        """The align jobs' results."""
        return [self.folder / "pairs" / f"{card.stem}.tsv" for card, _ in self.blocks]

    @property
    def place_record(self) -> Path:
        """The place job's result."""
        return self.folder / "records" / f"place.{self.place_card.digest}.json"

    @property
    def preview_record(self) -> Path:
        """The preview job's result; its card is the last job's."""
        return self.folder / "records" / f"preview.{self.dataset_card.digest}.json"

    @property
    def dataset_record(self) -> Path:
        """The last job's result."""
        return self.folder / "records" / f"dataset.{self.dataset_card.digest}.json"

    # After the placement

    @cached_property
    def drawn(self) -> tuple[Tile, ...]:
        """The tiles that are in the volume: all but the excluded ones, in sheet order."""
        excluded = self.inputs.corrections.excluded
        return tuple(tile for tile in self.dataset.tiles if tile.name not in excluded)

    def positions(self) -> list[Point]:
        """Read where the place job put the tiles that are drawn, in sheet order."""
        record = read_json(self.place_record)
        return [tuple(record["positions"][tile.name]) for tile in self.drawn]

    def remarks(self) -> list[str]:
        """Read what the place job has to say to a person, a line each."""
        return [f"{self.dataset.name}: {line}" for line in read_json(self.place_record)["remarks"]]

    def volume_plan(self, positions: Sequence[Point]) -> VolumePlan:
        """Lay out the volume for tiles at these positions."""
        tiles, output = self.drawn, self.config.output
        shape = tuple(max(tile.shape[axis] for tile in tiles) for axis in range(3))
        layers = len({tile.index[2] for tile in tiles})
        itemsize = np.dtype(self.dataset.dtype).itemsize
        nominal = hull([Box.at(tile.nominal, tile.shape) for tile in tiles])
        shard = output.shard or auto_shard(
            shape, layers, self.config.voxel_size, output.chunk, itemsize, nominal.shape
        )
        return plan_volume(
            [Box.at(p, tile.shape) for p, tile in zip(positions, tiles, strict=True)],
            self.config.voxel_size,
            chunk=output.chunk,
            shard=shard,
            levels=output.levels,
            region=self.config.stitch.region,
        )

    def after(self, positions: Sequence[Point]) -> Finish:
        """Plan everything after the placement, for tiles at these positions.

        Raises
        ------
        InputError
            Where no tile lies in the configured region.
        """
        key = digest_text(str(positions))
        if key not in self._known:
            plan = self.volume_plan(positions)
            placed = zip(self.drawn, positions, strict=True)
            shards = tuple(jobcards.stitch_cards(self.config, self.dataset, plan, placed))
            if not shards:
                lowest = [min(p[axis] for p in positions) for axis in range(3)]
                raise InputError(
                    f"stitch.region = {self.config.raw['stitch']['region']}: no tile of dataset "
                    f"{self.dataset.name!r} lies there; its least corner is (x, y, z) = "
                    f"{tuple(lowest)}, see positions.tsv"
                )
            last = jobcards.assemble_card(self.config, self.dataset, plan, shards)
            self._known[key] = Finish(plan, shards, last)
        return self._known[key]

    def finish(self, *, drop: bool = True) -> list[Path]:
        """Write the cards of everything after the placement, and return what is wanted of it.

        With ``drop``, the record of a volume that is not there any more is removed, so that it is
        made again. Only the first call for a placement does that: what becomes of the volume later,
        for instance by a run beside this one, is the next run's affair.
        """
        key = digest_text(self.place_record.read_text(encoding="utf-8"))
        if key not in self._wanted:
            finish = self.after(self.positions())
            if self.config.mem_mb is not None:
                self._check_finish(finish, self.config.mem_mb)
            for card, _ in finish.shards:
                card.write(self.folder)
            finish.last.write(self.folder)
            record = finish.record(self.folder)
            if drop and self.volume_problem(record):
                record.unlink(missing_ok=True)
            if drop and record_problem(self.preview_record):
                self.preview_record.unlink(missing_ok=True)
            self._wanted[key] = [
                record,
                self.place_record,
                self.preview_record,
                *finish.paths(self.folder),
            ]
        return self._wanted[key]

    def cards(self) -> Iterator[Card]:
        """Yield the cards of all jobs; the placement must be known."""
        yield from (card for card, _ in self.blocks)
        yield self.place_card
        finish = self.after(self.positions())
        yield from (card for card, _ in finish.shards)
        yield finish.last
        yield self.dataset_card

    def volume_problem(self, record: Path) -> str:
        """Tell what is wrong with the volume that an assemble job's record stands for, or ''."""
        problem = record_problem(record)
        if problem:
            return problem
        if not self.volume.exists():
            return f"{self.volume.name} is gone"
        # The volume's name says nothing about its content; the card it was made from does.
        if assemble.volume_card(self.volume) != _digest(record):
            return f"{self.volume.name} is not the volume that was made"
        return ""


def _date_back(folder: Path) -> None:
    """Date results of the future now: Snakemake gives up where one is younger than what it makes.

    Dates decide nothing else; a clock was wrong when they were made or copied.
    """
    now = time.time()
    for top in ("cards", "pairs", "shards", "records"):
        for where, _, names in os.walk(folder / top):
            for name in names:
                path = Path(where) / name
                try:
                    if path.stat().st_mtime > now:
                        os.utime(path)
                except FileNotFoundError:
                    continue  # a run beside this one has cleaned


def _date_after(record: Path, others: Sequence[Path]) -> None:
    """Date a record now where it is older than what it stands for, as copies may be.

    Of the rule that makes it, the inputs are not ancient, and dates should decide nothing.
    """
    with suppress(FileNotFoundError, PermissionError):  # cleaned, or another person's: made again
        if record.stat().st_mtime < max(path.stat().st_mtime for path in others):
            os.utime(record)


def _digest(record: Path) -> str:
    return record.name.split(".")[1]
