"""The cells of (seed, other_seed) that are pairs, and means over pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.schema.array_types import Bools, Floats


def ordered_pairs(n_seeds: int) -> Bools:
    """Return which cells of (seed, other_seed) are pairs of different seeds."""
    return ~np.eye(n_seeds, dtype=bool)


def pairs_among(inside: Bools) -> Bools:
    """Return the ordered pairs with both seeds inside, (..., seed, other_seed).

    `inside` is of (..., seed).
    """
    return inside[..., :, None] & inside[..., None, :] & ordered_pairs(inside.shape[-1])


def without_diagonal(kl: Floats) -> Floats:
    """Return (seed, other_seed, level) with zeros where a seed meets itself."""
    return np.where(ordered_pairs(len(kl))[:, :, None], kl, 0.0)


@np.errstate(invalid="ignore")  # of what is not finite: NaN
def pair_mean(kl: Floats) -> Floats:
    """Return the mean over ordered pairs, (...), of (seed, other_seed, ...).

    The diagonal is not looked at; NaN with fewer than 2 seeds.
    """
    if len(kl) < 2:
        return np.full(kl.shape[2:], np.nan)
    return np.asarray(kl[ordered_pairs(len(kl))].mean(axis=0))


@np.errstate(invalid="ignore")  # of what is not finite: NaN
def pair_std(kl: Floats) -> Floats:
    """Return the standard deviation over ordered pairs, divisor n; axes are as for `pair_mean`."""
    if len(kl) < 2:
        return np.full(kl.shape[2:], np.nan)
    return np.asarray(kl[ordered_pairs(len(kl))].std(axis=0))


def mean_over_pairs(mean_kl: Floats, index: Sequence[int]) -> float:
    """Return the mean of one step's (seed, other_seed) over the ordered pairs among these seeds."""
    chosen = sorted(index)
    return float(pair_mean(mean_kl[np.ix_(chosen, chosen)]))


def over_pairs(
    kl: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], np.floating[Any]]
) -> NDArray[np.float64]:
    """Return a statistic of each step's pairs whose KL is finite, (step,); NaN without any.

    The pairs alone are summed, in their order: a seed that joins the axes without being reduced at
    a step must not change that step in its last digit.
    """
    reduced = (row[np.isfinite(row)] for row in kl)
    return np.array([statistic(row) if row.size else np.nan for row in reduced], np.float64)
