"""`seedconv demo`: three tiny seeds, trained, scored and watched."""

from __future__ import annotations

import argparse
from pathlib import Path

from seedconv_tui.cli.options import glyphs_of
from seedconv_tui.cli.tui import add_screen_options, show

HELP = "train three tiny seeds, score them as they train, watch them"
EXAMPLE = "seedconv demo --headless --dir /tmp/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "--headless", action="store_true", help="no screen: progress, chart and table"
    )
    parser.add_argument(
        "--dir", type=Path, default=Path("seedconv-demo"), help="where it works (%(default)s)"
    )
    parser.add_argument("--second-size", action="store_true", help="train a larger model as well")
    add_screen_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the demo until its user leaves it."""
    from seedconv_tui.demo.run_demo import run_demo

    return run_demo(
        options.dir,
        headless=options.headless,
        second_size=options.second_size,
        glyphs=glyphs_of(options),
        # A new study every time, with nothing to go back to.
        show=lambda store: show(store, options=options, fresh=True),
    )
