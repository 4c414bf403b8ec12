"""`seedconv export`: a study's results as tables, or as TensorBoard's event files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from seedconv_tui.cli.options import add_band, add_levels, add_models, add_store, at_least
from seedconv_tui.exit_codes import OK, USAGE
from seedconv_tui.tables.step_ranges import steps_argument
from seedconv_tui.text import counted

if TYPE_CHECKING:
    from seedconv_tui.tables.long_tables import Column
    from seedconv_tui.tables.selection import Choice
    from seedconv_tui.tables.writers import Writer
    from store import Study

HELP = "write results as CSV, Parquet or JSON lines, in long form"
EXAMPLE = "seedconv export study.zarr --what tokens --steps 1000 -o tokens.parquet"
PAGE = "export.md"

WHAT = (
    "levels", "seeds", "pairs", "tokens", "extremes", "entries", "groups", "cka", "phases",
    "checkpoints", "probes",
)  # fmt: skip
FORMATS = ("csv", "parquet", "json")
_SUFFIXES = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
_OPTIONS = {
    "categories": "--category",
    "levels": "--level",
    "steps": "--steps",
    "count": "--count",
    "band": "--band",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_store(parser)
    parser.add_argument(
        "--what",
        choices=WHAT,
        metavar="TABLE",
        help=f"table to write: {', '.join(WHAT)} (default: levels)",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="format of the table; json: one object a line (default: by FILE's suffix, else csv)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="file to write (default: stdout)"
    )
    add_models(parser)
    parser.add_argument("--category", action="append", help="only this category (may be repeated)")
    add_levels(parser)
    parser.add_argument(
        "--steps",
        type=steps_argument,
        help="only these steps: A:B, :B, A: or 0,8,64 (default: all; of tokens the newest)",
    )
    parser.add_argument(
        "--count",
        type=at_least(1),
        metavar="N",
        help="with --what extremes: number of tokens of each kind (default: 10)",
    )
    add_band(
        parser, "with --what levels: simultaneous adds 95 %% bands over all chosen steps at once"
    )
    parser.add_argument(
        "--columns", action=_Columns, help="describe each table and column, then exit"
    )
    parser.add_argument(
        "--tensorboard",
        type=Path,
        metavar="DIR",
        help="write expected KL, KL by level, cross-entropy and phase for TensorBoard instead, a "
        "folder for each model; replaces an earlier export there",
    )


class _Columns(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help=settings["help"])

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from seedconv_tui.tables.long_tables import markdown

        print(markdown(), end="")
        parser.exit()


def run(options: argparse.Namespace) -> int:
    """Write what was chosen."""
    from seedconv_tui.tables.selection import Choice, ChoiceError
    from seedconv_tui.text import visible

    chosen = options.model, options.category, options.steps, options.count, options.level
    choice = Choice(*chosen, options.band)
    try:
        if options.tensorboard is not None:
            return _event_files(options, choice)
        what = options.what or "levels"
        kind = _format(options.format, options.output, what, choice)
        return _write(options.store, what, choice, kind, options.output)
    except ChoiceError as error:
        print(f"seedconv: {visible(str(error))}", file=sys.stderr)
        return USAGE


def _event_files(options: argparse.Namespace, choice: Choice) -> int:
    """Write event files. Raise ChoiceError for options that do not go together."""
    from seedconv_tui.listeners.scalars import read_rows
    from seedconv_tui.listeners.tensorboard import EventFiles
    from seedconv_tui.tables.selection import ChoiceError, chosen_categories
    from seedconv_tui.text import counted, visible
    from store import open_study
    from store.schema import CHARTED

    for field in ("what", "format", "output", "level", "steps", "count", "band"):
        if getattr(options, field) is not None:
            raise ChoiceError(f"--{field} does not apply to --tensorboard, which has all steps")
    study, n = open_study(options.store), 0
    files = EventFiles(options.tensorboard, study.name)
    for model, categories in chosen_categories(study, choice, CHARTED.__contains__).items():
        if rows := read_rows(study, model, categories):
            files.take(model, rows)
            n += len(rows)
    files.close()
    folder = visible(str(options.tensorboard))
    print(f"wrote {counted(n, 'step')} to {folder}; tensorboard --logdir {folder}", file=sys.stderr)
    if not n:
        print(
            f"seedconv: {visible(str(options.store))}: {_why_nothing(study, '')}", file=sys.stderr
        )
    return OK


def _format(given: str | None, output: Path | None, what: str, choice: Choice) -> str:
    """Return the format to write. Raise ChoiceError for options that do not go together."""
    from seedconv_tui.tables.long_tables import TABLES
    from seedconv_tui.tables.selection import ChoiceError
    from seedconv_tui.tables.writers import needs_pyarrow

    for field, option in _OPTIONS.items():
        if getattr(choice, field) is not None and field not in TABLES[what].takes:
            takers = ", ".join(name for name, table in TABLES.items() if field in table.takes)
            raise ChoiceError(f"{option} does not apply to --what {what}, only to: {takers}")
    kind = given or ("csv" if output is None else _SUFFIXES.get(output.suffix.lower()))
    if kind is None:
        raise ChoiceError(
            f"{output}: its suffix names no format; give one of {', '.join(_SUFFIXES)}, or --format"
        )
    if output is not None and output.is_dir():
        raise ChoiceError(f"{output}: is a folder; name a file in it")
    if output is not None and not output.parent.is_dir():
        raise ChoiceError(f"{output}: there is no folder {output.parent}")
    if kind == "parquet":
        if output is None:
            raise ChoiceError("Parquet is written to files only; name one with -o FILE")
        needs_pyarrow()
    return kind


def _write(store: str | Path, what: str, choice: Choice, kind: str, output: Path | None) -> int:
    from seedconv_tui.tables.long_tables import TABLES
    from seedconv_tui.tables.rows import joined
    from seedconv_tui.tables.writers import new_file, stdout
    from seedconv_tui.text import count, visible
    from store import open_study

    study = open_study(store)
    table = TABLES[what]
    columns, batches = table.columns(study, choice), table.batches(study, choice)
    first = list(islice(batches, 1))  # what was chosen is checked before anything is written
    n_rows = 0
    with stdout() if output is None else new_file(output) as file:
        writer = _writer(kind, file, columns, study, what, shown=output is None)
        for batch in joined(chain(first, batches)):
            writer.write(batch)
            n_rows += len(next(iter(batch.values())))
        writer.close()
    if infinite := getattr(writer, "n_infinite", 0):
        print(f"{count(infinite)} infinite values are null: JSON has none", file=sys.stderr)
    if output is not None:
        print(f"wrote {counted(n_rows, 'row')} to {visible(str(output))}", file=sys.stderr)
    if not n_rows:
        print(f"seedconv: {visible(str(store))}: {_why_nothing(study, what)}", file=sys.stderr)
    return OK


def _writer(
    kind: str, file: BinaryIO, columns: Sequence[Column], study: Study, what: str, *, shown: bool
) -> Writer:
    """Make a writer; where a terminal reads it, text is `shown`, never obeyed."""
    from seedconv_tui.tables.writers import CsvWriter, JsonWriter, ParquetWriter, encodable
    from seedconv_tui.text import visible

    if kind == "parquet":
        return ParquetWriter(file, columns, {"study": study.name, "table": what})
    clean = encodable
    if shown and sys.stdout.isatty():
        encoding = (sys.stdout.encoding or "").lower().replace("-", "")
        clean = partial(visible, ascii=encoding != "utf8")
    return (CsvWriter if kind == "csv" else JsonWriter)(file, columns, clean)


def _why_nothing(study: Study, what: str) -> str:
    if what == "phases":
        return "no phases yet; they need six compared steps"
    if what == "cka":
        return (
            "hidden states of two seeds are kept at no step yet; they need "
            'log_probs.representation = "factored" in the study file. With "cka" in '
            "scoring.divergences, --what pairs has the same"
        )
    if what == "checkpoints":
        return "no checkpoints are planned yet"
    if what == "probes":
        return "no probes were asked yet; [[probes]] in the study file names them"
    if not any(study.ledger(model).summaries for model in study.models):
        return "nothing is summarised yet; a step needs two seeds that are scored"
    return "nothing of what was chosen is summarised yet"
