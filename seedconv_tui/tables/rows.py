"""Rows of the tables of `seedconv_tui.tables.long_tables`, read from a study in batches of columns.

No more than one category, or one step, of one model is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np

from seedconv_tui.tables.band_names import SIMULTANEOUS
from seedconv_tui.tables.selection import (
    Choice,
    chosen_categories,
    chosen_models,
    chosen_steps,
    summarised,
)
from store import Study, Summary, SummaryReader, statistics
from store.analysis import simultaneous_band
from store.schema import (
    ALL,
    ENDS,
    KL,
    PERCENTILES,
    STATISTICS,
    TO_MEAN,
    Floats,
    State,
    has_ensemble,
    metrics_of,
    references_of,
)

Batch = dict[str, Any]  # column -> list or array, all of one length; missing: None or NaN

PERCENTILE_COLUMNS = tuple(
    "kl_max" if q == 100 else f"kl_p{q:g}".replace(".", "_") for q in PERCENTILES
)
_JOINED = 4_096  # rows that are kept as Python's own values
_MEANS = {
    "cross_entropy": "cross_entropy",
    "entropy": "mean_entropy",
    "kl_unigram": "mean_kl_unigram",
    "storage_floor": "storage_floor",
    "noise_floor": "noise_floor",
}


def batch(n_rows: int, **columns: Any) -> Batch:
    """Return arrays and lists of that many values unchanged; anything else in every row."""
    return {
        name: value if isinstance(value, np.ndarray | list) else [value] * n_rows
        for name, value in columns.items()
    }


def joined(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the same rows in fewer batches: a short one costs a writer as much as hundreds of rows.

    Values of those that were joined are Python's own.
    """
    kept: Batch = {}
    for rows in batches:
        if not kept and len(next(iter(rows.values()))) >= _JOINED:
            yield rows
            continue
        for name, values in rows.items():
            kept.setdefault(name, []).extend(
                values.tolist() if isinstance(values, np.ndarray) else values
            )
        if len(next(iter(kept.values()))) >= _JOINED:
            yield kept
            kept = {}
    if kept:
        yield kept


def only_levels(rows: Batch, levels: Sequence[str]) -> Batch:
    """Return the rows of these levels; of a table of tokens, those of tokens in one of them."""
    columns = [name for name in rows if name == "label" or name.startswith("category_")]
    wanted, labels = set(levels), [rows[name] for name in columns]
    kept = np.flatnonzero([not wanted.isdisjoint(of) for of in zip(*labels, strict=True)])
    return {
        name: values[kept] if isinstance(values, np.ndarray) else [values[at] for at in kept]
        for name, values in rows.items()
    }


# -- by the levels of categories -----------------------------------------------------------------


def levels(study: Study, choice: Choice) -> Iterator[Batch]:
    """See `long_tables.TABLES`. Raise ChoiceError, StoreError, DamagedError."""
    steps = chosen_steps(study, choice, summarised(study))
    for model, categories in chosen_categories(study, choice).items():
        spread = _Spread(study, model)
        for category in categories:
            read = partial(_level_rows, study, spread, category, steps[model], choice.band)
            yield from study.consistent({model: steps[model]}, read)


def _level_rows(
    study: Study, spread: _Spread, category: str, steps: Sequence[int], band: str | None
) -> list[Batch]:
    batches = []
    summary = study.summary(spread.model, category)
    by_seed = {
        name: statistics.mean_over_seeds(getattr(summary, name))
        for name in ("cross_entropy", "entropy", "kl_uniform", "kl_unigram")
    }
    of_seeds = (summary.cross_entropy, summary.entropy, summary.kl_unigram)
    fewest = np.min([np.isfinite(values).sum(axis=1) for values in of_seeds], axis=0)
    left_out = np.where(summary.counts > 0, summary.n_seeds[:, None] - fewest, 0)
    together = STATISTICS if has_ensemble(study.divergences) else ()
    span, snapshot = study.levels(category), study.model_snapshot(spread.model)
    floor = dict(zip(snapshot.steps.tolist(), snapshot.floor.tolist(), strict=True))
    ends = _band_ends(study, spread.model, category, steps) if band == SIMULTANEOUS else {}
    for at, step in _present(summary, steps):
        batches.append(
            batch(
                len(summary.labels),
                model=summary.model,
                step=step,
                category=category,
                label=list(summary.labels),
                n=summary.counts,
                n_seeds=int(summary.n_seeds[at]),
                seeds_left_out=left_out[at],
                expected_kl=summary.expected_kl[at],
                kl_low=summary.kl_low[at],
                kl_high=summary.kl_high[at],
                pair_std=spread.of(step).pair_std[span.start : span.stop],
                floor=floor[step],
                **{name: values[at] for name, values in by_seed.items()},
                **dict(zip(PERCENTILE_COLUMNS, summary.kl_percentile[at], strict=True)),
                **dict(zip(together, summary.ensemble[at], strict=False)),
                **ends.get(step, {}),
                **{
                    metric.mean + ("" if end == "value" else f"_{end}"): of_end
                    for metric in references_of(study.divergences)
                    for end, of_end in zip(
                        ENDS, summary.mean_to_reference[metric.name][at], strict=True
                    )
                },
            )
        )
    return batches


