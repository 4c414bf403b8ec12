"""Pure functions of arrays: means, intervals, spread over tokens, outliers, phases."""

from store.schema.seed_pairs import ordered_pairs, pair_mean, pair_std, without_diagonal
from store.statistics.clusters import token_clusters
from store.statistics.grouping import Grouped, grouped, groups_of
from store.statistics.intervals import (
    FEWEST_SEEDS,
    Estimate,
    between_levels,
    cluster_variance,
    difference,
    interval,
    mean_interval,
    seed_jackknife,
)
from store.statistics.kernel_alignment import Alignment, CrossMoments
from store.statistics.means import MEAN_OF, at_steps, mean_over_seeds
from store.statistics.multiplicity import ADJUSTMENTS, Adjustment, adjusted
from store.statistics.outlying import FEWEST_TO_COMPARE, distance, newly_outlying, outliers
from store.statistics.phases import find_phases
from store.statistics.planning import documents_needed, seeds_needed
from store.statistics.simultaneous import simultaneous_mean_band
from store.statistics.spread import extremes, percentiles

__all__ = [
    "ADJUSTMENTS",
    "FEWEST_SEEDS",
    "FEWEST_TO_COMPARE",
    "MEAN_OF",
    "Adjustment",
    "Alignment",
    "CrossMoments",
    "Estimate",
    "Grouped",
    "adjusted",
    "at_steps",
    "between_levels",
    "cluster_variance",
    "difference",
    "distance",
    "documents_needed",
    "extremes",
    "find_phases",
    "grouped",
    "groups_of",
    "interval",
    "mean_interval",
    "mean_over_seeds",
    "newly_outlying",
    "ordered_pairs",
    "outliers",
    "pair_mean",
    "pair_std",
    "percentiles",
    "seed_jackknife",
    "seeds_needed",
    "simultaneous_mean_band",
    "token_clusters",
    "without_diagonal",
]
