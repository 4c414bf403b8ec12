"""Figures of groups of seeds: KL within each group and between groups, over training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.report import style
from seedconv_tui.report.parts import (
    LINES,
    MODEL,
    STEP,
    Figure,
    file_name,
    gathered,
    nats,
    text,
    whole,
)
from seedconv_tui.report.study_data import StudyData
from seedconv_tui.tables.group_rows import groups_at
from seedconv_tui.tables.long_tables import Column
from seedconv_tui.text import count, quoted
from store.schema import ALL
from store.statistics import Grouped

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_BETWEEN = "between groups"


def figures(source: StudyData) -> Iterator[Figure]:
    """Yield one for each model that has groups. Raise StoreError, DamagedError."""
    for model in source.models:
        if source.study.ledger(model).groups:
            yield _of_model(source, model)


def _of_model(source: StudyData, model: str) -> Figure:
    groups, steps = source.study.ledger(model).groups, source.steps(model)
    at = source.study.levels(ALL).start
    found = [groups_at(source.study, model, step, slice(at, at + 1)) for step in steps]
    columns = (
        MODEL,
        STEP,
        text("pairs", "name of a group: pairs within it; or of two groups"),
        whole("n_seeds", "seeds", "seeds of the group, or of all groups"),
        nats("kl", "KL, mean over tokens and these ordered pairs of seeds"),
        Column(
            "p", "float", "1", "that between less within is as large, if groups were drawn by lot"
        ),
    )
    rows: list[tuple[Any, ...]] = []
    for step, of in zip(steps, found, strict=True):
        rows += [
            (model, step, name, n, float(kl[0]), None)
            for name, n, kl in zip(groups, of.n_runs, of.each, strict=True)
        ]
        p = float(of.p_between[0])
        rows.append((model, step, _BETWEEN, sum(of.n_runs), float(of.between[0]), p))
    # The one of a single seed has no pair within it, and so no line.
    paired = [n for n in range(len(groups)) if any(np.isfinite(of.each[n, 0]) for of in found)]
    drawn, left = paired[: LINES - 1], paired[LINES - 1 :]
    shown = [quoted(name) for name in groups]
    names = "; ".join(
        f"{name}: {', '.join(seeds)}" for name, seeds in zip(shown, groups.values(), strict=True)
    )
    single = [name for n, name in enumerate(shown) if n not in paired]
    caption = (
        f"Expected KL between seeds of {model} within each group, and between seeds of two groups "
        f"(mean over ordered pairs and all tokens). Groups of seeds: {names}. "
        f"{_test_words(steps[-1], found[-1])} {source.steps_words([model])} {source.settings}"
        + f" No pair of seeds within: {', '.join(single)}." * bool(single)
        + f" In the data alone: {', '.join(shown[n] for n in left)}." * bool(left)
    )

    def draw() -> Drawing:
        figure, axes = style.grid(1, 1, width=style.ONE_COLUMN, height=2.5)
        panel, looks = axes[0][0], style.nominal(len(drawn) + 1)
        curves = [(shown[n], [float(of.each[n, 0]) for of in found]) for n in drawn]
        curves.append((_BETWEEN, [float(of.between[0]) for of in found]))
        lines = [
            style.curve(panel, np.array(steps), np.array(kl), look, at=n, name=style.label(name))
            for n, ((name, kl), look) in enumerate(zip(curves, looks, strict=True))
        ]
        style.step_axis(panel, steps)
        panel.set_ylim(bottom=0)
        panel.set_ylabel("KL (nats)")
        style.legend(figure, lines, width=style.ONE_COLUMN)
        return figure

    return Figure(
        f"groups_{file_name(model)}",
        f"KL within and between groups of seeds: {model}",
        caption,
        columns,
        gathered(columns, rows),
        draw,
    )


def _test_words(step: int, of: Grouped) -> str:
    """Return what the permutation test says at a step."""
    if np.isnan(of.p_between[0]):
        return f"At step {count(step)} there are too few seeds in groups for a test."
    how = "all" if of.exact else "of draws of"
    return (
        f"At step {count(step)} the difference between - within is "
        f"{of.between[0] - of.within[0]:.4f} nats, p = {of.p_between[0]:.4g}: the share of "
        f"{how} {count(of.arrangements)} arrangements of the seeds in groups of these sizes "
        "with one as large."
    )
