"""KL between any two stored checkpoints, and paired differences, against plain computations."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from scipy.special import log_softmax, rel_entr

from seedconv_tui.cli.main import run
from store import StoreError, Study, UnsupportedError, open_study
from store.analysis import between, mean_kl_between
from store.schema import Floats
from tests.support.made_store import fill, open_writer, reduce, score, summarise_step
from tests.support.plain_statistics import plain_cluster, plain_half, plain_jackknife, plain_mean
from tests.support.reference import reference_log_probs


@pytest.fixture(scope="module")
def dense(compared: Path) -> Study:
    return open_study(compared / "dense.zarr")


@pytest.fixture(scope="module")
def factored(compared: Path) -> Study:
    return open_study(compared / "factored.zarr")


def direct(log_p: Floats, log_q: Floats) -> Floats:
    """The sum as it is written, (token,)."""
    return np.asarray(rel_entr(np.exp(log_p), np.exp(log_q)).sum(1))


def plain_dense(store: Path, model: str, seed: str, step: int) -> Floats:
    kept = zarr.open_array(str(store / f"models/{model}/log_probs/{seed}/{step}"), mode="r")
    return np.asarray(log_softmax(np.asarray(kept[:]).astype(np.float64), axis=1))


# -- KL ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (("m", "1", 0), ("m", "1", 10)),
        (("m", "1", 10), ("m", "1", 0)),
        (("m", "2", 10), ("b", "3", 20)),
    ],
)
def test_kl_of_dense_log_probs_is_the_direct_sum(
    compared: Path, dense: Study, a: tuple[str, str, int], b: tuple[str, str, int]
) -> None:
    found = dense.kl_between(a, b)
    assert (found.dtype, found.shape) == (np.float64, (400,))
    store = compared / "dense.zarr"
    expected = direct(plain_dense(store, *a), plain_dense(store, *b))
    assert expected.mean() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_kl_between_seeds_is_the_stored_one(dense: Study, factored: Study) -> None:
    for study in (dense, factored):
        found = study.kl_between(("m", "1", 10), ("m", "2", 10))
        np.testing.assert_allclose(found, study.values("m", "kl", "1", 10, "2"), atol=5e-6)


def test_kl_of_factored_log_probs_is_that_of_the_models_in_float64(
    compared: Path, factored: Study
) -> None:
    exact = {
        step: reference_log_probs(
            compared, compared / f"runs/seed1/step{step}", stream=True, dtype=torch.float64
        )[0]
        for step in (0, 10)
    }
    found = factored.kl_between(("m", "1", 0), ("m", "1", 10))
    expected = direct(exact[0], exact[10])
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-5, atol=1e-5)


def test_a_checkpoint_is_at_no_distance_from_itself(dense: Study, factored: Study) -> None:
    for study in (dense, factored):
        assert np.abs(study.kl_between(("m", "1", 10), ("m", "1", 10))).max() < 1e-12


ROWS = [("m", seed, step) for seed in "12" for step in (0, 10)]


@pytest.fixture(scope="module")
def each(dense: Study, factored: Study) -> dict[str, Floats]:
    """(row, row) mean KL of every two of `ROWS`, by how they are kept; made once."""
    return {
        kept: np.array([[study.kl_between(a, b).mean() for b in ROWS] for a in ROWS])
        for kept, study in (("dense", dense), ("factored", factored))
    }


@pytest.mark.parametrize("at_once", [1, 2, 4, 100])
@pytest.mark.parametrize("kept", ["dense", "factored"])
def test_means_of_many_are_those_of_each(
    kept: str,
    each: dict[str, Floats],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
) -> None:
    study: Study = request.getfixturevalue(kept)
    rows = ROWS
    held = study.log_probs(*rows[0]).held_bytes
    monkeypatch.setattr(between, "_HELD", at_once * held)
    monkeypatch.setattr(between, "_CELLS", 5_000)  # a few tokens at a time
    for part in (slice(None), slice(3), slice(2, None)):
        told: list[float] = []
        found = mean_kl_between(study, rows, rows[part], told.append)
        expected = each[kept][:, part]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
        assert told == sorted(told)
        assert told[-1] == pytest.approx(1.0)


def test_models_are_compared_as_checkpoints_are(dense: Study) -> None:
    rows, columns = ([(model, seed, 10) for seed in "12"] for model in "mb")
    found = mean_kl_between(dense, rows, columns)
    expected = [[dense.kl_between(a, b).mean() for b in columns] for a in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_what_is_not_stored_is_named(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "study.zarr")
    fill(writer, "m", "12", [0, 8])
    fill(writer, "n", "12", [0])
    writer.plan("m", [("3", 8), ("4", 8)], {})
    score(writer, "m", "3", 8, keep=False)
    writer.drop_log_probs("m", 0, ["2"])
    writer.close("finished")
    study, there = open_study(tmp_path / "study.zarr"), ("n", "1", 0)
    for gone, why in [
        (("m", "2", 0), "step 0 are not stored: they were dropped"),
        (("m", "3", 8), "step 8 are not stored: the study keeps none"),
        (("m", "4", 8), "step 8 are not stored: not scored"),
    ]:
        name = f"log-probs of m, seed {gone[1]}, {why}"
        for a, b in itertools.permutations((gone, there)):
            with pytest.raises(StoreError, match=name):
                study.kl_between(a, b)
            with pytest.raises(StoreError, match=name):
                mean_kl_between(study, [a, a], [b])
    with pytest.raises(StoreError, match="no model 'x'; it has: m, n"):
        study.kl_between(there, ("x", "1", 0))


# -- paired differences --------------------------------------------------------------------------


def by_hand(
    study: Study, a: tuple[str, int], b: tuple[str, int], seeds: tuple[str, str], category: str
) -> dict[str, tuple[float, float, float]]:
    """Value, low and high of each level, from the KL of single tokens and pairs."""
    paired, found = a[0] == b[0], {}
    parts = study.category(a[0], category)
    document = np.array(study.corpus.document)
    for index, label in enumerate(parts.labels):
        chosen = parts.level == index
        if not chosen.any():
            continue
        pairs, tokens = [], []
        for (model, step), labels in zip((a, b), seeds, strict=True):
            kl = np.full((len(labels), len(labels), len(chosen)), np.nan)
            for i, j in itertools.permutations(range(len(labels)), 2):
                kl[i, j] = study.values(model, "kl", labels[i], step, labels[j])
            tokens.append(np.nanmean(kl, axis=(0, 1)))
            pairs.append(kl[:, :, chosen].mean(axis=2))
        gap = (tokens[0] - tokens[1])[chosen]
        clusters = sorted(set(document[chosen]))
        total = np.array([gap[document[chosen] == c].sum() for c in clusters])
        n = np.array([np.count_nonzero(document[chosen] == c) for c in clusters], float)
        of = [(plain_jackknife(kl), len(kl) - 1.0) for kl in pairs]
        if paired:
            of = [(plain_jackknife(pairs[0] - pairs[1]), len(pairs[0]) - 1.0)]
        if len(clusters) > 1:
            of.append(plain_cluster(total, n))
        half = plain_half(of, 0.95)
        means = [plain_mean(kl, list(range(len(kl)))) for kl in pairs]
        value = means[0] - means[1]
        found[label] = value, value - half, value + half
    return found


@pytest.mark.parametrize(
    ("a", "b", "seeds", "category"),
    [
        (("m", 10), ("m", 0), ("123", "123"), "pos"),  # seed 4 has no step 0
        (("m", 0), ("m", 10), ("123", "123"), "surprisal"),
        (("b", 20), ("b", 10), ("123", "123"), "document"),
        (("m", 10), ("b", 10), ("1234", "123"), "frequency"),
        (("m", 0), ("b", 20), ("123", "123"), "all"),
    ],
)
def test_differences_are_those_by_hand(
    dense: Study, a: tuple[str, int], b: tuple[str, int], seeds: tuple[str, str], category: str
) -> None:
    found = dense.difference(a, b, category)
    expected = by_hand(dense, a, b, seeds, category)
    assert found.n_seeds == tuple(map(len, seeds))
    assert found.same_seeds == (a[0] == b[0])
    assert found.labels == dense.category(a[0], category).labels
    for index, label in enumerate(found.labels):
        at = found.value[index], found.low[index], found.high[index]
        if label in expected:
            assert at == pytest.approx(expected[label], rel=1e-5, abs=1e-7), label
            gap = found.kl_a[index] - found.kl_b[index]
            assert found.value[index] == pytest.approx(gap)
        else:
            assert found.counts[index] == 0
            assert np.isnan(at).all()
    swapped = dense.difference(b, a, category)
    np.testing.assert_allclose(swapped.value, -found.value)
    np.testing.assert_allclose(swapped.low, -found.high)


def test_what_cannot_be_compared_is_refused(dense: Study, compared: Path, tmp_path: Path) -> None:
    for category in ("surprisal", "surprisal_context"):
        with pytest.raises(UnsupportedError, match=f"{category} parts the tokens by each model's"):
            dense.difference(("m", 10), ("b", 10), category)
    with pytest.raises(StoreError, match="m, step 20: not summarised by all"):
        dense.difference(("m", 20), ("m", 0))
    with pytest.raises(StoreError, match="no category 'nope'; it has: all, "):
        dense.difference(("m", 0), ("m", 10), "nope")
    with pytest.raises(StoreError, match="no model 'x'; it has: m, b"):
        dense.difference(("m", 0), ("x", 10))
    writer = open_writer(tmp_path / "study.zarr")
    fill(writer, "m", "12", [0])
    fill(writer, "m", "34", [8])
    writer.plan("m", [(seed, 16) for seed in "123"], {})
    for seed in "123":
        score(writer, "m", seed, 16)
    reduce(writer, "m", 16, "12")
    summarise_step(writer, "m", 16)
    writer.close("finished")
    study = open_study(tmp_path / "study.zarr")
    with pytest.raises(StoreError, match="steps 0 and 8 have fewer than two seeds in common"):
        study.difference(("m", 0), ("m", 8))
    two = study.difference(("m", 16), ("m", 0), "third")
    assert two.n_seeds == (2, 2)
    assert np.isfinite(two.value).tolist() == [True, True, False]
    assert np.isnan(two.low).all()
    assert np.isnan(two.high).all()


def test_pruned_log_probs_leave_differences(compared: Path, tmp_path: Path) -> None:
    store = shutil.copytree(compared / "factored.zarr", tmp_path / "study.zarr")
    before = open_study(store).difference(("m", 0), ("m", 10), "pos")
    assert run(["prune", str(store)]) == 0
    study = open_study(store)
    np.testing.assert_array_equal(study.difference(("m", 0), ("m", 10), "pos").value, before.value)
    with pytest.raises(StoreError, match="seed 1, step 0 are not stored: they were dropped"):
        study.kl_between(("m", "1", 0), ("m", "1", 10))
