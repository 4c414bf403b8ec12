"""Models against each other over training: duped and deduped, sizes, by level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seedconv_tui.report import style
from seedconv_tui.report.parts import (
    LINES,
    Figure,
    Omitted,
    file_name,
    gathered,
    nats,
    text,
    whole,
)
from seedconv_tui.report.study_data import SAME, StudyData, few_words, model_pairs, spread
from seedconv_tui.tables.band_names import SIMULTANEOUS
from seedconv_tui.tables.long_tables import Column
from seedconv_tui.text import count, quoted
from store.analysis import simultaneous_differences
from store.schema import ALL, CATEGORIES, Floats
from store.statistics import Estimate, adjusted

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from numpy.typing import NDArray

    from store.analysis import Difference

_STEPS = 40  # at most; each reads the KL of all tokens of two models
_BANDS = ("95 % intervals of each step by itself", "simultaneous 95 % bands over the steps")
_COLUMNS = (
    text("from_model", "model that is subtracted"),
    text("to_model", "model that it is subtracted from"),
    whole("step", "training steps", "training step"),
    text("category", "what parts the tokens; `all`: nothing does"),
    text("label", "the category's level"),
    whole("n", "tokens", "tokens of the level"),
    whole("seeds_from", "seeds", "seeds whose pairs were taken, of the one"),
    whole("seeds_to", "seeds", "seeds whose pairs were taken, of the other"),
    nats("expected_kl_from", "KL of the one, mean over the level's tokens and pairs of seeds"),
    nats("expected_kl_to", "KL of the other, likewise"),
    nats("difference", "the latter minus the former"),
    nats("low", "lower end of its 95 % interval; missing below three seeds"),
    nats("high", "upper end of its 95 % interval"),
    Column("p", "float", "1", "of no difference"),
    Column("p_adjusted", "float", "1", "p, adjusted over all rows of this file by Holm"),
)


def _columns(source: StudyData) -> tuple[Column, ...]:
    return (*_COLUMNS, *source.ends("difference")) if source.band == SIMULTANEOUS else _COLUMNS


class _Line(NamedTuple):
    """A difference over training, nats, (step,) each."""

    name: str
    steps: NDArray[np.int64]
    value: Floats
    low: Floats
    high: Floats


class _Found(NamedTuple):
    """Differences of two models, and the band that is drawn around them: (step, level)."""

    at: Mapping[int, Difference]  # by step
    band: Estimate


def figures(source: StudyData) -> Iterator[Figure | Omitted]:
    """Yield differences of models, and of the smallest and the largest by level.

    Raise StoreError, DamagedError.
    """
    pairs = model_pairs(source.models)
    if not pairs:
        yield Omitted("kl_difference", "there is one model")
        return
    found = {pair: _differences(source, pair, ALL) for of in pairs.values() for pair in of}
    if not any(of.at for of in found.values()):
        yield Omitted("kl_difference", "no step is summarised of two models that are compared")
        return
    yield _models(source, pairs, found)
    ends = source.models[0], source.models[-1]
    for category in source.categories:
        if not any(category in source.study.own_categories(model) for model in ends):
            yield _levels(source, ends, category)


def _differences(source: StudyData, pair: tuple[str, str], category: str) -> _Found:
    """Return the second minus the first at the steps that both have, a few of many."""
    first, second = pair
    there = [
        {int(s) for s in of.steps} if (of := source.levels(model, category)) else set()
        for model in pair
    ]
    steps = spread(sorted(set.intersection(*there)), _STEPS)
    at = {step: source.study.difference((second, step), (first, step), category)
          for step in steps}  # fmt: skip
    if at and source.band == SIMULTANEOUS:
        return _Found(at, simultaneous_differences(tuple(at.values())))
    value, low, high = (
        np.array([getattr(of, field) for of in at.values()]) for field in ("value", "low", "high")
    )
    return _Found(at, Estimate(value, low, high))


def _models(
    source: StudyData,
    pairs: Mapping[str, Sequence[tuple[str, str]]],
    found: Mapping[tuple[str, str], _Found],
) -> Figure:
    columns = _columns(source)
    rows = _with_adjusted(
        (row for pair, of in found.items() for row in _rows(pair, of, [0])), len(columns)
    )
    drawn = {
        title: few
        for title, of in pairs.items()
        if (few := [pair for pair in of if found[pair].at][:LINES])
    }
    left = sum(bool(of.at) for of in found.values()) - sum(map(len, drawn.values()))
    words = [
        f"({chr(ord('a') + at)}) {title}: " * (len(drawn) > 1)
        + "; ".join(f"{second} minus {first}" for first, second in of)
        for at, (title, of) in enumerate(drawn.items())
    ]
    caption = (
        "Difference of expected KL between models at the same steps, as `seedconv compare "
        f"--models` has it: {'. '.join(words)}. Below zero, the seeds of the former are closer. "
        f"Bands: {_BANDS[source.band == SIMULTANEOUS]} (jackknife over the seeds of each model; "
        "documents are the same and paired; none below three seeds), cut where they leave "
        "the panel; p-values in the data are adjusted for all of them (Holm). "
        + (f"{count(left)} more in the data alone. " if left else "")
        + f"{_steps_words(source, found)} {source.seeds()} {source.settings}"
    )

    def draw() -> Drawing:
        panels = {
            title: [
                _line(f"{second} - {first}" if title == SAME else second, found[first, second], 0)
                for first, second in of
            ]
            for title, of in drawn.items()
        }
        return _draw(panels)

    return Figure(
        "kl_difference", "Models compared over training", caption, columns,
        gathered(columns, rows), draw,
    )  # fmt: skip


def _levels(source: StudyData, pair: tuple[str, str], category: str) -> Figure | Omitted:
    """Return the largest model minus the smallest, by the levels with most tokens, or chosen."""
    found = _differences(source, pair, category)
    name = file_name("kl_difference", "by", category)
    if not found.at:
        return Omitted(name, f"no step is summarised by {category} of both {' and '.join(pair)}")
    of = next(iter(found.at.values()))
    there = [n for n, label in enumerate(of.labels) if of.counts[n] and source.is_chosen(label)]
    shown = sorted(sorted(there, key=lambda n: -of.counts[n])[:LINES])
    columns = _columns(source)
    rows = _with_adjusted(_rows(pair, found, there), len(columns))
    known = CATEGORIES.get(category)
    sizes = ", ".join(f"{quoted(of.labels[n])} {count(of.counts[n])}" for n in shown)
    left = len(there) - len(shown)
    caption = (
        f"Difference of expected KL by {known.title if known else category}, {pair[1]} minus "
        f"{pair[0]}, at the same steps. Below zero, the seeds of {pair[1]} are closer. Bands: "
        f"{_BANDS[source.band == SIMULTANEOUS]}, as in the figure of all tokens. Tokens by level: "
        f"{sizes}{f'; {left} more in the data alone' if left else ''}. "
        f"{_steps_words(source, {pair: found})} {source.seeds(pair)} {source.settings}"
    )
    return Figure(
        name,
        f"{known.title if known else category}: the largest model minus the smallest",
        caption,
        columns,
        gathered(columns, rows),
        lambda: _draw({"": [_line(quoted(of.labels[n]), found, n) for n in shown]}),
    )


def _rows(
    pair: tuple[str, str], found: _Found, levels: Sequence[int]
) -> Iterator[tuple[object, ...]]:
    for place, (step, of) in enumerate(found.at.items()):
        ends = found.band.low[place], found.band.high[place]
        for n in levels:
            numbers = (of.kl_b, of.kl_a, of.value, of.low, of.high, of.p, *ends)
            yield (
                *pair, step, of.category, of.labels[n], int(of.counts[n]), of.n_seeds[1],
                of.n_seeds[0], *(float(values[n]) for values in numbers),
            )  # fmt: skip


def _with_adjusted(rows: Iterable[tuple[object, ...]], width: int) -> list[tuple[object, ...]]:
    """Return `width` cells of each row: with p, behind p, adjusted over all; then the band."""
    every = list(rows)
    p = adjusted(np.array([row[-3] for row in every], np.float64))
    return [
        (*row[:-2], value, *row[-2:])[:width] for row, value in zip(every, p.tolist(), strict=True)
    ]


def _line(name: str, found: _Found, level: int) -> _Line:
    value, low, high = (end[:, level] for end in found.band)
    return _Line(name, np.array(list(found.at), np.int64), value, low, high)


def _steps_words(source: StudyData, found: Mapping[tuple[str, str], _Found]) -> str:
    taken = sorted({step for of in found.values() for step in of.at})
    there = {step for pair in found for step in set.intersection(
        *(set(source.steps(model)) for model in pair))}  # fmt: skip
    return few_words(taken, sorted(there))


def _draw(panels: Mapping[str, Sequence[_Line]]) -> Drawing:
    n = len(panels)
    width = style.ONE_COLUMN if n == 1 else style.TWO_COLUMNS
    figure, axes = style.grid(1, n, width=width, height=2.6)
    for index, (panel, (title, lines)) in enumerate(zip(axes[0], panels.items(), strict=True)):
        drawn = [
            style.curve(panel, of.steps, of.value, look, low=of.low, high=of.high, at=at,
                        name=of.name)
            for at, (of, look) in enumerate(zip(lines, style.nominal(len(lines)), strict=True))
        ]  # fmt: skip
        panel.axhline(0, color="0.3", linewidth=0.6)
        style.step_axis(panel, sorted({int(step) for of in lines for step in of.steps}))
        panel.set_ylabel("difference of KL (nats)" if index == 0 else "")
        style.difference_axis(panel, [of.value for of in lines])
        if n > 1:
            style.letter(panel, index, title, of=n)
        style.legend(panel, drawn, width=width / n)
    return figure
