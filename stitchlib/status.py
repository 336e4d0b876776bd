"""Status: what of a run is done, what would run and why, without running or writing anything.

A job would run because there is no result of its card's name. Why that is so, the card tells that
was there before: the most recent one of the same job, preferably one whose result is there too.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stitchlib.cards import Card
from stitchlib.changes import Context, describe
from stitchlib.core.boxes import Point
from stitchlib.errors import InputError
from stitchlib.io.files import read_json, record_problem
from stitchlib.leases import others
from stitchlib.runs import DatasetRun, Finish, Run

STAGES = ("align", "place", "stitch", "assemble")


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How far one stage of a dataset is."""

    stage: str
    total: int
    """Jobs that the configuration asks for."""
    pending: Mapping[str, tuple[str, ...]]
    """Jobs that would run, each with its reasons."""
    note: str = ""
    """What cannot be known yet."""

    @property
    def reasons(self) -> Counter[str]:
        """How many jobs would run for each reason."""
        return Counter(reason for reasons in self.pending.values() for reason in reasons)


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """How far a dataset is."""

    name: str
    volume: Path
    stages: tuple[StageStatus, ...]

    @property
    def done(self) -> bool:
        """Whether nothing would run."""
        return not any(stage.pending for stage in self.stages)


@dataclass(frozen=True)
class _Folder:
    """What is in a dataset's folder, from one listing."""

    path: Path

    @cached_property
    def files(self) -> Mapping[str, float]:
        """Date of every file with a card's digest in its name, by its path in the folder."""
        tops = ("cards", "pairs", "shards", "records", "logs", "benchmarks")
        return dict(entry for top in tops for entry in _listed(self.path / top, top))

    @cached_property
    def cards(self) -> Mapping[tuple[str, str], list[tuple[float, str]]]:
        """Date and stem of every card, by stage and job."""
        found: dict[tuple[str, str], list[tuple[float, str]]] = {}
        for path, date in self.files.items():
            top, _, inner = path.partition("/")
            if top == "cards":
                stage, _, stem = inner.removesuffix(".json").partition("/")
                name = stem[:-13] if "." in stem else ""
                found.setdefault((stage, name), []).append((date, stem))
        return found

    def has(self, stage: str, stem: str) -> bool:
        """Whether the result of a card is there."""
        return _result(stage, stem) in self.files

    def before(self, card: Card) -> dict[str, Any] | None:
        """Return the content of the card that a job had before this one."""
        known = [
            (self.has(card.stage, stem), date, stem)
            for date, stem in self.cards.get((card.stage, card.name), [])
            if stem != card.stem
        ]
        for _, _, stem in sorted(known, reverse=True):
            try:
                content: dict[str, Any] = read_json(self.path / f"cards/{card.stage}/{stem}.json")
            except InputError:
                continue
            return content
        return None

    def why(self, card: Card, context: Context | None = None) -> tuple[str, ...]:
        """Tell why a job would run whose result is not there."""
        if f"benchmarks/{card.stage}/{card.stem}.tsv" in self.files:
            return ("its result was removed",)
        log = f"logs/{card.stage}/{card.stem}.log"
        failed = [f"did not finish, see {self.path / log}"] if log in self.files else []
        old = self.before(card)
        if old is None:
            return tuple(failed) or ("not made yet",)
        return (*failed, *describe(old, card.content, context or Context()))


def _listed(folder: Path, prefix: str) -> Iterator[tuple[str, float]]:
    try:
        entries = os.scandir(folder)
    except OSError:
        return
    with entries:
        for entry in entries:
            name = f"{prefix}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _listed(folder / entry.name, name)
            else:
                yield name, entry.stat().st_mtime


def _result(stage: str, stem: str) -> str:
    if stage == "align":
        return f"pairs/{stem}.tsv"
    if stage == "stitch":
        return f"shards/{stem}.h5"
    return f"records/{stage}.{stem}.json"


def run_status(run: Run) -> list[DatasetStatus]:
    """Return how far every dataset is."""
    return [dataset_status(dataset) for dataset in run.datasets.values()]


def dataset_status(run: DatasetRun) -> DatasetStatus:
    """Return how far a dataset is, and why what would run would run."""
    folder = _Folder(run.folder)
    align = StageStatus(
        "align",
        len(run.blocks),
        {
            card.name: folder.why(card)
            for card, _ in run.blocks
            if not folder.has("align", card.stem)
        },
    )
    place = StageStatus("place", 1, _place_pending(run, folder, align))
    stitch, assemble = _after(run, folder, bool(place.pending))
    return DatasetStatus(run.dataset.name, run.volume, (align, place, stitch, assemble))


