"""The KL from the seeds of a step to each reference, by level, with its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from store.reading.study_reader import StudyReader
from store.schema.array_types import Floats, Ints
from store.schema.category import Category
from store.schema.reference import ReferenceMetric, references_of
from store.statistics.clusters import cluster_cells
from store.statistics.intervals import pseudo_interval

Rows = tuple[list[Floats], Floats]
"""Of each seed (token,), nats, and their mean. Both empty: the step has no results of this kind."""


def read_references(
    study: StudyReader, model: str, step: int, seeds: Sequence[str]
) -> dict[ReferenceMetric, Rows]:
    """Return the KL of these seeds to each reference of the study. Raise DamagedError."""
    found: dict[ReferenceMetric, Rows] = {}
    for metric in references_of(study.divergences):
        of = study.ledger(model).set_with(step, metric.name)
        there = of is not None and {*of.seeds} == {*seeds}
        rows = [
            study.values(model, metric.name, seed, step).astype(np.float64)
            for seed in (seeds if there else ())
        ]
        found[metric] = rows, np.mean(rows, axis=0) if rows else np.empty(0)
    return found


def reference_summary(
    found: dict[ReferenceMetric, Rows],
    n_seeds: int,
    means: Callable[[Floats], Floats],
    category: Category,
    clusters: Ints,
) -> dict[str, Floats]:
    """Return two summaries for each reference: by seed, (seed, level), and mean, (end, level).

    `means` returns means over a level's tokens, (result, level), of (token, result). The reference
    is the same for all seeds, so the seeds' values are independent draws. NaN where there are none.
    """
    summaries: dict[str, Floats] = {}
    n_levels = len(category.labels)
    for metric, (rows, mean) in found.items():
        if not rows:
            summaries[metric.name] = np.full((n_seeds, n_levels), np.nan)
            summaries[metric.mean] = np.full((3, n_levels), np.nan)
            continue
        of_seed = np.concatenate([means(row[:, None]) for row in rows])
        cells = cluster_cells(mean, clusters, category)
        summaries[metric.name] = of_seed
        summaries[metric.mean] = np.stack(pseudo_interval(of_seed.mean(axis=0), of_seed, cells))
    return summaries
