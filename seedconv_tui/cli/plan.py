"""`seedconv plan`: how much text and how many seeds an interval of a given width needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seedconv_tui.cli.aligned import aligned
from seedconv_tui.cli.options import (
    add_ascii,
    add_json,
    add_levels,
    add_models,
    add_store,
    at_least,
    only_ascii,
)
from seedconv_tui.exit_codes import OK, USAGE
from seedconv_tui.text import count, counted, json_text, nats, quoted, visible

if TYPE_CHECKING:
    from store import Study
    from store.analysis import Pilot

HELP = "print how much text and how many seeds an interval of a given width needs"
EXAMPLE = "seedconv plan study.zarr --width 0.02"
PAGE = "uncertainty.md"

_SEEDS = (3, 5, 10, 20)
_FEW_SEEDS, _FEW_DOCUMENTS = 5, 10


@dataclass(frozen=True)
class Width:
    """A width that is wanted."""

    text: str
    value: float  # nats, or a share of expected KL
    relative: bool

    def of(self, expected_kl: float) -> float:
        """Return it in nats."""
        return self.value * expected_kl if self.relative else self.value


def _width(text: str) -> Width:
    relative = text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"should be nats, such as 0.02, or a share of expected KL, such as 5%; found {text!r}"
        )
    return Width(text.strip(), value / 100 if relative else value, relative)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_store(parser)
    parser.add_argument(
        "--width",
        type=_width,
        required=True,
        help="width of the 95 %% interval, end to end: in nats, or as a share of expected KL (5%%)",
    )
    add_models(parser)
    parser.add_argument(
        "--step", type=int, help="step that serves as the pilot (default: the newest summarised)"
    )
    parser.add_argument(
        "--category", help="plan for the levels of this category (default: all tokens)"
    )
    add_levels(parser)
    parser.add_argument(
        "--seeds",
        type=at_least(3),
        nargs="+",
        metavar="N",
        help="numbers of seeds to plan for (default: 3, 5, 10, 20 and the pilot's)",
    )
    add_json(parser)
    add_ascii(parser)


def run(options: argparse.Namespace) -> int:
    """Print a table for each model and level."""
    from seedconv_tui.tables.selection import ChoiceError
    from store import open_study

    study = open_study(options.store)
    try:
        pilots = _pilots(study, options)
    except ChoiceError as error:
        print(f"seedconv: {visible(str(error))}", file=sys.stderr)
        return USAGE
    if not pilots:
        print(
            f"seedconv: {visible(str(options.store))}: nothing is summarised yet; a step needs two "
            "seeds that are scored",
            file=sys.stderr,
        )
        return USAGE
    here = _documents(study)
    if options.json:
        levels = [_report(study, pilot, options, here) for pilot in pilots]
        print(json_text({"store": str(study.path), "study": study.name, "levels": levels}))
    else:
        shown = ("\n".join(_text(study, pilot, options, here)) for pilot in pilots)
        print("\n\n".join(shown))
    return OK


def _pilots(study: Study, options: argparse.Namespace) -> list[Pilot]:
    """Return what is planned for. Raise ChoiceError, UnsupportedError."""
    from seedconv_tui.tables.selection import Choice, chosen_categories, chosen_steps, summarised
    from seedconv_tui.tables.step_ranges import parse_steps
    from store.analysis import read_pilots
    from store.schema import ALL

    categories = None if options.category is None else [options.category]
    step = None if options.step is None else parse_steps(str(options.step))
    choice = Choice(options.model, categories, step, levels=options.level)
    steps = chosen_steps(study, choice, summarised(study), newest=True)
    return [
        pilot
        for model, names in chosen_categories(study, choice, lambda name: name == ALL).items()
        for at in steps[model]
        for name in names
        for pilot in read_pilots(study, model, at, name, options.level)
    ]


@dataclass(frozen=True)
class _Row:
    """The text that a number of seeds needs."""

    n_seeds: int
    documents: int | None  # None: no text is enough
    tokens: int | None
    least: float  # width with whatever text, nats


def _rows(
    study: Study, pilot: Pilot, width: float, seeds: Sequence[int] | None, here: int
) -> list[_Row]:
    """Return what each number of seeds needs; the text has `here` documents, see `_documents`."""
    from store.statistics import documents_needed

    rows = []
    for n_seeds in sorted({*(seeds or (*_SEEDS, pilot.of.n_seeds))}):
        needed, least = documents_needed(pilot.of, width, n_seeds, here)
        tokens = None if needed is None else round(needed * study.n_tokens / here)
        rows.append(_Row(n_seeds, needed, tokens, least))
    return rows


def _documents(study: Study) -> int:
    """Return how many documents the text has; runs of tokens of a lone one."""
    from store.statistics import token_clusters

    return int(token_clusters(study.corpus).max()) + 1


def _now(pilot: Pilot) -> float:
    """Return how wide the pilot's own interval is, nats."""
    import numpy as np

    return float(pilot.of.widths(pilot.of.n_seeds, np.ones(1))[0])


