"""When to say that a seed has become an outlier: once, and not for a single step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from store.statistics.intervals import outliers


def newly_outlying(mean_kl: NDArray[np.float64], at: int) -> NDArray[np.bool_]:
    """Seeds that results at one more step make outliers at two steps in a row, (seed,).

    Args:
        mean_kl: (n, seed, other_seed) mean KL over tokens of the reduced steps in their order,
            nats; NaN: not reduced.
        at: index of the step whose results are new; steps may come in any order.

    Returns:
        Whether the seed is an outlier at `at` and at exactly one step beside it: with more of them
        it was one before, with none it may be chance.
    """
    found = outliers(mean_kl[at])
    run = np.zeros(len(found), np.int64)
    for direction in (-1, 1):
        still = found
        for place in (at + direction, at + 2 * direction):
            if not still.any() or not 0 <= place < len(mean_kl):
                break
            still = still & outliers(mean_kl[place])
            run += still
    return np.asarray(found & (run == 1))
