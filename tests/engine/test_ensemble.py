"""The seeds' mean distribution: what it comes to, held against the log-probs of a float64 pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.scoring.compiled import Comparison
from engine.scoring.divergence import divergences
from seedconv_tui.cli.main import run
from store import open_study
from store.schema import TO_MEAN
from tests.support.reference import reference_log_probs
from tests.support.tiny_models import make_runs, write_study

CHOSEN = ["kl", TO_MEAN]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_runs(folder, steps=(5,))
    return folder


def expect_exact(made: Path, store: str, seeds: str) -> None:
    """Compare what is known of the mean of these seeds with float64, and with the identity."""
    study = open_study(made / store)
    references = [
        reference_log_probs(made, made / f"runs/seed{s}/step5", stream=True)[0] for s in seeds
    ]
    targets = np.arange(study.n_tokens), study.corpus.token_id
    if study.ledger("m").stored and study.log_probs("m", "1", 5).output_layer is None:
        # What is compared is what is stored
        rounded = [study.log_probs("m", s, 5)[:].astype(np.float64) for s in seeds]
    else:
        rounded = references
    exact, logs = np.stack(references), np.stack(rounded)
    mean = np.logaddexp.reduce(logs) - np.log(len(seeds))
    for seed, log_p in zip(seeds, logs, strict=True):
        expected = (np.exp(log_p) * (log_p - mean)).sum(-1)
        assert expected.mean() > 1e-4  # else nothing is compared
        found = study.values("m", TO_MEAN, seed, 5)
        assert (np.abs(found - expected) <= 2e-6 + 1e-4 * expected).all()
        assert found.max() <= np.log(len(seeds))
    summary = study.summary("m")
    value = {
        name: float(summary.of_ensemble(name)[0, 0])
        for name in ("seed_divergence", "ensemble_entropy", "ensemble_cross_entropy", "ambiguity")
    }
    mean = np.logaddexp.reduce(exact) - np.log(len(seeds))
    entropy = -(np.exp(mean) * mean).sum(-1).mean()
    assert value["ensemble_entropy"] == pytest.approx(entropy, rel=1e-5)
    assert value["ensemble_cross_entropy"] == pytest.approx(-mean[targets].mean(), rel=1e-5)
    own = np.nanmean(summary.cross_entropy[0, :, 0])
    assert own == pytest.approx(value["ensemble_cross_entropy"] + value["ambiguity"], rel=1e-12)
    of_targets = -exact[:, targets[0], targets[1]].mean() + mean[targets].mean()
    assert value["ambiguity"] == pytest.approx(of_targets, rel=1e-3)
    own = np.nanmean(summary.entropy[0, :, 0])
    assert value["ensemble_entropy"] == pytest.approx(own + value["seed_divergence"], rel=1e-12)


@pytest.mark.parametrize("representation", ["dense", "factored", "none"])
def test_a_seed_that_comes_late_is_in_the_mean(made: Path, representation: str) -> None:
    def write(seeds: list[str]) -> Path:
        return write_study(
            made,
            study__store=f"{representation}.zarr",
            scoring__divergences=CHOSEN,
            log_probs__representation=representation,
            models__seeds=seeds,
        )

    assert run(["run", str(write(["1", "2"]))]) == 0
    expect_exact(made, f"{representation}.zarr", "12")
    assert run(["run", str(write(["1", "2", "3"]))]) == 0
    expect_exact(made, f"{representation}.zarr", "123")
    assert run(["verify", str(made / f"{representation}.zarr")]) == 0


def test_asking_for_it_changes_nothing_else(made: Path) -> None:
    found = []
    for chosen in (["kl"], CHOSEN):
        name = f"{len(chosen)}.zarr"
        file = write_study(made, study__store=name, scoring__divergences=chosen)
        assert run(["run", str(file)]) == 0
        found.append(open_study(made / name))
    plain, more = (study.dataset("m").load() for study in found)
    for name in plain.data_vars:
        np.testing.assert_array_equal(plain[name], more[name], err_msg=str(name))
    assert {*more.data_vars} - {*plain.data_vars} == {TO_MEAN, "level_kl_to_mean", "level_ensemble"}


@pytest.mark.parametrize("spread", [3.0, 0.3, 1e-3])
@pytest.mark.parametrize("move", [lambda x: x, lambda x: x + 20 * torch.arange(5.0)[:, None, None]])
def test_the_kernel_meets_its_budget(
    spread: float, move: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    generator = torch.Generator().manual_seed(0)
    shared = 3 * torch.randn(1, 6, 50_304, generator=generator, dtype=torch.float64)
    own = torch.randn(5, 6, 50_304, generator=generator, dtype=torch.float64)
    logits = move((shared + spread * own).float())
    exact = logits.double().log_softmax(-1)
    mean = exact.exp().mean(0).log()
    expected = (exact.exp() * (exact - mean)).sum(-1).T
    log_p = logits.log_softmax(-1)
    names = ["kl", "js", "hellinger", "tv", TO_MEAN]
    found = divergences(log_p, log_p.exp(), names)
    assert list(found) == names
    assert ((found[TO_MEAN] - expected).abs() <= 2e-6 + 1e-4 * expected).all()


def test_a_token_that_no_seed_gives_any_probability() -> None:
    logits = torch.zeros(3, 1, 8)
    logits[..., 0] = -500.0
    logits[0, :, 1] = 400.0
    log_p = logits.log_softmax(-1)
    found = divergences(log_p, log_p.exp(), [TO_MEAN])[TO_MEAN]
    assert torch.isfinite(found).all()
    assert found.max() <= np.log(3) + 1e-6


def test_it_is_the_same_where_pairs_are_compared_by_compiled_code() -> None:
    generator = torch.Generator().manual_seed(0)
    shared = 3 * torch.randn(1, 4, 1000, generator=generator)
    log_p = (shared + torch.randn(3, 4, 1000, generator=generator)).log_softmax(-1)
    heard: list[str] = []
    comparison = Comparison(heard.append, lambda sums: sums, worth=0, fast=np.inf)
    found = [
        comparison.divergences(log_p.clone(), log_p.exp(), ["kl", "js", TO_MEAN], ahead=10)
        for _ in range(5)
    ]
    assert "by compiled code" in heard[0]
    assert list(found[-1]) == ["kl", "js", TO_MEAN]
    assert torch.equal(found[-1][TO_MEAN], found[0][TO_MEAN])
