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
from stitchlib.errors import StitchlibError

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
        description="Stitch overlapping microscopy tiles. Whole datasets are stitched by "
        "snakemake; these commands look after such a run.",
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
    except StitchlibError as error:
        print(f"stitchlib {args.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader has seen enough, as in `stitchlib status | head`
        sys.stderr.close()
    return 0
