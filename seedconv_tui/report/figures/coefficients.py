"""The figure of regression coefficients over training, for frequency and for the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.report import style
from seedconv_tui.report.parts import Figure, Omitted
from seedconv_tui.report.result_cache import ResultCache, digest
from seedconv_tui.report.study_data import StudyData, few_words, spread
from seedconv_tui.tables.regression_rows import REGRESSION_COLUMNS, regression_rows
from seedconv_tui.text import count
from store import UnsupportedError
from store.analysis import COUNT, FEW_CLUSTERS, MODEL, common_steps, regressions

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_CATEGORY = "pos"
_STEPS = 40  # at most, a fit each


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
    made_of = (
        list(models),
        study.category(models[0], _CATEGORY).digest,
        digest(study.vocabulary.count.tobytes(), study.corpus.token_id.tobytes()),
        [[step, digest(*(study.token_kl(m, step).tobytes() for m in models))] for step in steps],
    )
    rows = kept.get("regression", *made_of)
    if rows is None:
        try:
            found = regressions(study, models=models, category=_CATEGORY, steps=steps)
        except UnsupportedError as error:
            return Omitted("regression", str(error))
        rows = list(regression_rows(found))
        kept.put(rows, "regression", *made_of)
    return Figure(
        "regression",
        "Regression coefficients over training",
        _caption(source, rows, few_words(steps, known)),
        REGRESSION_COLUMNS,
        {of.name: [row[of.name] for row in rows] for of in REGRESSION_COLUMNS},
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
    if len(models) > 1:
        parts.append(f"(a) Per tenfold count. (b) Models, against {models[0]}.")
    else:
        parts.append("The coefficient is per tenfold count.")
    parts.append(
        f"{count(rows[0]['n_tokens'])} tokens of each model; bands: 95 % intervals, clustered by "
        f"{count(clusters)} documents or runs of tokens"
        + (" (few: they may be too narrow)" if clusters < FEW_CLUSTERS else "")
        + f". {steps} {source.seeds()} {source.settings}"
    )
    return " ".join([*parts, source.undrawn]).rstrip()


def _draw(rows: Sequence[dict[str, Any]], models: Sequence[str]) -> Drawing:
    n = 2 if len(models) > 1 else 1
    width = style.TWO_COLUMNS if n == 2 else style.ONE_COLUMN
    figure, axes = style.grid(1, n, width=width, height=2.4)
    steps = sorted({int(row["step"]) for row in rows})
    looks = style.ordinal(len(models))
    panels = [(COUNT, "", style.nominal(1)[0], 0)]
    panels += [(MODEL, model, looks[at], at) for at, model in enumerate(models) if at]
    lines = []
    for factor, level, look, at in panels:
        panel = axes[0][0 if factor == COUNT else 1]
        of = [row for row in rows if row["factor"] == factor and row["level"] == level]
        if not of:
            continue
        x = np.array([row["step"] for row in of])
        value, low, high = (
            np.array([row[name] for row in of], np.float64)
            for name in ("coefficient", "low", "high")
        )
        line = style.curve(panel, x, value, look, low=low, high=high, at=at, name=level)
        lines += [line] if level else []
    for index, panel in enumerate(axes[0]):
        panel.axhline(0, color="0.3", linewidth=0.6)
        style.step_axis(panel, steps)
        style.letter(panel, index, "frequency" if index == 0 else "model", of=n)
    axes[0][0].set_ylabel("coefficient (nats)")
    style.legend(figure, lines, width=width)
    return figure
