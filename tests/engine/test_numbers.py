"""The engine's numbers against an independent float64 computation over `model(...).logits`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seedconv_tui.cli.main import run
from store import Study, open_study
from tests.support.reference import reference_log_probs
from tests.support.tiny_models import make_runs, write_study


def renormalised(stored: NDArray[np.float16]) -> NDArray[np.float64]:
    rows = stored.astype(np.float64)
    return rows - np.log(np.exp(rows).sum(1, keepdims=True))


def score(folder: Path, **settings: Any) -> Study:
    assert run(["run", str(write_study(folder, **settings))]) == 0
    return open_study(folder / "study.zarr")


@pytest.mark.parametrize(
    ("architecture", "dtype", "shard", "windowing"),
    [
        ("gpt-neox", torch.float32, "5GB", "stream"),
        ("gpt2", torch.bfloat16, "5GB", "stream"),
        ("llama", torch.bfloat16, "20KB", "document"),
        ("gpt2", torch.float32, "20KB", "document"),
    ],
)
def test_kl_agrees_with_a_float64_direct_sum(
    tmp_path: Path, architecture: str, dtype: torch.dtype, shard: str, windowing: str
) -> None:
    make_runs(tmp_path, architecture=architecture, dtype=dtype, shard=shard, steps=(5,))
    study = score(tmp_path, scoring__windowing=windowing)
    log_p, targets = {}, np.array([])
    for seed in "123":
        checkpoint = tmp_path / f"runs/seed{seed}/step5"
        log_p[seed], targets = reference_log_probs(
            tmp_path, checkpoint, stream=windowing == "stream"
        )
    assert study.n_tokens == len(targets) == 150
    assert (study.corpus.token_id == targets).all()
    data = study.dataset("m").sel(step=5)
    floor = float(data.storage_floor.max())
    assert 0 < floor < 1e-3
    for i in "123":
        p = np.exp(log_p[i])
        np.testing.assert_allclose(
            data.surprisal.sel(seed=i), -log_p[i][range(150), targets], rtol=1e-4, atol=1e-4
        )
        np.testing.assert_allclose(
            data.entropy.sel(seed=i), -(p * log_p[i]).sum(1), rtol=1e-4, atol=1e-4
        )
        best = np.take_along_axis(log_p[i], data.top_id.sel(seed=i).to_numpy(), axis=1)
        np.testing.assert_allclose(best, -np.sort(-log_p[i], axis=1)[:, :10], atol=1e-4)
        np.testing.assert_allclose(data.top_log_prob.sel(seed=i), best, atol=1e-4)
        for j in set("123") - {i}:
            exact = (p * (log_p[i] - log_p[j])).sum(1)
            error = np.abs(data.kl.sel(seed=i, other_seed=j).to_numpy() - exact)
            # What float16 alone does to this sum; an entry may round the other way when its
            # float32 value lies near a tie (which depends on the machine), so a token may be off
            # by a few times the reported floor, a root mean square over tokens.
            rounded = {s: renormalised(log_p[s].astype(np.float16)) for s in (i, j)}
            stored = (np.exp(rounded[i]) * (rounded[i] - rounded[j])).sum(1)
            assert (error <= 2e-6 + 1e-4 * exact + np.abs(stored - exact) + 4 * floor).all()
            mean = float(data.mean_kl.sel(seed=i, other_seed=j))
            assert mean == pytest.approx(exact.mean(), abs=2e-6 + 1e-4 * exact.mean() + floor)
            # What the store keeps, reduced in float64, is what the engine computed from it.
            kept = {s: study.log_probs("m", s, 5)[:].astype(np.float64) for s in (i, j)}
            from_store = (np.exp(kept[i]) * (kept[i] - kept[j])).sum(1)
            computed = data.kl.sel(seed=i, other_seed=j).to_numpy()
            assert (np.abs(computed - from_store) <= 2e-6 + 1e-4 * from_store).all()
    pairs = data.mean_kl.to_numpy()
    assert float(data.expected_kl) == pytest.approx(np.nanmean(pairs))


def test_half_precision_keeps_logits_unrounded(tmp_path: Path) -> None:
    make_runs(tmp_path, architecture="gpt2", steps=(5,), dtype=torch.bfloat16)
    study = score(tmp_path, scoring__dtype="bfloat16")
    top = study.dataset("m").top_log_prob.sel(step=5, seed="1").to_numpy()
    differences = top[:, :1] - top[:, 1:]
    rounded = torch.tensor(differences).bfloat16().float().numpy()
    assert (rounded != differences).mean() > 0.9


def test_a_late_seed_adds_only_its_own_pairs(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"))
    before = score(tmp_path).dataset("m").load()
    make_runs(tmp_path, seeds=("3",))
    after = score(tmp_path).dataset("m")
    assert list(after.seed.values) == ["1", "2", "3"]
    old = after.sel(seed=["1", "2"], other_seed=["1", "2"])
    np.testing.assert_array_equal(old.kl.values, before.kl.values)
    assert np.isfinite(after.kl.sel(seed="3", other_seed="1")).all()
    assert after.expected_kl.values == pytest.approx(np.nanmean(after.mean_kl.values, axis=(1, 2)))


def test_log_probs_are_dropped_when_asked_and_made_again_when_needed(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"))
    study = score(tmp_path, log_probs__retention="until_reduced")
    assert not list((tmp_path / "study.zarr").glob("models/m/log_probs/*/*/zarr.json"))
    before = study.dataset("m").load()
    make_runs(tmp_path, seeds=("3",))
    after = score(tmp_path, log_probs__retention="until_reduced").dataset("m")
    assert np.isfinite(after.mean_kl.values).sum() == 2 * 6
    both = after.sel(seed=["1", "2"], other_seed=["1", "2"])
    np.testing.assert_array_equal(both.kl.values, before.kl.values)
    np.testing.assert_array_equal(both.surprisal.values, before.surprisal.values)
