"""One step, summarised by the levels of categories from its per-token results."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from store import Category, Corpus, Study
from store.statistics import interval, pair_mean, percentiles

Floats = NDArray[np.float64]

_BY_SEED = {"cross_entropy": "surprisal", "entropy": "entropy", "kl_unigram": "kl_unigram"}
_RUN = 256  # tokens that stand for a document where there is only one
_WIDE = 2**22  # cells of the table (cluster, level) that are made at once


def summarise(
    study: Study, model: str, step: int, seeds: Sequence[str], categories: Sequence[Category]
) -> tuple[NDArray[np.float32], dict[str, dict[str, Floats]]]:
    """Summaries of a reduced step, as `StudyWriter.summarise` takes them.

    Means over tokens are summed in float64. Levels without tokens are NaN. Raises DamagedError
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
        for name, of in _BY_SEED.items():
            values = study.values(model, of, seed, step).astype(np.float64)
            for table in tables:
                table.by_seed[name][index] = table.mean(values)
    clusters = token_clusters(study.corpus)
    order = np.argsort(token_kl, kind="stable")
    return token_kl.astype(np.float32), {
        table.category.name: table.finish(token_kl, order, clusters) for table in tables
    }


def token_clusters(corpus: Corpus) -> NDArray[np.int64]:
    """What is drawn whole: the document of each token, or runs of a lone document, (token,)."""
    if corpus.document.min() != corpus.document.max():
        return np.unique(corpus.document, return_inverse=True)[1].astype(np.int64)
    return np.arange(len(corpus)) // _RUN


def cluster_sums(
    values: Floats, clusters: NDArray[np.int64], category: Category
) -> tuple[Floats, NDArray[np.int64]]:
    """Sums and numbers of a category's tokens, (cluster, level) each."""
    n_clusters, width = int(clusters.max()) + 1, len(category.labels) + 1
    code = clusters * width + (category.level + 1)
    shape = n_clusters, width
    total: Floats = np.bincount(code, values, minlength=n_clusters * width).astype(np.float64)
    n = np.bincount(code, minlength=n_clusters * width)
    return total.reshape(shape)[:, 1:], n.reshape(shape)[:, 1:]


class _Table:
    """The summaries of one category while they are made."""

    def __init__(self, category: Category, n_seeds: int) -> None:
        n_levels = len(category.labels)
        self.category = category
        self.kl = np.full((n_seeds, n_seeds, n_levels), np.nan)
        self.by_seed = {name: np.full((n_seeds, n_levels), np.nan) for name in _BY_SEED}
        self._level = category.level + 1  # 0: in none
        self._n = category.counts

    def mean(self, values: Floats) -> Floats:
        """Mean of (token,) values over each level's tokens, (level,)."""
        total = np.bincount(self._level, values, minlength=len(self._n) + 1)[1:]
        with np.errstate(invalid="ignore"):
            return np.asarray(total / self._n)

    def finish(
        self, token_kl: Floats, order: NDArray[np.intp], clusters: NDArray[np.int64]
    ) -> dict[str, Floats]:
        """Everything of `layout.SUMMARIES` that has levels."""
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
        """Levels a few at a time: a corpus may have as many documents as levels."""
        n_levels = len(self._n)
        at_once = max(1, _WIDE // (int(clusters.max()) + 1))
        low, high = np.full(n_levels, np.nan), np.full(n_levels, np.nan)
        for start in range(0, n_levels, at_once):
            part = slice(start, min(start + at_once, n_levels))
            level = self.category.level - start
            level = np.where((level >= 0) & (level < part.stop - start), level, -1)
            few = Category(self.category.name, self.category.labels[part], level, "")
            total, n = cluster_sums(token_kl, clusters, few)
            low[part], high[part] = interval(self.kl[..., part], total, n)
        return low, high
