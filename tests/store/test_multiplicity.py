"""P-values of many comparisons: by hand, against statsmodels, and how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from store.statistics import adjusted
from store.statistics.clusters import ClusterCells
from store.statistics.intervals import difference_of_cells, difference_p


def test_by_hand() -> None:
    p = np.array([0.04, 0.01, 0.03, 0.005])
    # Holm: 4 x 0.005, 3 x 0.01, 2 x 0.03, 1 x 0.04, none below the one before
    assert adjusted(p) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    # Benjamini and Hochberg: 4/1 x 0.005, 4/2 x 0.01, 4/3 x 0.03, 4/4 x 0.04, none above the next
    assert adjusted(p, "bh") == pytest.approx([0.04, 0.02, 0.04, 0.02])
    assert adjusted(np.array([0.5, 0.9])) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(("how", "method"), [("holm", "holm"), ("bh", "fdr_bh")])
def test_as_statsmodels_has_them(how: str, method: str) -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 300):
        p = rng.random(n) ** 3
        p[n // 2] = p[0]  # a tie
        expected = multipletests(p, method=method)[1]
        np.testing.assert_allclose(adjusted(p, how), expected)  # type: ignore[arg-type]


def test_what_is_not_known_does_not_count() -> None:
    p = np.array([[0.01, np.nan], [0.02, np.nan]])
    found = adjusted(p)
    assert found[:, 0] == pytest.approx([0.02, 0.02])
    assert np.isnan(found[:, 1]).all()
    assert np.isnan(adjusted(np.full(3, np.nan), "bh")).all()
    assert adjusted(np.empty(0)).shape == (0,)


def test_p_of_a_difference_is_that_of_its_interval() -> None:
    rng = np.random.default_rng(1)
    kl_a, kl_b = rng.gamma(5, 0.1, (2, 5, 5, 40))
    n = rng.integers(1, 50, (12, 40))
    total = rng.normal(0, 2, (12, 40))
    cluster, level = np.nonzero(n)
    cells = ClusterCells(level, total[cluster, level], n[cluster, level])
    for same_seeds in (True, False):
        p = difference_p(kl_a, kl_b, cells, same_seeds=same_seeds)
        for confidence in (0.5, 0.8, 0.95):
            found = difference_of_cells(
                kl_a, kl_b, cells, same_seeds=same_seeds, confidence=confidence
            )
            outside = (found.low > 0) | (found.high < 0)
            np.testing.assert_array_equal(outside, p < 1 - confidence)
    # Seeds alone, in a level of one cluster: a t-test of the jackknife's pseudo-values
    lone = ClusterCells(np.array([0]), np.array([3.0]), np.array([7]))
    apart = kl_a[..., :1] - kl_b[..., :1]
    off = ~np.eye(5, dtype=bool)
    whole = apart[off].mean()
    pseudo = [
        5 * whole - 4 * np.delete(np.delete(apart, s, 0), s, 1)[off[:4, :4]].mean()
        for s in range(5)
    ]
    expected = stats.ttest_1samp(pseudo, 0.0).pvalue
    (p,) = difference_p(kl_a[..., :1], kl_b[..., :1], lone, same_seeds=True)
    assert p == pytest.approx(expected)


def test_claims_are_as_rare_as_they_say() -> None:
    """Of 2,000 families of 20 tests that share half of their noise; a quarter have an effect."""
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 1, (2000, 20)) + rng.normal(0, 1, (2000, 1))
    effect = np.where(np.arange(20) < 5, 4.0, 0.0)
    p = 2 * stats.norm.sf(np.abs((noise + effect) / np.sqrt(2)))
    false = np.array([(adjusted(of) <= 0.05)[5:].any() for of in p])
    assert false.mean() <= 0.06
    assert np.mean([(of <= 0.05)[5:].any() for of in p]) > 0.3  # unadjusted
    claims = [adjusted(of, "bh") <= 0.05 for of in p]
    shares = [of[5:].sum() / max(of.sum(), 1) for of in claims]
    assert np.mean(shares) <= 0.06
