"""How sure the numbers of all seeds together are: pseudo-values, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from store.analysis.ensemble_means import EnsembleTokens, ensemble_summary, surprisal_of_mean
from store.schema import ENSEMBLE_METRICS, Category

Floats = NDArray[np.float64]
REPLICATES = 500
DOCUMENTS, VOCAB = 30, 6


def test_pseudo_values_are_those_of_leaving_one_out() -> None:
    surprisal = np.random.default_rng(0).gamma(2, 2, (5, 20_000)).astype(np.float32)
    surprisal[0, :3] = 0.0  # one seed alone says it: what is left is far below
    surprisal[1:, :3] = [[80.0], [90.0], [100.0], [700.0]]
    value, pseudo = surprisal_of_mean(surprisal)
    exact = surprisal.astype(np.float64)

    def of(rows: Floats) -> Floats:
        return np.asarray(np.log(len(rows)) - np.logaddexp.reduce(-rows, axis=0))

    np.testing.assert_allclose(value, of(exact), rtol=1e-12)
    for seed, values in enumerate(pseudo):
        expected = 5 * of(exact) - 4 * of(np.delete(exact, seed, axis=0))
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)


def make_study(
    rng: np.random.Generator, n_seeds: int, seeds: float, documents: float
) -> tuple[dict[str, Floats], EnsembleTokens, Category, NDArray[np.int64]]:
    """Seeds that are apart by a scale of their own, times one of the document."""
    document = np.repeat(np.arange(DOCUMENTS), np.arange(DOCUMENTS) % 4 + 2)
    shape = n_seeds, len(document), VOCAB
    far = 0.6 * np.exp(rng.normal(0, seeds, n_seeds))[:, None, None]
    far = far * np.exp(rng.normal(0, documents, DOCUMENTS))[document][:, None]
    logits = rng.normal(0, 1, shape[1:]) + far * rng.normal(0, 1, shape)
    log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    mean = np.logaddexp.reduce(log_p) - np.log(n_seeds)
    target = (np.exp(mean).cumsum(-1) > rng.random((len(document), 1))).argmax(-1)
    surprisal = -np.take_along_axis(log_p, target[None, :, None], -1)[..., 0]
    entropy = -(np.exp(log_p) * log_p).sum(-1)
    to_mean = (np.exp(log_p) * (log_p - mean)).sum(-1)
    of_mean, pseudo = surprisal_of_mean(surprisal)
    together = np.stack(
        [
            to_mean.mean(0),
            (entropy + to_mean).mean(0),
            of_mean,
            surprisal.mean(0) - of_mean,
        ]
    )
    tokens = EnsembleTokens(list(to_mean.astype(np.float32)), pseudo, together)
    of_seed = {
        "entropy": entropy.mean(1, keepdims=True),
        "cross_entropy": surprisal.mean(1, keepdims=True),
    }
    category = Category("all", ("all",), np.zeros(len(document), np.int32), "all tokens")
    return of_seed, tokens, category, document


@pytest.mark.parametrize(("seeds", "documents"), [(0.15, 0.02), (0.1, 0.1), (0.02, 0.2)])
@pytest.mark.parametrize("n_seeds", [5, 10])
def test_intervals_cover(n_seeds: int, seeds: float, documents: float) -> None:
    """What other seeds, as many of them, come to on other text."""
    rng = np.random.default_rng(n_seeds)
    found = []
    for _ in range(REPLICATES):
        of_seed, tokens, category, document = make_study(rng, n_seeds, seeds, documents)
        made = ensemble_summary(
            tokens, of_seed, lambda values: values.mean(0)[:, None], category, document
        )
        found.append(made["ensemble"][:, 0].reshape(len(ENSEMBLE_METRICS), 3))
    value, low, high = np.array(found).transpose(2, 1, 0)
    truth = value.mean(axis=1)[:, None]
    coverage = ((low <= truth) & (truth <= high)).mean(axis=1)
    assert (coverage >= 0.9).all(), coverage
