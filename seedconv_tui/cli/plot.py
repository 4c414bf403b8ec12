"""`seedconv plot`: the KL chart as text, on stdout."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from seedconv_tui.cli.options import (
    add_band,
    add_glyphs,
    add_levels,
    add_models,
    add_store,
    at_least,
    glyphs_of,
)
from seedconv_tui.exit_codes import OK, USAGE
from seedconv_tui.tables.band_names import BAND_WORDS, INTERVAL, SIMULTANEOUS
from store import NotAStudyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedconv_tui.chart.plot import Band
    from seedconv_tui.tables.level_results import Levels
    from seedconv_tui.tables.selection import Choice
    from store import Study
    from store.schema import Floats, ModelSnapshot

HELP = "draw the KL chart as text"
EXAMPLE = "seedconv plot study.zarr --log-y"
PAGE = "uncertainty.md"


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
    add_band(
        parser,
        "band of a line: 95 %% intervals of each step, or 95 %% bands over all steps at once "
        "(default: std over pairs; of levels, interval)",
    )
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
            print("\n\n".join(_by_level(study, choice, options.band, drawn)))
        except ChoiceError as error:
            print(f"seedconv: {visible(str(error))}", file=sys.stderr)
            return USAGE
        return OK
    snapshot = study.snapshot()
    known = {model.name for model in snapshot.models}
    if unknown := [name for name in options.model or [] if name not in known]:
        names = ", ".join(sorted(known)) or "none yet"
        raise NotAStudyError(f"{options.store}: no model {unknown[0]!r}; it has: {names}")
    band = None if options.band is None else _band(study, options.band)
    print(plot_text(snapshot, models=options.model, band=band, **drawn))
    return OK


def _by_level(
    study: Study, choice: Choice, band: str | None, drawn: dict[str, Any]
) -> Iterator[str]:
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
            ends = _over_all_steps(study, of, model) if band == SIMULTANEOUS else None
            arrays = (of.kl, *(ends or (of.kl_low, of.kl_high)))
            curves = [
                LevelCurve(of.labels[n], int(of.counts[n]), of.steps, *(a[:, n] for a in arrays))
                for n in shown
            ]
            words = BAND_WORDS[band or INTERVAL]
            yield plot_levels(title, curves, left_out=left_out, band=words, **drawn)


def _over_all_steps(study: Study, of: Levels, model: str) -> tuple[Floats, Floats]:
    """Return both ends of the band over all steps, (step, level) each. Raise DamagedError."""
    from store.analysis import simultaneous_band
    from store.statistics import at_steps

    found, band = simultaneous_band(study, model, of.category, of.steps.tolist())
    return at_steps(of.steps, found, band.low), at_steps(of.steps, found, band.high)


def _band(study: Study, name: str) -> Band:
    """Return the band of whole models of this name, one of `STEP_BANDS`."""
    import numpy as np

    from seedconv_tui.chart.plot import Band
    from store.analysis import simultaneous_band
    from store.schema import ALL
    from store.statistics import at_steps

    def of_each_step(model: ModelSnapshot) -> tuple[Floats, Floats]:
        low, high = (
            np.full((2, len(model.steps)), np.nan)
            if model.kl_interval is None
            else model.kl_interval.T
        )
        return low, high

    def of_all_steps(model: ModelSnapshot) -> tuple[Floats, Floats]:
        if ALL not in study.categories(model.name):  # nothing is summarised yet
            return of_each_step(model)
        found, band = simultaneous_band(study, model.name, ALL)
        low, high = (at_steps(model.steps, found, end[:, 0]) for end in (band.low, band.high))
        return low, high

    return Band(BAND_WORDS[name], of_all_steps if name == SIMULTANEOUS else of_each_step)


def _shown(of: Levels, choice: Choice) -> list[int]:
    """Return the levels that are drawn, in order: those chosen, or those with most tokens."""
    from seedconv_tui.chart.plot import LINES

    if choice.levels is not None:
        return [n for n, label in enumerate(of.labels) if label in choice.levels]
    there = [n for n in range(len(of.labels)) if of.counts[n]]
    return sorted(sorted(there, key=lambda n: -of.counts[n])[:LINES])
