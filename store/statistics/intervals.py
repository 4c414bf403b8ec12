"""How sure a mean KL is, how it is spread over tokens, and which seed stands apart.

Pure functions of arrays, for all levels at once. Pairs share seeds and tokens share documents, so
neither are independent: what is resampled is seeds and documents (docs/method.md, *Uncertainty*).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.schema.variables import PERCENTILES

if TYPE_CHECKING:
    from store.reading.category import Category
    from store.schema.corpus import Corpus

Floats = NDArray[np.float64]

FEWEST_SEEDS = 3  # below which the spread over seeds cannot be told
FEWEST_TO_COMPARE = 4  # below which no seed can be told from the others

_MADS, _MADS_OF_FEW = 3.0, 30.0  # 3 + 30 / S: few seeds tell little of their own spread
_ROUNDING = 2e-6  # nats, that any KL may be off by
_RUN = 256  # tokens that stand for a document where there is only one
_WIDE = 2**22  # cells of a table (cluster, level) that are made at once
_LEAST_EXCESS = 0.25  # of the median: what seeds that nearly agree differ by is no news


class Estimate(NamedTuple):
    """A value with its interval, (level,) each, nats."""

    value: Floats
    low: Floats
    high: Floats


class Extremes(NamedTuple):
    """Indices of tokens, int64."""

    lowest: NDArray[np.int64]  # ascending KL
    middle: NDArray[np.int64]  # around the median, ascending KL
    highest: NDArray[np.int64]  # descending KL


# -- how sure a mean is --------------------------------------------------------------------------


def seed_jackknife(kl: Floats) -> tuple[Floats, int]:
    """Variance of the mean over ordered pairs, by leaving one seed out at a time.

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
    pairs = _without_diagonal(kl)
    of_seed = pairs.sum(axis=0) + pairs.sum(axis=1)  # pairs that a seed takes part in
    left_out = (pairs.sum(axis=(0, 1)) - of_seed) / ((n_seeds - 1) * (n_seeds - 2))
    return (n_seeds - 1) * left_out.var(axis=0), n_seeds - 1


def cluster_variance(total: Floats, n: NDArray[Any]) -> tuple[Floats, Floats]:
    """Variance of the mean over tokens, of documents drawn whole.

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
    n_tokens = n.sum(axis=0)
    clusters = np.count_nonzero(n, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = n / n_tokens
        miss = total / n_tokens - share * (total.sum(axis=0) / n_tokens)
        variance = (miss**2 / (1 - share)).sum(axis=0)
        df = np.maximum(1 / (share**2).sum(axis=0) - 1, 1.0)
    variance = np.where(clusters == 1, 0.0, np.where(clusters == 0, np.nan, variance))
    return variance, np.where(clusters > 1, df, 0.0)


def interval(
    kl: Floats, total: Floats, n: NDArray[Any], confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """The default interval of a level's expected KL: over seeds and over documents.

    Args:
        kl: as for `seed_jackknife`.
        total: as for `cluster_variance`.
        n: as for `cluster_variance`.
        confidence: share of such intervals that cover.

    Returns:
        low and high, (level,), nats; low is never below zero (unless the mean itself is, by
        rounding). NaN with fewer than 3 seeds, and in a level without tokens.
    """
    mean = pair_mean(kl)
    half = _half_width([seed_jackknife(kl), cluster_variance(total, n)], confidence)
    return np.minimum(np.maximum(mean - half, 0.0), mean), mean + half


def seed_interval(kl: Floats, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """The interval of an expected KL over draws of seeds alone, of the very items it is of.

    `kl` and what is returned are as for `interval`.
    """
    mean = pair_mean(kl)
    half = _half_width([seed_jackknife(kl)], confidence)
    return np.minimum(np.maximum(mean - half, 0.0), mean), mean + half


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
    """Expected KL of a minus that of b, measured on the same tokens, with its interval.

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
    if same_seeds and kl_a.shape != kl_b.shape:
        raise ValueError(f"the same seeds are needed, not {len(kl_a)} and {len(kl_b)}")
    seeds = (
        [seed_jackknife(kl_a - kl_b)]
        if same_seeds
        else [seed_jackknife(kl_a), seed_jackknife(kl_b)]
    )
    value = pair_mean(kl_a) - pair_mean(kl_b)
    half = _half_width([*seeds, cluster_variance(total_a - total_b, n)], confidence)
    return Estimate(value, value - half, value + half)


def between_levels(
    kl: Floats, total: Floats, n: NDArray[Any], a: int, b: int, confidence: float = 0.95
) -> Estimate:
    """Expected KL of level `a` minus that of level `b`, of the same seeds, with its interval.

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


def seeds_mean(of_seed: Floats, total: Floats, n: NDArray[Any]) -> Estimate:
    """Mean over seeds and tokens of what each checkpoint has, with its 95 % interval.

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


def pair_mean(kl: Floats) -> Floats:
    """Mean over ordered pairs of different seeds, (level,), of (seed, other_seed, level)."""
    n_seeds = len(kl)
    if n_seeds < 2:
        return np.full(kl.shape[2], np.nan)
    return np.asarray(_without_diagonal(kl).sum(axis=(0, 1)) / (n_seeds * (n_seeds - 1)))


def pair_std(kl: Floats) -> Floats:
    """The paper's band: standard deviation over ordered pairs, divisor n, (level,)."""
    if len(kl) < 2:
        return np.full(kl.shape[2], np.nan)
    return np.asarray(kl[~np.eye(len(kl), dtype=bool)].std(axis=0))