def _band_ends(
    study: Study, model: str, category: str, steps: Sequence[int]
) -> dict[int, dict[str, Floats]]:
    """Return columns of the band over these steps, (level,) each, by step."""
    found, band = simultaneous_band(study, model, category, steps)
    return {
        step: {"kl_band_low": band.low[at], "kl_band_high": band.high[at]}
        for at, step in enumerate(found.tolist())
    }


def seeds(study: Study, choice: Choice) -> Iterator[Batch]:
    """See `long_tables.TABLES`. Raise ChoiceError, StoreError, DamagedError."""
    steps = chosen_steps(study, choice, summarised(study))
    for model, categories in chosen_categories(study, choice).items():
        spread = _Spread(study, model)
        for category in categories:
            read = partial(_seed_rows, study, spread, category, steps[model])
            yield from study.consistent({model: steps[model]}, read)


def _seed_rows(study: Study, spread: _Spread, category: str, steps: Sequence[int]) -> list[Batch]:
    batches = []
    summary, span = study.summary(spread.model, category), study.levels(category)
    n_levels, to_mean = len(summary.labels), has_ensemble(study.divergences)
    for at, step in _present(summary, steps):
        pairs = spread.of(step)
        far = list(pairs.outlier) if category == ALL else [None] * len(pairs.seeds)
        for index, (seed, outlier) in enumerate(zip(pairs.seeds, far, strict=True)):
            row = summary.seeds.index(seed)
            batches.append(
                batch(
                    n_levels,
                    model=summary.model,
                    step=step,
                    seed=seed,
                    category=category,
                    label=list(summary.labels),
                    n=summary.counts,
                    cross_entropy=summary.cross_entropy[at, row],
                    entropy=summary.entropy[at, row],
                    kl_uniform=summary.kl_uniform[at, row],
                    kl_unigram=summary.kl_unigram[at, row],
                    **({TO_MEAN: summary.kl_to_mean[at, row]} if to_mean else {}),
                    **{name: of[at, row] for name, of in summary.to_reference.items()},
                    kl_to=pairs.kl_to[index, span.start : span.stop],
                    kl_from=pairs.kl_from[index, span.start : span.stop],
                    outlier=outlier,
                )
            )
    return batches


def pairs(study: Study, choice: Choice) -> Iterator[Batch]:
    """See `long_tables.TABLES`. Raise ChoiceError, StoreError, DamagedError."""
    steps = chosen_steps(study, choice, summarised(study))
    for model, categories in chosen_categories(study, choice, lambda name: name == ALL).items():
        means = _PairMeans(study, model)
        for category in categories:
            for step in steps[model]:
                read = partial(_pair_rows, study, model, category, step, means)
                yield from study.consistent({model: [step]}, read)


class _PairMeans:
    """Means of all steps' pairs, read again only when something changed."""

    def __init__(self, study: Study, model: str) -> None:
        self._study, self._model, self._changes = study, model, -1
        self._means: dict[str, Floats] = {}

    def now(self) -> Mapping[str, Floats]:
        """Return (step, seed, other_seed) each, by column."""
        changes = self._study.ledger(self._model).changes
        if changes != self._changes:
            read = partial(self._study.means, self._model)
            metrics = metrics_of(self._study.divergences)
            self._means = {metric.name: read(metric.array) for metric in metrics if metric != KL}
            self._changes = changes
        return self._means