def _known(freedom: float) -> tuple[float, float]:
    """Return between which factors a standard deviation of so much freedom lies, 95 %."""
    from scipy.special import chdtri  # late: those who only read need no scipy

    low, high = (float((freedom / chdtri(freedom, p)) ** 0.5) for p in (0.025, 0.975))
    return low, high


def _report(study: Study, pilot: Pilot, options: argparse.Namespace, here: int) -> dict[str, Any]:
    """Return what is planned for a level, as JSON has it; docs/uncertainty.md has its fields."""
    from store.statistics import seeds_needed

    of, width = pilot.of, options.width.of(pilot.of.value)
    return {
        "model": pilot.model,
        "step": pilot.step,
        "category": pilot.category,
        "level": pilot.label,
        "width": width,
        "pilot": {
            "seeds": of.n_seeds,
            "documents": pilot.documents,
            "effective_documents": of.documents,
            "tokens": pilot.tokens,
            "expected_kl": of.value,
            "width": _now(pilot),
            "variance_seeds": of.of_seeds + of.of_pairs - of.of_both,
            "variance_documents": of.of_documents - of.of_both,
            "variance_both": 2 * of.of_both,
        },
        "plans": [
            {
                "seeds": row.n_seeds,
                "documents": row.documents,
                "tokens": row.tokens,
                "least_width": row.least,
            }
            for row in _rows(study, pilot, width, options.seeds, here)
        ],
        "seeds_with_this_text": seeds_needed(of, width),
    }


def _text(study: Study, pilot: Pilot, options: argparse.Namespace, here: int) -> list[str]:
    from store.statistics import seeds_needed

    ascii_only = only_ascii(options)

    def name(text: str) -> str:
        return visible(text, ascii_only)

    of, width = pilot.of, options.width.of(pilot.of.value)
    where = f"{name(study.name)}: {name(pilot.model)}, step {pilot.step:,}"
    if pilot.category != "all":
        where += f", {name(pilot.category)} {name(quoted(pilot.label))}"
    wanted = f"{nats(width)} nats" + f" ({options.width.text})" * options.width.relative
    runs = len(study.corpus.document_name) == 1
    documents = "runs of tokens" if runs else "documents"
    lines = [
        f"{where}: what a 95 % interval of {wanted} needs",
        f"pilot: expected KL {nats(of.value)}, interval {nats(_now(pilot))} wide, of "
        f"{counted(of.n_seeds, 'seed')}, {count(pilot.documents)} {documents}, "
        f"{counted(pilot.tokens, 'token')}",
    ]
    if not of.of_seeds + of.of_pairs + of.of_documents:
        return [*lines, "neither seeds nor documents differ: there is nothing to plan by"]
    seeds, texts, both = (f"{100 * share:.0f} %" for share in of.shares)
    lines.append(
        f"of its variance: seeds {seeds}, {documents} {texts}, seeds within {documents} {both}"
    )
    table = [["seeds", documents, "tokens", "times the text"]]
    rows = _rows(study, pilot, width, options.seeds, here)
    for row in rows:
        cells = ["-", "-", "-"]
        if row.documents is not None and row.tokens is not None:
            cells = [count(row.documents), count(row.tokens), f"{row.documents / here:.3g}"]
        table.append([str(row.n_seeds), *cells])
    lines += ["", *aligned(table), ""]
    lines += [
        f"{row.n_seeds} seeds: no text is enough, the seeds alone make it {nats(row.least)} wide"
        for row in rows
        if row.documents is None
    ]
    enough = seeds_needed(of, width)
    more = "no number of seeds is enough" if enough is None else counted(enough, "seed")
    lines.append(f"this text: {more}")
    return [*lines, *_doubts(pilot, documents, runs=runs)]


def _doubts(pilot: Pilot, documents: str, *, runs: bool) -> list[str]:
    """Return how far the plan may be off."""
    of, lines = pilot.of, []
    for what, n in ((f"{of.n_seeds} seeds", of.n_seeds), (documents, of.documents)):
        low, high = _known(max(n - 1, 1))
        lines.append(
            f"known of these {what}: their part of the width, within a factor of {low:.2g} to "
            f"{high:.2g}"
        )
    if of.n_seeds < _FEW_SEEDS:
        lines.append(f"{of.n_seeds} seeds are few for a pilot: take {_FEW_SEEDS} or more")
    if of.documents < _FEW_DOCUMENTS:
        lines.append(
            f"these {documents} are few for a pilot: they count as {of.documents:.1f} of equal "
            f"size, take {_FEW_DOCUMENTS} or more"
        )
    if runs:
        lines.append("the text is one document: others differ more than its runs of tokens do")
    return lines
