"""Figures by the levels of categories: expected KL and cross-entropy, of target and context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.level_queries import Levels, base
from seedconv_tui.report import style
from seedconv_tui.report.parts import (
    MODEL,
    STEP,
    Figure,
    Left,
    file_name,
    gathered,
    nats,
    text,
    whole,
)
from seedconv_tui.report.source import Source
from seedconv_tui.text import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing
    from matplotlib.lines import Line2D

Floats = NDArray[np.float64]

_MOST = 8  # levels in a panel
_POS = {  # universal parts of speech, nouns and verbs first
    "nouns and verbs": ("NOUN", "PROPN", "VERB", "AUX"),
    "modifiers": ("ADJ", "ADV", "NUM", "INTJ"),
    "function words": ("ADP", "CCONJ", "DET", "PART", "PRON", "SCONJ"),
    "marks and others": ("PUNCT", "SYM", "SPACE", "X"),
}
_ORDERED = ("frequency", "surprisal", "position")  # categories whose levels are a scale
_TITLES = {
    "frequency": "frequency",
    "pos": "part of speech",
    "surprisal": "surprisal at a late step",
    "word_class": "function and content words",
    "word_position": "place in the word",
}


@dataclass(frozen=True)
class _Panel:
    """What one pair of axes shows."""

    title: str
    of: Levels
    levels: tuple[int, ...]
    looks: tuple[style.Look, ...]


def figures(source: Source) -> Iterator[Figure | Left]:
    """Expected KL and cross-entropy by each of the chosen categories."""
    for category in source.categories:
        variants = source.variants(category)
        if not variants:
            yield Left(
                file_name("kl", category),
                f"nothing is summarised by {category} yet; `seedconv run`",
            )
            continue
        for metric in ("kl", "cross_entropy"):
            if category == "pos":
                for model in source.ends:
                    if source.levels(model, category):
                        yield _by_pos(source, model, variants, metric)
            else:
                yield _by_level(source, category, variants, metric)
    if not source.categories:
        why = "the study has no categories; `[categories] include` in the study file names them"
        yield Left("kl_by_level", why)


def _by_level(source: Source, category: str, variants: Sequence[str], metric: str) -> Figure:
    """The smallest and the largest model below each other, target and context side by side."""
    rows = []
    for model in source.ends:
        panels = []
        for variant in variants:
            of = source.levels(model, variant)
            if of is not None:
                panels.append(_panel(of, _named(source, model, variant, variants)))
        if panels:
            rows.append((model, panels))
    return _figure(
        source, file_name(_prefix(metric), category), _TITLES.get(category, category), rows, metric
    )


def _by_pos(source: Source, model: str, variants: Sequence[str], metric: str) -> Figure:
    """One model; groups of parts of speech side by side, target and context below each other."""
    rows = []
    for variant in variants:
        of, panels = source.levels(model, variant), []
        if of is None:
            continue
        others = [name for name in of.labels if name not in sum(_POS.values(), ())]
        for group, names in _POS.items():
            wanted = [*names, *(others if "X" in names else ())]
            found = [of.labels.index(name) for name in wanted if name in of.labels]
            levels = tuple(n for n in found if of.counts[n])
            looks = dict(zip(found, style.nominal(len(found)), strict=True))
            if levels:
                where = "" if len(variants) == 1 else f", {_which(variant)}"
                panels.append(_Panel(group + where, of, levels, tuple(looks[n] for n in levels)))
        if panels:
            rows.append((model, panels))
    size = () if model == source.models[-1] else ("smallest",)
    return _figure(source, file_name(_prefix(metric), "pos", *size), "part of speech", rows, metric)


def _panel(of: Levels, title: str) -> _Panel:
    """The levels that have most tokens, in the category's own order."""
    full = [n for n in range(len(of.labels)) if of.counts[n]]
    most = sorted(sorted(full, key=lambda n: -of.counts[n])[:_MOST])
    ordered = base(of.category) in _ORDERED
    shown = full if ordered else most
    looks = style.ordinal(len(shown)) if ordered else style.nominal(len(shown))
    kept = [n for n in shown if n in most]
    return _Panel(title, of, tuple(kept), tuple(looks[shown.index(n)] for n in kept))


def _prefix(metric: str) -> str:
    return "kl" if metric == "kl" else "cross_entropy"


def _which(variant: str) -> str:
    return "target" if variant == base(variant) else "token before"


def _named(source: Source, model: str, variant: str, variants: Sequence[str]) -> str:
    words = [model] if len(source.models) > 1 else []
    if len(variants) > 1:
        words.append(_which(variant))
    return ", ".join(words) or "all tokens of the level"


