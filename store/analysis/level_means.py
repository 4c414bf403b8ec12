"""One step, summarised by the levels of categories from its per-token results."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.analysis.ensemble_means import EnsembleTokens, ensemble_summary, read_ensemble
from store.analysis.reference_means import read_references, reference_summary
from store.reading.study_reader import StudyReader
from store.reading.summary import OF_SEED
from store.schema.array_types import Floats
from store.schema.category import Category
from store.schema.ensemble import STATISTICS, TO_MEAN, has_ensemble
from store.schema.seed_pairs import pair_mean
from store.statistics.clusters import cluster_cells, token_clusters
from store.statistics.intervals import interval_of_cells
from store.statistics.spread import percentiles

_AT_ONCE = 8  # results whose means are made together: 64 bytes of each token, a line of the cache
_RUN = 2**16  # tokens that are summed at once by all categories: their results stay in the cache


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def summarise(
    study: StudyReader, model: str, step: int, seeds: Sequence[str], categories: Sequence[Category]
) -> tuple[NDArray[np.float32], dict[str, dict[str, Floats]]]:
    """Return summaries of a reduced step, as `SummaryWriter.summarise` takes them.

    Means over tokens are summed in float64. Levels without tokens are NaN. Raise DamagedError
    when per-token results cannot be read.
    """
    one_hots = _one_hots(categories, study.n_tokens)
    tables = [
        _Table(category, one_hot, len(seeds))
        for category, one_hot in zip(categories, one_hots, strict=True)
    ]
    token_kl: Floats = np.zeros(study.n_tokens)
    pairs = list(itertools.permutations(range(len(seeds)), 2))
    for start in range(0, len(pairs), _AT_ONCE):
        few = pairs[start : start + _AT_ONCE]
        rows = [study.values(model, "kl", seeds[i], step, seeds[j]) for i, j in few]
        for kl in rows:
            token_kl += kl
        for table, means in zip(tables, _means(tables, rows), strict=True):
            table.kl[tuple(np.transpose(few))] = means
    token_kl /= len(pairs)
    for index, seed in enumerate(seeds):
        rows = [study.values(model, of, seed, step) for of in OF_SEED.values()]
        for table, of_table in zip(tables, _means(tables, rows), strict=True):
            for name, means in zip(OF_SEED, of_table, strict=True):
                table.by_seed[name][index] = means
    clusters, ensemble = token_clusters(study.corpus), read_ensemble(study, model, step, seeds)
    references = read_references(study, model, step, seeds)
    order = np.argsort(token_kl, kind="stable")
    return token_kl.astype(np.float32), {
        table.category.name: table.finish(token_kl, order, clusters)
        | (table.together(ensemble, clusters) if has_ensemble(study.divergences) else {})
        | reference_summary(references, len(seeds), table.means, table.category, clusters)
        for table in tables
    }


def _one_hots(categories: Sequence[Category], n_tokens: int) -> list[list[Any]]:
    """Return, of each category, sparse (level + 1, token) matrices of ones; row 0: in no level.

    One of each run of tokens. All share what does not depend on the category.
    """
    from scipy.sparse import csc_array  # late: those who only read need no scipy

    run = min(_RUN, n_tokens)
    ones, ends = np.ones(run), np.arange(run + 1, dtype=np.int32)

    def of_run(category: Category, start: int) -> Any:
        level = category.level[start : start + _RUN].astype(np.int32) + 1
        n = len(level)
        return csc_array((ones[:n], level, ends[: n + 1]), shape=(len(category.labels) + 1, n))

    return [[of_run(each, start) for start in range(0, n_tokens, _RUN)] for each in categories]


def _means(tables: Sequence[_Table], rows: Sequence[NDArray[Any]]) -> list[Floats]:
    """Return the means of (token,) results over each level's tokens, (result, level) a table."""
    n_tokens = len(rows[0])
    sums = [table.no_sums(len(rows)) for table in tables]
    together = np.empty((min(_RUN, n_tokens), len(rows)))
    for run, start in enumerate(range(0, n_tokens, _RUN)):
        part = together[: min(_RUN, n_tokens - start)]
        for column, row in enumerate(rows):
            part[:, column] = row[start : start + _RUN]
        for table, total in zip(tables, sums, strict=True):
            table.add(total, run, part)
    return [table.of_sums(total) for table, total in zip(tables, sums, strict=True)]


class _Table:
    """The summaries of one category while they are made."""

    def __init__(self, category: Category, one_hots: Sequence[Any], n_seeds: int) -> None:
        n_levels = len(category.labels)
        self.category = category
        self.kl = np.full((n_seeds, n_seeds, n_levels), np.nan)
        self.by_seed = {name: np.full((n_seeds, n_levels), np.nan) for name in OF_SEED}
        self._one_hots = one_hots
        self._n = category.counts

    def means(self, values: Floats) -> Floats:
        """Return the means of (token, result) values over each level's tokens, (result, level)."""
        sums = self.no_sums(values.shape[1])
        for run in range(len(self._one_hots)):
            self.add(sums, run, values[run * _RUN : (run + 1) * _RUN])
        return self.of_sums(sums)

    def no_sums(self, n_results: int) -> Floats:
        """Return zeros to `add` to, (level + 1, result)."""
        return np.zeros((len(self._n) + 1, n_results))

    def add(self, sums: Floats, run: int, values: Floats) -> None:
        """Add (token, result) values of a run of tokens: the product with the one-hot levels."""
        sums += self._one_hots[run] @ values

    def of_sums(self, sums: Floats) -> Floats:
        """Return the means that sums come to, (result, level)."""
        with np.errstate(invalid="ignore"):
            return np.asarray(sums[1:].T / self._n)

    def finish(
        self, token_kl: Floats, order: NDArray[np.intp], clusters: NDArray[np.int64]
    ) -> dict[str, Floats]:
        """Return everything of `layout.SUMMARIES` that has levels."""
        low, high = interval_of_cells(self.kl, cluster_cells(token_kl, clusters, self.category))
        return {
            "kl": self.kl,
            "expected_kl": pair_mean(self.kl),
            "kl_low": low,
            "kl_high": high,
            "kl_percentile": percentiles(token_kl, self.category.level, len(self._n), order),
            **self.by_seed,
        }

    def together(
        self, tokens: EnsembleTokens | None, clusters: NDArray[np.int64]
    ) -> dict[str, Floats]:
        """Return what all seeds come to together; NaN where that is not known."""
        if tokens is None:
            n_seeds, n_levels = self.by_seed["entropy"].shape
            sizes = {TO_MEAN: n_seeds, "ensemble": len(STATISTICS)}
            return {name: np.full((size, n_levels), np.nan) for name, size in sizes.items()}
        return ensemble_summary(tokens, self.by_seed, self.means, self.category, clusters)
