"""The command line: ``stitchlib COMMAND …``.

A command is one function that takes the parsed arguments and one that adds its own; `COMMANDS`
names both. What a command needs is imported when it runs, so that help is there at once.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stitchlib._version import __version__
from stitchlib.errors import InputError, StitchlibError
from stitchlib.jobs import explain

if TYPE_CHECKING:
    from stitchlib.runs import Run


class Command(NamedTuple):
    """One subcommand."""

    help: str
    """One line."""
    description: str
    """What it does, when to use it, with an example."""
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def _config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        metavar="CONFIG",
        type=Path,
        nargs="?",
        default=Path("config/config.yaml"),
        help="the run's configuration (default: %(default)s); paths in it are relative to the "
        "folder you are in, as they are for snakemake",
    )


def _load(path: Path) -> Run:
    from stitchlib.config import load_config
    from stitchlib.runs import Run

    return Run.of(load_config(path).raw)


# tiles


def _tiles_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="a folder of images, images, a tag expression in quotes, a TileConfiguration.txt, or "
        "a CSV of positions",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="SHEET", help="the sheet, tiles.tsv; without it, only "
        "what was found is told"
    )  # fmt: skip
    parser.add_argument("--config", type=Path, help="also write a starting configuration")
    parser.add_argument(
        "--overlap", type=_values, metavar="X[,Y[,Z]]", help="overlap of neighbours: 0.1 = a tenth "
        "of the tile, 100 = voxels; else as measured on a few pairs"
    )  # fmt: skip
    parser.add_argument(
        "--voxel-size", type=_values, metavar="X,Y[,Z]", help="µm; else what the files say"
    )
    parser.add_argument("--unit", choices=("um", "voxels"), help="of a table's positions")
    parser.add_argument(
        "--grid", type=_grid, metavar="COLUMNSxROWS", help="grid of tiles with running numbers"
    )
    parser.add_argument(
        "--order",
        choices=("rows", "rows-snake", "columns", "columns-snake"),
        default="rows",
        help="how running numbers go over the grid (default: %(default)s); snake: every second "
        "row or column runs back",
    )
    parser.add_argument(
        "--stage", action="store_true", help="stage positions in the files count, not their names"
    )
    parser.add_argument("--swap-xy", action="store_true", help="x and y are the other way round")
    parser.add_argument(
        "--flip", choices=("x", "y"), action="append", default=[], help="the axis runs backwards"
    )
    parser.add_argument(
        "--no-trial", action="store_true", help="do not look at any overlap on the pixels"
    )


def _values(text: str) -> tuple[float, ...]:
    try:
        values = [float(part) if "." in part else int(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3 or min(values) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: one to three numbers above 0, as in 0.1,0.15")
    return tuple(values)


def _grid(text: str) -> tuple[int, int]:
    columns, _, rows = text.partition("x")
    if not (columns.isdigit() and rows.isdigit() and int(columns) and int(rows)):
        raise argparse.ArgumentTypeError(f"{text!r}: columns and rows, as in 4x3")
    return int(columns), int(rows)


def _tiles(args: argparse.Namespace) -> None:
    from stitchlib.tiling.sheet import config_text, make, refuse_existing, summary, write
    from stitchlib.tiling.sources import Options
    from stitchlib.tiling.verdict import Turn

    if args.config and not args.output:
        raise InputError("--config names a configuration for a sheet; say where with -o tiles.tsv")
    picture = args.output and args.output.with_suffix(".png")
    refuse_existing([args.output, args.config, picture])
    size = (*(args.voxel_size or ()), None, None, None)
    overlap = args.overlap or ()
    overlap = overlap * 2 if len(overlap) == 1 else overlap
    sheet = make(
        args.sources,
        Options(size[:3], args.unit, args.grid, args.order, args.stage),
        turn=Turn(args.swap_xy, tuple("xy".index(axis) for axis in sorted(set(args.flip)))),
        overlap=dict(enumerate(overlap)),
        tried=not args.no_trial,
    )
    for line in summary(sheet):
        print(line)
    for line in sheet.warnings:
        print(f"WARNING: {line}")
    if args.output:
        for path in write(sheet, args.output, args.config, args.sources):
            print(f"wrote {path}")
        _draw_sheet(config_text(sheet, args.output, args.sources), picture)


def _draw_sheet(config: str, picture: Path) -> None:
    """Draw what a new sheet says; what the workflow would refuse of it is told."""
    import yaml

    from stitchlib.config import parse_config
    from stitchlib.preview import draw, known, of_dataset
    from stitchlib.tiles import load_datasets

    checked = parse_config(yaml.safe_load(config))
    try:
        datasets = load_datasets(checked)
    except InputError as error:
        print(f"WARNING: the workflow will refuse the sheet: {error}")
        return
    draw(picture, of_dataset(datasets[0], checked), known(checked.voxel_size))
    print(f"wrote {picture}")


# check


def _check(args: argparse.Namespace) -> None:
    from stitchlib.config import load_config
    from stitchlib.needs import check_run

    needs, refused = check_run(load_config(args.config).raw)
    for line in needs:
        print(line)
    if refused:
        raise InputError("\n".join([f"{len(refused)} things are refused:", *refused]))
    print("Nothing is refused.")


# preview


def _preview_arguments(parser: argparse.ArgumentParser) -> None:
    _config_argument(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("preview.png"),
        metavar="PICTURE",
        help="a PNG file (default: %(default)s); of several datasets, one for each",
    )


def _preview(args: argparse.Namespace) -> None:
    from stitchlib.preview import draw_run

    run = _load(args.config)
    for name, dataset in run.datasets.items():
        path: Path = args.output
        if len(run.datasets) > 1:
            path = path.with_name(f"{path.stem}.{name}.png")
        placed = draw_run(dataset, path)
        print(f"wrote {path}: {'before and after placement' if placed else 'nominal positions'}")


# info


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="VOLUME|LAYOUT|SHEET", type=Path, help=".h5 or .xml, .json, .tsv"
    )


def _info(args: argparse.Namespace) -> None:
    from stitchlib.describing import info_lines

    for line in info_lines(args.path):
        print(line)


# status


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    _config_argument(parser)
    parser.add_argument(
        "--all", action="store_true", help="every job that would run, with its reasons"
    )


def _status(args: argparse.Namespace) -> None:
    from stitchlib.status import status_lines

    for line in status_lines(_load(args.config), most=0 if args.all else 8):
        print(line)


# clean


def _clean_arguments(parser: argparse.ArgumentParser) -> None:
    _config_argument(parser)
    parser.add_argument(
        "--shards",
        action="store_true",
        help="also the shards that the volume was assembled from; the next run makes them again",
    )
    parser.add_argument(
        "--dry-run", "-n", action="store_true", help="only tell what would be removed"
    )


def _clean(args: argparse.Namespace) -> None:
    from stitchlib.clean import clean_lines

    for line in clean_lines(_load(args.config), shards=args.shards, dry_run=args.dry_run):
        print(line, flush=True)


# positions


def _positions(args: argparse.Namespace) -> None:
    from stitchlib.config import load_config
    from stitchlib.positions_report import positions_report

    for line in positions_report(load_config(args.config)):
        print(line)


COMMANDS = {
    "tiles": Command(
        "make a tile sheet and a starting configuration from files",
        "Find the tiles, tell what was found, try a few overlaps on the pixels, and write the "
        "sheet. Nothing is overwritten, and without -o nothing is written.\n\n"
        "  stitchlib tiles raw -o tiles.tsv --config config.yaml\n"
        "      a folder: what its file names mean is guessed, and said\n"
        "  stitchlib tiles 'raw/brain_<Y,2>_<X,2>_C<C,1>.tif' -o tiles.tsv\n"
        "      a tag expression, in quotes: <X> column, <Y> row, <Z> plane (or layer of stacks),\n"
        "      <C> channel, <I> running number (with --grid), <W> well; <X,2> has two digits\n"
        "  stitchlib tiles TileConfiguration.txt -o tiles.tsv\n"
        "      positions from Fiji's stitching\n"
        "  stitchlib tiles stage.csv --voxel-size 0.5,0.5,2 -o tiles.tsv\n"
        "      a table with columns path, x_um, y_um (or x_px, y_px), perhaps z, channel, dataset\n"
        "  stitchlib tiles --stage raw/*.ome.tif -o tiles.tsv\n"
        "      stage positions in OME-TIFF files",
        _tiles_arguments,
        _tiles,
    ),
    "check": Command(
        "all that the workflow would refuse, and what the run will need",
        "Check configuration, sheet, all images' headers, and tables named in the configuration, "
        "and tell everything that is wrong at once. Where nothing is: how many jobs there will be, "
        "the memory of one, and the disk space against what is free. Nothing is run.\n\n"
        "example: stitchlib check config/config.yaml",
        _config_argument,
        _check,
    ),
    "preview": Command(
        "a picture of the layout at low resolution, before any long run",
        "Draw a plane of all tiles with their borders: where the sheet puts them, and beside it "
        "where they were placed, once they are. Only the pixels that are shown are read.\n\n"
        "example: stitchlib preview config/config.yaml -o preview.png",
        _preview_arguments,
        _preview,
    ),
    "info": Command(
        "what is in a volume, a layout or a tile sheet",
        "Tell what a file holds: extents, channels, pyramid and voxel size of a volume; tiles, "
        "links and extent of a layout; datasets, grid and channels of a sheet.\n\n"
        "example: stitchlib info results/brain/brain.h5",
        _info_arguments,
        _info,
    ),
    "status": Command(
        "what is done, what would run, and why",
        "Tell what of a run is done, what the next run of snakemake would do, and why: which "
        "tile's file changed, which option, what moved. It looks at files only: nothing is run or "
        "changed, also beside a run that goes on.\n\n"
        "example: stitchlib status config/config.yaml",
        _status_arguments,
        _status,
    ),
    "clean": Command(
        "remove tables and shards that nothing names any more",
        "Remove pair tables, shards, and what belongs to them, that were made with other tiles or "
        "options and that the present configuration does not use. A successful run does this by "
        "itself, unless output.keep_old is true. The volume is never touched, and nothing is "
        "removed while a dataset is not finished or another run is at work on it.\n\n"
        "example: stitchlib clean --dry-run config/config.yaml",
        _clean_arguments,
        _clean,
    ),
    "positions": Command(
        "where the tiles lie: worst residuals, rejected links, what to do",
        "Tell how a finished placement came out: the links that fit worst first, what was rejected "
        "and why, which tiles no link determines, and what can be done about it.\n\n"
        "example: stitchlib positions config/config.yaml",
        _config_argument,
        _positions,
    ),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="stitchlib",
        description="Stitch overlapping microscopy tiles. `tiles` makes a sheet of a folder of "
        "images, snakemake stitches it, and the other commands look after such a run.",
    )
    top.add_argument("--version", action="version", version=f"stitchlib {__version__}")
    top.add_argument("--verbose", "-v", action="store_true", help="tell more of what is done")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.help,
            description=command.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(sub)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return the exit code: 0, or 1 after an error that was told."""
    args = parser().parse_args(argv)
    level = logging.INFO if args.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s")
    try:
        COMMANDS[args.command].run(args)
    except BrokenPipeError:  # the reader has seen enough, as in `stitchlib status | head`
        sys.stderr.close()
    except (StitchlibError, MemoryError, OSError) as error:
        print(f"stitchlib {args.command}: {explain(error)}", file=sys.stderr)
        return 1
    return 0
