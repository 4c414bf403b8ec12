"""The protocol of a command, and options that several commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from seedconv_tui.tables.band_names import STEP_BANDS
from seedconv_tui.text import visible

if TYPE_CHECKING:
    from seedconv_tui.chart import Glyphs
    from store.statistics import Adjustment


class Command(Protocol):
    """A module of this package that is named after its command; `main.COMMANDS` lists it.

    It imports what is heavy when it runs: `seedconv --help` imports them all.
    """

    HELP: str  # one line, as in a sentence
    EXAMPLE: str
    PAGE: str  # of docs/, with more about it

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add what the command takes."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it and return the exit code. Raise what says why it cannot be done."""


def say(text: str) -> None:
    """Print what a command waits for, on stderr: stdout may be read by a program."""
    print(f"seedconv: {visible(text)}", file=sys.stderr)


# -- arguments ------------------------------------------------------------------------------------


def add_store(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the study's store: a `Path`, or the address of a remote one; a list if `several`."""
    text = "the study's store: a folder, or an address like s3://bucket/study.zarr"
    if several:
        parser.add_argument(
            "store", type=_place, metavar="STORE", nargs="+", help=f"{text}; several are compared"
        )
    else:
        parser.add_argument("store", type=_place, metavar="STORE", help=text)


def add_local_store(parser: argparse.ArgumentParser) -> None:
    """Add the store of a command that writes or reads all of it, which has to be a folder."""
    parser.add_argument("store", type=Path, metavar="STORE", help="the study's store")


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the choice of models: a list, or None for all."""
    parser.add_argument("--model", action="append", help="only this model (may be repeated)")


def add_levels(parser: argparse.ArgumentParser) -> None:
    """Add the choice of levels: a list of labels, or None for all."""
    parser.add_argument(
        "--level", action="append", metavar="LABEL", help="only this level (may be repeated)"
    )


def add_json(parser: argparse._ActionsContainer) -> None:
    """Add the choice of JSON in place of text."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_ascii(parser: argparse.ArgumentParser) -> None:
    """Add the choice of ASCII alone."""
    parser.add_argument("--ascii", action="store_true", help="use only ASCII characters")


def add_glyphs(parser: argparse.ArgumentParser) -> None:
    """Add the choice of what charts are drawn with; `glyphs_of` reads it."""
    add_ascii(parser)
    parser.add_argument(
        "--glyphs",
        choices=("braille", "block"),
        default="braille",
        help="draw curves in braille dots or half blocks (default: %(default)s)",
    )


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a traceback."""
    parser.add_argument("--debug", action="store_true", help="show a traceback on failure")


# -- values ---------------------------------------------------------------------------------------


def at_least(least: int) -> Callable[[str], int]:
    """Return what parses whole numbers from `least` on."""

    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    parse.__name__ = "int"  # argparse names it when the text is no number
    return parse


_SIGNS = "\u28ff\u2580\u2591\u2502\u2550\u250a\u25b2\u2026\u00b7"  # as charts and tables have


def only_ascii(options: argparse.Namespace, stream: TextIO | None = None) -> bool:
    """Return whether ASCII is asked for, or the encoding of a stream (stdout) lacks our signs."""
    encoding = (stream or sys.stdout).encoding
    try:
        _SIGNS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return bool(options.ascii)


def glyphs_of(options: argparse.Namespace, stream: TextIO | None = None) -> Glyphs:
    """Return what charts are to be drawn with on a stream (stdout)."""
    from seedconv_tui.chart import Glyphs

    return Glyphs.ASCII if only_ascii(options, stream) else Glyphs(options.glyphs)


def _place(text: str) -> str | Path:
    """Return the address of a remote store unchanged, else a folder."""
    return text if "://" in text else Path(text)


def add_band(parser: argparse.ArgumentParser, text: str) -> None:
    """Add --band: one of `STEP_BANDS`, or None."""
    parser.add_argument("--band", choices=STEP_BANDS, help=text)


def add_adjust(parser: argparse.ArgumentParser, over: str) -> None:
    """Add --adjust: how p-values are adjusted, and `over` what."""
    parser.add_argument(
        "--adjust",
        choices=tuple(ADJUSTED),
        default="holm",
        help=f"adjust p-values over {over}: Holm, or Benjamini and Hochberg (default: %(default)s)",
    )


ADJUSTED: Mapping[Adjustment, str] = {"holm": "Holm", "bh": "Benjamini and Hochberg"}
"""Whose procedure each adjustment of p-values is."""
