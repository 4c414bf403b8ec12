"""Variance by source and what is planned by it: against least squares and loops, by simulation."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from store import UnsupportedError, open_study
from store.analysis import read_pilots
from store.schema import Floats
from store.statistics import documents_needed, interval, pair_mean, seeds_needed
from store.statistics.planning import Components, components
from tests.support.plain_statistics import plain_cluster, plain_half, plain_jackknife, plain_mean

# Standard deviations, nats: seed, pair, document, seed within document, token (in test_statistics).
STUDIES = {
    "seeds": (0.02, 0.005, 0.01, 0.005, 0.2),
    "both": (0.01, 0.005, 0.02, 0.01, 0.2),
    "documents": (0.003, 0.001, 0.05, 0.01, 0.2),
    "pairs": (0.002, 0.03, 0.02, 0.002, 0.2),
    "seeds in documents": (0.002, 0.002, 0.01, 0.06, 0.2),
}
MEAN = 0.3


def draw(rng: Any, of: str, n_seeds: int, documents: int) -> tuple[Floats, NDArray[np.int64]]:
    """Sums over each document's tokens of the KL of each pair, and the documents' tokens."""
    seed, pair, document, within, token = STUDIES[of]
    n = np.maximum(10, 300 * np.exp(rng.normal(0, 0.8, documents))).astype(np.int64)
    of_seed = seed * rng.normal(size=(n_seeds, 1)) + within * rng.normal(size=(n_seeds, documents))
    of_pair = pair * rng.normal(size=(n_seeds, n_seeds, 1)) / np.sqrt(2)
    kl = MEAN + of_seed[:, None] + of_seed + of_pair + of_pair.swapaxes(0, 1)
    kl += document * rng.normal(size=documents) + token * rng.normal(size=documents) / np.sqrt(n)
    kl[np.eye(n_seeds, dtype=bool)] = np.nan
    return kl * n, n


def width(kl: Floats, n: NDArray[np.int64]) -> float:
    """How wide the interval is that a study gives; as these means are far from zero, not cut."""
    mean = kl.sum(axis=2, keepdims=True) / n.sum()
    low, high = interval(mean, pair_mean(kl)[:, None], n[:, None])
    return float(high[0] - low[0])


# -- against other computations ------------------------------------------------------------------


@pytest.mark.parametrize("n_seeds", [3, 4, 7])
def test_components_are_those_of_loops_and_least_squares(n_seeds: int) -> None:
    kl, n = draw(np.random.default_rng(n_seeds), "both", n_seeds, 9)
    found = components(kl, n)
    mean, seeds = kl.sum(axis=2) / n.sum(), list(range(n_seeds))
    assert found.value == pytest.approx(plain_mean(mean, seeds))
    assert found.of_seeds + found.of_pairs == pytest.approx(plain_jackknife(mean))
    by_document = np.array([plain_mean(kl[..., c], seeds) for c in range(9)])
    variance, freedom = plain_cluster(by_document, n)
    assert (found.of_documents, found.documents - 1) == pytest.approx((variance, freedom))
    both = 0.0
    for seed in seeds:  # the text's part of what leaving out this seed changes
        left = [
            [plain_mean(kl[..., c], [k for k in seeds if k != out]) for c in range(9)]
            for out in seeds
        ]
        change = np.array(left[seed]) - np.mean(left, axis=0)
        both += (n_seeds - 1) / n_seeds * plain_cluster(change, n)[0]
    assert found.of_both == pytest.approx(min(both, plain_jackknife(mean), variance))
    pairs = [*itertools.combinations(seeds, 2)]
    x = np.array([[1.0, *(float(k in pair) for k in seeds)] for pair in pairs])
    y = np.array([(mean[i, j] + mean[j, i]) / 2 for i, j in pairs])
    miss = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    if n_seeds == 3:
        assert found.of_pairs == 0
    else:
        own = (miss**2).sum() / (len(pairs) - n_seeds)
        assert found.of_pairs == pytest.approx(4 * own / (n_seeds * (n_seeds - 2)))


def test_the_width_of_the_pilot_itself_is_that_of_its_interval() -> None:
    kl, n = draw(np.random.default_rng(5), "both", 5, 12)
    found = components(kl, n)
    parts = [(plain_jackknife(kl.sum(axis=2) / n.sum()), 4.0)]
    parts.append(plain_cluster(pair_mean(kl), n))
    expected = 2 * plain_half(parts, 0.95)
    assert found.widths(5, np.ones(1))[0] == pytest.approx(expected)
    assert width(kl, n) == pytest.approx(expected)


def test_what_is_needed_is_the_least_that_is_enough() -> None:
    of = Components(0.3, 5, 20.0, 4e-5, 1e-5, 2e-4, 1e-5)
    for n_seeds, wanted in ((5, 0.035), (10, 0.02), (40, 0.1)):
        needed, least = documents_needed(of, wanted, n_seeds, 30)
        assert needed is not None
        assert least < wanted
        at, below = (of.widths(n_seeds, np.array([n / 30]))[0] for n in (needed, needed - 1))
        assert at <= wanted < below
    assert documents_needed(of, 0.03, 5, 30)[0] is None
    assert documents_needed(of, 0.03, 5, 30)[1] == pytest.approx(0.0346, abs=2e-3)
    enough = seeds_needed(of, 0.066)
    assert enough is not None
    at, below = (of.widths(n, np.ones(1))[0] for n in (enough, enough - 1))
    assert at <= 0.066 < below
    assert seeds_needed(of, 0.02) is None  # the text alone makes it wider


def test_a_pilot_is_what_a_study_has(compared: Path) -> None:
    study = open_study(compared / "dense.zarr")
    (found,) = read_pilots(study, "m", 10, "all")
    whole = study.summary("m", "all")
    at = whole.steps.tolist().index(10)
    expected = whole.kl_high[at, 0] - whole.expected_kl[at, 0]
    assert found.of.n_seeds == 4
    assert found.of.widths(4, np.ones(1))[0] / 2 == pytest.approx(expected, rel=1e-5)
    pos = study.summary("m", "pos")
    (noun,) = read_pilots(study, "m", 10, "pos", ["NOUN"])
    level = pos.labels.index("NOUN")
    assert (noun.tokens, noun.of.value) == pytest.approx(
        (pos.counts[level], pos.expected_kl[at, level])
    )
    with pytest.raises(UnsupportedError, match="only one document has tokens of it"):
        read_pilots(study, "m", 10, "document")
    with pytest.raises(UnsupportedError, match="only 2 seeds are compared"):
        read_pilots(open_study(compared / "factored.zarr"), "m", 10, "all")


# -- by simulation -------------------------------------------------------------------------------


def mean_width(rng: Any, of: str, n_seeds: int, documents: int, studies: int = 150) -> float:
    return float(np.mean([width(*draw(rng, of, n_seeds, documents)) for _ in range(studies)]))


@pytest.mark.long
@pytest.mark.parametrize(("n_seeds", "documents"), [(5, 60), (10, 60), (16, 200)])
@pytest.mark.parametrize("of", STUDIES)
def test_pilots_foresee_the_width_of_other_sizes(of: str, n_seeds: int, documents: int) -> None:
    """Pilots of 8 seeds and 30 documents, on average."""
    rng = np.random.default_rng([n_seeds, documents])
    pilots = [components(*draw(rng, of, 8, 30)) for _ in range(150)]
    foreseen = np.mean([each.widths(n_seeds, np.array([documents / 30]))[0] for each in pilots])
    ratio = mean_width(rng, of, n_seeds, documents) / foreseen
    print(f"{of} {n_seeds} {documents}: {ratio:.3f}")
    # If nearly all is of both sources, small pilots err to the wide side.
    assert (0.7 if of == "seeds in documents" else 0.9) < ratio < 1.12


@pytest.mark.long
@pytest.mark.parametrize(("n_seeds", "documents"), [(5, 20), (10, 40)])
@pytest.mark.parametrize("of", STUDIES)
def test_the_planned_size_gives_the_width(of: str, n_seeds: int, documents: int) -> None:
    """From single pilots: two thirds of the width that they have, with twice the seeds."""
    rng = np.random.default_rng([n_seeds, documents, 1])
    ratios, none = [], 0
    for _ in range(60):
        pilot = components(*draw(rng, of, n_seeds, documents))
        wanted = pilot.widths(n_seeds, np.ones(1))[0] * 2 / 3
        needed, _least = documents_needed(pilot, wanted, 2 * n_seeds, documents)
        if needed is None:
            none += 1
        else:
            ratios.append(mean_width(rng, of, 2 * n_seeds, min(needed, 2000), 20) / wanted)
    median, low, high = np.quantile(ratios, [0.5, 0.05, 0.95])
    print(f"{of} {n_seeds} {documents}: {median:.2f} ({low:.2f} to {high:.2f}), none {none}")
    assert 0.8 < median < 1.2
