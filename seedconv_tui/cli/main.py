"""The command line: one command, `seedconv`, which imports the subcommand that is named."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, cast

from seedconv_tui.cli import streams
from seedconv_tui.cli.fatal_signals import end_in_order
from seedconv_tui.cli.options import Command, add_debug
from seedconv_tui.exit_codes import FAILED, INTERRUPTED, USAGE
from store import NotAStudyError, StoreError, StudyMismatchError, UnsupportedError

COMMANDS = (
    "demo",
    "init",
    "order",
    "run",
    "watch",
    "sample",
    "count",
    "status",
    "tui",
    "serve",
    "plot",
    "export",
    "compare",
    "regress",
    "plan",
    "report",
    "verify",
    "prune",
    "migrate",
    "completion",
)
"""All of them, in the order of the help: each is a module in this folder (`options.Command`)."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `seedconv` and exit: 0 done, 1 work failed, 2 usage or configuration, 130 interrupted.

    128 + n where signal n ended it, or the reader of its stdout left early (SIGPIPE).
    """
    streams.prepare()
    end_in_order()
    try:
        code: Any = run(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as end:  # the help was asked for, or a signal came
        code = end.code
    sys.exit(streams.ended(code))


def run(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        if not Path(argv[0]).exists() and os.sep not in argv[0] and not argv[0].endswith(".zarr"):
            full_parser(()).error(
                f"{argv[0]!r} is neither a command nor a store; `seedconv --help` lists both"
            )
        argv = ["tui", *argv]
    parser = full_parser(_needed(argv))
    options = parser.parse_args(argv)
    if not hasattr(options, "run"):
        parser.print_help()
        return USAGE
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return INTERRUPTED
    except streams.StreamError as error:
        return streams.explained(error)
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        return _explain(error)


def _needed(argv: Sequence[str]) -> Sequence[str]:
    """Return the commands that have to be imported: the one that is named, or all for the help."""
    if argv and argv[0] in COMMANDS:
        return argv[:1]
    return () if list(argv) == ["--version"] else COMMANDS


def _explain(error: Exception) -> int:
    """Print an error as the lines a user can act on; return the exit code."""
    from seedconv_tui.text import visible

    code, text = FAILED, str(error)
    match error:
        case StudyMismatchError() | NotAStudyError() | UnsupportedError():
            code = USAGE
        case StoreError():
            pass
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            text = (
                f"{error.filename or 'the store'}: no space left on the device; free some and run "
                "the same command again: what is committed stays"
            )
        case OSError(errno=errno.EACCES | errno.EPERM | errno.EROFS, filename=file) if file:
            place = Path(os.fsdecode(file))
            place = place.parent if place.suffix == ".partial" else place  # a name of ours
            text = (
                f"{place}: {os.strerror(error.errno or 0).lower()}. "
                "Ask its owner, or use a copy or a folder of your own."
            )
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            text = (
                f"{error.filename or 'the store'}: too many files are open; raise the limit with "
                "`ulimit -n`, or end the programs that hold them, and run the same command again"
            )
        case ModuleNotFoundError(name=str(name)) if extra := _extra_of(name):
            code = USAGE
            text = (
                f"this command needs {name.partition('.')[0]}, which is not installed: "
                f"pip install 'seedconv-tui[{extra}]'"
            )
        case _ if type(error).__module__ == "engine.errors":
            from engine.errors import CheckpointError, ConfigError, EngineError, Interrupted

            if isinstance(error, Interrupted):
                code = INTERRUPTED
            elif isinstance(error, ConfigError):
                code = USAGE
            elif not isinstance(error, CheckpointError | EngineError):
                raise error
        case OSError():
            pass
        case MemoryError() | RuntimeError() | ImportError() if _lacks_memory(error):
            text = (
                "out of memory; free some, raise the limit (`ulimit -v`), or lower "
                "corpus.max_tokens, then run the same command again: what is committed stays"
            )
        case _:
            kind = type(error).__name__
            text = f"internal error: {kind}: {error}; --debug shows where. Please report it."
    for line in text.splitlines() or [type(error).__name__]:
        print(f"seedconv: {visible(line)}", file=sys.stderr)
    return code


def _lacks_memory(error: Exception) -> bool:
    """Return whether memory is lacking, which is said in other words where a limit is set."""
    signs = ("can't start new thread", "failed to map segment")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


# The extra that brings a package, where a command that needs it does not say so itself. Each is in
# pyproject.toml; of several that bring one, the smallest.
_EXTRAS = {
    "engine": (
        "httpx2 huggingface_hub psutil pydantic safetensors spacy threadpoolctl tokenizers torch "
        "transformers"
    ),
    "analysis": "pyarrow scipy statsmodels",
    "report": "matplotlib",
    "web": "aiohttp textual_serve",
    "xarray": "xarray",
}


def _extra_of(module: str) -> str | None:
    """Return the extra that brings a module, or None where no extra does."""
    package = module.partition(".")[0]
    return next((extra for extra, names in _EXTRAS.items() if package in names.split()), None)


# -- the parser ----------------------------------------------------------------------------------


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version  # asked for seldom, imported slowly

        print(f"seedconv {version('seedconv-tui')}")
        parser.exit()


def full_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return what parses a command line with these commands."""
    parser = argparse.ArgumentParser(
        prog="seedconv",
        description="Watch language models trained with different seeds converge.",
        epilog="`seedconv STORE` is short for `seedconv tui STORE`. Begin with `seedconv demo`.",
    )
    parser.add_argument("--version", action=_Version)
    parsers = parser.add_subparsers(metavar="COMMAND")
    for name in names:
        command = cast(Command, import_module(f"seedconv_tui.cli.{name}"))
        made = parsers.add_parser(
            name,
            help=command.HELP,
            description=command.HELP[0].upper() + command.HELP[1:] + ".",
            epilog=f"example: {command.EXAMPLE}\nmore: docs/{command.PAGE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,  # an example stays one line
        )
        add_debug(made)
        command.add_arguments(made)
        made.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    main()
