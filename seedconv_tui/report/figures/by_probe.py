"""Figures of probes over training: minimal pairs (BLiMP) and in-context learning scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.report import style
from seedconv_tui.report.parts import LINES, Figure, Omitted, file_name, gathered
from seedconv_tui.report.study_data import SEEDS_BAND, StudyData, over_seeds
from seedconv_tui.tables.long_tables import TABLES
from seedconv_tui.tables.selection import Choice, ChoiceError
from seedconv_tui.text import count
from store.analysis import ALL_TASKS, KL_MEASURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing
    from matplotlib.lines import Line2D

Row = Mapping[str, Any]

_CHANCE = 0.5  # accuracy of guessing


def figures(source: StudyData) -> Iterator[Figure | Omitted]:
    """One for each probe. Raise StoreError, DamagedError."""
    try:
        rows = _rows(source)
    except ChoiceError as error:  # what intervals need is not installed
        yield Omitted("probes", str(error))
        return
    for kind, figure in _DRAWN_BY.items():
        names = list(dict.fromkeys(row["probe"] for row in rows if row["kind"] == kind))
        if not names:
            yield Omitted(
                kind,
                f"there are no results of a probe of that kind; [[probes]] with kind = {kind!r}",
            )
        for name in names:
            of = [row for row in rows if row["probe"] == name]
            yield figure(source, name, of)


def _rows(source: StudyData) -> list[Row]:
    batches = TABLES["probes"].batches(source.study, Choice(models=list(source.models)))
    return [
        dict(zip(batch, values, strict=True))
        for batch in batches
        for values in zip(*batch.values(), strict=True)
    ]


def _figure(source: StudyData, name: str, title: str, caption: str, rows: Sequence[Row],
            draw: Any) -> Figure:  # fmt: skip
    columns = TABLES["probes"].fixed
    asked: dict[str, set[tuple[str, int]]] = {}  # seeds and steps of each model
    for row in rows:
        if row["seed"] is not None:
            asked.setdefault(row["model"], set()).add((row["seed"], row["step"]))
    of_models = ", ".join(
        f"{model} {_number([seed for seed, _ in of], 'seed')} "
        f"at {_number([step for _, step in of], 'step')}"
        for model, of in asked.items()
    )
    words = f"{caption} Asked: {of_models}. {source.settings} {source.undrawn}".rstrip()
    data = gathered(columns, [[row[column.name] for column in columns] for row in rows])
    return Figure(name, title, words, columns, data, draw)


def _number(of: Sequence[Any], what: str) -> str:
    n = len(set(of))
    return f"{count(n)} {what}{'s' * (n != 1)}"


def _minimal_pairs(source: StudyData, name: str, rows: Sequence[Row]) -> Figure:
    """Draw accuracy and the KL between seeds by model; accuracy by what the pairs are about."""
    models = [model for model in source.models if any(row["model"] == model for row in rows)]
    drawn, last = [model for model in source.drawn if model in models], models[-1]
    by = "term" if any(row["term"] for row in rows) else "label"
    most: dict[str, set[tuple[str, int]]] = {}
    for row in rows:
        if row["label"] != ALL_TASKS and row[by]:
            most.setdefault(row[by], set()).add((row["label"], row["n"]))
    sizes = {key: sum(n for _, n in of) for key, of in most.items()}
    shown = sorted(sorted(sizes, key=lambda key: -sizes[key])[:LINES])
    n = max((row["n"] for row in rows if row["label"] == ALL_TASKS), default=0)
    about = "linguistic term" if by == "term" else "task"
    caption = (
        f"Minimal pairs of {name} ({count(n)}). (a) Share of pairs whose good sentence is more "
        f"probable: mean over seeds; dotted: chance. {SEEDS_BAND} "
        f"(b) Accuracy of {last}, mean over seeds and tasks, by {about}: "
        + ", ".join(f"{key} {count(sizes[key])}" for key in shown)
        + ". (c, d) KL between seeds of the two-way distribution over good and bad sentence, mean "
        "over ordered pairs of seeds; bands: 95 % intervals over seeds, none below three. (c) The "
        "paper's: of the mean distributions over a task's pairs of sentences, mean over tasks. (d) "
        "Of each pair of sentences, mean over these."
    )  # fmt: skip

    def draw() -> Drawing:
        figure, axes = style.grid(2, 2, width=style.TWO_COLUMNS, height=4.8)
        (first, second), below = axes
        lines = []
        for at, (model, look) in enumerate(zip(drawn, style.ordinal(len(drawn)), strict=True)):
            of = [row for row in rows if row["model"] == model and row["label"] == ALL_TASKS]
            accuracy = [row for row in of if row["measure"] == "accuracy"]
            lines.append(_over_seeds(first, accuracy, look, at, model))
            for panel, measure in zip(below, KL_MEASURES, strict=True):
                _with_interval(panel, [row for row in of if row["measure"] == measure], look, at)
        parts = [
            _over_seeds(
                second,
                [row for row in rows if row["model"] == last and row["measure"] == "accuracy"
                 and row["label"] != ALL_TASKS and row[by] == key],
                look, at, key, band=False,
            )
            for at, (key, look) in enumerate(zip(shown, style.nominal(len(shown)), strict=True))
        ]  # fmt: skip
        names = (
            "accuracy",
            f"accuracy by {'term' if by == 'term' else 'task'}",
            "KL of the means (the paper's)",
            "mean of the KL of each pair",
        )
        for index, (panel, title) in enumerate(zip((*axes[0], *below), names, strict=True)):
            style.step_axis(panel, sorted({row["step"] for row in rows}))
            panel.set_ylabel("accuracy" if index < 2 else "KL (nats)")
            style.letter(panel, index, title, of=4)
        for panel in below:
            panel.set_ylim(bottom=0)
        for panel in (first, second):
            style.level_line(panel, _CHANCE)
        style.legend(second, parts, width=style.TWO_COLUMNS / 2)
        style.legend(figure, lines, width=style.TWO_COLUMNS)
        return figure

    title = f"Minimal pairs: {name}"
    return _figure(source, file_name("blimp", name), title, caption, rows, draw)


def _learning(source: StudyData, name: str, rows: Sequence[Row]) -> Figure:
    """Draw a panel for each definition of the score."""
    scores = list(dict.fromkeys(row["label"] for row in rows if row["measure"] == "score"))
    models = [model for model in source.models if any(row["model"] == model for row in rows)]
    drawn = [model for model in source.drawn if model in models]
    sizes = {row["label"]: row["n"] for row in rows if row["measure"] == "score"}
    caption = (
        f"In-context learning score of {name} over training: later minus earlier loss, so below "
        "zero a model uses its context. "
        + "; ".join(f"{score}: {count(sizes[score])} documents" for score in scores)
        + f". Mean over documents and seeds. {SEEDS_BAND} The interval of each seed over documents "
        "is in the data."
    )

    def draw() -> Drawing:
        n = max(len(scores), 1)
        width = style.ONE_COLUMN if n == 1 else style.TWO_COLUMNS
        figure, axes = style.grid(1, n, width=width, height=2.4)
        lines: list[Line2D] = []
        for index, (panel, score) in enumerate(zip(axes[0], scores, strict=False)):
            lines = [
                _over_seeds(panel, [row for row in rows if row["model"] == model
                                    and row["label"] == score], look, at, model)
                for at, (model, look) in enumerate(
                    zip(drawn, style.ordinal(len(drawn)), strict=True))
            ]  # fmt: skip
            panel.axhline(0, color="0.3", linewidth=0.6)
            style.step_axis(panel, sorted({row["step"] for row in rows}))
            panel.set_ylabel("score (nats)" if index == 0 else "")
            style.letter(panel, index, style.label(score, 40), of=n)
        style.legend(figure, lines, width=width)
        return figure

    title = f"In-context learning score: {name}"
    return _figure(source, file_name("icl", name), title, caption, rows, draw)


def _over_seeds(
    axes: Axes, rows: Sequence[Row], look: style.Look, at: int, name: str, *, band: bool = True
) -> Line2D:
    """Return the mean over seeds of what the rows of a seed and step come to, with its interval."""
    steps, seeds = (sorted({row[key] for row in rows}) for key in ("step", "seed"))
    by_cell: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        by_cell.setdefault((row["seed"], row["step"]), []).append(row["value"])
    of_seed = np.full((len(seeds), len(steps)), np.nan)
    for (seed, step), values in by_cell.items():
        of_seed[seeds.index(seed), steps.index(step)] = np.mean(values)
    mean, low, high = over_seeds(of_seed)
    return style.curve(axes, np.array(steps, np.int64), mean, look, low=low if band else None,
                       high=high if band else None, at=at, name=name)  # fmt: skip


def _with_interval(axes: Axes, rows: Sequence[Row], look: style.Look, at: int) -> None:
    steps = np.array([row["step"] for row in rows], np.int64)
    value, low, high = (
        np.array([row[name] for row in rows], np.float64) for name in ("value", "low", "high")
    )
    style.curve(axes, steps, value, look, low=low, high=high, at=at)


_DRAWN_BY: Mapping[str, Callable[[StudyData, str, Sequence[Row]], Figure]] = {
    "blimp": _minimal_pairs,
    "icl": _learning,
}
"""The figure of each kind of probe."""