def _place_pending(
    run: DatasetRun, folder: _Folder, align: StageStatus
) -> dict[str, tuple[str, ...]]:
    problem = record_problem(run.place_record)
    if align.pending and not problem:
        # The tables come out as they were, but Snakemake runs what is downstream.
        return {"": ("its pair tables are made again",)}
    if not problem:
        return {}
    if run.place_record.exists():
        return {"": (problem,)}
    return {"": folder.why(run.place_card)}


def _after(run: DatasetRun, folder: _Folder, pending: bool) -> tuple[StageStatus, StageStatus]:
    """Return how far the stages after the placement are."""
    positions = run.positions() if not record_problem(run.place_record) else _last_positions(run)
    if positions is None:
        nominal = [tile.nominal for tile in run.dataset.tiles]
        count = len(run.after(nominal).shards)
        note = f"about {count} shards; known when the tiles are placed"
        return StageStatus("stitch", 0, {}, note), _first_assembly(run)
    finish = run.after(positions)
    note = "if no tile moves; what does is known when they are placed" if pending else ""
    context = Context(_corner_move(folder, finish), _image_names(run))
    shards = {
        card.name: folder.why(card, context)
        for card, _ in finish.shards
        if not folder.has("stitch", card.stem)
    }
    stitch = StageStatus("stitch", len(finish.shards), shards, note)
    problem = run.volume_problem(finish.record(run.folder))
    reasons: tuple[str, ...] = ()
    if not finish.record(run.folder).exists():
        reasons = folder.why(finish.last)
    elif problem:
        reasons = (problem,)
    elif shards:
        reasons = (f"{len(shards)} shards are made again",)
    return stitch, StageStatus("assemble", 1, {"": reasons} if reasons else {}, note)


def _first_assembly(run: DatasetRun) -> StageStatus:
    reason = "may have to change" if run.volume.exists() else "not made yet"
    return StageStatus("assemble", 1, {"": (reason,)})


def _last_positions(run: DatasetRun) -> list[Point] | None:
    """Return where the tiles lay at last, if all of them did."""
    records = sorted(
        (run.folder / "records").glob("place.*.json"), key=os.path.getmtime, reverse=True
    )
    for record in records:
        try:
            known = read_json(record)["positions"]
            return [tuple(known[tile.name]) for tile in run.dataset.tiles]
        except (InputError, KeyError, TypeError):
            continue
    return None


def _image_names(run: DatasetRun) -> dict[str, str]:
    return {
        image.name: f"tile {tile.name} ({channel})"
        for tile in run.dataset.tiles
        for channel, image in tile.images.items()
    }


def _corner_move(folder: _Folder, finish: Finish) -> tuple[int, ...]:
    """Return how far the volume's least corner moved since the last assembly."""
    if folder.has("assemble", finish.last.stem):
        return (0, 0, 0)
    old = folder.before(finish.last)
    if old is None:
        return (0, 0, 0)
    return tuple(a - b for a, b in zip(finish.plan.corner, old["corner"], strict=True))


def status_lines(run: Run, most: int = 8) -> Iterator[str]:
    """Yield the lines that tell a person.

    Parameters
    ----------
    run : Run
        What is looked at.
    most : int
        At most so many reasons a stage; 0 = every job with its own.
    """
    found = run_status(run)
    for dataset in found:
        yield from _dataset_lines(dataset, most)
    for lease in others(run.config.results, run.datasets):
        yield f"{lease} is at work here"
    if all(dataset.done for dataset in found):
        yield "Everything is done."
    else:
        yield "The next run of snakemake does what is to do, and nothing else."


def _dataset_lines(dataset: DatasetStatus, most: int) -> Iterator[str]:
    yield f"{dataset.name}: {dataset.volume}"
    for stage in dataset.stages:
        yield f"  {stage.stage:9}{_count(stage)}"
        if most:
            yield from _counted(stage, most)
        else:
            yield from (f"    {job}: {'; '.join(why)}" for job, why in stage.pending.items())


def _count(stage: StageStatus) -> str:
    note = f" ({stage.note})" if stage.note else ""
    if not stage.total:
        return f"to do{note}"
    if stage.total == 1 and stage.stage in ("place", "assemble"):
        return f"to do{note}" if stage.pending else "done"
    what = {"align": "tables of pairs", "stitch": "shards"}[stage.stage]
    text = f"{stage.total - len(stage.pending)} of {stage.total} {what} are there"
    return f"{text}, {len(stage.pending)} to make{note}" if stage.pending else f"{text}{note}"


def _counted(stage: StageStatus, most: int) -> Iterator[str]:
    reasons = stage.reasons.most_common()
    for reason, count in reasons[:most]:
        yield f"    {reason}" if stage.total == 1 else f"    {count:>6} × {reason}"
    if len(reasons) > most:
        yield f"    … and {len(reasons) - most} more reasons (--all)"
