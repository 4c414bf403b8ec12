"""KL within and between groups of runs, and a permutation test over the runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from store.schema.array_types import Floats, Ints
from store.schema.seed_pairs import without_diagonal

MOST = 10_000  # arrangements of runs that are looked at; where there are more, as many are drawn
_AT_ONCE = 2**21  # numbers, 16 MiB
_SAME = 1e-12  # of a difference: rounding


class Grouped(NamedTuple):
    """Means of the pairs of runs by group, nats; (level,) where not said otherwise."""

    n_runs: tuple[int, ...]  # of each group
    each: Floats  # (group, level) mean over ordered pairs within a group; NaN: it has one run
    within: Floats  # mean over all pairs within some group
    between: Floats  # mean over all pairs of two groups
    share_within: float  # of the ordered pairs: with it `within` and `between` make the mean of all
    p_between: Floats  # of a difference between - within as large, if groups were drawn by lot
    p_each: Floats  # of groups that differ as much from each other in `each`, likewise
    arrangements: int  # of runs in groups of these sizes that were looked at
    exact: bool  # whether these are all there are


def groups_of(seeds: Sequence[str], groups: Sequence[Sequence[str]]) -> Ints:
    """Return the group of each of these seeds, (seed,), by its place; -1: it is in none."""
    place = {seed: at for at, members in enumerate(groups) for seed in members}
    return np.array([place.get(seed, -1) for seed in seeds], np.int64)


@np.errstate(invalid="ignore", divide="ignore")  # what is not finite comes to NaN
def grouped(kl: Floats, group: Ints, n_groups: int, most: int = MOST) -> Grouped:
    """Return the KL within and between groups, with p-values: exact where arrangements are few.

    Args:
        kl: (seed, other_seed, level) means over a level's tokens, nats. The diagonal is not
            looked at.
        group: (seed,) group of each run, from 0; -1: it takes no part.
        n_groups: how many there are; some may have no run.
        most: arrangements at most; where there are more, `most` - 1 are drawn, and the one that
            there is counts as well. The draws are the same each time.

    A p-value is a share of all arrangements of the runs in groups of the same sizes: those whose
    statistic is at least as large as the observed one, which is one of them (Mielke and Berry 2007;
    Phipson and Smyth 2010). Both are NaN where there are fewer than two groups, or no pair within
    one; `p_each` also with fewer than two groups that have pairs.
    """
    inside = group >= 0
    both = without_diagonal(kl[np.ix_(inside, inside)])
    both = (both + both.swapaxes(0, 1)) / 2
    group = group[inside]
    sizes = np.bincount(group, minlength=n_groups)
    pairs = sizes * (sizes - 1)
    n_within, n_all = int(pairs.sum()), len(group) * (len(group) - 1)
    total = both.sum(axis=(0, 1))

    def statistics(of: Floats) -> tuple[Floats, Floats]:
        """Return between - within, and the spread of `each`, (arrangement, level), of sums."""
        inner = of.sum(axis=1)
        apart = (total - inner) / (n_all - n_within) - inner / n_within
        means = of[:, pairs > 0] / pairs[pairs > 0][:, None]
        spread = means.max(axis=1) - means.min(axis=1) if means.shape[1] else apart * np.nan
        return apart, spread

    observed_sums = _sums(both, group[None], n_groups)
    observed = statistics(observed_sums)
    n, exact = _count(sizes, most)
    as_large = [np.zeros(kl.shape[2]), np.zeros(kl.shape[2])]
    testable = n_within > 0 and n_all > n_within
    if testable:
        step = max(1, _AT_ONCE // max(1, n_groups * len(group) * kl.shape[2]))
        for some in _batches(_arrangements(group, sizes, n, exact=exact), step):
            found = statistics(_sums(both, np.stack(some), n_groups))
            for counts, here, there in zip(as_large, found, observed, strict=True):
                counts += (here >= there - _SAME * np.abs(there)).sum(axis=0)
    p_between, p_each = (
        np.where(np.isfinite(there[0]) & testable, counts / n, np.nan)
        for counts, there in zip(as_large, observed, strict=True)
    )
    if (pairs > 0).sum() < 2:
        p_each = np.full(kl.shape[2], np.nan)
    inner = observed_sums[0].sum(axis=0)
    return Grouped(
        tuple(sizes.tolist()),
        np.where(pairs[:, None] > 0, observed_sums[0] / pairs[:, None], np.nan),
        inner / n_within if n_within else inner * np.nan,
        (total - inner) / (n_all - n_within) if n_all > n_within else inner * np.nan,
        n_within / n_all if n_all else math.nan,
        p_between,
        p_each,
        n,
        exact,
    )


def _sums(both: Floats, group: Ints, n_groups: int) -> Floats:
    """Return sums over ordered pairs within groups, (arrangement, group, level)."""
    member = (group[:, None, :] == np.arange(n_groups)[:, None]).astype(np.float64)
    rows = np.tensordot(member, both, axes=1)
    return np.asarray((rows * member[..., None]).sum(axis=2))


def _count(sizes: Ints, most: int) -> tuple[int, bool]:
    """Return how many arrangements are looked at, and whether these are all."""
    n = math.factorial(int(sizes.sum()))
    for size in sizes.tolist():
        n //= math.factorial(size)
    return (n, True) if n <= most else (most, False)


def _arrangements(group: Ints, sizes: Ints, n: int, *, exact: bool) -> Iterator[Ints]:
    """Yield groups of runs, (run,) each; drawn by lot, the one that there is comes first."""
    if not exact:
        rng = np.random.default_rng(0)
        yield group
        yield from (rng.permutation(group) for _ in range(n - 1))
        return

    def fill(left: tuple[int, ...], at: int, made: Ints) -> Iterator[Ints]:
        if at == len(sizes):
            yield made
            return
        for chosen in itertools.combinations(left, int(sizes[at])):
            filled = made.copy()
            filled[list(chosen)] = at
            yield from fill(tuple(run for run in left if run not in chosen), at + 1, filled)

    yield from fill(tuple(range(len(group))), 0, np.full(len(group), -1))


def _batches(arrangements: Iterator[Ints], n: int) -> Iterator[tuple[Ints, ...]]:
    while some := tuple(itertools.islice(arrangements, n)):
        yield some
