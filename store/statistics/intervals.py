"""Intervals of a mean KL, for all levels at once.

Pairs share seeds and tokens share documents, so neither are independent: what is resampled is seeds
and documents (docs/uncertainty.md).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.schema.array_types import Floats
from store.schema.seed_pairs import pair_mean, without_diagonal
from store.statistics.clusters import ClusterCells
from store.statistics.means import mean_of_known

FEWEST_SEEDS = 3  # below which nothing is said of the spread over seeds


class Estimate(NamedTuple):
    """A value with its interval, (level,) each, nats."""

    value: Floats
    low: Floats
    high: Floats


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def seed_jackknife(kl: Floats) -> tuple[Floats, int]:
    """Return the variance of the mean over ordered pairs, leaving one seed out at a time.

    Args:
        kl: (seed, other_seed, level) means over a level's tokens, nats, of the seeds that take
            part. The diagonal is not looked at.

    Returns:
        The variance, (level,), nats squared: NaN where a pair is NaN, and everywhere with fewer
        than 3 seeds. And its degrees of freedom, S - 1.

    The mean is a U-statistic of degree 2; Arvesen (1969). The estimate is never too small on
    average (Efron and Stein 1981).
    """
    n_seeds = len(kl)
    if n_seeds < FEWEST_SEEDS:
        return np.full(kl.shape[2], np.nan), n_seeds - 1
    return (n_seeds - 1) * _without_each(kl).var(axis=0), n_seeds - 1


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def seed_shares(kl: Floats) -> Floats:
    """Return what each seed adds to the mean's deviation, (seed, level), nats.

    Their squares sum to the variance of `seed_jackknife`, which has `kl`; those of two steps, seed
    by seed, give the covariance of both. NaN with fewer than 3 seeds.
    """
    n_seeds = len(kl)
    if n_seeds < FEWEST_SEEDS:
        return np.full((n_seeds, kl.shape[2]), np.nan)
    without = _without_each(kl)
    return np.asarray(np.sqrt((n_seeds - 1) / n_seeds) * (without.mean(axis=0) - without))


def _without_each(kl: Floats) -> Floats:
    """Return the mean over ordered pairs without each seed, (seed, level)."""
    pairs, n_seeds = without_diagonal(kl), len(kl)
    of_seed = pairs.sum(axis=0) + pairs.sum(axis=1)  # pairs that a seed takes part in
    left_out: Floats = (pairs.sum(axis=(0, 1)) - of_seed) / ((n_seeds - 1) * (n_seeds - 2))
    return left_out


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def cluster_variance(total: Floats, n: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return the variance of the mean over tokens, of documents drawn whole.

    Args:
        total: (cluster, level) sums over tokens of the KL averaged over pairs, nats.
        n: (cluster, level) tokens.

    Returns:
        The linearised variance of the ratio sum(total) / sum(n) over the clusters that have tokens
        in the level, (level,), nats squared; and its degrees of freedom: the effective number of
        clusters less one, at least 1. 0 for both in a level of one cluster, which says nothing of
        other text; NaN and 0 in one of none.

    One-way clustering as in Cameron, Gelbach and Miller (2011). A cluster of the share h of the
    level's tokens pulls the mean to itself, so its square is divided by 1 - h (Bell and McCaffrey
    2002); clusters of one size give the usual factor C / (C - 1). Effective clusters: Kish (1965).
    """
    return _cells_variance(_cells(total, n), n.shape[1])


def _cells(total: Floats, n: NDArray[Any]) -> ClusterCells:
    """Return the cells of a table, (cluster, level), that have tokens."""
    cluster, level = np.nonzero(n)
    return ClusterCells(level, total[cluster, level], n[cluster, level])


