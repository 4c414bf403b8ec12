"""Means over tokens: how each is made of the per-token results; and means over seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.schema.array_types import Floats
from store.schema.pair_metrics import PAIR_METRICS

MEAN_OF = {  # array of means -> the per-token results whose mean over tokens it holds
    **{metric.array: metric.name for metric in PAIR_METRICS if metric.is_divergence},
    "cross_entropy": "surprisal",
    "mean_entropy": "entropy",
    "mean_kl_unigram": "kl_unigram",
}
RECORDED = ("storage_floor", "noise_floor")  # in the record of scoring, and nowhere else


@dataclass(frozen=True)
class PairMean:
    """The way to a mean over tokens, from per-token results of both seeds of a pair."""

    of: str  # the results
    term: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]  # at each token, of both seeds
    root: bool  # whether it is the root of the mean

    def total(self, i: NDArray[Any], j: NDArray[Any]) -> float:
        """Return the sum over some tokens; NaN, or infinite, where one of them is."""
        with np.errstate(invalid="ignore", over="ignore"):
            return float(self.term(i, j).sum(dtype=np.float64))

    def mean(self, total: float, n_tokens: int) -> float:
        """Return what the sum over all tokens comes to."""
        return float(np.sqrt(total / n_tokens) if self.root else total / n_tokens)


def _agree(i: NDArray[np.int32], j: NDArray[np.int32]) -> NDArray[np.bool_]:
    return np.equal(i[:, 0], j[:, 0])


def _squared_difference(i: NDArray[np.float32], j: NDArray[np.float32]) -> NDArray[np.float64]:
    return (np.exp(-i.astype(np.float64)) - np.exp(-j.astype(np.float64))) ** 2


PAIR_OF = {  # by array of means
    "top1_agreement": PairMean("top_id", _agree, root=False),
    "target_rms": PairMean("surprisal", _squared_difference, root=True),
}


def mean_of_known(values: Floats, axis: int) -> Floats:
    """Return the mean over one axis of what is finite; NaN where nothing is."""
    known = np.isfinite(values)
    n = np.count_nonzero(known, axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def mean_over_seeds(values: Floats) -> Floats:
    """Return the mean over the seeds that are known, (step, ...), of (step, seed, ...)."""
    return mean_of_known(values, axis=1)


def at_steps(steps: NDArray[np.int64], known: NDArray[np.int64], values: Floats) -> Floats:
    """Return values of the steps `known`, (step, ...), at all of `steps`; NaN at the others.

    Both are ascending.
    """
    placed = np.full((len(steps), *values.shape[1:]), np.nan)
    placed[np.isin(steps, known)] = values[np.isin(known, steps)]
    return placed
