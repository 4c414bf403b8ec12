"""`seedconv regress`: what convergence of a token goes with, step by step."""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from seedconv_tui.cli.aligned import aligned, level_label, p_value, sure
from seedconv_tui.cli.options import (
    ADJUSTED,
    add_adjust,
    add_ascii,
    add_json,
    add_store,
    only_ascii,
)
from seedconv_tui.exit_codes import OK
from seedconv_tui.text import count, json_text, nats, visible

if TYPE_CHECKING:
    from store import Study
    from store.analysis import Regression
    from store.schema import Floats
    from store.statistics import Adjustment

HELP = "regress KL of tokens on frequency, part of speech and model"
EXAMPLE = "seedconv regress study.zarr --all --csv"
PAGE = "comparisons.md"

_TERM_CELLS = 36  # of a term in the table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_store(parser)
    steps = parser.add_mutually_exclusive_group()
    steps.add_argument("--step", type=int, help="step to use (default: the newest of all models)")
    steps.add_argument("--all", action="store_true", help="use every step that all models have")
    parser.add_argument(
        "--model", action="append", help="only this model (may be repeated; the first is reference)"
    )
    parser.add_argument(
        "--category",
        default="pos",
        help="category whose levels are regressors (default: %(default)s)",
    )
    parser.add_argument("--context", action="store_true", help="add the level of the token before")
    add_adjust(parser, "terms and steps")
    form = parser.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument(
        "--csv", action="store_true", help="print CSV, one line for each step and term"
    )
    add_ascii(parser)


def run(options: argparse.Namespace) -> int:
    """Print the coefficients."""
    from seedconv_tui.tables.selection import check, newest_common
    from store import open_study
    from store.analysis import common_steps
    from store.schema import CONTEXT

    study = open_study(options.store)
    models = tuple(dict.fromkeys(options.model or study.models))
    if not options.all and options.step is None:
        options.step = newest_common(study, models)
    for name in models:
        check(study, name, options.step, options.category)
        if options.context:
            check(study, name, options.step, options.category + CONTEXT)
    chosen: dict[str, Any] = {
        "models": models,
        "category": options.category,
        "context": options.context,
    }
    steps = common_steps(study, models) if options.all else [options.step]
    read = partial(_fitted, study, None if options.all else options.step, chosen)
    found = study.consistent(dict.fromkeys(models, steps), read)
    if options.csv:
        from seedconv_tui.tables.regression_rows import REGRESSION_COLUMNS, regression_rows

        shown = visible if sys.stdout.isatty() else str  # files and pipes get labels unchanged
        writer = csv.DictWriter(
            sys.stdout, [of.name for of in REGRESSION_COLUMNS], lineterminator="\n"
        )
        writer.writeheader()
        for row in regression_rows(found, options.adjust):
            names = {key: shown(row[key]) for key in ("factor", "level", "reference")}
            writer.writerow({**row, **names})
    elif options.json:
        print(json_text(_report(study, found, options.adjust)))
    else:
        from seedconv_tui.tables.regression_rows import adjusted_p

        adjust, ascii_only = options.adjust, only_ascii(options)
        p = adjusted_p(found, adjust)
        texts = (
            _text(study, at, of, adjust, ascii_only=ascii_only)
            for at, of in zip(found, p, strict=True)
        )
        print("\n\n".join(texts))
    return OK


def _fitted(study: Study, step: int | None, chosen: dict[str, Any]) -> tuple[Regression, ...]:
    """Fit at this step, or at all."""
    from store.analysis import regression, regressions

    return regressions(study, **chosen) if step is None else (regression(study, step, **chosen),)


def _report(study: Study, found: Sequence[Regression], adjust: Adjustment) -> dict[str, Any]:
    """Return it as one JSON object."""
    from seedconv_tui.tables.regression_rows import regression_rows

    first = found[0]
    return {
        "store": str(study.path),
        "study": study.name,
        "models": list(first.models),
        "references": dict(first.references),
        "dropped": [
            {"factor": term.factor, "level": term.level, "why": why}
            for term, why in first.dropped.items()
        ],
        "adjustment": adjust,
        "rows": list(regression_rows(found, adjust)),
    }


def _text(
    study: Study, found: Regression, p: Floats, adjust: Adjustment, *, ascii_only: bool
) -> str:
    from store.analysis import FEW_CLUSTERS

    def name(text: str) -> str:
        return visible(text, ascii_only)

    lines = [
        f"{name(study.name)}: convergence (minus KL, nats) of a token at step {found.step:,}: "
        f"{', '.join(map(name, found.models))}",
        f"least squares over {count(found.n_tokens)} tokens"
        + (f" of each of {len(found.models)} models" if len(found.models) > 1 else "")
        + (f", R2 {found.r2:.3f}" if math.isfinite(found.r2) else ", all values equal (no R2)")
        + f"; errors clustered by {count(found.n_clusters)} documents or runs "
        "of text; * where the 95 % interval leaves 0 out",
        f"p adj: p adjusted over terms and steps ({ADJUSTED[adjust]})",
    ]
    cells = [["term", "tokens", "coefficient", "low", "high", "p", "p adj", ""]]
    for at, term in enumerate(found.terms):
        low, high = float(found.low[at]), float(found.high[at])
        cells.append(
            [
                level_label(str(term), ascii_only, _TERM_CELLS),
                count(int(found.n[at])),
                nats(float(found.coefficient[at])),
                nats(low),
                nats(high),
                p_value(float(found.p[at])),
                p_value(float(p[at])),
                sure(low, high),
            ]
        )
    lines += aligned(cells)
    held = ", ".join(f"{name(k)}[{name(v)}]" for k, v in found.references.items())
    lines.append(f"against: {held}")
    for why in dict.fromkeys(found.dropped.values()):
        terms = ", ".join(name(str(t)) for t, reason in found.dropped.items() if reason == why)
        lines.append(f"left out, {why}: {terms}")
    if found.left_out:
        lines.append(f"left out, KL not finite: {count(found.left_out)} tokens")
    if found.n_clusters < max(FEW_CLUSTERS, len(found.terms)):
        lines.append(
            f"{found.n_clusters} clusters are few: intervals may be too narrow, or missing"
        )
    return "\n".join(lines)
