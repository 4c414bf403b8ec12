"""The command line: one command, `seedconv`. Commands import what is heavy when they run."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from seedconv_tui.cli.compare import add_compare
from seedconv_tui.cli.export import add_export
from seedconv_tui.cli.options import add_prune, add_verify
from seedconv_tui.cli.regress import add_regress
from seedconv_tui.cli.report import add_report
from seedconv_tui.cli.run import add_run_and_watch
from seedconv_tui.cli.sample import add_sample_and_count
from seedconv_tui.cli.tui import add_plot, add_screen_options, add_tui, glyphs_of, show
from seedconv_tui.exit_codes import FAILED, INTERRUPTED, OK, USAGE
from store.errors import NotAStudyError, StoreError, StudyMismatchError, UnsupportedError

if TYPE_CHECKING:
    from store.schema.snapshot import StudySnapshot

_STORE_HELP = "the study's store: a folder, or an address like s3://bucket/study.zarr"


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `seedconv` and exit: 0 done, 1 work failed, 2 usage or configuration, 130 interrupted."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    parser = _parser()
    commands = parser.commands  # type: ignore[attr-defined]
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        if not Path(argv[0]).exists() and os.sep not in argv[0] and not argv[0].endswith(".zarr"):
            parser.error(
                f"{argv[0]!r} is neither a command nor a store; `seedconv --help` lists both"
            )
        argv = ["tui", *argv]
    options = parser.parse_args(argv)
    if not hasattr(options, "command"):
        parser.print_help()
        return USAGE
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our stdout has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        return _explain(error)


def _explain(error: Exception) -> int:
    """Print an error as the lines a user can act on; return the exit code."""
    from seedconv_tui.text import visible

    code, text = FAILED, str(error)
    match error:
        case StudyMismatchError() | NotAStudyError() | UnsupportedError():
            code = USAGE
        case StoreError():
            pass
        case OSError(errno=errno.ENOSPC):
            text = (
                f"{error.filename or 'the store'}: no space left on the device; free some and run "
                "the same command again: what is committed stays"
            )
        case ModuleNotFoundError(name="ray"):
            code = USAGE
            text = "--ray needs Ray, which is not installed: pip install 'seedconv-tui[engine,ray]'"
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] in _ENGINE_EXTRA:
            code = USAGE
            text = (
                f"this command needs the engine, and {name} is not installed: "
                "pip install 'seedconv-tui[engine]'"
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
        case _:
            kind = type(error).__name__
            text = f"internal error: {kind}: {error}; --debug shows where. Please report it."
    for line in text.splitlines() or [type(error).__name__]:
        print(f"seedconv: {visible(line)}", file=sys.stderr)
    return code


_ENGINE_EXTRA = {"torch", "transformers", "tokenizers", "safetensors", "pydantic", "spacy"}


# -- commands ------------------------------------------------------------------------------------


def _init(options: argparse.Namespace) -> int:
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


def _status(options: argparse.Namespace) -> int:
    from seedconv_tui.cli.status import status_json, status_text
    from seedconv_tui.health import troubled

    snapshot, now = _snapshot(options.store), time.time()
    if options.json:
        print(json.dumps(status_json(snapshot, now), indent=2))
    else:
        print(status_text(snapshot, now))
    return FAILED if options.check and troubled(snapshot, now) else OK


def _snapshot(store: str | Path) -> StudySnapshot:
    from store import open_study

    return open_study(store).snapshot()


def _demo(options: argparse.Namespace) -> int:
    from seedconv_tui.demo.run_demo import run_demo

    return run_demo(
        options.dir,
        headless=options.headless,
        second_size=options.second_size,
        glyphs=glyphs_of(options),
        # A new study every time, with nothing to go back to.
        show=lambda store: show(store, options=options, fresh=True),
    )


def _store(text: str) -> str | Path:
    """A folder, or the address of a remote store."""
    return text if "://" in text else Path(text)


# -- the parser ----------------------------------------------------------------------------------


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version  # asked for seldom, imported slowly

        print(f"seedconv {version('seedconv-tui')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seedconv",
        description="Watch language models trained with different seeds converge.",
        epilog="`seedconv STORE` is short for `seedconv tui STORE`. Begin with `seedconv demo`.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND")

    def command(
        name: str, function: Callable[[argparse.Namespace], int], text: str, example: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example: {example}",
        )
        made.add_argument("--debug", action="store_true", help="show a traceback when it fails")
        made.set_defaults(command=function)
        return made

    demo = command(
        "demo",
        _demo,
        "train three tiny seeds, score them as they train, watch them",
        "seedconv demo --headless --dir /tmp/demo",
    )
    demo.add_argument(
        "--headless", action="store_true", help="no screen: progress, chart and table"
    )
    demo.add_argument(
        "--dir", type=Path, default=Path("seedconv-demo"), help="where it works (%(default)s)"
    )
    demo.add_argument("--second-size", action="store_true", help="train a larger model as well")
    add_screen_options(demo)

    init = command("init", _init, "write a commented study file", "seedconv init study.toml")
    init.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=Path("study.toml"),
        help='"-" for stdout (%(default)s)',
    )

    add_run_and_watch(command)
    add_sample_and_count(command, _at_least)

    status = command(
        "status",
        _status,
        "progress and health, for people and scripts",
        "seedconv status study.zarr",
    )
    status.add_argument("store", type=_store, metavar="STORE", help=_STORE_HELP)
    status.add_argument("--json", action="store_true", help="as one JSON object")
    status.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 when the engine failed or is silent, or checkpoints failed",
    )

    add_tui(command, _store, _STORE_HELP)
    add_plot(command, _store, _STORE_HELP, _at_least)
    add_export(command, _store, _STORE_HELP, _at_least(1))
    add_compare(command, _store, _STORE_HELP)
    add_regress(command, _store, _STORE_HELP)
    add_report(command, _store, _STORE_HELP)
    add_verify(command)
    add_prune(command, _at_least(0))

    parser.commands = commands.choices  # type: ignore[attr-defined]
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    parse.__name__ = "int"  # argparse names it when the text is no number
    return parse


if __name__ == "__main__":
    main()
