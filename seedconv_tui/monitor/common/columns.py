"""The data behind the views, as the columns of a table: column -> list or array, (row,) each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store.schema import Floats
from store.schema.snapshot import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from seedconv_tui.monitor.categories.level_queries import Ranked
    from seedconv_tui.monitor.categories.levels_at_step import StepOfLevels
    from seedconv_tui.monitor.curves.curve_metrics import Curve, Metric
    from store import Corpus
    from store.schema.snapshot import ModelSnapshot

Columns = dict[str, Any]


def checkpoint_columns(models: Sequence[ModelSnapshot]) -> Columns:
    """Every checkpoint that is planned or there."""
    names = ("model", "seed", "step", "state", "cross_entropy", "error")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for model in models:
        states = model.marked
        for at, seed in np.argwhere(states != State.ABSENT).tolist():
            label, step = model.seeds[seed], int(model.steps[at])
            row = (
                model.name,
                label,
                step,
                State(states[at, seed]).name.lower(),
                float(model.cross_entropy[at, seed]),
                model.reason((label, step)),
            )
            for name, value in zip(names, row, strict=True):
                columns[name].append(value)
    return columns


def curve_columns(
    metric: Metric, band: str, curves: Mapping[str, Curve], first: float, last: float
) -> Columns:
    """A metric of these models with one of its bands, at the steps from `first` to `last`."""
    names = [
        "model",
        "step",
        "metric",
        "value",
        "band",
        "low",
        "high",
        "n_seeds",
        "n_pairs",
        "floor",
    ]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for model, curve in curves.items():
        inside = (curve.steps >= first) & (curve.steps <= last)
        at = np.flatnonzero(inside & np.isfinite(curve.value))
        low, high = curve.bands[band]
        for name, text in (
            ("model", model),
            ("metric", metric.title),
            ("band", band),
        ):
            columns[name] += [text] * len(at)
        for name, values in (
            ("step", curve.steps),
            ("value", curve.value),
            ("low", low),
            ("high", high),
            ("n_seeds", curve.n_seeds),
            ("n_pairs", curve.n_pairs),
            ("floor", curve.floor),
        ):
            columns[name] += [None] * len(at) if values is None else values[at].tolist()
    return columns


def pair_columns(
    model: ModelSnapshot,
    at: int,
    means: Mapping[str, Floats],
    distance: Floats,
    outlier: NDArray[np.bool_],
) -> Columns:
    """The ordered pairs at a step; `means` are (seed, other_seed), the last two (seed,)."""
    first, second = np.nonzero(np.isfinite(model.kl[at]))
    return {
        "model": [model.name] * len(first),
        "step": np.full(len(first), model.steps[at]),
        "seed": [model.seeds[n] for n in first],
        "other_seed": [model.seeds[n] for n in second],
        "kl": model.kl[at, first, second],
        **{name.removeprefix("mean_"): values[first, second] for name, values in means.items()},
        "seed_distance": distance[first],
        "seed_is_outlier": outlier[first],
    }


def text_columns(head: Mapping[str, Any], corpus: Corpus, values: Columns) -> Columns:
    """Every token with its values; what is in `head` is in every row."""
    n = len(corpus)
    return {name: [value] * n for name, value in head.items()} | {
        "token": np.arange(n),
        "token_id": corpus.token_id,
        "text": list(map(corpus.token_text, range(n))),
        "document": [corpus.document_name[d] for d in corpus.document],
        **values,
    }


def level_columns(head: Mapping[str, Any], at: StepOfLevels, order: Sequence[int]) -> Columns:
    """The listed levels as the columns of a table; what is in `head` is in every row."""
    listed = np.array(order, np.intp)
    return {name: [value] * len(order) for name, value in head.items()} | {
        "label": [at.labels[n] for n in order],
        "n": at.counts[listed],
        "expected_kl": at.kl[listed],
        "kl_low": at.low[listed],
        "kl_high": at.high[listed],
        "kl_change": at.change[listed],
        "cross_entropy": at.cross_entropy[listed],
    }


def token_columns(head: Mapping[str, Any], ranked: Ranked, corpus: Corpus) -> Columns:
    """Tokens in their order as the columns of a table; what is in `head` is in every row."""
    tokens = ranked.tokens.tolist()
    return {name: [value] * len(tokens) for name, value in head.items()} | {
        "token": ranked.tokens,
        "token_id": corpus.token_id[ranked.tokens],
        "text": list(map(corpus.token_text, tokens)),
        "document": [corpus.document_name[d] for d in corpus.document[ranked.tokens]],
        "kl": ranked.kl,
        "surprisal": ranked.surprisal,
    }
