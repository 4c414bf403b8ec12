"""`seedconv init`: a commented study file to begin with."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seedconv_tui.exit_codes import OK, USAGE

HELP = "write a commented study file"
EXAMPLE = "seedconv init study.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=Path("study.toml"),
        help='file to write, "-" for stdout (default: %(default)s)',
    )


def run(options: argparse.Namespace) -> int:
    """Write the file unless it exists."""
    from importlib.resources import files

    template = files("engine.study_file").joinpath("template.toml").read_text(encoding="utf-8")
    if str(options.file) == "-":
        print(template, end="")
        return OK
    try:
        with options.file.open("x", encoding="utf-8") as file:
            file.write(template)
    except FileExistsError:
        print(f"seedconv: {options.file}: exists already; name another file", file=sys.stderr)
        return USAGE
    print(f"wrote {options.file}; edit it, then: seedconv run {options.file}", file=sys.stderr)
    return OK
