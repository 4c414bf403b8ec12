"""The figure of regression coefficients over training: frequency, models and parts of speech."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.report import style
from seedconv_tui.report.figures.by_level import pos_looks
from seedconv_tui.report.parts import Figure, Omitted, nats
from seedconv_tui.report.result_cache import ResultCache, digest
from seedconv_tui.report.study_data import StudyData, few_words, spread
from seedconv_tui.tables.band_names import SIMULTANEOUS
from seedconv_tui.tables.regression_rows import REGRESSION_COLUMNS, regression_rows
from seedconv_tui.text import count, finite
from store import UnsupportedError
from store.analysis import (
    COUNT,
    FEW_CLUSTERS,
    MODEL,
    common_steps,
    regressions,
    simultaneous_coefficients,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_CATEGORY = "pos"
_STEPS = 40  # at most, a fit each
_ACROSS = 3  # panels side by side
_LOW, _HIGH = "coefficient_band_low", "coefficient_band_high"  # as other figures name theirs
_BAND = (
    nats(_LOW, "lower end of its simultaneous 95 % band over the steps; missing as the interval"),
    nats(_HIGH, "upper end of its simultaneous 95 % band"),
)


@dataclass(frozen=True)
class _Panel:
    """The contents of one pair of axes."""

    factor: str
    title: str
    looks: Mapping[str, style.Look]  # by level


def figures(source: StudyData, kept: ResultCache) -> Iterator[Figure | Omitted]:
    """Yield the one of this family. Raise StoreError, DamagedError."""
    yield figure(source, kept)


def figure(source: StudyData, kept: ResultCache) -> Figure | Omitted:
    """Return coefficients at steps that all models have. Raise StoreError, DamagedError."""
    study, models = source.study, source.models
    if any(_CATEGORY not in study.categories(model) for model in models):
        why = "the study has no category pos; `[categories] include` in its study file names it"
        return Omitted("regression", why)
    known = common_steps(study, models)
    if not known:
        return Omitted("regression", f"no step at which all of {', '.join(models)} are summarised")
    steps = spread(known, _STEPS)
    together = source.band == SIMULTANEOUS
    columns = (*REGRESSION_COLUMNS, *_BAND) if together else REGRESSION_COLUMNS
    made_of = (
        list(models),
        study.category(models[0], _CATEGORY).digest,
        digest(study.vocabulary.count.tobytes(), study.corpus.token_id.tobytes()),
        [of.name for of in columns],
        [[step, digest(*(study.token_kl(m, step).tobytes() for m in models))] for step in steps],
    )
    rows = kept.get("regression", *made_of)
    if rows is None:
        try:
            found = regressions(study, models=models, category=_CATEGORY, steps=steps)
        except UnsupportedError as error:
            return Omitted("regression", str(error))
        rows = list(regression_rows(found))
        if together:
            band = simultaneous_coefficients(found)
            for row, low, high in zip(rows, band.low.ravel(), band.high.ravel(), strict=True):
                row |= {_LOW: finite(float(low)), _HIGH: finite(float(high))}
        kept.put(rows, "regression", *made_of)
    return Figure(
        "regression",
        "Regression coefficients over training",
        _caption(source, rows, few_words(steps, known)),
        columns,
        {of.name: [row[of.name] for row in rows] for of in columns},
        lambda: _draw(rows, source.drawn),
    )


def _caption(source: StudyData, rows: Sequence[dict[str, Any]], steps: str) -> str:
    models, clusters = source.models, rows[0]["n_clusters"]
    pos = next((row["reference"] for row in rows if row["factor"] == _CATEGORY), "")
    parts = [
        "What convergence (minus KL, mean over ordered pairs of seeds) of a token goes with: least "
        "squares at each step, on log10(1 + count) of the target, its part of speech"
        + (f" (against {pos})" if pos else "")
        + (" and the model." if len(models) > 1 else ".")
    ]
    parts.append("(a) Per tenfold count.")
    if len(models) > 1:
        parts.append(f"(b) Models, against {models[0]}.")
    if groups := [panel for panel in _panels(rows, source.drawn) if panel.factor == _CATEGORY]:
        first = "bc"[len(models) > 1]
        letters = first if len(groups) == 1 else f"{first} to {chr(ord(first) + len(groups) - 1)}"
        parts.append(f"({letters}) Parts of speech, against {pos}.")
    parts.append(
        f"{count(rows[0]['n_tokens'])} tokens of each model; bands: "
        + ("simultaneous 95 % bands over the steps" if _LOW in rows[0] else "95 % intervals")
        + ", clustered by "
        f"{count(clusters)} documents or runs of tokens"
        + (" (few: they may be too narrow)" if clusters < FEW_CLUSTERS else "")
        + "."
        + " The band of the paper's regressions is not known, so these are drawn." * source.paper
        + f" {steps} {source.seeds()} {source.settings}"
    )
    return " ".join([*parts, source.undrawn]).rstrip()


def _panels(rows: Sequence[dict[str, Any]], models: Sequence[str]) -> list[_Panel]:
    """Return what each pair of axes shows: frequency, models, parts of speech by group."""
    looks = style.ordinal(len(models))
    found = [_Panel(COUNT, "frequency", {"": style.nominal(1)[0]})]
    if len(models) > 1:
        of_models = dict(zip(models[1:], looks[1:], strict=True))
        found.append(_Panel(MODEL, "model", of_models))
    levels = dict.fromkeys(row["level"] for row in rows if row["factor"] == _CATEGORY)
    for group, of in pos_looks(levels).items():
        found.append(_Panel(_CATEGORY, group, of))
    return found


def _draw(rows: Sequence[dict[str, Any]], models: Sequence[str]) -> Drawing:
    panels = _panels(rows, models)
    columns = min(len(panels), _ACROSS)
    n_rows = -(-len(panels) // columns)
    width = style.TWO_COLUMNS if columns > 1 else style.ONE_COLUMN
    figure, axes = style.grid(n_rows, columns, width=width, height=2.4 * n_rows)
    steps = sorted({int(row["step"]) for row in rows})
    ends = (_LOW, _HIGH) if _LOW in rows[0] else ("low", "high")
    places = [place for row in axes for place in row]
    for place in places[len(panels) :]:
        place.set_visible(False)
    for index, (place, panel) in enumerate(zip(places, panels, strict=False)):
        lines = []
        for at, (level, look) in enumerate(panel.looks.items()):
            of = [row for row in rows if row["factor"] == panel.factor and row["level"] == level]
            x = np.array([row["step"] for row in of], np.int64)
            value, low, high = (
                np.array([row[name] for row in of], np.float64) for name in ("coefficient", *ends)
            )
            line = style.curve(place, x, value, look, low=low, high=high, at=at, name=level)
            lines += [line] if level else []
        place.axhline(0, color="0.3", linewidth=0.6)
        style.step_axis(place, steps)
        style.letter(place, index, panel.title, of=len(panels))
        place.set_ylabel("coefficient (nats)" if index % columns == 0 else "")
        style.legend(place, lines, width=width / columns)
    return figure
