"""`seedconv init`: a commented study file to begin with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from seedconv_tui.exit_codes import OK, USAGE
from seedconv_tui.text import visible

if TYPE_CHECKING:
    from engine.study_file.draft import FoundStudy

HELP = "write a commented study file, from the checkpoints of a folder if given"
EXAMPLE = "seedconv init study.toml --from runs/"
PAGE = "sources.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=Path("study.toml"),
        help='file to write, "-" for stdout (default: %(default)s)',
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--from",
        metavar="RUNS",
        dest="runs",
        help="folder of your training runs: finds layout, seeds, steps and tokenizer; or a name "
        "on the Hub (owner/name@revision)",
    )
    kind.add_argument(
        "--full", action="store_true", help="write all fields with their defaults (default: few)"
    )


def run(options: argparse.Namespace) -> int:
    """Write the file unless it exists."""
    from engine.study_file.draft import FULL, SHORT, draft, template

    to_stdout = str(options.file) == "-"
    if not to_stdout and options.file.exists():
        return _refuse(options.file)
    found: FoundStudy | None = None
    if options.runs is not None:
        from engine.sources.found_study import find_study

        found = find_study(options.runs, Path() if to_stdout else options.file.parent)
    text = draft(found) if found is not None else template(FULL if options.full else SHORT)
    if to_stdout:
        print(text, end="")
        return OK
    try:
        with options.file.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return _refuse(options.file)
    todo = [] if any(options.file.parent.glob("text/*.txt")) else ["corpus.files"]
    if found is None:
        todo += ["tokenizer.source", "models.source"]
    else:
        for line in _said(found):
            print(visible(line), file=sys.stderr)
        todo += ["tokenizer.source"] if found.tokenizer is None else []
        todo += ["models.config"] if any(it.needs_config for it in found.models) else []
    first = f"set {', '.join(todo)}, then" if todo else "now"
    print(f"wrote {options.file}; {first}: seedconv run {options.file}", file=sys.stderr)
    return OK


def _said(found: FoundStudy) -> Iterator[str]:
    """Yield what was found, in lines."""
    for model in found.models:
        sources = [model.source] if isinstance(model.source, str) else model.source.values()
        yield f"{next(iter(sources))}: {model.notes[0]}"
        yield from (f"  {note}" for note in model.notes[1:])
    yield f"tokenizer {found.tokenizer or ''}: {found.about_tokenizer}".replace(" :", ":")
    yield from found.others


def _refuse(file: Path) -> int:
    print(f"seedconv: {file}: exists already; name another file", file=sys.stderr)
    return USAGE
