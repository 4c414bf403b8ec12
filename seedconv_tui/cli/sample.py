"""`seedconv sample`: documents for a corpus, drawn from a dataset or from files."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from seedconv_tui.cli.options import at_least
from seedconv_tui.exit_codes import OK, USAGE
from seedconv_tui.text import counted

if TYPE_CHECKING:
    from engine.text.sampling import Origin

HELP = "sample documents of a dataset or of files as evaluation text"
EXAMPLE = "seedconv sample monology/pile-uncopyrighted -n 200 --first 100000 -o corpus.jsonl"
PAGE = "text.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_source(parser)
    parser.add_argument(
        "-n", type=at_least(1), default=100, help="number of documents (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="random seed of the draw (default: %(default)s)"
    )
    parser.add_argument(
        "--shortest", type=at_least(1), metavar="N", help="only documents of at least N characters"
    )
    parser.add_argument(
        "--longest", type=at_least(1), metavar="N", help="only documents of at most N characters"
    )
    parser.add_argument(
        "--where",
        type=_condition,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="only records with this value (may be repeated: any of a field's values, all fields)",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="FIELD",
        help="also write this field, for corpus.fields (may be repeated; .jsonl)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help='output: a .jsonl file; a .txt file, for separator = "\\n\\f\\n"; or a new folder',
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add where text comes from; `origin_of` reads it."""
    parser.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="text, JSON lines, Parquet or Arrow files, or a dataset's name on the Hub",
    )
    parser.add_argument("--config", help="configuration of a dataset on the Hub")
    parser.add_argument(
        "--split", default="train", help="split of a dataset (default: %(default)s)"
    )
    parser.add_argument(
        "--field", default="text", help="field that holds the text (default: %(default)s)"
    )
    parser.add_argument(
        "--first", type=at_least(1), metavar="N", help="read only the first N documents"
    )


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value.strip()):
        raise argparse.ArgumentTypeError(f"should be FIELD=VALUE, found {text!r}")
    return name, value.strip()


def origin_of(options: argparse.Namespace) -> Origin:
    """Return where text comes from."""
    from engine.text.sampling import Origin

    return Origin(tuple(options.source), options.config, options.split, options.field)


def say(text: str) -> None:
    """Print a line of progress."""
    print(text, file=sys.stderr)


def run(options: argparse.Namespace) -> int:
    """Draw documents and write them."""
    from engine.text.sampling import Filter, sample

    if options.keep and options.output.suffix != ".jsonl":
        say("seedconv: --keep goes with -o NAME.jsonl; text files have no fields")
        return USAGE
    values: dict[str, tuple[str, ...]] = {}
    for name, value in options.where:
        values[name] = (*values.get(name, ()), value)
    fields = tuple(dict.fromkeys([*options.keep, *values]))
    n = sample(
        replace(origin_of(options), fields=fields),
        options.output,
        n=options.n,
        seed=options.seed,
        among=options.first,
        report=say,
        only=Filter(options.shortest, options.longest, values),
    )
    say(f"wrote {counted(n, 'document')} to {options.output}")
    return OK