def _figure(
    source: Source,
    name: str,
    title: str,
    rows: Sequence[tuple[str, Sequence[_Panel]]],
    metric: str,
) -> Figure:
    what = "Expected KL" if metric == "kl" else "Cross-entropy"
    models = tuple(dict.fromkeys(model for model, _ in rows))
    panels = [panel for _, of in rows for panel in of]
    columns = (
        MODEL,
        STEP,
        text("category", "what parts the tokens"),
        text("label", "the category's level"),
        whole("n", "tokens", "tokens of the level"),
        nats("expected_kl", "KL, mean over the level's tokens and ordered pairs of seeds"),
        nats("kl_low", "lower end of its 95 % interval; missing below three seeds"),
        nats("kl_high", "upper end of its 95 % interval"),
        nats("cross_entropy", "surprisal, mean over the level's tokens and seeds"),
    )
    data = [
        (
            model,
            step,
            panel.of.category,
            panel.of.labels[n],
            int(panel.of.counts[n]),
            *(
                float(values[at, n])
                for values in (
                    panel.of.kl,
                    panel.of.kl_low,
                    panel.of.kl_high,
                    panel.of.cross_entropy,
                )
            ),
        )
        for model, of in rows
        for panel in of
        for n in panel.levels
        for at, step in enumerate(panel.of.steps.tolist())
    ]
    return Figure(
        name,
        f"{what} by {title}",
        _caption(source, what, title, models, panels, metric),
        columns,
        gathered(columns, data),
        lambda: _draw([of for _, of in rows], metric, grouped="pos" in panels[0].of.category),
    )


def _caption(
    source: Source,
    what: str,
    title: str,
    models: Sequence[str],
    panels: Sequence[_Panel],
    metric: str,
) -> str:
    over = "ordered pairs of seeds" if metric == "kl" else "seeds"
    band = "Bands: 95 % intervals (seed jackknife and document cluster). " if metric == "kl" else ""
    band = band or "No interval is drawn. "
    parts = [f"{what} by {title} over training ({', '.join(models)}): mean over {over} and the "
             f"tokens of a level. {band}"]  # fmt: skip
    told = set()
    for panel in panels:
        of = panel.of
        if of.category not in told:
            told.add(of.category)
            shown = [n for each in panels if each.of is of for n in each.levels]
            left = sum(bool(n) for n in of.counts) - len(shown)
            sizes = ", ".join(f"{of.labels[n]} {count(of.counts[n])}" for n in shown)
            which = f" of the token before ({of.category})" if of.category != base(of.category) \
                else ""  # fmt: skip
            more = f"; {left} with fewer tokens are left out" if left else ""
            parts.append(f"Tokens{which}: {sizes}{more} ({of.description}). ")
    return "".join(parts) + f"{source.seeds(models)} {source.steps_words(models)} {source.settings}"


def _draw(rows: Sequence[Sequence[_Panel]], metric: str, *, grouped: bool) -> Drawing:
    n_columns = max(map(len, rows))
    width = style.ONE_COLUMN if n_columns == 1 else style.TWO_COLUMNS
    height = (1.95 if grouped else 1.75) * len(rows) + (0.5 if grouped else 0.6)
    figure, axes = style.grid(len(rows), n_columns, width=width, height=height, sharey="row")
    lines: dict[str, Line2D] = {}
    index = 0
    for row, panels in zip(axes, rows, strict=True):
        for column, panel in enumerate(row):
            if column >= len(panels):
                panel.set_visible(False)
                continue
            shown = panels[column]
            drawn = _lines(panel, shown, metric)
            lines |= {str(line.get_label()): line for line in drawn}
            style.step_axis(panel, shown.of.steps.tolist())
            if row is not axes[-1]:
                panel.set_xlabel("")
            if column == 0:
                panel.set_ylabel("expected KL (nats)" if metric == "kl" else "cross-entropy (nats)")
            style.letter(panel, index, style.label(shown.title, 40))
            index += 1
            if grouped and row is axes[-1]:
                style.legend(panel, drawn, width=width / n_columns)
    if not grouped:
        style.legend(figure, list(lines.values()), width=width)
    return figure


def _lines(axes: Axes, panel: _Panel, metric: str) -> list[Line2D]:
    of, drawn = panel.of, []
    for at, (n, look) in enumerate(zip(panel.levels, panel.looks, strict=True)):
        values = of.kl if metric == "kl" else of.cross_entropy
        low, high = (of.kl_low[:, n], of.kl_high[:, n]) if metric == "kl" else (None, None)
        drawn.append(
            style.curve(
                axes, of.steps, values[:, n], look, low=low, high=high, at=at, name=of.labels[n]
            )
        )
    if metric == "kl":
        axes.set_ylim(bottom=0)
    return drawn
