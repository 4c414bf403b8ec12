"""How wide an interval of expected KL becomes with other numbers of seeds and documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.schema.array_types import Floats
from store.schema.seed_pairs import pair_mean
from store.statistics.intervals import FEWEST_SEEDS, cluster_variance, seed_jackknife, seed_shares

_MOST = 10**9  # documents that are tried
_FEWEST_FOR_PAIRS = 4  # seeds, below which pairs cannot be told from seeds


@dataclass(frozen=True)
class Components:
    """The variance of one expected KL by its sources, nats squared, as its interval has it.

    `of_seeds + of_pairs` is the variance over seeds, `of_documents` that over documents. `of_both`
    is what belongs to a seed in a document: it is a part of either.
    """

    value: float  # expected KL, nats
    n_seeds: int
    documents: float  # effective number, of equal sizes
    of_seeds: float  # what a seed adds to all of its pairs
    of_pairs: float  # what is a pair's own; 0 with three seeds, whose pairs do not show it
    of_documents: float
    of_both: float

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of the variance: of seeds, of documents, and of both (counted twice)."""
        seeds, documents = self.of_seeds + self.of_pairs, self.of_documents
        total = seeds + documents
        both = self.of_both
        return (seeds - both) / total, (documents - both) / total, 2 * both / total

    def widths(self, n_seeds: int, times: Floats) -> Floats:
        """Return the expected widths of 95 % intervals, nats, not cut at zero.

        With so many seeds, 3 at least, and so many times the documents; infinitely many are
        allowed.
        """
        from scipy.special import stdtrit  # late: those who only read need no scipy

        s = self.n_seeds
        over_seeds = self.of_seeds * s / n_seeds
        over_seeds += self.of_pairs * s * (s - 2) / (n_seeds * (n_seeds - 2))
        known = self.of_seeds + self.of_pairs
        both = self.of_both * over_seeds / known if known else 0.0
        v_seeds = over_seeds - both + both / times
        v_documents = (self.of_documents - self.of_both + both) / times
        freedom = np.maximum(self.documents * times - 1, 1.0)
        total = v_seeds + v_documents
        with np.errstate(invalid="ignore"):
            df = total**2 / (v_seeds**2 / (n_seeds - 1) + v_documents**2 / freedom)
        df = np.where(total > 0, df, 1.0)
        return np.asarray(2 * stdtrit(df, 0.975) * np.sqrt(total))


@np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
def components(kl: Floats, n: NDArray[np.int64]) -> Components:
    """Return the components of a pilot.

    Args:
        kl: (seed, other_seed, cluster) sums over tokens of each pair's KL, nats, at least 3 seeds.
        n: (cluster,) tokens, 1 at least; 2 clusters at least.
    """
    n_seeds, tokens = len(kl), n[:, None]
    mean = kl.sum(axis=2, keepdims=True) / n.sum()
    over_seeds = float(seed_jackknife(mean)[0][0])
    total = pair_mean(kl)[:, None]
    of_documents, freedom = (float(each[0]) for each in cluster_variance(total, tokens))
    of_each = seed_shares(kl)  # which is linear: what each seed adds, by document
    within = cluster_variance(of_each.T, np.repeat(tokens, n_seeds, axis=1))[0].sum()
    of_pairs = min(_of_pairs(mean[..., 0]), over_seeds)
    return Components(
        value=float(pair_mean(mean)[0]),
        n_seeds=n_seeds,
        documents=freedom + 1,
        of_seeds=over_seeds - of_pairs,
        of_pairs=of_pairs,
        of_documents=of_documents,
        of_both=min(float(within), over_seeds, of_documents),
    )


def _of_pairs(kl: Floats) -> float:
    """Return the expected part of `seed_jackknife` that is of single pairs.

    Least squares of a pair's KL on both of its seeds (a diallel without selfs; Griffing 1956).
    """
    n = len(kl)
    if n < _FEWEST_FOR_PAIRS:
        return 0.0
    pairs = np.where(np.eye(n, dtype=bool), 0.0, (kl + kl.T) / 2)
    of_seed = pairs.sum(axis=0)
    seed = (n * of_seed - of_seed.sum()) / (n * (n - 2))
    fitted = of_seed.sum() / (n * (n - 1)) + seed[:, None] + seed
    miss = np.where(np.eye(n, dtype=bool), 0.0, pairs - fitted)
    variance = (miss**2).sum() / 2 / (n * (n - 3) / 2)
    return float(4 * variance / (n * (n - 2)))


def documents_needed(
    of: Components, width: float, n_seeds: int, documents: int
) -> tuple[int | None, float]:
    """Return how many documents an interval no wider needs, and the least width of any text, nats.

    With so many seeds; `documents` is how many the pilot's text has. None: no text is enough, as
    the seeds alone make it wider, or more than a billion documents are needed.
    """

    def widths(n: NDArray[np.int64]) -> Floats:
        return of.widths(n_seeds, n / documents)

    tried = np.unique(np.geomspace(2, _MOST, 2000).astype(np.int64))
    found = widths(tried)
    enough = np.flatnonzero(found <= width)
    if not len(enough):
        return None, float(found.min())
    last = int(tried[enough[0]])
    few = int(tried[enough[0] - 1]) if enough[0] else last - 1
    while last - few > 1:
        middle = (few + last) // 2
        if widths(np.array([middle]))[0] > width:
            few = middle
        else:
            last = middle
    return last, float(found.min())


def seeds_needed(of: Components, width: float, most: int = 1000) -> int | None:
    """Return how many seeds the interval of the pilot's text needs; None: more than `most`."""
    for n_seeds in range(FEWEST_SEEDS, most + 1):
        if of.widths(n_seeds, np.ones(1))[0] <= width:
            return n_seeds
    return None
