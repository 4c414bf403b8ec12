"""Bands over steps: against loops and the interval of one step, and coverage by simulation."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import t as student_t

from store import open_study
from store.analysis import simultaneous_band, simultaneous_differences, simultaneous_means
from store.schema import ENSEMBLE_METRICS, TO_MEAN, TO_MODEL, Floats
from store.statistics import interval, pair_mean
from store.statistics.clusters import ClusterCells
from store.statistics.intervals import cluster_shares, seed_shares
from store.statistics.simultaneous import VarianceSource, half_widths
from tests.support.made_store import fill, open_writer
from tests.support.plain_statistics import plain_cluster, plain_half, plain_jackknife

# -- against loops -------------------------------------------------------------------------------


def sources_of(
    kl: Floats, total: Floats, n: NDArray[np.int64]
) -> tuple[VarianceSource, VarianceSource]:
    """Seeds and documents of (step, seed, other_seed) means, and (step, document) sums."""
    level = np.zeros(len(n), np.int64)
    cells = [cluster_shares(ClusterCells(level, of, n), 1) for of in total]
    n_steps = len(kl)
    return (
        VarianceSource(
            np.stack([seed_shares(of[..., None])[:, 0] for of in kl]),
            np.full(n_steps, len(kl[0]) - 1.0),
        ),
        VarianceSource(np.stack([shares for shares, _ in cells]), np.full(n_steps, cells[0][1][0])),
    )


def example(n_steps: int, n_seeds: int = 5, documents: int = 7) -> tuple[Any, ...]:
    rng = np.random.default_rng(n_steps)
    kl = rng.gamma(3, 0.1, (n_steps, n_seeds, n_seeds))
    n = rng.integers(1, 40, documents)
    return kl, n * rng.gamma(5, 0.06, (n_steps, documents)), n


def test_of_one_step_it_is_the_interval() -> None:
    kl, total, n = example(1)
    half = half_widths(sources_of(kl, total, n))
    _, high = interval(kl[0][..., None], total[0][:, None], n[:, None])
    assert half == pytest.approx(high - pair_mean(kl[0][..., None]), rel=1e-9)


def test_it_is_what_draws_in_a_loop_come_to() -> None:
    """Seeds and documents are drawn one by one, each with what it adds at every step."""
    kl, total, n = example(6)
    seeds, documents = sources_of(kl, total, n)
    variances = [
        [plain_jackknife(of) for of in kl],
        [plain_cluster(of, n)[0] for of in total],
    ]
    freedom = [4.0, plain_cluster(total[0], n)[1]]
    np.testing.assert_allclose((seeds.shares**2).sum(axis=1), variances[0])
    np.testing.assert_allclose((documents.shares**2).sum(axis=1), variances[1])
    np.testing.assert_allclose(documents.df, freedom[1])
    rng, least = np.random.default_rng(1), []
    df = [
        (a + b) ** 2 / (a**2 / freedom[0] + b**2 / freedom[1])
        for a, b in zip(*variances, strict=True)
    ]
    for _ in range(4000):
        moved = sum(rng.normal() * of for of in seeds.shares.T)
        moved = moved + sum(rng.normal() * of for of in documents.shares.T)
        error = [
            sum(v[s] * rng.chisquare(f) / f for v, f in zip(variances, freedom, strict=True))
            for s in range(6)
        ]
        t = np.abs(moved) / np.sqrt(error)
        least.append(min(2 * student_t.sf(t, df)))
    level = np.quantile(least, 0.05)
    expected = [
        student_t.ppf(1 - level / 2, df[s]) * np.sqrt(variances[0][s] + variances[1][s])
        for s in range(6)
    ]
    assert 0.05 / 6 < level < 0.05
    np.testing.assert_allclose(half_widths((seeds, documents)), expected, rtol=0.05)


def test_its_width_is_between_one_interval_and_bonferroni() -> None:
    kl, total, n = example(30)
    half = half_widths(sources_of(kl, total, n))
    for step in range(30):
        parts = [(plain_jackknife(kl[step]), 4.0), plain_cluster(total[step], n)]
        assert plain_half(parts, 0.95) < half[step] <= plain_half(parts, 1 - 0.05 / 30) * (1 + 1e-9)


def test_steps_without_spread_or_that_are_not_known_take_no_part() -> None:
    kl, total, n = example(4)
    kl[1], total[1] = 0.25, 0.25 * n
    seeds, documents = sources_of(kl, total, n)
    seeds.shares[2] = np.nan
    half = half_widths((seeds, documents))
    assert (half[1], np.isnan(half[2])) == (0, True)
    few = [VarianceSource(of.shares[[0, 3]], of.df[[0, 3]]) for of in (seeds, documents)]
    np.testing.assert_array_equal(half[[0, 3]], half_widths(few))
    np.testing.assert_array_equal(
        half_widths([VarianceSource(np.zeros((2, 3)), np.ones(2))]), [0, 0]
    )


# -- of a study ----------------------------------------------------------------------------------


@pytest.mark.parametrize("category", ["all", "pos", "document"])
def test_a_studys_band_is_of_its_own_results(compared: Path, category: str) -> None:
    study = open_study(compared / "dense.zarr")
    found, band = simultaneous_band(study, "b", category)
    assert found.tolist() == [10, 20]
    of, document = study.category("b", category), study.corpus.document
    summary, pairs = study.summary("b", category), [*itertools.permutations("123", 2)]
    for level in range(len(of.labels)):
        inside = of.level == level
        kl = np.zeros((2, 3, 3))
        by_token = np.zeros((2, int(inside.sum())))
        for s, step in enumerate((10, 20)):
            for i, j in pairs:
                values = study.values("b", "kl", i, step, j)[inside].astype(np.float64)
                kl[s, int(i) - 1, int(j) - 1] = values.mean() if len(values) else np.nan
                by_token[s] += values / len(pairs)
        if not inside.any():
            assert np.isnan([band.value[:, level], band.high[:, level]]).all()
            continue
        _, place = np.unique(document[inside], return_inverse=True)
        total = np.array([np.bincount(place, of_step) for of_step in by_token])
        half = half_widths(sources_of(kl, total, np.bincount(place)))
        mean = [pair_mean(of_step[..., None])[0] for of_step in kl]
        np.testing.assert_allclose(band.value[:, level], mean, rtol=1e-6)
        np.testing.assert_allclose(band.high[:, level] - band.value[:, level], half, rtol=1e-4)
        assert (band.high[:, level] >= summary.kl_high[:, level] - 1e-9).all()
    one, alone = simultaneous_band(study, "b", category, [20])
    assert one.tolist() == [20]
    np.testing.assert_allclose(alone.high[0], summary.kl_high[1], rtol=1e-6)
    np.testing.assert_allclose(alone.low[0], summary.kl_low[1], rtol=1e-6, atol=1e-9)


def test_steps_with_two_seeds_have_none(compared: Path) -> None:
    study = open_study(compared / "factored.zarr")
    _, band = simultaneous_band(study, "m", "all")
    assert np.isfinite(band.value).all()
    assert np.isnan([band.low, band.high]).all()


def test_differences_have_the_band_of_their_own_sources(tmp_path: Path) -> None:
    """Of two models, one of which has a seed more at some steps; seeds of a label are others."""
    writer, steps = open_writer(tmp_path / "study"), (0, 8, 16)
    fill(writer, "a", "ijkl", steps[:2])
    fill(writer, "a", "ijk", steps[2:])
    fill(writer, "b", "ijk", steps)
    writer.close("finished")
    study = open_study(tmp_path / "study")
    found = [study.difference(("a", step), ("b", step), "third") for step in steps]
    band = simultaneous_differences(found)
    document = study.corpus.document
    for level in (0, 1):
        inside = study.category("a", "third").level == level
        n = np.bincount(document[inside])
        shares: dict[str, list[Any]] = {"a": [], "b": [], "n": []}
        value = []
        for step in steps:
            mean = {}
            for model in "ab":
                seeds = sorted(study.ledger(model).reduced[step])
                pairs = np.zeros((len(seeds), len(seeds), int(inside.sum())))
                for i, j in itertools.permutations(range(len(seeds)), 2):
                    pairs[i, j] = study.values(model, "kl", seeds[i], step, seeds[j])[inside]
                of_seeds = seed_shares(pairs.mean(axis=-1)[..., None])[:, 0]
                shares[model].append(np.pad(of_seeds, (0, 4 - len(seeds))))
                mean[model] = pairs.sum(axis=(0, 1)) / (len(seeds) * (len(seeds) - 1))
            apart = mean["a"] - mean["b"]
            value.append(apart.mean())
            sums = np.bincount(document[inside], apart)
            cells = ClusterCells(np.zeros(len(n), np.int64), sums, n)
            shares["n"].append(cluster_shares(cells, 1)[0])
        freedom = {"a": np.array([3, 3, 2.0]), "b": np.full(3, 2.0), "n": np.ones(3)}
        sources = [VarianceSource(np.array(shares[of]), freedom[of]) for of in "abn"]
        np.testing.assert_allclose(band.value[:, level], value, rtol=1e-5)
        np.testing.assert_allclose(band.high[:, level] - value, half_widths(sources), rtol=1e-4)
        for at, of in enumerate(found):
            assert band.low[at, level] < of.low[level] < of.high[level] < band.high[at, level]
    assert np.isnan(band.high[:, 2]).all(), "a level without tokens"
    for at, of in enumerate(found):
        one = simultaneous_differences([of])
        np.testing.assert_allclose(one.high[0], of.high, rtol=1e-9)
        np.testing.assert_allclose(one.low[0], of.low, rtol=1e-9, err_msg=str(steps[at]))


def test_means_of_all_seeds_have_a_band_of_seeds_and_documents(tmp_path: Path) -> None:
    """The ensemble, and references; of one step it is the interval that is kept."""
    chosen, steps = {"kl", TO_MEAN, TO_MODEL.name}, [0, 8, 16]
    writer = open_writer(tmp_path / "study", divergences=chosen)
    fill(writer, "m", "ijkl", steps[:2])
    fill(writer, "m", "ijk", steps[2:])
    fill(writer, "two", "ij", steps)
    writer.close("finished")
    study = open_study(tmp_path / "study")
    found = simultaneous_means(study, "m", steps)
    names = [metric.name for metric in ENSEMBLE_METRICS]
    assert list(found) == [*names, TO_MODEL.mean]
    summary, document = study.summary("m"), study.corpus.document
    for name, of in found.items():
        kept = (
            summary.ensemble[:, 3 * names.index(name) : 3 * names.index(name) + 3, 0]
            if name in names
            else summary.mean_to_reference[TO_MODEL.name][..., 0]
        )
        np.testing.assert_allclose(of.value, kept[:, 0], rtol=1e-9)
        assert (of.high > kept[:, 2]).all()
        assert (of.low <= kept[:, 1]).all()
        for at, step in enumerate(steps):
            alone = simultaneous_means(study, "m", [step])[name]
            np.testing.assert_allclose([alone.low[0], alone.high[0]], kept[at, 1:], rtol=1e-9)
    # By hand: seeds' means to the reference are independent draws.
    seeds, documents = np.zeros((3, 4)), np.zeros((3, 2))
    for at, step in enumerate(steps):
        there = "ijkl" if step < 16 else "ijk"
        rows = np.array([study.values("m", TO_MODEL.name, s, step) for s in there], np.float64)
        n, of_seed = len(there), rows.mean(axis=1)
        seeds[at, :n] = (of_seed - of_seed.mean()) / np.sqrt(n * (n - 1))
        sums, sizes = np.bincount(document, rows.mean(axis=0)), np.bincount(document)
        cells = ClusterCells(np.zeros(2, np.int64), sums, sizes)
        documents[at] = cluster_shares(cells, 1)[0]
    sources = [
        VarianceSource(seeds, np.array([3, 3, 2.0])),
        VarianceSource(documents, np.ones(3)),
    ]
    of = found[TO_MODEL.mean]
    np.testing.assert_allclose(of.high - of.value, half_widths(sources), rtol=1e-6)
    for of in simultaneous_means(study, "two", steps).values():
        assert np.isfinite(of.value).all()
        assert np.isnan([of.low, of.high]).all()


# -- coverage by simulation ----------------------------------------------------------------------

# Standard deviations of seed, pair, document, seed within document, token: as in test_statistics.
COMPONENTS = {
    "seeds": (0.02, 0.005, 0.01, 0.005, 0.2),
    "both": (0.01, 0.005, 0.02, 0.01, 0.2),
    "documents": (0.003, 0.001, 0.05, 0.01, 0.2),
}


def walk(rng: Any, n_steps: int, kept: float, *shape: int) -> Floats:
    """Normal effects at each step, of which each keeps this share of the one before."""
    fresh = rng.normal(size=(n_steps, *shape))
    fresh[1:] *= np.sqrt(1 - kept**2)
    for step in range(1, n_steps):
        fresh[step] += kept * fresh[step - 1]
    return np.asarray(fresh)


def covered(
    rng: Any, of: str, n_seeds: int, documents: int, n_steps: int, kept: float
) -> tuple[bool, bool, float]:
    """Whether band and intervals cover zero at all steps, and how much wider the band is."""
    seed, pair, document, within, token = COMPONENTS[of]
    n = np.maximum(10, 300 * np.exp(rng.normal(0, 0.8, documents))).astype(int)
    own = document * walk(rng, n_steps, kept, documents)
    own += token * walk(rng, n_steps, kept, documents) / np.sqrt(n)
    of_seed = seed * walk(rng, n_steps, kept, n_seeds, 1)
    of_seed = of_seed + within * walk(rng, n_steps, kept, n_seeds, documents)
    of_pair = pair * walk(rng, n_steps, kept, n_seeds, n_seeds, 1) / np.sqrt(2)
    kl = of_seed[:, :, None] + of_seed[:, None] + of_pair + of_pair.swapaxes(1, 2)
    kl = kl + own[:, None, None]
    off = ~np.eye(n_seeds, dtype=bool)
    sources = sources_of((kl * n).sum(axis=-1) / n.sum(), kl[:, off].mean(axis=1) * n, n)
    half = half_widths(sources)
    means = np.moveaxis((kl * n).sum(axis=-1) / n.sum(), 0, -1)
    counts = np.repeat(n[:, None], n_steps, axis=1)
    mean, by_document = pair_mean(means), kl[:, off].mean(axis=1) * n
    each = interval(means + 1.0, by_document.T + counts, counts)[1] - mean - 1.0
    return (
        bool((np.abs(mean) <= half).all()),
        bool((np.abs(mean) <= each).all()),
        float((half / each).mean()),
    )


def test_the_band_covers_where_intervals_do_not() -> None:
    rng = np.random.default_rng(0)
    found = np.array([covered(rng, "both", 10, 30, 12, 0.9) for _ in range(60)])
    band, intervals, wider = found.mean(axis=0)
    assert band >= 0.85, band
    assert intervals < 0.8, intervals
    assert 1 < wider < 2


@pytest.mark.long
@pytest.mark.parametrize("of", COMPONENTS)
@pytest.mark.parametrize(("n_steps", "kept"), [(20, 0.9), (20, 0.0), (60, 0.98)])
@pytest.mark.parametrize(("n_seeds", "documents"), [(3, 20), (5, 20), (5, 40), (10, 20), (10, 40)])
def test_coverage(n_seeds: int, documents: int, n_steps: int, kept: float, of: str) -> None:
    """The figures of docs/uncertainty.md; `pytest -s` prints them."""
    rng = np.random.default_rng([n_seeds, documents, n_steps])
    found = [covered(rng, of, n_seeds, documents, n_steps, kept) for _ in range(200)]
    band, intervals, wider = np.array(found).mean(axis=0)
    print(f"{of} {n_seeds} {documents} {n_steps} {kept}: {band:.3f} {intervals:.3f} {wider:.2f}")
    assert band >= {3: 0.55, 5: 0.8, 10: 0.85}[n_seeds]
    assert band > intervals + 0.1
