"""One step, summarised by the levels of categories from its per-token results."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from store.reading.study_reader import StudyReader
from store.reading.summary import OF_SEED
from store.schema.array_types import Floats
from store.schema.category import Category
from store.schema.seed_pairs import pair_mean
from store.statistics.clusters import cluster_sums, few_levels, token_clusters
from store.statistics.intervals import interval
from store.statistics.spread import percentiles


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def summarise(
    study: StudyReader, model: str, step: int, seeds: Sequence[str], categories: Sequence[Category]
) -> tuple[NDArray[np.float32], dict[str, dict[str, Floats]]]:
    """Return summaries of a reduced step, as `SummaryWriter.summarise` takes them.

    Means over tokens are summed in float64. Levels without tokens are NaN. Raise DamagedError
    when per-token results cannot be read.
    """
    tables = [_Table(category, len(seeds)) for category in categories]
    token_kl: Floats = np.zeros(study.n_tokens)
    for i, j in itertools.permutations(range(len(seeds)), 2):
        kl = study.values(model, "kl", seeds[i], step, seeds[j]).astype(np.float64)
        token_kl += kl
        for table in tables:
            table.kl[i, j] = table.mean(kl)
    token_kl /= len(seeds) * (len(seeds) - 1)
    for index, seed in enumerate(seeds):
        for name, of in OF_SEED.items():
            values = study.values(model, of, seed, step).astype(np.float64)
            for table in tables:
                table.by_seed[name][index] = table.mean(values)
    clusters = token_clusters(study.corpus)
    order = np.argsort(token_kl, kind="stable")
    return token_kl.astype(np.float32), {
        table.category.name: table.finish(token_kl, order, clusters) for table in tables
    }


class _Table:
    """The summaries of one category while they are made."""

    def __init__(self, category: Category, n_seeds: int) -> None:
        n_levels = len(category.labels)
        self.category = category
        self.kl = np.full((n_seeds, n_seeds, n_levels), np.nan)
        self.by_seed = {name: np.full((n_seeds, n_levels), np.nan) for name in OF_SEED}
        self._level = category.level.astype(np.intp) + 1  # 0: in none
        self._n = category.counts

    def mean(self, values: Floats) -> Floats:
        """Return the mean of (token,) values over each level's tokens, (level,)."""
        total = np.bincount(self._level, values, minlength=len(self._n) + 1)[1:]
        with np.errstate(invalid="ignore"):
            return np.asarray(total / self._n)

    def finish(
        self, token_kl: Floats, order: NDArray[np.intp], clusters: NDArray[np.int64]
    ) -> dict[str, Floats]:
        """Return everything of `layout.SUMMARIES` that has levels."""
        low, high = self._interval(token_kl, clusters)
        return {
            "kl": self.kl,
            "expected_kl": pair_mean(self.kl),
            "kl_low": low,
            "kl_high": high,
            "kl_percentile": percentiles(token_kl, self.category.level, len(self._n), order),
            **self.by_seed,
        }

    def _interval(self, token_kl: Floats, clusters: NDArray[np.int64]) -> tuple[Floats, Floats]:
        low, high = np.full(len(self._n), np.nan), np.full(len(self._n), np.nan)
        for part, few in few_levels(self.category, clusters):
            total, n = cluster_sums(token_kl, clusters, few)
            low[part], high[part] = interval(self.kl[..., part], total, n)
        return low, high
