"""Figures by the levels of categories: expected KL and cross-entropy, of target and context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seedconv_tui.report import bands, style
from seedconv_tui.report.parts import (
    LINES,
    MODEL,
    STEP,
    Figure,
    Omitted,
    file_name,
    gathered,
    nats,
    text,
    whole,
)
from seedconv_tui.report.study_data import StudyData
from seedconv_tui.tables.level_results import Levels, base
from seedconv_tui.text import count, quoted
from store.schema import CATEGORIES
from store.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing
    from matplotlib.lines import Line2D

_OTHERS = "marks and others"
_POS = {  # universal parts of speech, nouns and verbs first
    "nouns and verbs": ("NOUN", "PROPN", "VERB", "AUX"),
    "modifiers": ("ADJ", "ADV", "NUM", "INTJ"),
    "function words": ("ADP", "CCONJ", "DET", "PART", "PRON", "SCONJ"),
    _OTHERS: ("PUNCT", "SYM", "SPACE", "X"),
}
_NAMES = {"kl": "expected_kl", "cross_entropy": "cross_entropy"}  # columns


@dataclass(frozen=True)
class _Panel:
    """The contents of one pair of axes."""

    title: str
    of: Levels
    drawn: Estimate  # (step, level) each
    levels: tuple[int, ...]
    looks: tuple[style.Look, ...]


def figures(source: StudyData) -> Iterator[Figure | Omitted]:
    """Yield expected KL and cross-entropy by each of the chosen categories."""
    for category in source.categories:
        variants = source.variants(category)
        if not variants:
            why = (
                f"nothing is summarised by {category} yet (`seedconv run` does that), or it has no "
                "tokens"
            )
            yield Omitted(file_name("kl", "by", category), why)
            continue
        models = [m for m in source.models if any(source.levels(m, v) for v in variants)]
        ends = tuple(dict.fromkeys((models[-1], models[0])))
        for metric in ("kl", "cross_entropy"):
            if category == "pos" and source.levels_chosen is None:
                for model in ends:
                    size = () if model == ends[0] else ("smallest",)
                    yield _by_pos(source, model, variants, metric, size)
            else:
                yield from _by_level(source, category, ends[::-1], variants, metric)
    if not source.categories:
        chosen = "none but `all` was chosen" if source.categories_chosen else "the study has none"
        why = f"there is no category: {chosen}; `[categories] include` in the study file names them"
        yield Omitted("kl_by_level", why)


def _by_level(
    source: StudyData, category: str, models: Sequence[str], variants: Sequence[str], metric: str
) -> Iterator[Figure | Omitted]:
    """Draw models below each other, target and token before side by side.

    Levels that were chosen are all drawn: as many to a figure as lines go into a panel.
    """
    found = [(m, v, of) for m in models for v in variants if (of := source.levels(m, v))]
    known = CATEGORIES.get(category)
    scale, title = (known.is_scale, known.title) if known else (False, category)
    each = _looks(source, [of for _, _, of in found], ordered=scale)
    if not each:
        yield Omitted(file_name(metric, "by", category), "the chosen levels have no tokens")
    for part, looks in enumerate(each, 1):
        rows = _rows(source, models, variants, found, metric, looks)
        number = (str(part),) if part > 1 else ()
        which = f"{title}, part {part} of {len(each)}" if len(each) > 1 else title
        yield _figure(source, file_name(metric, *number, "by", category), which, rows, metric)


def _rows(
    source: StudyData,
    models: Sequence[str],
    variants: Sequence[str],
    found: Sequence[tuple[str, str, Levels]],
    metric: str,
    looks: Mapping[str, style.Look],
) -> list[tuple[str, list[_Panel]]]:
    """Return each model with its panels, one for each of the variants that it has."""
    rows = []
    for model in models:
        panels = [
            _panel(
                _named(source, model, variant, variants),
                of,
                _drawn(source, model, of, metric),
                looks,
            )
            for of_model, variant, of in found
            if of_model == model
        ]
        rows.append((model, panels))
    return rows


def _by_pos(
    source: StudyData, model: str, variants: Sequence[str], metric: str, size: tuple[str, ...]
) -> Figure:
    """One model; groups of parts of speech side by side, target and context below each other."""
    found = [of for variant in variants if (of := source.levels(model, variant))]
    there = _with_tokens(found)
    looks = pos_looks(there)
    rows = []
    for of in found:
        drawn = _drawn(source, model, of, metric)
        rows.append((model, [_panel(group, of, drawn, look) for group, look in looks.items()]))
    name = file_name(metric, *size, "by", "pos")
    return _figure(source, name, "part of speech", rows, metric, grouped=True)


def pos_looks(labels: Iterable[str]) -> dict[str, dict[str, style.Look]]:
    """Return these parts of speech by group, a panel each, and what they look like."""
    there = list(labels)
    named = {label for names in _POS.values() for label in names}
    groups = {group: [label for label in names if label in there] for group, names in _POS.items()}
    groups[_OTHERS] += [label for label in there if label not in named]
    return {
        group: dict(zip(of[:LINES], style.nominal(len(of[:LINES])), strict=True))
        for group, of in groups.items()
        if of
    }


def _looks(
    source: StudyData, found: Sequence[Levels], *, ordered: bool
) -> list[dict[str, style.Look]]:
    """Return the levels of each figure, in order, with the same look in all of its panels.

    They are those that were chosen, or else, in one figure, those with most tokens in these.
    """
    there = _with_tokens(found)
    if source.levels_chosen is None:
        most = sorted(there, key=lambda label: -there[label])[:LINES]
        shown = [label for label in there if label in most]
    else:
        shown = [label for label in there if source.is_chosen(label)]
    scale = dict(zip(there, style.ordinal(len(there)), strict=True))
    parts = [shown[at : at + LINES] for at in range(0, len(shown), LINES)]
    return [
        {label: scale[label] for label in part}
        if ordered
        else dict(zip(part, style.nominal(len(part)), strict=True))
        for part in parts
    ]


def _with_tokens(found: Sequence[Levels]) -> dict[str, int]:
    """Return labels that have tokens, in their order, and how many in all of these."""
    total: dict[str, int] = {}
    for of in found:
        for label, n in zip(of.labels, of.counts.tolist(), strict=True):
            total[label] = total.get(label, 0) + n
    return {label: n for label, n in total.items() if n}


def _drawn(source: StudyData, model: str, of: Levels, metric: str) -> Estimate:
    if metric == "kl":
        return source.expected_kl(model, of.category)
    return source.over_seeds(model, metric, of.category)


def _panel(title: str, of: Levels, drawn: Estimate, looks: Mapping[str, style.Look]) -> _Panel:
    levels = [n for n, label in enumerate(of.labels) if label in looks and of.counts[n]]
    levels.sort(key=lambda n: list(looks).index(of.labels[n]))
    return _Panel(title, of, drawn, tuple(levels), tuple(looks[of.labels[n]] for n in levels))


def _which(variant: str) -> str:
    return "target" if variant == base(variant) else "token before"


def _named(source: StudyData, model: str, variant: str, variants: Sequence[str]) -> str:
    words = [model] if len(source.models) > 1 else []
    if len(variants) > 1:
        words.append(_which(variant))
    return ", ".join(words) or "all tokens of the level"


def _figure(
    source: StudyData,
    name: str,
    title: str,
    rows: Sequence[tuple[str, Sequence[_Panel]]],
    metric: str,
    *,
    grouped: bool = False,
) -> Figure:
    """Return the figure of these rows of panels; `grouped`: each column has its own levels."""
    what = "Expected KL" if metric == "kl" else "Cross-entropy"
    models = tuple(dict.fromkeys(model for model, _ in rows))
    panels = [(model, panel) for model, of in rows for panel in of]
    over = "ordered pairs of seeds" if metric == "kl" else "seeds"
    columns = (
        MODEL,
        STEP,
        text("category", "what parts the tokens"),
        text("label", "the category's level"),
        whole("n", "tokens", "tokens of the level"),
        nats(_NAMES[metric], f"mean over the level's tokens and {over}"),
        *source.ends(metric),
    )
    data = [
        (
            model,
            step,
            panel.of.category,
            panel.of.labels[n],
            int(panel.of.counts[n]),
            *(float(values[at, n]) for values in panel.drawn),
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
        lambda: _draw([of for _, of in rows], metric, grouped=grouped),
    )


def _caption(
    source: StudyData,
    what: str,
    title: str,
    models: Sequence[str],
    panels: Sequence[tuple[str, _Panel]],
    metric: str,
) -> str:
    over, drawn = "seeds", source.band_words(paper=bands.OVER_SEEDS_OF_PAIRS)
    if metric == "kl":
        over = "ordered pairs of seeds"
        intervals = f"Bands: 95 % intervals ({source.interval}), cut where they leave the panel."
        together = f"Bands: simultaneous 95 % bands over the steps ({source.interval}), of each "
        together += "level by itself, cut where they leave the panel."
        drawn = source.band_words(intervals, bands.OVER_PAIRS, together)
    parts = [f"{what} by {title} over training ({', '.join(models)}): mean over {over} and the "
             f"tokens of a level. {drawn} "]  # fmt: skip
    told = set()
    for model, panel in panels:
        of = panel.of
        own = model if of.step_of_levels is not None and len(models) > 1 else ""
        if (of.category, own) not in told:
            told.add((of.category, own))
            shown = list(dict.fromkeys(n for _, p in panels if p.of is of for n in p.levels))
            left = sum(bool(n) for n in of.counts) - len(shown)
            sizes = ", ".join(f"{quoted(of.labels[n])} {count(of.counts[n])}" for n in shown)
            which = f" of the token before ({of.category})" if of.category != base(of.category) \
                else ""  # fmt: skip
            which += f" for {own}" if own else ""
            fewer = "with fewer tokens " if source.levels_chosen is None else ""
            more = f"; {left} {fewer}are left out" if left else ""
            parts.append(f"Tokens by level{which}: {sizes}{more} ({of.description}). ")
    return "".join(parts) + f"{source.seeds(models)} {source.steps_words(models)} {source.settings}"


def _draw(rows: Sequence[Sequence[_Panel]], metric: str, *, grouped: bool) -> Drawing:
    n_columns = max(map(len, rows))
    width = style.ONE_COLUMN if n_columns == 1 else style.TWO_COLUMNS
    height = (1.95 if grouped else 1.75) * len(rows) + (0.5 if grouped else 0.6)
    figure, axes = style.grid(len(rows), n_columns, width=width, height=height, sharey="row")
    lines: list[dict[str, Line2D]] = [{} for _ in range(n_columns)]  # by column, by level
    places = iter(range(n_columns * len(rows)))
    for row, panels in zip(axes, rows, strict=True):
        for panel in row[len(panels) :]:
            panel.set_visible(False)
        for panel, shown, known in zip(row, panels, lines, strict=False):
            known |= _lines(panel, shown)
            style.step_axis(panel, shown.of.steps.tolist())
            if row is not axes[-1]:
                panel.set_xlabel("")
            title = style.label(shown.title, 40)
            style.letter(panel, next(places), title, of=sum(map(len, rows)))
        which = f"\n{_which(panels[0].of.category)}" if grouped and len(rows) > 1 else ""
        row[0].set_ylabel(
            ("expected KL" if metric == "kl" else "cross-entropy") + " (nats)" + which
        )
        if metric == "kl":  # once for the row, which shares the axis
            heights = [np.nanmax(of.drawn.value[:, of.levels], initial=0.0) for of in panels]
            style.kl_axis(row[0], float(max(heights)))
    if grouped:
        for panel, known in zip(axes[-1], lines, strict=True):
            style.legend(panel, list(known.values()), width=width / n_columns)
    else:
        every = {label: line for known in lines for label, line in known.items()}
        order = [label for label in rows[0][0].of.labels if label in every]
        order += [label for label in every if label not in order]
        style.legend(figure, [every[label] for label in order], width=width)
    return figure


def _lines(axes: Axes, panel: _Panel) -> dict[str, Line2D]:
    of, lines = panel.of, {}
    for at, (n, look) in enumerate(zip(panel.levels, panel.looks, strict=True)):
        value, low, high = (values[:, n] for values in panel.drawn)
        lines[of.labels[n]] = style.curve(
            axes, of.steps, value, look, low=low, high=high, at=at, name=quoted(of.labels[n])
        )
    return lines
