"""The commands that draw, `tui` and `plot`, as the command line takes them."""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

from seedconv_tui.cli.options import Command
from seedconv_tui.exit_codes import OK, USAGE
from store.errors import NotAStudyError

if TYPE_CHECKING:
    from seedconv_tui.chart.glyphs import Glyphs

_START_SECONDS = 3.0


def add_tui(command: Command, store: Callable[[str], str | Path], store_help: str) -> None:
    """Add `seedconv tui`; `store` parses a store's place."""
    tui = command("tui", _tui, "the terminal monitor", "seedconv tui study.zarr [other.zarr]")
    several = f"{store_help}; several are compared"
    tui.add_argument("store", type=store, metavar="STORE", nargs="+", help=several)
    add_screen_options(tui)
    tui.add_argument(
        "--fresh", action="store_true", help="begin anew, not where the last session ended"
    )


def add_plot(
    command: Command,
    store: Callable[[str], str | Path],
    store_help: str,
    at_least: Callable[[int], Callable[[str], int]],
) -> None:
    """Add `seedconv plot`; `at_least` makes a parser of integers."""
    plot = command("plot", _plot, "the KL chart as text", "seedconv plot study.zarr --log-y")
    plot.add_argument("store", type=store, metavar="STORE", help=store_help)
    plot.add_argument("--model", action="append", help="only this model (may be repeated)")
    plot.add_argument("--log-y", action="store_true", help="logarithmic KL axis")
    plot.add_argument("--linear-x", action="store_true", help="linear axis of steps")
    plot.add_argument("--width", type=at_least(20), help="columns (the terminal's)")
    plot.add_argument("--height", type=at_least(8), help="rows of the chart (the terminal's)")
    _add_glyph_options(plot)


def add_screen_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that opens the monitor takes."""
    _add_glyph_options(parser)
    parser.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")


def _add_glyph_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ascii", action="store_true", help="plain ASCII characters only")
    parser.add_argument(
        "--glyphs",
        choices=("braille", "block"),
        default="braille",
        help="curves of braille dots, or of half blocks, which more fonts have (%(default)s)",
    )


def glyphs_of(options: argparse.Namespace) -> Glyphs:
    """What charts are to be drawn with."""
    from seedconv_tui.chart.glyphs import Glyphs

    return Glyphs.ASCII if options.ascii else Glyphs(options.glyphs)


def show(*stores: str | Path, options: argparse.Namespace, fresh: bool) -> int:
    """Open the monitor on stores and return the exit code, once the user leaves it.

    It goes on where the last session on a store ended, unless `fresh` or there are several.
    """
    gc.disable()
    from seedconv_tui.monitor.app import SeedconvApp
    from seedconv_tui.monitor.data.live import StoreSource
    from seedconv_tui.monitor.data.remembered import memory_of
    from seedconv_tui.text import visible

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print(
            "seedconv: the monitor needs a terminal; `seedconv status` and `seedconv plot` do not",
            file=sys.stderr,
        )
        return USAGE
    for name in ("COLUMNS", "LINES"):  # what a parent exported is not so after the first resize
        os.environ.pop(name, None)
    sources = (StoreSource(store) for store in stores)
    memory = memory_of(stores[0], fresh=fresh) if len(stores) == 1 else None
    app = SeedconvApp(*sources, ascii=options.ascii, glyphs=glyphs_of(options), memory=memory)
    settled = Timer(_START_SECONDS, _settle)
    settled.daemon = True
    settled.start()
    app.run(mouse=not options.no_mouse)
    if trouble := app.remember_the_end():
        print(f"seedconv: {visible(trouble)}; where you were is not kept", file=sys.stderr)
    return app.return_code or OK


def _settle() -> None:
    """What the start has made stays: no collection of garbage has to look through it again."""
    gc.freeze()
    gc.enable()


def _tui(options: argparse.Namespace) -> int:
    from store.commits.progress import read_root

    for store in options.store:
        read_root(store)  # not a store: say so before the screen is taken
    places = [store if isinstance(store, str) else store.resolve() for store in options.store]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise NotAStudyError(f"{twice}: named twice; name different studies to compare them")
    return show(*options.store, options=options, fresh=options.fresh)


def _plot(options: argparse.Namespace) -> int:
    from seedconv_tui.chart.plot import plot_text
    from store import open_study

    size = shutil.get_terminal_size((80, 24))
    snapshot = open_study(options.store).snapshot()
    known = {model.name for model in snapshot.models}
    if unknown := [name for name in options.model or [] if name not in known]:
        names = ", ".join(sorted(known)) or "none yet"
        raise NotAStudyError(f"{options.store}: no model {unknown[0]!r}; it has: {names}")
    print(
        plot_text(
            snapshot,
            width=options.width or size.columns,
            height=options.height or max(12, size.lines - 8),
            log_y=options.log_y,
            log_x=not options.linear_x,
            glyphs=glyphs_of(options),
            color=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
            models=options.model,
        )
    )
    return OK
