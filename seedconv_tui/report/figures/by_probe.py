"""Figures of probes over training: minimal pairs (BLiMP) and in-context learning scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.report import bands, style
from seedconv_tui.report.choices import PAPER
from seedconv_tui.report.parts import LINES, Figure, Omitted, file_name, gathered
from seedconv_tui.report.study_data import StudyData
from seedconv_tui.tables.band_names import INTERVAL
from seedconv_tui.tables.long_tables import TABLES
from seedconv_tui.tables.selection import Choice, ChoiceError
from seedconv_tui.text import count
from store.analysis import ALL_TASKS, KL_MEASURES, blimp_summary
from store.schema import Floats

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
    rows: list[Row] = [
        dict(zip(batch, values, strict=True))
        for batch in batches
        for values in zip(*batch.values(), strict=True)
    ]
    return [*_with_papers_bands(source, rows)] if source.paper else rows


def _with_papers_bands(source: StudyData, rows: Sequence[Row]) -> Iterator[Row]:
    """Yield rows whose KL has the paper's band, and scores of all seeds with theirs."""
    for (model, name, step), group in groupby(rows, itemgetter("model", "probe", "step")):
        of = list(group)
        if of[0]["kind"] == "blimp":
            found = blimp_summary(source.study, model, name, step)
            once = np.triu_indices(len(found.seeds), 1)  # each pair of seeds in one direction
            by_task = {"kl_of_means": found.kl_between_means[once], "mean_of_kl": found.kl[once]}
            for row in of:
                if row["measure"] in by_task:
                    task = found.tasks.index(row["label"])
                    kl = by_task[row["measure"]]
                    kl = kl[:, 1:] if row["label"] == ALL_TASKS else kl[:, [task]]
                    row = {**row, **_ends(row["value"], kl.ravel())}
                yield row
        else:
            yield from of
            scores = [row for row in of if row["measure"] == "score"]
            seeds = dict.fromkeys(row["seed"] for row in scores)
            values = np.stack(
                [source.study.probe_values(model, name, seed, step) for seed in seeds]
            ).astype(np.float64)
            later = values[..., 1::2] - values[..., 0::2]  # (seed, document, score)
            for index, label in enumerate(dict.fromkeys(row["label"] for row in scores)):
                mean = float(np.mean([row["value"] for row in scores if row["label"] == label]))
                first = next(row for row in scores if row["label"] == label)
                ends = _ends(mean, later[..., index].ravel())
                yield {**first, "seed": None, "value": mean, **ends}


def _ends(value: float, values: Floats) -> dict[str, float]:
    band = bands.around(np.array(value), bands.standard_error(values))
    return {"low": float(band.low), "high": float(band.high)}


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
    of_kl = "Bands: 95 % intervals over seeds, none below three."
    about = "linguistic term" if by == "term" else "task"
    caption = (
        f"Minimal pairs of {name} ({count(n)}). (a) Share of pairs whose good sentence is more "
        f"probable: mean over seeds; dotted: chance. {source.band_words()} "
        f"(b) Accuracy of {last}, mean over seeds and tasks, by {about}: "
        + ", ".join(f"{key} {count(sizes[key])}" for key in shown)
        + ". (c, d) KL between seeds of the two-way distribution over good and bad sentence, mean "
        f"over ordered pairs of seeds. {source.band_words(of_kl, bands.OVER_TASKS)} (c) The "
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
            lines.append(_over_seeds(first, accuracy, look, at, model, source.band))
            for panel, measure in zip(below, KL_MEASURES, strict=True):
                _with_interval(panel, [row for row in of if row["measure"] == measure], look, at)
        parts = [
            _over_seeds(
                second,
                [row for row in rows if row["model"] == last and row["measure"] == "accuracy"
                 and row["label"] != ALL_TASKS and row[by] == key],
                look, at, key, None,
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
        + f". Mean over documents and seeds. {source.band_words(paper=bands.OVER_DOCUMENTS)} The "
        "interval of each seed over documents is in the data."
    )

    def draw() -> Drawing:
        n = max(len(scores), 1)
        width = style.ONE_COLUMN if n == 1 else style.TWO_COLUMNS
        figure, axes = style.grid(1, n, width=width, height=2.4)
        lines: list[Line2D] = []
        for index, (panel, score) in enumerate(zip(axes[0], scores, strict=False)):
            lines = [
                _score(panel, [row for row in rows if row["model"] == model
                               and row["label"] == score], look, at, model, source.band)
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
    axes: Axes, rows: Sequence[Row], look: style.Look, at: int, name: str, band: str | None
) -> Line2D:
    """Return the mean over seeds of what the rows of a seed and step come to, with its band."""
    steps, seeds = (sorted({row[key] for row in rows}) for key in ("step", "seed"))
    by_cell: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        by_cell.setdefault((row["seed"], row["step"]), []).append(row["value"])
    of_seed = np.full((len(seeds), len(steps)), np.nan)
    for (seed, step), values in by_cell.items():
        of_seed[seeds.index(seed), steps.index(step)] = np.mean(values)
    mean, low, high = bands.over_seeds(of_seed, band or INTERVAL)
    return style.curve(axes, np.array(steps, np.int64), mean, look, low=low if band else None,
                       high=high if band else None, at=at, name=name)  # fmt: skip


def _score(
    axes: Axes, rows: Sequence[Row], look: style.Look, at: int, name: str, band: str
) -> Line2D:
    """Return the line of an in-context learning score; with the paper's band if rows have that."""
    if band == PAPER:
        of_all = [row for row in rows if row["seed"] is None]
        return _with_interval(axes, of_all, look, at, name)
    return _over_seeds(axes, rows, look, at, name, band)


def _with_interval(
    axes: Axes, rows: Sequence[Row], look: style.Look, at: int, name: str = ""
) -> Line2D:
    steps = np.array([row["step"] for row in rows], np.int64)
    value, low, high = (
        np.array([row[name] for row in rows], np.float64) for name in ("value", "low", "high")
    )
    return style.curve(axes, steps, value, look, low=low, high=high, at=at, name=name)


_DRAWN_BY: Mapping[str, Callable[[StudyData, str, Sequence[Row]], Figure]] = {
    "blimp": _minimal_pairs,
    "icl": _learning,
}
"""The figure of each kind of probe."""