def _without_diagonal(kl: Floats) -> Floats:
    return np.where(np.eye(len(kl), dtype=bool)[:, :, None], 0.0, kl)


def _half_width(sources: list[tuple[Floats, Any]], confidence: float) -> Floats:
    """Half the interval of a sum of independent sources, (level,); Satterthwaite (1946)."""
    from scipy.special import stdtrit  # late: whoever only reads needs no scipy

    variance = np.sum([v for v, _ in sources], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spent = np.sum([v**2 / np.maximum(df, 1) for v, df in sources], axis=0)
        df = np.where(variance > 0, variance**2 / spent, 1.0)
    return np.asarray(stdtrit(df, 0.5 + confidence / 2) * np.sqrt(variance))


def mean_interval(values: Floats, confidence: float = 0.95, *, fewest: int = 2) -> Estimate:
    """Mean over independent draws, the first axis, with its Student's t interval.

    Args:
        values: (draw, ...); NaN: not drawn.
        confidence: share of such intervals that cover.
        fewest: draws, at least 2, below which there is no interval.

    Returns:
        Mean, low and high over the draws that there are, (...). The ends are NaN with fewer than
        `fewest` of them, the mean with none.
    """
    from scipy.special import stdtrit

    n = np.isfinite(values).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(n > 0, np.nansum(values, axis=0) / n, np.nan)
        variance = np.nansum((values - mean) ** 2, axis=0) / (n - 1) / n
    df = np.maximum(n - 1, 1)
    half = stdtrit(df, 0.5 + confidence / 2) * np.sqrt(np.abs(variance))
    half = np.where(n >= fewest, half, np.nan)
    return Estimate(mean, mean - half, mean + half)


# -- tokens by what is drawn whole ----------------------------------------------------------------


def token_clusters(corpus: Corpus) -> NDArray[np.int64]:
    """What is drawn whole: the document of each token, or runs of a lone document, (token,).

    Clusters are numbered from 0, without gaps.
    """
    if corpus.document.min() != corpus.document.max():
        return np.unique(corpus.document, return_inverse=True)[1].astype(np.int64)
    return np.arange(len(corpus)) // _RUN


def cluster_sums(
    values: Floats, clusters: NDArray[np.int64], category: Category
) -> tuple[Floats, NDArray[np.int64]]:
    """Sums of (token,) values and numbers of a category's tokens, (cluster, level) each."""
    n_clusters, width = int(clusters.max()) + 1, len(category.labels) + 1
    code = clusters * width + (category.level + 1)
    shape = n_clusters, width
    total: Floats = np.bincount(code, values, minlength=n_clusters * width).astype(np.float64)
    n = np.bincount(code, minlength=n_clusters * width)
    return total.reshape(shape)[:, 1:], n.reshape(shape)[:, 1:]


def few_levels(category: Category, clusters: NDArray[np.int64]) -> Iterator[tuple[slice, Category]]:
    """Yield (levels, the category with these alone), so few at a time that tables stay small.

    A corpus may have as many documents as levels.
    """
    n_levels = len(category.labels)
    at_once = max(1, _WIDE // (int(clusters.max()) + 1))
    for start in range(0, n_levels, at_once):
        part = slice(start, min(start + at_once, n_levels))
        level = category.level - part.start
        level = np.where((level >= 0) & (level < part.stop - part.start), level, -1)
        yield part, replace(category, labels=category.labels[part], level=level)


# -- how it is spread over tokens ----------------------------------------------------------------


def percentiles(
    token_kl: NDArray[np.floating[Any]],
    level: NDArray[np.integer[Any]],
    n_levels: int,
    order: NDArray[np.int64] | None = None,
) -> Floats:
    """Percentiles of the KL over each level's tokens, (percentile, level), nats.

    Args:
        token_kl: (token,) finite.
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
    """The `k` lowest, middle and highest tokens (all of them where there are fewer).

    Equal values come in the order of the tokens, in `highest` in the reverse of it.
    """
    order = np.argsort(token_kl, kind="stable")
    k = min(k, len(order))
    start = (len(order) - k) // 2
    return Extremes(order[:k], order[start : start + k], order[::-1][:k])


# -- which seed stands apart ---------------------------------------------------------------------


def distance(mean_kl: Floats) -> Floats:
    """Mean KL of each seed to and from the others, ([step, ]seed), nats.

    Of ([step, ]seed, other_seed). NaN for a seed that takes part in no pair.
    """
    itself = np.eye(mean_kl.shape[-1], dtype=bool)
    both = np.where(itself, np.nan, (mean_kl + mean_kl.swapaxes(-2, -1)) / 2)
    n = np.isfinite(both).sum(axis=-1)
    return np.where(n > 0, np.nansum(both, axis=-1) / np.maximum(n, 1), np.nan)


def outliers(mean_kl: Floats) -> NDArray[np.bool_]:
    """Seeds that are farther from the others than chance would have it, ([step, ]seed).

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


def _median(values: Floats) -> Floats:
    """Over the last axis, which is kept, of what is not NaN; NaN where there is nothing."""
    ascending = np.sort(values, axis=-1)  # NaN comes last
    n = np.isfinite(values).sum(axis=-1, keepdims=True)
    middle = (np.take_along_axis(ascending, at, axis=-1) for at in ((n - 1) // 2, n // 2))
    return np.where(n > 0, sum(middle) / 2, np.nan)
