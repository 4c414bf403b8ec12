"""Means over tokens and over pairs: how each is made of the per-token results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEAN_OF = {  # array of means -> the per-token results whose mean over tokens it holds
    "mean_kl": "kl",
    "mean_js": "js",
    "cross_entropy": "surprisal",
    "mean_entropy": "entropy",
    "mean_kl_unigram": "kl_unigram",
}
RECORDED = ("storage_floor", "noise_floor")  # told by the record of scoring, and by nothing else


@dataclass(frozen=True)
class PairMean:
    """How a mean over tokens is made of per-token results of both seeds of a pair."""

    of: str  # the results
    term: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]  # at each token, of both seeds
    root: bool  # whether it is the root of the mean

    def total(self, i: NDArray[Any], j: NDArray[Any]) -> float:
        """Sum over some tokens."""
        return float(self.term(i, j).sum(dtype=np.float64))

    def mean(self, total: float, n_tokens: int) -> float:
        """What the sum over all tokens comes to."""
        return float(np.sqrt(total / n_tokens) if self.root else total / n_tokens)


def _agree(i: NDArray[np.int32], j: NDArray[np.int32]) -> NDArray[np.bool_]:
    return np.equal(i[:, 0], j[:, 0])


def _squared_difference(i: NDArray[np.float32], j: NDArray[np.float32]) -> NDArray[np.float64]:
    return (np.exp(-i.astype(np.float64)) - np.exp(-j.astype(np.float64))) ** 2


PAIR_OF = {  # by array of means
    "top1_agreement": PairMean("top_id", _agree, root=False),
    "target_rms": PairMean("surprisal", _squared_difference, root=True),
}


def mean_over_pairs(mean_kl: NDArray[np.float64], index: Sequence[int]) -> float:
    """Mean of one step's `mean_kl` (seed, other_seed) over the ordered pairs among these seeds."""
    chosen = sorted(index)
    means = mean_kl[np.ix_(chosen, chosen)]
    return float(means[~np.eye(len(chosen), dtype=bool)].mean())
