"""Intervals, percentiles and outliers: against loops, and by simulation with known components."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from store.schema import PERCENTILES, Category, Floats
from store.statistics import (
    cluster_variance,
    difference,
    distance,
    extremes,
    interval,
    outliers,
    pair_mean,
    pair_std,
    percentiles,
    seed_jackknife,
)
from store.statistics.clusters import cluster_cells, cluster_sums
from store.statistics.intervals import difference_of_cells, interval_of_cells
from tests.support.plain_statistics import (
    plain_cluster,
    plain_half,
    plain_jackknife,
    plain_mean,
)

# -- against loops -------------------------------------------------------------------------------


def example(seed: int, n_seeds: int, clusters: int = 7, levels: int = 4) -> tuple[Any, ...]:
    """(seed, other_seed, level) KL with NaN on the diagonal, totals and counts by cluster."""
    rng = np.random.default_rng(seed)
    kl = rng.gamma(3, 0.1, (n_seeds, n_seeds, levels))
    kl[np.eye(n_seeds, dtype=bool)] = np.nan
    n = rng.integers(1, 40, (clusters, levels))
    n[2, 1] = 0
    total = n * rng.gamma(5, 0.06, n.shape)
    return kl, total, n


@pytest.mark.parametrize("n_seeds", [3, 5, 10])
def test_variances_and_intervals_are_those_of_loops(n_seeds: int) -> None:
    kl, total, n = example(n_seeds, n_seeds)
    seeds, seeds_df = seed_jackknife(kl)
    documents, documents_df = cluster_variance(total, n)
    low, high = interval(kl, total, n, confidence=0.9)
    assert seeds_df == n_seeds - 1
    for level in range(4):
        of_documents = plain_cluster(total[:, level], n[:, level])
        of_seeds = plain_jackknife(kl[:, :, level]), n_seeds - 1
        mean = plain_mean(kl[:, :, level], list(range(n_seeds)))
        half = plain_half([of_seeds, of_documents], 0.9)
        assert seeds[level] == pytest.approx(of_seeds[0], rel=1e-12)
        assert (documents[level], documents_df[level]) == pytest.approx(of_documents, rel=1e-12)
        assert pair_mean(kl)[level] == pytest.approx(mean, rel=1e-12)
        assert high[level] == pytest.approx(mean + half, rel=1e-9)
        assert low[level] == pytest.approx(max(mean - half, 0), rel=1e-9)
        off = [kl[i, j, level] for i in range(n_seeds) for j in range(n_seeds) if i != j]
        assert pair_std(kl)[level] == pytest.approx(np.std(off), rel=1e-12)


@pytest.mark.parametrize("size", [7, 2100])  # documents, and levels: a small table, and a large one
def test_an_interval_of_the_cells_that_have_tokens_is_that_of_the_table(size: int) -> None:
    rng = np.random.default_rng(size)
    clusters = np.sort(np.append(rng.integers(0, size, 5 * size), size - 1))
    level = np.where(
        rng.random(len(clusters)) < 0.5, clusters, rng.integers(-1, size, len(clusters))
    )
    level[level == 3] = -1  # a level without tokens
    level[level == 4] = 5
    level[0] = 4  # and one of a single document
    parts = Category("c", tuple(map(str, range(size))), level.astype(np.int32), "")
    values = rng.gamma(3, 0.1, len(clusters))
    values[:3] = 0.0, np.nan, np.inf  # which spoil the levels that they are in
    kl = rng.gamma(3, 0.1, (3, 3, size))
    cells = cluster_cells(values, clusters, parts)
    assert (cells.n > 0).all()
    assert cells.n.sum() == (level >= 0).sum()
    total, n = cluster_sums(values, clusters, parts)
    for found, expected in zip(interval_of_cells(kl, cells), interval(kl, total, n), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    other, kl_other = rng.gamma(3, 0.1, len(clusters)), rng.gamma(3, 0.1, (3, 3, size))
    total_other, _ = cluster_sums(other, clusters, parts)
    with np.errstate(invalid="ignore"):
        apart = cluster_cells(values - other, clusters, parts)
    np.testing.assert_allclose(
        difference_of_cells(kl, kl_other, apart, same_seeds=True),
        difference(kl, kl_other, total, total_other, n, same_seeds=True),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("same_seeds", [True, False])
def test_a_difference_is_that_of_loops(same_seeds: bool) -> None:
    kl_a, total_a, n = example(1, 5)
    kl_b, total_b, _ = example(2, 5 if same_seeds else 4)
    found = difference(kl_a, kl_b, total_a, total_b, n, same_seeds=same_seeds)
    for level in range(4):
        a, b = kl_a[:, :, level], kl_b[:, :, level]
        parts = (
            [(plain_jackknife(a - b), 4.0)]
            if same_seeds
            else [(plain_jackknife(a), 4.0), (plain_jackknife(b), 3.0)]
        )
        parts.append(plain_cluster((total_a - total_b)[:, level], n[:, level]))
        value = plain_mean(a, list(range(5))) - plain_mean(b, list(range(len(b))))
        half = plain_half(parts, 0.95)
        at = found.value[level], found.low[level], found.high[level]
        assert at == pytest.approx((value, value - half, value + half), rel=1e-9)


def test_what_cannot_be_told_is_nan() -> None:
    kl, total, n = example(3, 5)
    kl[1, 2, 0] = np.nan
    n[:, 2], total[:, 2] = 0, 0
    n[1:, 3], total[1:, 3] = 0, 0
    low, high = interval(kl, total, n)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False, True, False]
    variance, df = cluster_variance(total, n)
    assert (variance[3], df[3]) == (0, 0)
    seeds_alone = plain_half([(plain_jackknife(kl[:, :, 3]), 4.0)], 0.95)
    assert high[3] - pair_mean(kl)[3] == pytest.approx(seeds_alone)
    two, total, n = example(3, 2)
    assert np.isnan(interval(two, total, n)).all()
    assert np.isfinite(pair_mean(two)).all()
    one = np.full((1, 1, 4), np.nan)
    assert np.isnan([pair_mean(one), pair_std(one), seed_jackknife(one)[0]]).all()
    with pytest.raises(ValueError, match="same seeds"):
        difference(kl, two, total, total, n, same_seeds=True)


def test_seeds_that_agree_have_an_interval_of_no_width() -> None:
    n = np.full((4, 1), 10)
    kl = np.full((3, 3, 1), 0.25)
    low, high = interval(kl, 0.25 * n, n)
    assert (low[0], high[0]) == (0.25, 0.25)
    low, high = interval(np.full((3, 3, 1), -1e-9), -1e-9 * n, n)  # rounding
    assert low[0] == high[0] == -1e-9


def test_low_is_never_below_zero() -> None:
    kl = np.full((3, 3, 1), 0.01)
    kl[0, 1:] = kl[1:, 0] = 1.0
    n = np.full((4, 1), 10)
    low, high = interval(kl, n * pair_mean(kl), n)
    assert low[0] == 0 < pair_mean(kl)[0] < high[0]


@pytest.mark.parametrize("n_tokens", [0, 1, 7, 500])
def test_percentiles_are_those_of_numpy(n_tokens: int) -> None:
    rng = np.random.default_rng(n_tokens)
    kl = rng.gamma(0.3, 1, n_tokens).astype(np.float32)
    level = rng.integers(-1, 5, n_tokens)
    level[level == 3] = 2  # a level without tokens
    found = percentiles(kl, level, 6)
    for at in range(6):
        inside = kl[level == at].astype(np.float64)
        if len(inside):
            np.testing.assert_allclose(found[:, at], np.percentile(inside, PERCENTILES), rtol=1e-12)
        else:
            assert np.isnan(found[:, at]).all()
    np.testing.assert_array_equal(percentiles(kl, level, 6, np.argsort(kl)), found)
    if n_tokens:
        many = percentiles(kl, np.arange(n_tokens), 40_000)  # more levels than int16 counts
        np.testing.assert_array_equal(many[0, :n_tokens], kl)


def test_extremes_are_the_ends_and_the_middle() -> None:
    kl = np.array([5.0, 1.0, 4.0, 0.0, 3.0, 2.0, 6.0])
    found = extremes(kl, 3)
    assert kl[found.lowest].tolist() == [0, 1, 2]
    assert kl[found.middle].tolist() == [2, 3, 4]
    assert kl[found.highest].tolist() == [6, 5, 4]
    assert [len(part) for part in extremes(kl[:2], 3)] == [2, 2, 2]
    assert [len(part) for part in extremes(kl[:0], 3)] == [0, 0, 0]


# -- coverage by simulation ----------------------------------------------------------------------

MEAN = 0.1
REPLICATES = 600
# Standard deviations of each component of the KL of a pair at a token, in nats: seed, pair,
# document, seed within document, token. Two kinds of studies: seeds matter more, documents do.
COMPONENTS = {
    "seeds": (0.02, 0.005, 0.01, 0.005, 0.2),
    "both": (0.01, 0.005, 0.02, 0.01, 0.2),
    "documents": (0.003, 0.001, 0.05, 0.01, 0.2),
}


class Simulated:
    """Studies of one shape, many at once: a replicate is a level to the functions tested."""

    def __init__(self, rng: Any, n_seeds: int, clusters: int, of: str) -> None:
        self.rng, self.n_seeds, self.clusters = rng, n_seeds, clusters
        self.sizes = np.maximum(10, 300 * np.exp(rng.normal(0, 0.8, clusters))).astype(int)
        self.of = np.array(COMPONENTS[of])
        self.documents = self.normal(self.of[2], clusters)
        self.tokens = self.normal(self.of[4], clusters) / np.sqrt(self.sizes)
        self.seeds = self.draw_seeds()

    def normal(self, scale: float, *shape: int) -> Floats:
        return np.asarray(self.rng.normal(0, scale, (REPLICATES, *shape)))

    def draw_seeds(self) -> Floats:
        """(replicate, seed, other_seed, document): everything that comes of the seeds."""
        s, c = self.n_seeds, self.clusters
        seed = self.normal(self.of[0], s)[:, :, None] + self.normal(self.of[3], s, c)
        pair = self.normal(self.of[1], s, s) / np.sqrt(2)
        return np.asarray(
            seed[:, :, None] + seed[:, None] + (pair + pair.transpose(0, 2, 1))[..., None]
        )

    def data(self, mean: float, seeds: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """The arguments `kl` (seed, other_seed, level), `total` and `n` (cluster, level)."""
        kl = mean + seeds + (self.documents + self.tokens)[:, None, None]
        off = ~np.eye(self.n_seeds, dtype=bool)
        total = kl[:, off].mean(axis=1) * self.sizes
        n = np.repeat(self.sizes[:, None], REPLICATES, axis=1)
        means = (kl * self.sizes).sum(axis=-1) / self.sizes.sum()
        return means.transpose(1, 2, 0), total.T, n

    def naive_half(self, kl: Floats) -> Floats:
        """1.96 standard errors, as if every token of every pair were a draw of its own."""
        drawn = self.sizes.sum() * self.n_seeds * (self.n_seeds - 1)
        return np.asarray(1.96 * np.hypot(pair_std(kl), self.of[4]) / np.sqrt(drawn))


def covers(low: Floats, high: Floats, truth: float) -> float:
    return float(((low <= truth) & (truth <= high)).mean())


SHAPES = [(5, 20), (5, 40), (10, 20), (10, 40)]


@pytest.mark.parametrize("of", COMPONENTS)
@pytest.mark.parametrize(("n_seeds", "clusters"), SHAPES)
def test_the_interval_covers_where_the_naive_one_does_not(
    n_seeds: int, clusters: int, of: str
) -> None:
    coverage, naive = [], []
    for drawn in range(3):  # other sizes of documents
        rng = np.random.default_rng([n_seeds, clusters, drawn])
        simulated = Simulated(rng, n_seeds, clusters, of)
        kl, total, n = simulated.data(MEAN, simulated.seeds)
        coverage.append(covers(*interval(kl, total, n), MEAN))
        half, mean = simulated.naive_half(kl), pair_mean(kl)
        naive.append(covers(mean - half, mean + half, MEAN))
    assert 0.90 <= np.mean(coverage) <= 0.98, coverage
    assert 0.02 <= np.mean(naive).round(2) <= 0.07, "what docs/paper.md and uncertainty.md say"


@pytest.mark.parametrize("of", COMPONENTS)
@pytest.mark.parametrize("same_seeds", [True, False])
def test_the_interval_of_a_difference_covers(same_seeds: bool, of: str) -> None:
    """Documents move b half as far; of the same seeds half of what they do is shared."""
    coverage, naive, true = [], [], 0.02
    for drawn in range(3):
        rng = np.random.default_rng([17, drawn])
        simulated = Simulated(rng, 6, 30, of)
        first, fresh = simulated.seeds, simulated.draw_seeds()
        kl_a, total_a, n = simulated.data(MEAN + true, first)
        simulated.documents = 0.5 * simulated.documents
        kl_b, total_b, _ = simulated.data(MEAN, (first + fresh) / 2 if same_seeds else fresh)
        found = difference(kl_a, kl_b, total_a, total_b, n, same_seeds=same_seeds)
        coverage.append(covers(found.low, found.high, true))
        half = np.hypot(simulated.naive_half(kl_a), simulated.naive_half(kl_b))
        naive.append(covers(found.value - half, found.value + half, true))
    assert 0.90 <= np.mean(coverage) <= 0.98, coverage
    assert np.mean(naive) < 0.6, naive


# -- outliers ------------------------------------------------------------------------------------


def matrices(rng: Any, n_seeds: int, spread: float, n: int) -> Floats:
    """(n, seed, other_seed) mean KL of seeds of one distribution: each adds what is its own."""
    own = rng.normal(0, spread, (n, n_seeds))
    pair = rng.normal(0, spread, (n, n_seeds, n_seeds))
    kl = 0.1 * (1 + own[:, :, None] + own[:, None] + (pair + pair.transpose(0, 2, 1)) / 2)
    kl[:, np.eye(n_seeds, dtype=bool)] = np.nan
    return np.asarray(kl)


@pytest.mark.parametrize("spread", [1e-6, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("n_seeds", [3, 4, 5, 10])
def test_equal_seeds_are_no_outliers(n_seeds: int, spread: float) -> None:
    steps = matrices(np.random.default_rng(n_seeds), n_seeds, spread, 2000)
    alarms = np.mean([outliers(kl).any() for kl in steps])
    assert alarms <= 0.01


@pytest.mark.parametrize("n_seeds", [4, 5, 10])
def test_a_seed_twice_as_far_is_found(n_seeds: int) -> None:
    steps = matrices(np.random.default_rng(n_seeds), n_seeds, 0.03, 200)
    steps[:, 1] *= 2
    steps[:, :, 1] *= 2
    found = np.array([outliers(kl) for kl in steps])
    assert found[:, 1].mean() > (0.7 if n_seeds == 4 else 0.9)
    assert not np.delete(found, 1, axis=1).any()


def test_rounding_makes_no_outlier() -> None:
    same = np.full((5, 5), -3e-17)  # as seeds that start from the same weights
    same[1] = same[:, 1] = 1e-7
    assert not outliers(same).any()


def test_seeds_not_reduced_take_no_part_in_finding_outliers() -> None:
    kl = matrices(np.random.default_rng(0), 7, 0.02, 1)[0]
    kl[1] *= 3
    kl[:, 1] *= 3
    kl[4] = kl[:, 4] = np.nan
    assert outliers(kl).tolist() == [False, True, *[False] * 5]
    expected = np.mean([(kl[1, j] + kl[j, 1]) / 2 for j in (0, 2, 3, 5, 6)])
    assert distance(kl)[1] == pytest.approx(expected)
    assert np.isnan(distance(kl)[4])
    kl[[0, 2, 3]] = kl[:, [0, 2, 3]] = np.nan
    assert not outliers(kl).any()
