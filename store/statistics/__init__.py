"""Pure functions of arrays: means, intervals, spread over tokens, outliers, phases."""

from store.statistics.clusters import cluster_sums, few_levels, token_clusters
from store.statistics.intervals import (
    FEWEST_SEEDS,
    Estimate,
    between_levels,
    cluster_variance,
    difference,
    interval,
    mean_interval,
    seed_interval,
    seed_jackknife,
    seeds_mean,
)
from store.statistics.means import (
    MEAN_OF,
    PAIR_OF,
    RECORDED,
    mean_of_known,
    mean_over_pairs,
    mean_over_seeds,
    ordered_pairs,
    pair_mean,
    pair_std,
    pairs_among,
    without_diagonal,
)
from store.statistics.outlying import FEWEST_TO_COMPARE, distance, newly_outlying, outliers
from store.statistics.phases import find_phases
from store.statistics.spread import Extremes, extremes, percentiles

__all__ = [
    "FEWEST_SEEDS",
    "FEWEST_TO_COMPARE",
    "MEAN_OF",
    "PAIR_OF",
    "RECORDED",
    "Estimate",
    "Extremes",
    "between_levels",
    "cluster_sums",
    "cluster_variance",
    "difference",
    "distance",
    "extremes",
    "few_levels",
    "find_phases",
    "interval",
    "mean_interval",
    "mean_of_known",
    "mean_over_pairs",
    "mean_over_seeds",
    "newly_outlying",
    "ordered_pairs",
    "outliers",
    "pair_mean",
    "pair_std",
    "pairs_among",
    "percentiles",
    "seed_interval",
    "seed_jackknife",
    "seeds_mean",
    "token_clusters",
    "without_diagonal",
]
