"""CPU time to summarise a step of a large corpus: `python -m benchmarks.large_summaries`.

1,000,000 tokens in 10,000 documents, 10 seeds, twelve categories, one of them the documents;
against the plain way, which counts by `bincount` result by result and makes the whole table of
documents by levels. Results are random numbers in memory: reading costs nothing. Prints JSON.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from benchmarks.run import add_save, least_cpu_seconds, report
from store.analysis import summarise
from store.commits.ledger import ModelLedger
from store.reading.study_reader import StudyReader
from store.schema import Category
from store.statistics import percentiles, seed_jackknife
from store.statistics.clusters import cluster_sums, token_clusters

SEEDS = tuple(map(str, range(10)))
ROUNDS = 2
_LEVELS = (1, 2, 3, 5, 10, 10, 10, 12, 17, 20, 45)
_RESULTS = ("surprisal", "entropy", "kl_unigram")
_AT_ONCE = 2**22  # cells of a table (cluster, level) that are made at once
_DIFFERENT = 7  # arrays of random numbers, which results take in turn


class _InMemory:
    """What `summarise` reads of a study."""

    divergences = ("kl", "js")

    def __init__(self, n_tokens: int) -> None:
        rng = np.random.default_rng(0)
        self.n_tokens = n_tokens
        self.corpus = SimpleNamespace(document=np.arange(n_tokens) // 100)
        self._kept = [rng.exponential(1, n_tokens).astype(np.float32) for _ in range(_DIFFERENT)]
        made = [rng.integers(-1, n, n_tokens) for n in _LEVELS]
        parts = [(n, level) for n, level in zip(_LEVELS, made, strict=True)]
        parts.append((n_tokens // 100, self.corpus.document))
        self.categories = [
            Category(f"c{at}", tuple(map(str, range(n))), level.astype(np.int32), "")
            for at, (n, level) in enumerate(parts)
        ]

    def ledger(self, _model: str) -> ModelLedger:
        return ModelLedger()

    def values(self, _model: str, name: str, seed: str, _step: int, other: str = "0") -> Any:
        return self._kept[(len(name) + 3 * int(seed) + int(other)) % _DIFFERENT]


def _few_levels(category: Category, clusters: Any) -> Iterator[tuple[slice, Category]]:
    """Yield (levels, the category with these alone), so few at a time that tables stay small.

    A corpus may have as many documents as levels.
    """
    n_levels = len(category.labels)
    at_once = max(1, _AT_ONCE // (int(clusters.max()) + 1))
    for start in range(0, n_levels, at_once):
        part = slice(start, min(start + at_once, n_levels))
        level = category.level - part.start
        level = np.where((level >= 0) & (level < part.stop - part.start), level, -1)
        yield part, replace(category, labels=category.labels[part], level=level)


@np.errstate(invalid="ignore", divide="ignore")
def _table_variance(total: Any, n: Any) -> tuple[Any, Any]:
    """Return what `cluster_variance` does, of every cell of the table."""
    n_tokens = n.sum(axis=0)
    share = n / n_tokens
    miss = total / n_tokens - share * (total.sum(axis=0) / n_tokens)
    return (miss**2 / (1 - share)).sum(axis=0), 1 / (share**2).sum(axis=0) - 1


def plain(study: _InMemory) -> None:
    """Do the same work without products and cells."""
    n_seeds = len(SEEDS)
    kl = [np.full((n_seeds, n_seeds, len(c.labels)), np.nan) for c in study.categories]
    levels = [c.level.astype(np.intp) + 1 for c in study.categories]
    token_kl = np.zeros(study.n_tokens)

    def means(values: Any) -> list[Any]:
        return [
            np.bincount(level, values, minlength=len(c.labels) + 1)[1:] / c.counts
            for c, level in zip(study.categories, levels, strict=True)
        ]

    for i, j in itertools.permutations(range(n_seeds), 2):
        values = study.values("m", "kl", SEEDS[i], 0, SEEDS[j]).astype(np.float64)
        token_kl += values
        for table, mean in zip(kl, means(values), strict=True):
            table[i, j] = mean
    for seed, name in itertools.product(SEEDS, _RESULTS):
        means(study.values("m", name, seed, 0).astype(np.float64))
    token_kl /= n_seeds * (n_seeds - 1)
    clusters = token_clusters(cast(Any, study.corpus))
    order = np.argsort(token_kl, kind="stable")
    for table, category in zip(kl, study.categories, strict=True):
        for part, few in _few_levels(category, clusters):
            seed_jackknife(table[..., part])
            _table_variance(*cluster_sums(token_kl, clusters, few))
        percentiles(token_kl, category.level, len(category.labels), order)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    add_save(parser)
    options = parser.parse_args()
    study = _InMemory(options.tokens)
    # Only the first step of an engine imports what summaries take, or has new memory.
    ours = least_cpu_seconds(
        lambda: summarise(cast(StudyReader, study), "m", 0, SEEDS, study.categories), ROUNDS
    )
    theirs = least_cpu_seconds(lambda: plain(study), ROUNDS)
    result = {
        "tokens": options.tokens,
        "documents": options.tokens // 100,
        "cpu_seconds": round(ours, 2),
        "plain_cpu_seconds": round(theirs, 2),
        "times_faster": round(theirs / ours, 2),
    }
    options.device = "cpu"
    report("large_summaries", result, options)


if __name__ == "__main__":
    main()
