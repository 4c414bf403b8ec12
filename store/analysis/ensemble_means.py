"""Means by level for the ensemble of a step's seeds: the mean of their distributions.

All of it follows from results per token: `kl_to_mean`, `entropy` and `surprisal` of each seed.
docs/method.md, *Ensemble*, has the formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.reading.study_reader import StudyReader
from store.schema.array_types import Floats, Ints
from store.schema.category import Category
from store.schema.ensemble import TO_MEAN
from store.statistics.clusters import cluster_cells
from store.statistics.intervals import pseudo_interval

_BLOCK = 2**13  # tokens
_CANCELS = 1e-6  # of a sum: what is left of it when one term is subtracted is rounding


@dataclass(frozen=True)
class EnsembleTokens:
    """Results of a step's seeds together at each token, nats."""

    to_mean: list[NDArray[np.float32]]  # of each seed (token,), its KL to their mean distribution
    pseudo: Floats  # (seed, token) pseudo-values of the surprisal of the mean
    together: Floats  # (metric, token) in the order of `ENSEMBLE_METRICS`


def read_ensemble(
    study: StudyReader, model: str, step: int, seeds: Sequence[str]
) -> EnsembleTokens | None:
    """Return what the results of these seeds come to; None: they have no KL to their mean.

    Raise DamagedError.
    """
    of = study.ledger(model).set_with(step, TO_MEAN)
    if of is None or {*of.seeds} != {*seeds}:
        return None
    to_mean, surprisal, entropy = (
        [study.values(model, name, seed, step) for seed in seeds]
        for name in (TO_MEAN, "surprisal", "entropy")
    )
    divergence, own = _mean(to_mean), _mean(entropy)
    of_mean, pseudo = surprisal_of_mean(np.stack(surprisal))
    ambiguity = _mean(surprisal) - of_mean
    together = np.stack([divergence, own + divergence, of_mean, ambiguity])
    return EnsembleTokens(to_mean, pseudo, together)


def _mean(rows: Sequence[NDArray[Any]]) -> Floats:
    total: Floats = np.zeros(len(rows[0]))
    for row in rows:
        total += row
    return total / len(rows)


@np.errstate(divide="ignore", invalid="ignore", over="ignore")  # a surprisal may be infinite
def surprisal_of_mean(surprisal: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return -log of the seeds' mean probability, (token,), and its pseudo-values, (seed, token).

    Of (seed, token) surprisals, nats. A pseudo-value is S times the value less S - 1 times the
    same without that seed (Tukey 1958); of one seed alone it is its surprisal.
    """
    n_seeds, n_tokens = surprisal.shape
    of_mean, pseudo = np.empty(n_tokens), np.empty((n_seeds, n_tokens))
    for start in range(0, n_tokens, _BLOCK):
        block = surprisal[:, start : start + _BLOCK].astype(np.float64)
        least = block.min(axis=0)
        p = np.exp(least - block)  # to that of the most probable, so that the sum is 1 at least
        total = p.sum(axis=0)
        value = least - np.log(total / n_seeds)
        others = total - p
        for seed, token in np.argwhere(others < _CANCELS * total):
            others[seed, token] = np.delete(p[:, token], seed).sum()
        without = least - np.log(others / (n_seeds - 1))
        part = slice(start, start + block.shape[1])
        of_mean[part] = value
        pseudo[:, part] = n_seeds * value - (n_seeds - 1) * without if n_seeds > 1 else block
    return of_mean, pseudo


def pseudo_values(
    to_mean: Floats, entropy: Floats, cross_entropy: Floats, pseudo: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return pseudo-values of `ENSEMBLE_METRICS`, of means by seed, (seed, ...) each.

    `pseudo` has those of the surprisal of the mean.
    """
    n_seeds = len(to_mean)
    # Without a seed the mean distribution changes, and so do the other seeds' divergences.
    jackknifed = to_mean * n_seeds / max(n_seeds - 1, 1)
    return jackknifed, entropy + jackknifed, pseudo, cross_entropy - pseudo


def ensemble_summary(
    tokens: EnsembleTokens,
    of_seed: dict[str, Floats],
    means: Callable[[Floats], Floats],
    category: Category,
    clusters: Ints,
) -> dict[str, Floats]:
    """Return the summaries `kl_to_mean`, (seed, level), and `ensemble`, (statistic, level).

    `of_seed` has means over a level's tokens, (seed, level): `entropy`, `cross_entropy`. `means`
    returns these, (result, level), of (token, result).
    """
    to_mean = np.concatenate([means(row[:, None].astype(np.float64)) for row in tokens.to_mean])
    pseudo = np.concatenate([means(row[:, None]) for row in tokens.pseudo])
    of_seeds = pseudo_values(to_mean, of_seed["entropy"], of_seed["cross_entropy"], pseudo)
    of_mean = means(np.ascontiguousarray(tokens.together[2:3].T))[0]
    values = (
        to_mean.mean(axis=0),
        (of_seed["entropy"] + to_mean).mean(axis=0),
        of_mean,
        of_seed["cross_entropy"].mean(axis=0) - of_mean,
    )
    found = [
        pseudo_interval(value, draws, cluster_cells(by_token, clusters, category))
        for value, draws, by_token in zip(values, of_seeds, tokens.together, strict=True)
    ]
    return {TO_MEAN: to_mean, "ensemble": np.concatenate([np.stack(one) for one in found])}
