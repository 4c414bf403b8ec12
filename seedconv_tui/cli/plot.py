"""`seedconv plot`: the KL chart as text, on stdout."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from seedconv_tui.cli.options import (
    add_glyphs,
    add_levels,
    add_models,
    add_store,
    at_least,
    glyphs_of,
)
from seedconv_tui.exit_codes import OK, USAGE
from store import NotAStudyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedconv_tui.tables.level_results import Levels
    from seedconv_tui.tables.selection import Choice
    from store import Study

HELP = "draw the KL chart as text"
EXAMPLE = "seedconv plot study.zarr --log-y"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_store(parser)
    add_models(parser)
    parser.add_argument(
        "--category",
        action="append",
        help="draw a line for each level of this category (may be repeated)",
    )
    add_levels(parser)
    parser.add_argument("--log-y", action="store_true", help="use a logarithmic KL axis")
    parser.add_argument("--linear-x", action="store_true", help="use a linear axis of steps")
    parser.add_argument("--width", type=at_least(20), help="columns (default: the terminal's)")
    parser.add_argument(
        "--height", type=at_least(8), help="rows of the chart (default: the terminal's)"
    )
    add_glyphs(parser)


def run(options: argparse.Namespace) -> int:
    """Print the chart as large as the terminal."""
    from seedconv_tui.chart.plot import plot_text
    from seedconv_tui.tables.selection import Choice, ChoiceError
    from seedconv_tui.text import visible
    from store import open_study

    size = shutil.get_terminal_size((80, 24))
    drawn: dict[str, Any] = {
        "width": options.width or size.columns,
        "height": options.height or max(12, size.lines - 8),
        "log_y": options.log_y,
        "log_x": not options.linear_x,
        "glyphs": glyphs_of(options),
        "color": sys.stdout.isatty() and "NO_COLOR" not in os.environ,
    }
    study = open_study(options.store)
    if options.category is not None or options.level is not None:
        choice = Choice(options.model, options.category, levels=options.level)
        try:
            print("\n\n".join(_by_level(study, choice, drawn)))
        except ChoiceError as error:
            print(f"seedconv: {visible(str(error))}", file=sys.stderr)
            return USAGE
        return OK
    snapshot = study.snapshot()
    known = {model.name for model in snapshot.models}
    if unknown := [name for name in options.model or [] if name not in known]:
        names = ", ".join(sorted(known)) or "none yet"
        raise NotAStudyError(f"{options.store}: no model {unknown[0]!r}; it has: {names}")
    print(plot_text(snapshot, models=options.model, **drawn))
    return OK


def _by_level(study: Study, choice: Choice, drawn: dict[str, Any]) -> Iterator[str]:
    """Yield a text for each model and category. Raise ChoiceError."""
    from seedconv_tui.chart.level_plot import LevelCurve, plot_levels
    from seedconv_tui.tables.level_results import read_levels
    from seedconv_tui.tables.selection import chosen_categories

    for model, categories in chosen_categories(study, choice).items():
        for category in categories:
            of = read_levels(study, model, category)
            shown = _shown(of, choice)
            title = f"{study.name}: KL by {category}, {model}: {of.description}"
            there = int((of.counts > 0).sum())
            left_out = there - len(shown) if choice.levels is None else 0
            arrays = of.kl, of.kl_low, of.kl_high
            curves = [
                LevelCurve(of.labels[n], int(of.counts[n]), of.steps, *(a[:, n] for a in arrays))
                for n in shown
            ]
            yield plot_levels(title, curves, left_out=left_out, **drawn)


def _shown(of: Levels, choice: Choice) -> list[int]:
    """Return the levels that are drawn, in order: those chosen, or those with most tokens."""
    from seedconv_tui.chart.plot import LINES

    if choice.levels is not None:
        return [n for n, label in enumerate(of.labels) if label in choice.levels]
    there = [n for n in range(len(of.labels)) if of.counts[n]]
    return sorted(sorted(there, key=lambda n: -of.counts[n])[:LINES])