def _cells_variance(cells: ClusterCells, n_levels: int) -> tuple[Floats, Floats]:
    """Return what `cluster_variance` does, of the cells that have tokens."""
    clusters = np.bincount(cells.level, minlength=n_levels)
    miss, share = _misses(cells, n_levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = _by_level(cells, miss**2 / (1 - share), n_levels)
    variance = np.where(clusters == 1, 0.0, np.where(clusters == 0, np.nan, variance))
    return variance, _freedom(cells, share, n_levels)


@np.errstate(invalid="ignore", divide="ignore")  # of what is not finite: NaN
def cluster_shares(cells: ClusterCells, n_levels: int) -> tuple[Floats, Floats]:
    """Return what each cell adds to its level's deviation, (cell,), and degrees of freedom.

    Squares of a level sum to the variance of `cluster_variance`, which has the degrees of freedom,
    (level,); products of two steps to the covariance of both. 0 in a level of one cluster.
    """
    miss, share = _misses(cells, n_levels)
    added = np.where(share < 1, miss / np.sqrt(1 - share), 0.0)
    return added, _freedom(cells, share, n_levels)


def _freedom(cells: ClusterCells, share: Floats, n_levels: int) -> Floats:
    """Return the degrees of freedom of `cluster_variance`; `share` is each cell's of the tokens."""
    clusters = np.bincount(cells.level, minlength=n_levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        df = np.maximum(1 / _by_level(cells, share**2, n_levels) - 1, 1.0)
    return np.where(clusters > 1, df, 0.0)


def _by_level(cells: ClusterCells, values: NDArray[Any], n_levels: int) -> Floats:
    return np.bincount(cells.level, values, minlength=n_levels).astype(np.float64)


@np.errstate(invalid="ignore", divide="ignore")  # of a level without tokens: NaN
def _misses(cells: ClusterCells, n_levels: int) -> tuple[Floats, Floats]:
    """Return how far each cell pulls its level's mean, nats, and its share of the tokens."""
    level, n_tokens = cells.level, _by_level(cells, cells.n, n_levels)
    mean = _by_level(cells, cells.total, n_levels) / n_tokens
    share = cells.n / n_tokens[level]
    return cells.total / n_tokens[level] - share * mean[level], share


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def interval(
    kl: Floats, total: Floats, n: NDArray[Any], confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return the default interval of a level's expected KL: over seeds and documents.

    Args:
        kl: as for `seed_jackknife`.
        total: as for `cluster_variance`.
        n: as for `cluster_variance`.
        confidence: share of such intervals that cover.

    Returns:
        low and high, (level,), nats; low is never below zero (unless the mean itself is, by
        rounding). NaN with fewer than 3 seeds, and in a level without tokens.
    """
    return _around_mean(kl, cluster_variance(total, n), confidence)


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def interval_of_cells(
    kl: Floats, cells: ClusterCells, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return what `interval` does, of the cells that have tokens."""
    return _around_mean(kl, _cells_variance(cells, kl.shape[2]), confidence)


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def documents_interval(
    cells: ClusterCells, n_levels: int, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Return the interval of a level's mean KL over draws of documents, of these very seeds.

    low and high are as for `interval`; NaN also in a level of one document.
    """
    variance, df = _cells_variance(cells, n_levels)
    half = np.where(df > 0, _half_width([(variance, df)], confidence), np.nan)
    total = np.bincount(cells.level, cells.total, minlength=n_levels)
    with np.errstate(divide="ignore"):
        mean = total / np.bincount(cells.level, cells.n, minlength=n_levels)
    return np.minimum(np.maximum(mean - half, 0.0), mean), mean + half


def _around_mean(
    kl: Floats, documents: tuple[Floats, Floats], confidence: float
) -> tuple[Floats, Floats]:
    mean = pair_mean(kl)
    half = _half_width([seed_jackknife(kl), documents], confidence)
    return np.minimum(np.maximum(mean - half, 0.0), mean), mean + half


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def seed_interval(kl: Floats, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return the interval of an expected KL over draws of seeds, of the very items it is of.

    `kl` and what is returned are as for `interval`.
    """
    mean = pair_mean(kl)
    half = _half_width([seed_jackknife(kl)], confidence)
    return np.minimum(np.maximum(mean - half, 0.0), mean), mean + half


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def difference(
    kl_a: Floats,
    kl_b: Floats,
    total_a: Floats,
    total_b: Floats,
    n: NDArray[Any],
    *,
    same_seeds: bool,
    confidence: float = 0.95,
) -> Estimate:
    """Return expected KL of a minus that of b, of the same tokens, with its interval.

    Args:
        kl_a: as for `seed_jackknife`.
        kl_b: the same of the other; with `same_seeds` the same seeds in the same order.
        total_a: as for `cluster_variance`.
        total_b: the same of the other.
        n: (cluster, level) tokens, the same for both.
        same_seeds: two steps of the same runs, whose seeds are left out of both at once; else two
            models, whose seeds know nothing of each other.
        confidence: share of such intervals that cover.

    Raises:
        ValueError: with `same_seeds` the numbers of seeds differ.
    """
    cells = _cells(total_a - total_b, n)
    return difference_of_cells(kl_a, kl_b, cells, same_seeds=same_seeds, confidence=confidence)


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def difference_of_cells(
    kl_a: Floats,
    kl_b: Floats,
    apart: ClusterCells,
    *,
    same_seeds: bool,
    confidence: float = 0.95,
) -> Estimate:
    """Return what `difference` does, of the cells that have tokens: sums of a minus those of b."""
    sources = _of_difference(kl_a, kl_b, apart, same_seeds=same_seeds)
    value, half = pair_mean(kl_a) - pair_mean(kl_b), _half_width(sources, confidence)
    return Estimate(value, value - half, value + half)


@np.errstate(invalid="ignore", divide="ignore")  # what is not finite comes to NaN, or infinity
def difference_p(kl_a: Floats, kl_b: Floats, apart: ClusterCells, *, same_seeds: bool) -> Floats:
    """Return the two-sided p of no difference, (level,), of what `difference_of_cells` takes.

    Below 5 % where the interval leaves 0 out; NaN where there is no interval, or no spread.
    """
    from scipy.special import stdtr  # late: those who only read need no scipy

    variance, df = _joined(_of_difference(kl_a, kl_b, apart, same_seeds=same_seeds))
    t = np.abs(pair_mean(kl_a) - pair_mean(kl_b)) / np.sqrt(variance)
    return np.where(variance > 0, 2 * stdtr(df, -t), np.nan)


def _of_difference(
    kl_a: Floats, kl_b: Floats, apart: ClusterCells, *, same_seeds: bool
) -> list[tuple[Floats, Any]]:
    """Return the sources of variance of a difference: seeds, of both or of each, and documents."""
    if same_seeds and kl_a.shape != kl_b.shape:
        raise ValueError(f"the same seeds are needed, not {len(kl_a)} and {len(kl_b)}")
    seeds = (
        [seed_jackknife(kl_a - kl_b)]
        if same_seeds
        else [seed_jackknife(kl_a), seed_jackknife(kl_b)]
    )
    return [*seeds, _cells_variance(apart, kl_a.shape[2])]


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def between_levels(
    kl: Floats, total: Floats, n: NDArray[Any], a: int, b: int, confidence: float = 0.95
) -> Estimate:
    """Return expected KL of level `a` minus that of `b`, of the same seeds, with its interval.

    Args:
        kl: as for `seed_jackknife`.
        total: as for `cluster_variance`.
        n: as for `cluster_variance`.
        a: index of a level that has tokens.
        b: index of another.
        confidence: share of such intervals that cover.

    Returns:
        Of length 1. Levels share seeds and documents: both are left out of, or drawn for, the two
        at once. Over documents the variance is that of the difference of two ratios, linearised,
        with the factor C / (C - 1) of C documents (Woodruff 1971).
    """
    pair = [a, b]
    n_ab, kl_ab = n[:, pair], kl[..., pair]
    miss = (total[:, pair] - n_ab * (total[:, pair].sum(axis=0) / n_ab.sum(axis=0))) / n_ab.sum(
        axis=0
    )
    there = n_ab.any(axis=1)
    apart = (miss[:, :1] - miss[:, 1:])[there] * there.sum()
    value = pair_mean(kl_ab[..., :1] - kl_ab[..., 1:])
    sources = [
        seed_jackknife(kl_ab[..., :1] - kl_ab[..., 1:]),
        cluster_variance(apart, np.ones_like(apart)),
    ]
    half = _half_width(sources, confidence)
    return Estimate(value, value - half, value + half)


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def seeds_mean(of_seed: Floats, total: Floats, n: NDArray[Any]) -> Estimate:
    """Return the mean over seeds and tokens of what checkpoints have, with its 95 % interval.

    Args:
        of_seed: (seed, level) means over a level's tokens.
        total: (cluster, level) sums over tokens of the mean over seeds.
        n: as for `cluster_variance`.

    Returns:
        (level,) each; the interval is NaN with fewer than 3 seeds.
    """
    n_seeds = len(of_seed)
    value = of_seed.mean(axis=0)
    spread = of_seed.var(axis=0, ddof=1) / n_seeds if n_seeds >= FEWEST_SEEDS else value * np.nan
    half = _half_width([(spread, n_seeds - 1), cluster_variance(total, n)], 0.95)
    return Estimate(value, value - half, value + half)


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def pseudo_interval(value: Floats, pseudo: Floats, cells: ClusterCells) -> Estimate:
    """Return a number of all seeds together, (level,), with its 95 % interval, cut at zero.

    Args:
        value: (level,) of all seeds.
        pseudo: (seed, level) its pseudo-values, up to a constant that all share: S times the
            value less S - 1 times that without the seed (Tukey 1958).
        cells: sums over tokens of what `value` is the mean of.

    Returns:
        The interval is NaN with fewer than 3 seeds.
    """
    n_seeds = len(pseudo)
    spread = pseudo.var(axis=0, ddof=1) / n_seeds if n_seeds >= FEWEST_SEEDS else value * np.nan
    half = _half_width([(spread, n_seeds - 1), _cells_variance(cells, len(value))], 0.95)
    return Estimate(value, np.minimum(np.maximum(value - half, 0.0), value), value + half)


def _half_width(sources: list[tuple[Floats, Any]], confidence: float) -> Floats:
    """Return half the interval of a sum of independent sources, (level,).

    Satterthwaite (1946).
    """
    from scipy.special import stdtrit  # late: those who only read need no scipy

    variance, df = _joined(sources)
    return np.asarray(stdtrit(df, 0.5 + confidence / 2) * np.sqrt(variance))


def _joined(sources: list[tuple[Floats, Any]]) -> tuple[Floats, Floats]:
    """Return variance and degrees of freedom of a sum of independent sources, (level,) each."""
    variance = np.sum([v for v, _ in sources], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spent = np.sum([v**2 / np.maximum(df, 1) for v, df in sources], axis=0)
        df = np.where(variance > 0, variance**2 / spent, 1.0)
    return variance, df


def mean_interval(values: Floats, confidence: float = 0.95, *, fewest: int = 2) -> Estimate:
    """Return the mean over independent draws, the first axis, with its Student's t interval.

    Args:
        values: (draw, ...); NaN, or infinite: not drawn.
        confidence: share of such intervals that cover.
        fewest: draws, at least 2, below which there is no interval.

    Returns:
        Mean, low and high over the draws that there are, (...). The ends are NaN with fewer than
        `fewest` of them, the mean with none.
    """
    from scipy.special import stdtrit

    n = np.isfinite(values).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = mean_of_known(values, axis=0)
        miss = np.where(np.isfinite(values), values - mean, 0.0)
        variance = (miss**2).sum(axis=0) / (n - 1) / n
    df = np.maximum(n - 1, 1)
    half = stdtrit(df, 0.5 + confidence / 2) * np.sqrt(np.abs(variance))
    half = np.where(n >= fewest, half, np.nan)
    return Estimate(mean, mean - half, mean + half)
