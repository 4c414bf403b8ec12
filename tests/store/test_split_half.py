"""Agreement of halves of the text: over all halves, by simulation, and of a study."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from store import open_study
from store.analysis import summarise, text_agreement
from store.schema import Category, Floats
from store.statistics.split_half import split_half
from store.writing import Header, StudyWriter
from tests.support import made_store
from tests.support.token_store import corpus_of

SEEDS, STEPS, DOCUMENTS, RUN = tuple("abcde"), (0, 1, 2, 4, 8, 16), 10, 30


def all_halves(total: Floats, n: Floats) -> float:
    documents = range(len(n))
    found = []
    for half in itertools.combinations(documents, len(n) // 2):
        other = [c for c in documents if c not in half]
        means = [total[:, list(of)].sum(axis=1) / n[list(of)].sum() for of in (half, other)]
        found.append(np.corrcoef(*means)[0, 1])
    r = float(np.mean(found))
    return 2 * r / (1 + r)


@pytest.mark.parametrize("documents", [4, 9, 12])
def test_it_is_the_mean_over_all_halves(documents: int) -> None:
    rng = np.random.default_rng(documents)
    n = rng.integers(5, 40, documents)
    own = rng.normal(0, 1, (8, 1)) + rng.normal(0, 1, (8, documents))
    assert split_half(own * n, n) == pytest.approx(all_halves(own * n, n), abs=0.03)


@pytest.mark.parametrize("spread", [0.0, 0.2, 1.0])
def test_it_is_the_share_of_the_variance_that_is_not_the_texts(spread: float) -> None:
    """Of what all documents together say, as test theory has it."""
    rng, n = np.random.default_rng(0), np.full(20, 7)
    found = []
    for _ in range(40):
        own = spread * rng.normal(size=(60, 1)) + rng.normal(size=(60, 20))
        found.append(split_half(own * n, n))
    expected = spread**2 / (spread**2 + 1 / 20)
    assert np.mean(found) == pytest.approx(expected, abs=0.1)


def test_of_too_little_it_is_not_known() -> None:
    rng = np.random.default_rng(0)
    assert np.isnan(split_half(rng.random((3, 9)), np.ones(9, np.int64)))
    assert np.isnan(split_half(rng.random((9, 3)), np.ones(3, np.int64)))
    assert np.isnan(split_half(np.ones((9, 9)), np.ones(9, np.int64)))


# -- of a study ----------------------------------------------------------------------------------


def make_study(path: Path, documents: int, *, by_document: bool) -> StudyWriter:
    n = DOCUMENTS * RUN
    starts = [n // documents * d for d in range(documents)]
    corpus = corpus_of(["x"] * n, starts)
    level = corpus.document.astype(np.int32)
    categories = [made_store.make_categories(n)[0]]
    if by_document:
        categories.append(Category("document", corpus.document_name, level, "document"))
    vocabulary, clock = made_store.make_vocabulary(), made_store.Clock()
    writer = StudyWriter.open(path, Header("halves", {}, {}), corpus, vocabulary, clock=clock)
    for category in categories:
        writer.summaries.set_category(category)
    for step in STEPS:
        writer.plan("m", [(seed, step) for seed in SEEDS], {})
        for seed in SEEDS:
            made_store.score(writer, "m", seed, step)
        made_store.reduce(writer, "m", step, SEEDS)
        values = summarise(writer.study(), "m", step, SEEDS, categories)
        writer.summaries.summarise("m", step, SEEDS, *values)
    return writer


@pytest.mark.parametrize(("documents", "by_document"), [(10, True), (10, False), (1, True)])
def test_a_studys_is_of_its_own_results(tmp_path: Path, documents: int, by_document: bool) -> None:
    make_study(tmp_path / "s.zarr", documents, by_document=by_document).close("finished")
    study = open_study(tmp_path / "s.zarr")
    found = text_agreement(study, "m")
    assert found is not None
    run = RUN if documents > 1 else 256
    clusters = np.arange(DOCUMENTS * RUN) // run
    n = np.bincount(clusters)
    assert (found.documents, found.n_steps, found.n_pairs) == (len(n), 6, 10)
    kl = {
        (i, j, step): made_store.kl("m", i, j, step, DOCUMENTS * RUN).astype(np.float64)
        for i, j in itertools.permutations(SEEDS, 2)
        for step in STEPS
    }
    steps = np.array(
        [
            np.bincount(clusters, sum(kl[i, j, step] for i, j in itertools.permutations(SEEDS, 2)))
            for step in STEPS
        ]
    )
    pairs = np.array(
        [
            np.bincount(clusters, kl[i, j, 16] + kl[j, i, 16])
            for i, j in itertools.combinations(SEEDS, 2)
        ]
    )
    expected = [split_half(of, n) for of in (steps, pairs)]
    np.testing.assert_allclose([found.steps, found.pairs], expected, rtol=1e-4)
    assert np.isnan(expected).all() == (documents == 1)  # two runs are too few
