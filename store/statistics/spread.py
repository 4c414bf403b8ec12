"""The spread of KL over tokens: percentiles by level, and the tokens at the ends."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.schema.array_types import Floats, Ints
from store.schema.variable import PERCENTILES


class Extremes(NamedTuple):
    """Indices of tokens, int64."""

    lowest: Ints  # ascending KL
    middle: Ints  # around the median, ascending KL
    highest: Ints  # descending KL


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def percentiles(
    token_kl: NDArray[np.floating[Any]],
    level: NDArray[np.integer[Any]],
    n_levels: int,
    order: Ints | None = None,
) -> Floats:
    """Return percentiles of the KL over each level's tokens, (percentile, level), nats.

    Args:
        token_kl: (token,) nats. NaN counts as the highest.
        level: (token,) index of the token's level; -1: in none.
        n_levels: levels there are.
        order: `np.argsort(token_kl)`, where several partitions share it.

    Returns:
        `PERCENTILES` with linear interpolation, as `np.percentile`; NaN in a level without tokens.
    """
    order = np.argsort(token_kl) if order is None else order
    of = level[order].astype(np.int16 if n_levels < 2**15 else np.int64)  # int16: a radix sort
    by_level = order[np.argsort(of, kind="stable")]
    values = token_kl[by_level].astype(np.float64)
    n = np.bincount(level[level >= 0], minlength=n_levels)
    first = len(values) - n.sum() + np.cumsum(n) - n  # tokens in no level come before
    place = np.array(PERCENTILES)[:, None] / 100 * (n - 1)
    below = np.floor(place).clip(min=0).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(n - 1, 0))
    if not len(values):
        return np.full(place.shape, np.nan)
    last = len(values) - 1
    lower, upper = (values[np.minimum(first + at, last)] for at in (below, above))
    return np.where(n > 0, lower + (upper - lower) * (place - below), np.nan)


def extremes(token_kl: NDArray[np.floating[Any]], k: int) -> Extremes:
    """Return the `k` lowest, middle and highest tokens (all of them where there are fewer).

    Equal values come in the order of the tokens, in `highest` in the reverse of it.
    """
    order = np.argsort(token_kl, kind="stable")
    k = min(k, len(order))
    start = (len(order) - k) // 2
    return Extremes(order[:k], order[start : start + k], order[::-1][:k])
