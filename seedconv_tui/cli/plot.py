"""`seedconv plot`: the KL chart as text, on stdout."""

from __future__ import annotations

import argparse
import os
import shutil
import sys

from seedconv_tui.cli.options import add_glyphs, add_models, add_store, at_least, glyphs_of
from seedconv_tui.exit_codes import OK
from store import NotAStudyError

HELP = "the KL chart as text"
EXAMPLE = "seedconv plot study.zarr --log-y"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_store(parser)
    add_models(parser)
    parser.add_argument("--log-y", action="store_true", help="logarithmic KL axis")
    parser.add_argument("--linear-x", action="store_true", help="linear axis of steps")
    parser.add_argument("--width", type=at_least(20), help="columns (the terminal's)")
    parser.add_argument("--height", type=at_least(8), help="rows of the chart (the terminal's)")
    add_glyphs(parser)


def run(options: argparse.Namespace) -> int:
    """Print the chart as large as the terminal."""
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
