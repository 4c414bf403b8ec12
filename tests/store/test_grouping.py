"""KL within and between groups of runs: by hand, against plain loops, and under no difference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from store.statistics import grouped, groups_of, pair_mean

Floats = NDArray[np.float64]


def make_kl(rng: np.random.Generator, n: int, levels: int = 2) -> Floats:
    kl = rng.gamma(4, 0.1, (n, n, levels))
    kl[np.eye(n, dtype=bool)] = np.nan
    return np.asarray(kl)


def by_hand(kl: Floats, group: list[int], level: int) -> tuple[float, float, list[float]]:
    """Means over ordered pairs within any group, between two, and within each."""
    n = len(group)
    pairs = list(itertools.permutations(range(n), 2))
    within = [kl[i, j, level] for i, j in pairs if group[i] == group[j]]
    between = [kl[i, j, level] for i, j in pairs if group[i] != group[j]]
    each = [
        float(np.mean([kl[i, j, level] for i, j in pairs if group[i] == group[j] == g]))
        for g in sorted({*group})
    ]
    return float(np.mean(within)), float(np.mean(between)), each


def test_four_runs_by_hand() -> None:
    """Of six ways to take two of four runs, two make these groups: no p is below a third."""
    kl = np.full((4, 4, 1), 0.5)
    kl[0, 1] = kl[1, 0] = 0.1
    kl[2, 3], kl[3, 2] = 0.2, 0.4
    kl[np.eye(4, dtype=bool)] = np.nan
    found = grouped(kl, np.array([0, 0, 1, 1]), 2)
    assert found.n_runs == (2, 2)
    assert found.each[:, 0] == pytest.approx([0.1, 0.3])
    assert found.within == pytest.approx(0.2)
    assert found.between == pytest.approx(0.5)
    assert found.share_within == pytest.approx(4 / 12)
    assert (found.arrangements, found.exact) == (6, True)
    assert found.p_between == pytest.approx(2 / 6)
    assert found.p_each == pytest.approx(2 / 6)


@pytest.mark.parametrize("group", [[0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 2, 2, 1], [0, 0, 1, 1, 1]])
def test_it_is_what_plain_loops_give(group: list[int]) -> None:
    kl = make_kl(np.random.default_rng(len(group)), len(group))
    n_groups = max(group) + 1
    found = grouped(kl, np.array(group), n_groups)
    ways = sorted({*itertools.permutations(group)})
    assert (found.arrangements, found.exact) == (len(ways), True)
    for level in range(2):
        within, between, each = by_hand(kl, group, level)
        assert found.within[level] == pytest.approx(within)
        assert found.between[level] == pytest.approx(between)
        assert found.each[:, level] == pytest.approx(each)
        made = found.share_within * within + (1 - found.share_within) * between
        assert made == pytest.approx(pair_mean(kl)[level])
        of_ways = [by_hand(kl, list(way), level) for way in ways]
        apart = [b - w >= between - within - 1e-12 for w, b, _ in of_ways]
        spread = [max(e) - min(e) >= max(each) - min(each) - 1e-12 for _, _, e in of_ways]
        assert found.p_between[level] == pytest.approx(np.mean(apart))
        assert found.p_each[level] == pytest.approx(np.mean(spread))


def test_many_arrangements_are_drawn_and_come_near() -> None:
    rng = np.random.default_rng(3)
    kl, group = make_kl(rng, 9, 5), np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    exact, drawn = grouped(kl, group, 3), grouped(kl, group, 3, most=1000)
    assert (exact.arrangements, exact.exact) == (1680, True)
    assert (drawn.arrangements, drawn.exact) == (1000, False)
    for name in ("p_between", "p_each"):
        np.testing.assert_allclose(getattr(drawn, name), getattr(exact, name), atol=0.06)
    again = grouped(kl, group, 3, most=1000)
    np.testing.assert_array_equal(again.p_between, drawn.p_between)


def test_p_is_as_rare_as_it_says_where_groups_do_not_matter() -> None:
    rng, group = np.random.default_rng(0), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    own = rng.gamma(4, 0.05, (8, 2000))  # each run has its own distance from all
    kl = own[:, None] + own[None] + rng.gamma(4, 0.02, (8, 8, 2000))
    found = grouped(kl, group, 2)
    for p in (found.p_between, found.p_each):
        for alpha in (0.05, 0.1, 0.3):
            assert (p <= alpha).mean() <= alpha + 0.02
    apart = kl + 0.3 * (group[:, None] != group)[..., None]
    assert (grouped(apart, group, 2).p_between <= 0.06).mean() > 0.95


def test_runs_in_no_group_and_groups_without_pairs() -> None:
    kl = make_kl(np.random.default_rng(1), 6)
    found = grouped(kl, groups_of("abcdef", ["ab", "d", "xy"]), 3)
    assert found.n_runs == (2, 1, 0)
    assert found.within == pytest.approx((kl[0, 1] + kl[1, 0]) / 2)
    others = [kl[0, 3], kl[3, 0], kl[1, 3], kl[3, 1]]
    assert found.between == pytest.approx(np.mean(others, axis=0))
    assert np.isfinite(found.each[0]).all()
    assert np.isnan(found.each[1:]).all()
    assert np.isfinite(found.p_between).all()
    assert np.isnan(found.p_each).all()
    for groups in (["ab"], ["a", "b"], [""], ["abcdef", "xyz"]):
        lone = grouped(kl, groups_of("abcdef", groups), len(groups))
        assert np.isnan(lone.p_between).all()
        assert np.isnan(lone.p_each).all()
