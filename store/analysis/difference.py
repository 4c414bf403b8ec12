"""By how much expected KL differs between two steps, or two models, and how sure that is."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.errors import StoreError, UnsupportedError
from store.reading.study_reader import StudyReader
from store.reading.summary import SummaryReader
from store.schema.array_types import Floats, Ints
from store.schema.seed_pairs import pair_mean
from store.statistics.clusters import cluster_cells, token_clusters
from store.statistics.intervals import (
    cluster_shares,
    difference_of_cells,
    difference_p,
    seed_shares,
)


class DifferenceSpread(NamedTuple):
    """What seeds and documents add to a difference's deviation; squares sum to its variance."""

    seeds: tuple[dict[str, Floats], ...]  # of each independent set, by seed: (level,)
    documents: Floats  # (cell,) of each document in each level where it has tokens
    level: Ints  # (cell,)
    freedom: Floats  # (level,) degrees of freedom over documents


@dataclass(frozen=True)
class Difference:
    """Expected KL at a minus that at b, by the levels of a category, nats, (level,) each.

    NaN where a level has no tokens; the interval also with fewer than three seeds.
    """

    category: str
    labels: tuple[str, ...]  # untrusted
    counts: NDArray[np.int64]  # tokens
    kl_a: Floats  # expected KL of the seeds that are compared
    kl_b: Floats
    value: Floats  # kl_a - kl_b
    low: Floats  # its 95 % interval
    high: Floats
    p: Floats  # of no difference, two-sided; of each level by itself
    same_seeds: bool  # one model at two steps: seeds are paired
    n_seeds: tuple[int, int]  # of a and b
    spread: DifferenceSpread  # for bands over several steps


def read_difference(
    study: StudyReader, a: tuple[str, int], b: tuple[str, int], category: str
) -> Difference:
    """Return the difference of (model, step) `a` and `b`, see `Study.difference`."""
    steps = {a[0]: [a[1], b[1]]} if a[0] == b[0] else {a[0]: [a[1]], b[0]: [b[1]]}
    return study.consistent(steps, lambda: _read_difference(study, a, b, category))


def _read_difference(
    study: StudyReader, a: tuple[str, int], b: tuple[str, int], category: str
) -> Difference:
    same_seeds = a[0] == b[0]
    if not same_seeds and any(category in study.own_categories(model) for model in (a[0], b[0])):
        raise UnsupportedError(
            f"{study.path}: {category} parts the tokens by each model's own results: the levels of "
            f"{a[0]} and {b[0]} are not the same tokens and cannot be compared"
        )
    parts = study.category(a[0], category)
    seeds_a, seeds_b = (_seeds(study, *at, category) for at in (a, b))
    if same_seeds:
        seeds_a = seeds_b = seeds_a & seeds_b
        if len(seeds_a) < 2:
            raise StoreError(
                f"{study.path}: {a[0]}: steps {a[1]} and {b[1]} have fewer than two seeds in common"
            )
    kl_a, kl_b = (_pairs(study, *at, category, seeds) for at, seeds in ((a, seeds_a), (b, seeds_b)))
    token_a, token_b = (_token_kl(study, *at, seeds) for at, seeds in ((a, seeds_a), (b, seeds_b)))
    with np.errstate(invalid="ignore"):  # of two that are infinite
        cells = cluster_cells(token_a - token_b, token_clusters(study.corpus), parts)
    _, low, high = difference_of_cells(kl_a, kl_b, cells, same_seeds=same_seeds)
    p = difference_p(kl_a, kl_b, cells, same_seeds=same_seeds)
    mean_a, mean_b = pair_mean(kl_a), pair_mean(kl_b)
    with np.errstate(invalid="ignore"):  # of two that are infinite
        apart = mean_a - mean_b
    n_seeds = len(seeds_a), len(seeds_b)
    sets = [(seeds_a, kl_a - kl_b)] if same_seeds else [(seeds_a, kl_a), (seeds_b, kl_b)]
    of_seeds = (dict(zip(sorted(seeds), seed_shares(kl), strict=True)) for seeds, kl in sets)
    documents, freedom = cluster_shares(cells, len(parts.labels))
    return Difference(
        category,
        parts.labels,
        parts.counts,
        mean_a,
        mean_b,
        apart,
        low,
        high,
        p,
        same_seeds,
        n_seeds,
        DifferenceSpread(tuple(of_seeds), documents, cells.level, freedom),
    )


def _seeds(study: StudyReader, model: str, step: int, category: str) -> frozenset[str]:
    """Return the seeds of whose pairs the step's summaries are. Raise StoreError."""
    reader = SummaryReader(study, model)
    if not reader.valid(category)[reader.steps == step].any():
        raise StoreError(f"{study.path}: {model}, step {step}: not summarised by {category} (yet)")
    return study.ledger(model).summaries[step].seeds


def _pairs(
    study: StudyReader, model: str, step: int, category: str, seeds: Collection[str]
) -> Floats:
    """Return the KL of pairs of these seeds, in the order of labels: (seed, other_seed, level)."""
    index = [study.ledger(model).seeds[seed] for seed in sorted(seeds)]
    kl = SummaryReader(study, model).at(step, "kl", category)
    return np.asarray(kl[np.ix_(index, index)])


def _token_kl(study: StudyReader, model: str, step: int, seeds: frozenset[str]) -> Floats:
    """Return the KL at each token, mean over ordered pairs of these seeds, (token,)."""
    if seeds == study.ledger(model).summaries[step].seeds:
        return study.token_kl(model, step).astype(np.float64)
    total = np.zeros(study.n_tokens)
    for i, j in itertools.permutations(sorted(seeds), 2):
        total += study.values(model, "kl", i, step, j)
    return total / (len(seeds) * (len(seeds) - 1))
