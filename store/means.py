"""Means over tokens and over pairs: how each is made of the per-token results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEAN_OF = {  # array of means -> the per-token results whose mean over tokens it holds
    "mean_kl": "kl",
    "mean_js": "js",
    "cross_entropy": "surprisal",
    "mean_entropy": "entropy",
}
RECORDED = ("storage_floor", "noise_floor")  # told by the record of scoring, and by nothing else


def _agreement(i: NDArray[np.int32], j: NDArray[np.int32]) -> float:
    return float((i[:, 0] == j[:, 0]).mean())


def _target_rms(i: NDArray[np.float32], j: NDArray[np.float32]) -> float:
    difference = np.exp(-i.astype(np.float64)) - np.exp(-j.astype(np.float64))
    return float(np.sqrt(np.mean(difference**2)))


# Array of means by pair -> (per-token results of each of the two seeds, what is made of them).
PAIR_OF: dict[str, tuple[str, Callable[[NDArray[Any], NDArray[Any]], float]]] = {
    "top1_agreement": ("top_id", _agreement),
    "target_rms": ("surprisal", _target_rms),
}


def mean_over_pairs(mean_kl: NDArray[np.float64], index: Sequence[int]) -> float:
    """Mean of one step's `mean_kl` (seed, other_seed) over the ordered pairs among these seeds."""
    chosen = sorted(index)
    means = mean_kl[np.ix_(chosen, chosen)]
    return float(means[~np.eye(len(chosen), dtype=bool)].mean())
