"""Outlier seeds, and when to report one: once, and not for a single step."""

from __future__ import annotations

import numpy as np

from store.schema.array_types import Bools, Floats
from store.schema.seed_pairs import ordered_pairs
from store.statistics.means import mean_of_known

FEWEST_TO_COMPARE = 4  # below which no seed can be told from the others

_MADS, _MADS_OF_FEW = 3.0, 30.0  # 3 + 30 / S: few seeds say little of their own spread
_ROUNDING = 2e-6  # nats, that any KL may be off by
_LEAST_EXCESS = 0.25  # of the median: what seeds that nearly agree differ by is no news


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def distance(mean_kl: Floats) -> Floats:
    """Return the mean KL of each seed to and from the others, ([step, ]seed), nats.

    Of ([step, ]seed, other_seed). NaN for a seed that takes part in no pair that is finite.
    """
    both = (mean_kl + mean_kl.swapaxes(-2, -1)) / 2
    others = ordered_pairs(mean_kl.shape[-1])
    return mean_of_known(np.where(others, both, np.nan), axis=-1)


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def outliers(mean_kl: Floats) -> Bools:
    """Find seeds that are farther from the others than chance has it, ([step, ]seed).

    Args:
        mean_kl: ([step, ]seed, other_seed) mean KL over tokens, nats; NaN: not reduced.

    Returns:
        Whether a seed's `distance` is beyond the median of all by more than 3 + 30 / S median
        absolute deviations (scaled by 1.4826 to a standard deviation), by more than a quarter of
        the median, and by more than rounding. Never with fewer than 4 seeds. With 3 deviations
        alone, 1 step in 8 would name one of 10 equal seeds, and 1 in 4 where few are spread
        unevenly.
    """
    far = distance(mean_kl)
    n_seeds = np.isfinite(far).sum(axis=-1, keepdims=True)
    median = _median(far)
    spread = 1.4826 * _median(np.abs(far - median))
    deviations = (_MADS + _MADS_OF_FEW / np.maximum(n_seeds, 1)) * spread
    least = np.maximum(np.maximum(deviations, _LEAST_EXCESS * median), _ROUNDING)
    return np.asarray((n_seeds >= FEWEST_TO_COMPARE) & (far - median > least))


def newly_outlying(mean_kl: Floats, at: int) -> Bools:
    """Find seeds that one more step makes outliers at two steps in a row, (seed,).

    Args:
        mean_kl: (n, seed, other_seed) mean KL over tokens of the reduced steps in their order,
            nats; NaN: not reduced.
        at: index of the step whose results are new; steps may come in any order.

    Returns:
        Whether the seed is an outlier at `at` and at exactly one step next to it: with more of them
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


def _median(values: Floats) -> Floats:
    """Return the median over the last axis, which is kept, of what is not NaN."""
    ascending = np.sort(values, axis=-1)  # NaN comes last
    n = np.isfinite(values).sum(axis=-1, keepdims=True)
    middle = (np.take_along_axis(ascending, at, axis=-1) for at in ((n - 1) // 2, n // 2))
    return np.where(n > 0, sum(middle) / 2, np.nan)
