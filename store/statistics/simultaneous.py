"""Bands that hold at all steps at once: sup-t, of what makes the interval of each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from store.schema.array_types import Floats
from store.statistics.intervals import FEWEST_SEEDS, Estimate
from store.statistics.means import mean_of_known

_DRAWS = 2000
_LEAST = 1e-12  # of the largest variance: what is below is rounding


class VarianceSource(NamedTuple):
    """One source of variance, seeds or documents, of a number at several steps."""

    shares: Floats  # (step, seed or document) as of `seed_shares`, `cluster_shares`; nats
    df: Floats  # (step,) degrees of freedom of the variance


def half_widths(sources: Sequence[VarianceSource], confidence: float = 0.95) -> Floats:
    """Return half the band of independent sources, (step,), nats; NaN where a share is not finite.

    With a chance of `confidence` the band covers at all these steps. Draws have the steps'
    covariance, and each is divided by a drawn standard error. All steps have the one level at which
    this share of the draws is inside at every step (Montiel Olea and Plagborg-Moller 2019). The
    band is never wider than Bonferroni's, and never narrower than the interval of a single step.
    The same input gives the same band.
    """
    from scipy.special import stdtr, stdtrit  # late: those who only read need no scipy

    known = np.all([np.isfinite(of.shares).all(axis=1) for of in sources], axis=0)
    variances = np.array([(of.shares**2).sum(axis=1) for of in sources])
    half = np.where(known, 0.0, np.nan)
    total = np.where(known, variances.sum(axis=0), 0.0)
    at = np.flatnonzero(total > _LEAST * total.max(initial=0.0))
    if not len(at):
        return half
    variances, total = variances[:, at], total[at]
    freedom = np.maximum([of.df[at] for of in sources], 1.0)
    df = total**2 / (variances**2 / freedom).sum(axis=0)
    rng = np.random.default_rng(0)
    # For each step by itself: few seeds show more correlation between steps than there is.
    errors = 2 * rng.standard_gamma(freedom / 2, (_DRAWS, *freedom.shape)) / freedom
    t = _normal(rng, np.concatenate([of.shares[at] for of in sources], axis=1))
    t /= np.sqrt((errors * variances).sum(axis=1))
    least = 2 * stdtr(df, -np.abs(t)).min(axis=1)
    beyond = 1 - confidence
    level = np.clip(np.quantile(least, beyond), beyond / len(at), beyond)
    half[at] = stdtrit(df, 1 - level / 2) * np.sqrt(total)
    return half


@np.errstate(invalid="ignore", divide="ignore")  # where there are fewer than two draws: NaN
def simultaneous_mean_band(values: Floats) -> Estimate:
    """Return the mean over independent draws with its 95 % band over steps, (step, ...).

    Args:
        values: (draw, step, ...), such as of seeds; NaN, or infinite: not drawn.

    The band is of each of the other axes by itself; NaN with fewer than three draws.
    """
    known = np.isfinite(values)
    n = known.sum(axis=0)
    mean = mean_of_known(values, axis=0)
    error = np.where(n >= FEWEST_SEEDS, np.sqrt(n * (n - 1.0)), np.nan)
    shares = np.where(known, values - mean, 0.0) / error
    half = np.full(mean.shape, np.nan)
    for place in np.ndindex(mean.shape[1:]):
        at = (slice(None), *place)
        half[at] = half_widths([VarianceSource(shares[(slice(None), *at)].T, n[at] - 1.0)])
    return Estimate(mean, mean - half, mean + half)


def _normal(rng: np.random.Generator, shares: Floats) -> Floats:
    """Return normal draws with the covariance of these shares, (draw, step)."""
    values, vectors = np.linalg.eigh(shares @ shares.T)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(rng.standard_normal((_DRAWS, len(shares))) @ root.T)
