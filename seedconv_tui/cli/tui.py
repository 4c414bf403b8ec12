"""`seedconv tui`: the terminal monitor."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Timer

from seedconv_tui.cli.fatal_signals import ending
from seedconv_tui.cli.options import add_glyphs, add_store, glyphs_of, only_ascii
from seedconv_tui.exit_codes import OK, USAGE
from store import NotAStudyError

HELP = "open the terminal monitor"
EXAMPLE = "seedconv tui study.zarr [other.zarr]"
PAGE = "tui.md"

_START_SECONDS = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_store(parser, several=True)
    add_screen_options(parser)
    add_fresh(parser)


def add_fresh(parser: argparse.ArgumentParser) -> None:
    """Add --fresh."""
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="start with a clean view (do not restore the last session)",
    )


def add_screen_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that opens the monitor takes."""
    add_glyphs(parser)
    parser.add_argument(
        "--tour", action="store_true", help="show the tour of five keys, as on the first start"
    )
    parser.add_argument(
        "--bell",
        action="store_true",
        help="ring the terminal's bell on a phase change, an outlier, a failure or a silent engine",
    )
    parser.add_argument("--no-mouse", action="store_true", help="do not capture the mouse")


def run(options: argparse.Namespace) -> int:
    """Open the monitor until its user leaves it. Raise NotAStudyError."""
    check_stores(options.store)
    return show(*options.store, options=options, fresh=options.fresh)


def check_stores(stores: Sequence[str | Path]) -> None:
    """Raise NotAStudyError where one is none, or named twice: before a screen is taken."""
    from store import read_root

    for store in stores:
        read_root(store)
    places = [store if isinstance(store, str) else store.resolve() for store in stores]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise NotAStudyError(f"{twice}: named twice; name different studies to compare them")


def show(*stores: str | Path, options: argparse.Namespace, fresh: bool) -> int:
    """Open the monitor on stores and return the exit code, once the user leaves it.

    It restores the last session on a store, unless `fresh` or there are several.
    """
    gc.disable()
    from seedconv_tui.monitor.app import SeedconvApp
    from seedconv_tui.monitor.data.live import StoreSource
    from seedconv_tui.monitor.data.remembered import is_first_start, memory_of
    from seedconv_tui.text import visible

    on_a_page = "TEXTUAL_DRIVER" in os.environ  # what Textual draws with, as `serve` has it
    if not on_a_page and not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        print(
            "seedconv: the monitor needs a terminal; `seedconv status` and `seedconv plot` do not",
            file=sys.stderr,
        )
        return USAGE
    if "STY" in os.environ:  # GNU screen takes a true colour for several others
        os.environ.pop("COLORTERM", None)
    for name in () if on_a_page else ("COLUMNS", "LINES"):
        os.environ.pop(name, None)  # what a parent exported is not so after the first resize
    sources = (StoreSource(store) for store in stores)
    memory = memory_of(stores[0], fresh=fresh) if len(stores) == 1 else None
    drawn = sys.__stderr__  # where Textual draws
    app = SeedconvApp(
        *sources,
        ascii=only_ascii(options, drawn),
        glyphs=glyphs_of(options, drawn),
        memory=memory,
        tour=is_first_start() or options.tour,
        bell=options.bell,
    )
    settled = Timer(_START_SECONDS, _settle)
    settled.daemon = True
    settled.start()
    with ending(app):
        app.run(mouse=not options.no_mouse)
    if trouble := app.remember_the_end():
        print(f"seedconv: {visible(trouble)}; where you were is not kept", file=sys.stderr)
    return app.return_code or OK


def _settle() -> None:
    """Spare garbage collection from looking through what the start has made: that stays."""
    gc.freeze()
    gc.enable()
