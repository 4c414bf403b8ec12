"""Figures of whole models over training: expected KL, cross-entropy, baselines, learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.report import bands, style
from seedconv_tui.report.parts import MODEL, STEP, Figure, Omitted, gathered, nats, text, whole
from seedconv_tui.report.study_data import NUMERALS, StudyData, interval_ends
from seedconv_tui.tables.band_names import SIMULTANEOUS
from seedconv_tui.tables.long_tables import Column
from store.schema import (
    ENDS,
    ENSEMBLE_METRICS,
    Floats,
    ReferenceMetric,
    has_ensemble,
    references_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from matplotlib.lines import Line2D


def figures(source: StudyData) -> Iterator[Figure | Omitted]:
    """Yield those of this family. Raise StoreError, DamagedError."""
    yield expected_kl(source)
    yield over_seeds(
        source,
        "cross_entropy",
        "Cross-entropy over training",
        (("cross_entropy", "cross-entropy (nats)"),),
    )
    yield over_seeds(
        source,
        "baselines",
        "KL to the uniform and to the unigram distribution",
        (("kl_uniform", "KL to uniform (nats)"), ("kl_unigram", "KL to unigram (nats)")),
    )
    if has_ensemble(source.study.divergences):
        yield ensemble(source)
    if references := references_of(source.study.divergences):
        yield to_references(source, references)
    yield learning_rate(source)


def expected_kl(source: StudyData) -> Figure:
    """Show expected KL by model, with its interval and the phases."""
    columns = (
        MODEL,
        STEP,
        whole("n_seeds", "seeds", "seeds whose pairs were taken"),
        nats("expected_kl", "KL, mean over tokens and ordered pairs of seeds"),
        *source.ends("kl"),
        text("phase", "phase that the step is in; missing: not known"),
    )
    rows, found = [], {model: source.expected_kl(model) for model in source.models}
    for model in source.models:
        of = source.whole(model)
        for at, step in enumerate(of.steps.tolist()):
            phase = [phase.name for phase in source.phases(model) if phase.start <= step]
            rows.append(
                (
                    model,
                    step,
                    int(of.n_seeds[at]),
                    *(float(values[at, 0]) for values in found[model]),
                    phase[-1] if phase else None,
                )
            )
    largest = source.models[-1]
    intervals = f"Bands: 95 % intervals of the mean ({source.interval}; none below three seeds)."
    together = (
        f"Bands: simultaneous 95 % bands over the steps ({source.interval}; none below three "
        "seeds)."
    )
    caption = (
        "Expected KL between seeds over training: mean over ordered pairs of seeds and all tokens. "
        f"{source.band_words(intervals, bands.OVER_TOKENS, together)} "
        f"Diamonds: where a model's phases begin. {source.phase_words(largest)} "
        f"{source.seeds()} {source.steps_words()} {source.settings} "
        + " ".join(filter(None, (source.gaps(), source.undrawn)))
    ).rstrip()

    def draw() -> Drawing:
        figure, axes = style.grid(1, 1, width=style.ONE_COLUMN, height=2.5)
        lines, panel = [], axes[0][0]
        looks = style.ordinal(len(source.drawn))
        for at, (model, look) in enumerate(zip(source.drawn, looks, strict=True)):
            of = source.whole(model)
            kl, low, high = (values[:, 0] for values in found[model])
            lines.append(
                style.curve(panel, of.steps, kl, look, low=low, high=high, at=at, name=model)
            )
            starts = [phase.start for phase in source.phases(model)[1:]]
            heights = np.interp(np.log1p(starts), np.log1p(of.steps), kl).tolist() if starts else []
            style.phase_starts(panel, starts, heights, look)
        style.step_axis(panel, _all_steps(source))
        panel.set_ylim(bottom=0)
        panel.set_ylabel("expected KL (nats)")
        marks = [(phase.start, NUMERALS.get(phase.name, "?")) for phase in source.phases(largest)]
        if marks:
            style.phase_lines(panel, marks)
        style.legend(figure, lines, width=style.ONE_COLUMN)
        return figure

    return Figure(
        "expected_kl",
        "Expected KL over training, by model",
        caption,
        columns,
        gathered(columns, rows),
        draw,
    )


def over_seeds(
    source: StudyData,
    name: str,
    title: str,
    metrics: Sequence[tuple[str, str]],
) -> Figure:
    """Return means over all tokens and seeds, a panel for each of these fields of `Summary`."""
    columns = (
        MODEL,
        STEP,
        *(
            column
            for field, axis in metrics
            for column in (
                nats(field, f"{axis.removesuffix(' (nats)')}, mean over tokens and seeds"),
                *source.ends(field),
            )
        ),
    )
    found = {
        (model, field): source.over_seeds(model, field)
        for model in source.models
        for field, _ in metrics
    }
    rows = [
        (
            model,
            step,
            *(float(values[at, 0]) for field, _ in metrics for values in found[model, field]),
        )
        for model in source.models
        for at, step in enumerate(source.steps(model))
    ]
    caption = (
        f"{title}, by model: mean over all tokens and seeds. {source.band_words()} "
        f"{source.seeds()} {source.steps_words()} {source.settings} {source.undrawn}".rstrip()
    )

    def draw() -> Drawing:
        n = len(metrics)
        width = style.ONE_COLUMN if n == 1 else style.TWO_COLUMNS
        figure, axes = style.grid(1, n, width=width, height=2.4)
        lines: list[Line2D] = []
        for panel, (field, axis) in zip(axes[0], metrics, strict=True):
            lines = []
            for at, (model, look) in enumerate(
                zip(source.drawn, style.ordinal(len(source.drawn)), strict=True)
            ):
                mean, low, high = (values[:, 0] for values in found[model, field])
                steps = source.whole(model).steps
                lines.append(
                    style.curve(panel, steps, mean, look, low=low, high=high, at=at, name=model)
                )
            style.step_axis(panel, _all_steps(source))
            panel.set_ylabel(axis)
            if n > 1:
                style.letter(panel, axes[0].index(panel), axis.removesuffix(" (nats)"), of=n)
        style.legend(figure, lines, width=width)
        return figure

    return Figure(name, title, caption, columns, gathered(columns, rows), draw)


def ensemble(source: StudyData) -> Figure:
    """Show what the seeds come to together, a panel for each of `ENSEMBLE_METRICS`."""

    def found(model: str, place: int) -> Floats:
        if source.band == SIMULTANEOUS:
            return source.mean_together(model, ENSEMBLE_METRICS[place].name)
        first = len(ENDS) * place
        return source.whole(model).ensemble[:, first : first + len(ENDS), 0]

    metrics = [(metric.name, metric.description) for metric in ENSEMBLE_METRICS]
    columns, rows = _seeds_together(source, "seeds whose mean distribution it is", metrics, found)
    caption = (
        "The mean of the seeds' distributions over training, by model. (a) KL of a seed to that "
        "mean, mean over seeds: the generalised Jensen-Shannon divergence, at most the logarithm "
        "of the number of seeds. (b) Entropy of the mean. (c) Its cross-entropy. (d) By how much "
        f"that is less than the seeds' own, on average. {_bands_together(source)} "
        f"{source.seeds()} {source.steps_words()} {source.settings} {source.undrawn}".rstrip()
    )
    titles = [metric.title for metric in ENSEMBLE_METRICS]
    title = "The seeds' mean distribution over training"
    draw = partial(_draw_panels, source, titles, "nats", found, 2)
    return Figure("ensemble", title, caption, columns, gathered(columns, rows), draw)


def to_references(source: StudyData, references: Sequence[ReferenceMetric]) -> Figure:
    """Show the KL from the seeds to each reference of the study, a panel for each."""

    def found(model: str, place: int) -> Floats:
        if source.band == SIMULTANEOUS:
            return source.mean_together(model, references[place].mean)
        return source.whole(model).to_reference[references[place].name][..., 0]

    metrics = [(m.mean, f"{m.description}, mean over seeds") for m in references]
    columns, rows = _seeds_together(source, "seeds over which the mean is", metrics, found)
    caption = (
        "KL from the seeds to fixed distributions over training, by model: mean over seeds and all "
        "tokens. "
        + " ".join(
            f"({letter}) {metric.description.replace('`', '')}."
            for letter, metric in zip("abc", references, strict=False)
        )
        + f" {_bands_together(source)} {source.seeds()} "
        f"{source.steps_words()} {source.settings} {source.undrawn}".rstrip()
    )
    alone = len(references) == 1
    titles = [m.title if alone else m.title.removeprefix("KL to the ") for m in references]
    title = "KL to a reference over training"
    draw = partial(_draw_panels, source, titles, "KL (nats)", found, len(references))
    return Figure("references", title, caption, columns, gathered(columns, rows), draw)


def _bands_together(source: StudyData) -> str:
    simultaneous = "simultaneous 95 % bands over the steps"
    what = simultaneous if source.band == SIMULTANEOUS else "95 % intervals"
    return f"Bands: {what} ({source.interval}; none below three seeds)."


def _seeds_together(
    source: StudyData,
    seeds: str,
    metrics: Sequence[tuple[str, str]],
    found: Callable[[str, int], Floats],
) -> tuple[tuple[Column, ...], list[tuple[Any, ...]]]:
    """Return columns and rows of values with intervals; `metrics` are (name, description).

    `seeds` describes the number of seeds; `found` is as in `_draw_panels`.
    """
    ends = source.ends if source.band == SIMULTANEOUS else interval_ends
    columns = (
        MODEL,
        STEP,
        whole("n_seeds", "seeds", seeds),
        *(
            column
            for name, description in metrics
            for column in (nats(name, description), *ends(name))
        ),
    )
    rows = []
    for model in source.models:
        of = source.whole(model)
        values = [found(model, place) for place in range(len(metrics))]
        for at, step in enumerate(of.steps.tolist()):
            numbers = (value for each in values for value in each[at].tolist())
            rows.append((model, step, int(of.n_seeds[at]), *numbers))
    return columns, rows


def _draw_panels(
    source: StudyData,
    titles: Sequence[str],
    axis: str,
    found: Callable[[str, int], Floats],
    across: int,
) -> Drawing:
    """Draw a panel for each title; `found` returns (step, end) by model and place, nats."""
    down = -(-len(titles) // across)
    width = style.ONE_COLUMN if len(titles) == 1 else style.TWO_COLUMNS
    figure, axes = style.grid(down, across, width=width, height=2.2 * down)
    panels = [panel for row in axes for panel in row]
    lines: list[Line2D] = []
    for place, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        lines = []
        looks = style.ordinal(len(source.drawn))
        for at, (model, look) in enumerate(zip(source.drawn, looks, strict=True)):
            mean, low, high = found(model, place).T
            steps = source.whole(model).steps
            lines.append(
                style.curve(panel, steps, mean, look, low=low, high=high, at=at, name=model)
            )
        style.step_axis(panel, _all_steps(source))
        panel.set_ylabel(axis)
        style.letter(panel, place, title, of=len(panels))
    style.legend(figure, lines, width=width)
    return figure


def _all_steps(source: StudyData) -> list[int]:
    return sorted({step for model in source.models for step in source.steps(model)})


# -- the learning rate ---------------------------------------------------------------------------


def learning_rate(source: StudyData) -> Figure | Omitted:
    """Return the schedules of the models that have one."""
    known = {model: of for model in source.models if (of := source.learning_rate(model))}
    if not known:
        return Omitted(
            "learning_rate",
            "the study file gives none; set study.learning_rate there and run it again, or give "
            "--learning-rate FILE.csv (step,learning_rate[,model])",
        )
    columns = (MODEL, STEP, Column("learning_rate", "float", "1", "learning rate"))
    rows = [
        (model, step, rate)
        for model, of in known.items()
        for step, rate in zip(of.steps, of.rates, strict=True)
    ]

    def draw() -> Drawing:
        figure, axes = style.grid(1, 1, width=style.ONE_COLUMN, height=2.2)
        lines, panel = [], axes[0][0]
        shown = [(model, of) for model, of in known.items() if model in source.drawn]
        looks = dict(zip(source.drawn, style.ordinal(len(source.drawn)), strict=True))
        for at, (model, of) in enumerate(shown):
            steps, rates = np.array(of.steps), np.array(of.rates)
            lines.append(style.curve(panel, steps, rates, looks[model], at=at, name=model))
        style.step_axis(panel, sorted({step for of in known.values() for step in of.steps}))
        panel.set_ylabel("learning rate")
        panel.set_ylim(bottom=0)
        if max(max(of.rates) for of in known.values()) < 0.1:
            panel.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        style.legend(figure, lines, width=style.ONE_COLUMN)
        return figure

    caption = "Learning rate over training, as recorded in the study. "
    caption += f"{source.settings} {source.undrawn}".rstrip()
    return Figure(
        "learning_rate", "Learning-rate schedule", caption, columns, gathered(columns, rows), draw
    )