def _pair_rows(
    study: Study, model: str, category: str, step: int, means: _PairMeans
) -> list[Batch]:
    reader, known = SummaryReader(study, model), study.ledger(model)
    at = int(np.searchsorted(reader.steps, step))
    if not reader.valid(category)[at]:
        return []
    kl, found = reader.at(step, "kl", category), study.category(model, category)
    seeds = [item for item in known.seeds.items() if item[0] in known.summaries[step].seeds]
    return [
        batch(
            len(found.labels),
            model=model,
            step=step,
            seed=seed,
            other_seed=other,
            category=category,
            label=list(found.labels),
            n=found.counts,
            kl=kl[i, j],
            **{
                name: float(values[at, i, j]) if category == ALL else None
                for name, values in means.now().items()
            },
        )
        for (seed, i), (other, j) in permutations(seeds, 2)
    ]


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def _kl_of_seeds(kl: Floats) -> tuple[Floats, Floats]:
    """Return the mean KL from each seed to the others and back, (seed, level), of all pairs."""
    others, n = statistics.without_diagonal(kl), max(1, len(kl) - 1)
    return others.sum(axis=1) / n, others.sum(axis=0) / n


def _present(summary: Summary, steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield index and step of the chosen steps at which the category is summarised."""
    wanted = set(steps)
    for at, step in enumerate(summary.steps.tolist()):
        if step in wanted and summary.n_seeds[at]:
            yield at, step


@dataclass(frozen=True)
class _Pairs:
    """Results of a step's pairs, for the levels of all categories."""

    seeds: tuple[str, ...]
    pair_std: Floats  # (level,)
    kl_to: Floats  # (seed, level) mean KL to the other seeds
    kl_from: Floats  # (seed, level) mean KL of the others to it
    outlier: tuple[bool, ...]  # (seed,) by all tokens


class _Spread:
    """Reads the pairs of a step once for all categories, and again only when they changed."""

    def __init__(self, study: Study, model: str) -> None:
        self._study, self.model = study, model
        self._read: dict[int, tuple[object, _Pairs]] = {}

    def of(self, step: int) -> _Pairs:
        known = self._study.ledger(self.model)
        state = known.summaries[step]
        if step not in self._read or self._read[step][0] != state:
            kl = SummaryReader(self._study, self.model).pairs(step)
            kl_to, kl_from = _kl_of_seeds(kl)
            everything = self._study.levels(ALL).start
            self._read[step] = (
                state,
                _Pairs(
                    seeds=tuple(seed for seed in known.seeds if seed in state.seeds),
                    pair_std=statistics.pair_std(kl),
                    kl_to=kl_to,
                    kl_from=kl_from,
                    outlier=tuple(statistics.outliers(kl[:, :, everything]).tolist()),
                ),
            )
        return self._read[step][1]


# -- by model and by checkpoint ------------------------------------------------------------------


def phases(study: Study, choice: Choice) -> Iterator[Batch]:
    """See `long_tables.TABLES`. Raise ChoiceError, StoreError, DamagedError."""
    for model in chosen_models(study, choice):
        phases = study.ledger(model).phases
        yield batch(
            len(phases),
            model=model,
            phase=[phase.name for phase in phases],
            start=[phase.start for phase in phases],
            low=[phase.low for phase in phases],
            high=[phase.high for phase in phases],
            support=[phase.support for phase in phases],
        )


def checkpoints(study: Study, choice: Choice) -> Iterator[Batch]:
    """See `long_tables.TABLES`. Raise ChoiceError, StoreError, DamagedError."""
    chosen_steps(study, choice, lambda model: tuple(study.ledger(model).steps), "of this study")
    wanted = set(chosen_models(study, choice))
    for snapshot in (model for model in study.snapshot().models if model.name in wanted):
        means = {column: study.means(snapshot.name, name) for column, name in _MEANS.items()}
        for at, step in enumerate(snapshot.steps.tolist()):
            if choice.steps is not None and not choice.steps(step):
                continue
            there = np.flatnonzero(snapshot.state[at] != State.ABSENT)
            seeds = [snapshot.seeds[seed] for seed in there]
            yield batch(
                len(there),
                model=snapshot.name,
                seed=seeds,
                step=step,
                state=[State(state).name.lower() for state in snapshot.state[at, there]],
                **{name: values[at, there] for name, values in means.items()},
                error=[snapshot.reason((seed, step)) for seed in seeds],
            )
