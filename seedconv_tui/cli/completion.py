"""`seedconv completion`: the script that lets a shell complete commands, options and names."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from pathlib import Path

from seedconv_tui.exit_codes import OK, USAGE

HELP = "print a script that lets a shell complete commands, options and names"
EXAMPLE = "seedconv completion bash > ~/.local/share/bash-completion/completions/seedconv"
PAGE = "reference-commands.md"

_NAMES = ("models", "categories")
_MOST_NAMES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "shell", nargs="?", choices=("bash", "zsh", "fish"), help="shell to print the script for"
    )
    parser.add_argument("--names", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Print the script; with `--names KIND WORD...` names of the studies among the words."""
    if options.names is not None:
        with contextlib.suppress(OSError, ValueError):  # a shell that completes shows no errors
            print("".join(f"{name}\n" for name in names_for(*options.names)), end="")
        return OK
    if options.shell is None:
        print("seedconv: name a shell: bash, zsh or fish", file=sys.stderr)
        return USAGE
    from seedconv_tui.cli.main import full_parser
    from seedconv_tui.cli.shell_scripts import SCRIPTS, commands_of

    print(SCRIPTS[options.shell](commands_of(full_parser())), end="")
    return OK


def names_for(kind: str = "", *words: str) -> list[str]:
    """Return models or categories of all studies that are named by the words of a command line.

    Only names that can be printed in a line: whatever else a store has in it is for nobody to type.
    """
    from store import folder_names

    if kind not in _NAMES:
        return []
    found: set[str] = set()
    for word in words:
        for store in _folders(word):
            with contextlib.suppress(OSError, ValueError):
                found.update(folder_names(store)[_NAMES.index(kind)])
    return sorted(name for name in found if _can_be_typed(name))[:_MOST_NAMES]


def _folders(word: str) -> list[Path]:
    """Return what a word may name: unchanged, or as a shell would read its quotes and its `~`."""
    read = [word]
    with contextlib.suppress(ValueError):  # a quote that is still open
        read += shlex.split(word)
    return [Path(os.path.expanduser(each)) for each in dict.fromkeys(read)]  # noqa: PTH111  any user


def _can_be_typed(name: str) -> bool:
    try:
        name.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return name.isprintable()
