"""`seedconv report`: the figures and tables of a study, in one folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from seedconv_tui.cli.options import add_levels, add_models, add_store
from seedconv_tui.exit_codes import FAILED, OK, USAGE
from seedconv_tui.report.choices import BANDS, FORMATS
from seedconv_tui.report.families import FAMILIES, ON_REQUEST, figures_of

if TYPE_CHECKING:
    from seedconv_tui.report.parts import Figure, Omitted
    from seedconv_tui.report.study_data import StudyData
    from store import Study
    from store.schema import Schedules

Part = TypeVar("Part")

HELP = "write figures and tables for a paper, with their data"
EXAMPLE = "seedconv report study.zarr -o report"
PAGE = "report.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_store(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to write into; created if missing",
    )
    add_models(parser)
    parser.add_argument(
        "--category",
        action="append",
        help="only figures by this category (may be repeated; default: the usual ones)",
    )
    add_levels(parser)
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=FAMILIES,
        metavar="FAMILY",
        help=f"leave out this family of figures: {', '.join(FAMILIES)} (may be repeated)",
    )
    parser.add_argument(
        "--with",
        dest="also",
        action="append",
        default=[],
        choices=ON_REQUEST,
        help="add this family of figures, which no report has otherwise (may be repeated); hidden: "
        "similarity of the seeds' hidden states",
    )
    parser.add_argument(
        "--band",
        choices=BANDS,
        default=BANDS[0],
        help="bands of figures: 95 %% intervals of each step, 95 %% bands over all steps at once, "
        "or the paper's (default: interval)",
    )
    parser.add_argument(
        "--format",
        type=_formats,
        default=FORMATS,
        metavar="pdf,png",
        help="formats of figures (default: both)",
    )
    parser.add_argument(
        "--learning-rate",
        type=Path,
        metavar="FILE",
        help="CSV with columns step,learning_rate[,model] (default: the study's schedule)",
    )


def _formats(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    if not found or not set(found) <= set(FORMATS):
        raise argparse.ArgumentTypeError(f"should be pdf, png or pdf,png, found {text!r}")
    return found


def run(options: argparse.Namespace) -> int:
    """Write the report."""
    from seedconv_tui.tables.selection import ChoiceError
    from seedconv_tui.text import visible

    try:
        return _write(options)
    except ChoiceError as error:
        print(f"seedconv: {visible(str(error))}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("\nseedconv: stopped; run the same command again to continue", file=sys.stderr)
        raise


def _write(options: argparse.Namespace) -> int:
    _need_libraries()
    from seedconv_tui.report.parts import Block, Figure, Omitted, PageTable
    from seedconv_tui.report.study_data import StudyData
    from seedconv_tui.report.summary_tables import tables
    from seedconv_tui.report.write import Folder
    from seedconv_tui.tables.selection import ChoiceError
    from seedconv_tui.text import visible
    from store import open_study

    if options.output.exists() and not options.output.is_dir():
        raise ChoiceError(f"{options.output}: is no folder; name one for the report")
    study = open_study(options.store)
    chosen = options.model, options.category, options.level
    source = StudyData(study, *chosen, schedules=_schedules(options, study), band=options.band)
    if not source.models:
        print(
            f"seedconv: {visible(str(options.store))}: nothing is summarised yet; a step needs two "
            "seeds that are scored",
            file=sys.stderr,
        )
        return FAILED
    folder = Folder(options.output, options.format)
    figures, shown, left = list[Figure](), list[PageTable | Block](), list[Omitted]()
    for part in chain(_figures(source, options), _readable("tables", tables(source))):
        if isinstance(part, Omitted):
            left.append(part)
            print(f"left out {part.name}: {visible(part.why)}", file=sys.stderr)
        elif isinstance(part, Figure):
            folder.add(part)
            figures.append(part)
        else:
            shown.append(part)
    written = folder.finish(study.name, source.settings, figures, shown, left)
    print(
        f"wrote {visible(str(options.output))}: report.html, summary.md, summary.tex, captions.md, "
        f"{len(figures)} figures ({written.drawn} drawn, {written.kept} as they were)",
        file=sys.stderr,
    )
    return FAILED if any(part.damaged for part in left) else OK


def _schedules(options: argparse.Namespace, study: Study) -> Schedules | None:
    """Read what `--learning-rate` names. Raise ChoiceError before anything is made."""
    from seedconv_tui.tables.selection import ChoiceError
    from store.schema import read_schedules

    if options.learning_rate is None:
        return None
    try:
        return read_schedules(options.learning_rate, study.models)
    except ValueError as error:
        raise ChoiceError(f"--learning-rate: {error}") from None


def _figures(source: StudyData, options: argparse.Namespace) -> Iterator[Figure | Omitted]:
    """Yield all figures in the order of the page."""
    from seedconv_tui.report.result_cache import ResultCache

    kept, progress = ResultCache(options.output / ".computed"), _ProgressLine()
    for family in (*FAMILIES, *ON_REQUEST):
        if family in options.also or family not in (*options.without, *ON_REQUEST):
            yield from _readable(family, figures_of(family, source, kept, progress))


def _readable(name: str, parts: Iterable[Part]) -> Iterator[Part | Omitted]:
    """Yield the parts as far as they can be read, then what is damaged: all others are made."""
    from seedconv_tui.report.parts import Omitted
    from store import DamagedError

    try:
        yield from parts
    except DamagedError as error:
        yield Omitted(name, str(error), damaged=True)


class _ProgressLine:
    """Print on stderr how far a long computation is: in place on a terminal, else its begin."""

    def __init__(self) -> None:
        self._told = ("", -1)

    def __call__(self, what: str, share: float) -> None:
        from seedconv_tui.text import visible

        terminal = sys.stderr.isatty()
        part = int(share * 100) if terminal else 0
        if (what, part) == self._told:
            return
        self._told = what, part
        line = visible(what)
        if terminal:
            print(f"\r{line}: {share:4.0%}", end="\n" * (share >= 1), file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _need_libraries() -> None:
    from store import from_extra

    with from_extra("a report", "report"):
        import matplotlib  # noqa: F401  takes a second: only when it is used
        import scipy.special  # noqa: F401  of intervals over seeds
