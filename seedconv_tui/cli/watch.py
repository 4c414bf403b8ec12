"""`seedconv watch`: an engine at work on a study as checkpoints arrive."""

from __future__ import annotations

import argparse

from seedconv_tui.cli import run as run_command
from seedconv_tui.cli.run import run_engine

HELP = "score checkpoints as they arrive, until stopped"
EXAMPLE = "seedconv watch study.toml"
PAGE = "watching.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    run_command.add_arguments(parser)
    parser.add_argument(
        "--until-complete",
        action="store_true",
        help="exit once every listed checkpoint is scored and compared",
    )


def run(options: argparse.Namespace) -> int:
    """Run the engine until it is stopped, or all is there."""
    return run_engine(
        options,
        lambda engine: engine.watch(until_complete=options.until_complete),
        waiting=True,
    )
