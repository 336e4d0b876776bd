"""Cleaning: removing tables, shards, cards, records, logs and benchmarks that nothing names.

Every such file has a card's digest in its name. When all of a dataset's jobs are done, those whose
digest is not one of its present cards are left over from before a change. Nothing else is ever
touched: not the volume, not files with other names, not datasets that the sheet doesn't list, and
nothing at all while something of the dataset is still to be made, or while another run is at work
on it (see `stitchlib.leases`): whatever that one needs, it needs until it ends.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stitchlib.assemble import is_virtual
from stitchlib.errors import InputError
from stitchlib.io.files import record_problem
from stitchlib.leases import BusyError, cleaning
from stitchlib.runs import DatasetRun, Run

log = logging.getLogger(__name__)

STAGES = ("align", "place", "stitch", "assemble", "preview", "dataset")
"""Files of other stages are not known here, and stay."""

_FOLDERS = ("cards", "pairs", "shards", "records", "logs", "benchmarks")
_NAMED = re.compile(r"(?:(?P<name>.+)\.)?(?P<digest>[0-9a-f]{12})\.(?:json|tsv|h5|log)")
_TEMPORARY = re.compile(r"\..*\.tmp")
_OLD_SECONDS = 86400
"""After a day, the temporary file of a killed job is nobody's any more."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that may go."""

    path: Path
    kind: str
    """Its folder: cards, pairs, shards, records, logs or benchmarks; or 'shards in use', or
    'temporary' for what a killed job left half done."""
    size: int
    """Bytes."""


def unfinished(run: DatasetRun) -> str:
    """Tell what of a dataset is still to be made, or '' where all is done.

    Shards are not asked for: an assembled volume is whole without them.
    """
    problem = record_problem(run.place_record)
    if problem:
        return f"the placement: {problem}"
    problem = run.volume_problem(run.after(run.positions()).record(run.folder))
    if problem:
        return f"the volume: {problem}"
    records = {"preview.png": run.preview_record, "provenance.json": run.dataset_record}
    problems = {name: record_problem(record) for name, record in records.items()}
    return next((f"{name}: {problem}" for name, problem in problems.items() if problem), "")


def leftovers(run: DatasetRun, *, shards: bool = False) -> list[Leftover]:
    """List what may go of a dataset that is finished.

    Parameters
    ----------
    run : DatasetRun
        Whose folder is looked at.
    shards : bool
        Also those shards that the volume was assembled from; the next run makes them again.

    Raises
    ------
    InputError
        Where something of it is still to be made; or for ``shards`` while the volume is virtual.
    """
    problem = unfinished(run)
    if problem:
        raise InputError(
            f"dataset {run.dataset.name!r} is not finished ({problem}); what is left over is known "
            "when it is: run snakemake first"
        )
    virtual = run.config.output.assembly == "virtual" or is_virtual(run.volume)
    if shards and virtual:
        raise InputError(
            f"{run.volume}: its voxels are in the shards (output.assembly: virtual); set "
            "output.assembly: copy and run snakemake before you remove them"
        )
    return list(_leftovers(run, shards))


def _leftovers(run: DatasetRun, shards: bool) -> Iterator[Leftover]:
    used = {("stitch", card.stem) for card, _ in run.after(run.positions()).shards}
    named = {(card.stage, card.stem) for card in run.cards()} | used
    named.add(("preview", run.dataset_card.stem))
    now = time.time()
    for path in sorted(run.folder.glob(".*.tmp")):  # half a volume, where assembly was killed
        with suppress(OSError):
            stat = path.stat()
            if now - stat.st_mtime > _OLD_SECONDS:
                yield Leftover(path, "temporary", stat.st_size)
    for top in _FOLDERS:
        for path in sorted((run.folder / top).rglob("*")):
            stem = _stage_and_stem(path.relative_to(run.folder))
            with suppress(OSError):  # gone meanwhile
                stat = path.stat()
                old = now - stat.st_mtime > _OLD_SECONDS
                if stem is None:
                    if not (_TEMPORARY.fullmatch(path.name) and old):
                        continue
                elif stem in named and not (shards and top == "shards"):
                    continue
                yield Leftover(path, "shards in use" if stem in named else top, stat.st_size)


def _stage_and_stem(path: Path) -> tuple[str, str] | None:
    """Return which card a file belongs to; None where it is none of ours.

    ``path`` is relative to the dataset's folder: ``pairs/x0y1.3fa9….tsv``,
    ``shards/c0/x0y0z0.3fa9….h5``, ``records/place.3fa9….json``, and for the other folders the stage
    comes first: ``cards/stitch/c0/x0y0z0.3fa9….json``.
    """
    match = _NAMED.fullmatch(path.name)
    if match is None:
        return None
    top, *inner = path.parts[:-1]
    if top == "records":
        stage, stem = match["name"] or "", match["digest"]
    else:
        stage = {"pairs": "align", "shards": "stitch"}.get(top) or (inner.pop(0) if inner else "")
        stem = "/".join([*inner, path.stem])
    return (stage, stem) if stage in STAGES else None


def remove(run: DatasetRun, files: Sequence[Leftover]) -> None:
    """Remove files, and the folders that they leave empty."""
    for file in files:
        file.path.unlink(missing_ok=True)
    tops = {run.folder, *(run.folder / top for top in _FOLDERS)}
    for folder in sorted({file.path.parent for file in files} - tops, key=str, reverse=True):
        with suppress(OSError):  # not empty
            folder.rmdir()


def clean_finished(run: Run) -> str:
    """Remove what is left over of every dataset that is finished, and tell how much.

    Called after a successful run. Does nothing with ``output.keep_old``, nor while another process
    is at work on the same datasets.
    """
    if run.config.output.keep_old:
        return ""
    found = [(d, leftovers(d)) for d in run.datasets.values() if not unfinished(d)]
    found = [(dataset, files) for dataset, files in found if files]
    if not found:
        return ""
    try:
        with cleaning(run.config.results, [dataset.dataset.name for dataset, _ in found]):
            for dataset, files in found:
                remove(dataset, files)
    except BusyError as error:
        return str(error)
    sizes = [file.size for _, files in found for file in files]
    return f"removed {len(sizes)} files that no card names any more ({size_text(sum(sizes))})"


def size_text(size: float) -> str:
    """Return bytes in words, with units of a thousand."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def clean_lines(run: Run, *, shards: bool, dry_run: bool) -> Iterator[str]:
    """Clean as a person asked for it, and yield the lines that tell what is done.

    Raises
    ------
    InputError, BusyError
        Where a dataset must not be cleaned now; the others before it are.
    """
    for dataset in run.datasets.values():
        files = leftovers(dataset, shards=shards)
        yield f"{dataset.folder}: {_summary(files)}"
        for kind in dict.fromkeys(file.kind for file in files):
            sizes = [file.size for file in files if file.kind == kind]
            yield f"  {kind:14} {len(sizes):6} files {size_text(sum(sizes)):>10}"
        if any(file.kind == "shards in use" for file in files):
            yield "  The next run of snakemake makes the shards in use again, and the volume."
        if files and not dry_run:
            with cleaning(run.config.results, [dataset.dataset.name]):
                remove(dataset, files)
            yield "  removed"
    if dry_run:
        yield "Nothing was removed (--dry-run)."


def _summary(files: Sequence[Leftover]) -> str:
    if not files:
        return "nothing to clean"
    return f"{len(files)} files to remove, {size_text(sum(file.size for file in files))}"
