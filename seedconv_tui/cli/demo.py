"""`seedconv demo`: three tiny seeds, trained, scored and watched."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from seedconv_tui.cli.options import glyphs_of
from seedconv_tui.cli.tui import add_screen_options, show

HELP = "train three tiny models, score them as they train, show the result"
EXAMPLE = "seedconv demo --headless --dir /tmp/demo"
PAGE = "tutorial-live.md"

_NEEDED = ("pydantic", "tokenizers", "torch", "transformers")
_FOLDER, _CAPTURED_FOLDER = Path("seedconv-demo"), Path("seedconv-demo-captured")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "--headless", action="store_true", help="print progress, chart and table; no monitor"
    )
    parser.add_argument(
        "--dir",
        type=Path,
        help=f"working folder (default: {_FOLDER}; with --capture {_CAPTURED_FOLDER})",
    )
    parser.add_argument("--second-size", action="store_true", help="train a larger model as well")
    parser.add_argument(
        "--capture",
        action="store_true",
        help="score models inside the training process; write no checkpoints",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep all checkpoints and log-probs (default: the last checkpoint of each seed, and "
        "log-probs every 48 steps, once all are scored)",
    )
    add_screen_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the demo until its user leaves it."""
    from seedconv_tui.demo.run_demo import run_demo

    for package in _NEEDED:  # before it says what it is about to do
        if find_spec(package) is None:
            raise ModuleNotFoundError(name=package)
    return run_demo(
        options.dir or (_CAPTURED_FOLDER if options.capture else _FOLDER),
        headless=options.headless,
        second_size=options.second_size,
        capture=options.capture,
        keep=options.keep,
        glyphs=glyphs_of(options),
        # A new study every time, with nothing to go back to.
        show=lambda store: show(store, options=options, fresh=True),
    )
