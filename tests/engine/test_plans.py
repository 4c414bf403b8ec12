"""The three ways to work through a step: the same numbers, chosen for a reason that is reported."""

from __future__ import annotations

import functools
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXForCausalLM

from engine.coordination.planner import Step, make_plan
from seedconv_tui.cli.main import run
from store import ModelLedger, open_study
from tests.support.tiny_models import make_runs, write_study

CHECKPOINT = ("surprisal", "entropy", "top_id", "top_log_prob", "cross_entropy", "mean_entropy")
PAIRS = ("kl", "js", "mean_kl", "mean_js", "top1_agreement", "target_rms", "expected_kl")


def score(folder: Path, store: str, **settings: Any) -> xarray.Dataset:
    assert run(["run", str(write_study(folder, study__store=store, **settings))]) == 0
    return open_study(folder / store).dataset("m").load()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds at two steps, which no test changes."""
    folder = tmp_path_factory.mktemp("made")
    make_runs(folder)
    return folder


@pytest.fixture(scope="module")
def usual(made: Path) -> Callable[[str], xarray.Dataset]:
    """Their results, by representation, when nothing runs out; made once."""

    @functools.cache
    def results(representation: str) -> xarray.Dataset:
        store = f"{representation}.zarr"
        return score(made, store, log_probs__representation=representation)

    return results


def plans(capsys: pytest.CaptureFixture[str], folder: Path, **settings: Any) -> list[str]:
    """Names of the plans that a run announces."""
    capsys.readouterr()
    assert run(["run", str(write_study(folder, **settings)), "--json"]) == 0
    events = map(json.loads, capsys.readouterr().err.splitlines())
    return [event["fields"]["plan"] for event in events if event["event"] == "plan"]


@pytest.mark.parametrize("keep", ["factored", "dense"])
def test_all_three_agree(tmp_path: Path, usual: Callable[[str], xarray.Dataset], keep: str) -> None:
    """Whatever the order of arrival: the same, to the last bit where the same seeds are compared.

    Exact log-probs are the same however they were kept; rounded ones differ by their floor.
    """
    make_runs(tmp_path, seeds=("1", "2"))
    settings = {"log_probs__representation": keep}
    score(tmp_path, "incremental.zarr", **settings)
    make_runs(tmp_path, seeds=("3",))
    incremental = score(tmp_path, "incremental.zarr", **settings)
    kept = usual(keep)
    for name in CHECKPOINT:
        np.testing.assert_array_equal(incremental[name], kept[name], name)
    for name in PAIRS:
        np.testing.assert_allclose(incremental[name], kept[name], rtol=1e-4, atol=2e-6)
    for name in ("kl", "js"):
        late, at_once = (data[name].sel(seed="3").to_numpy() for data in (incremental, kept))
        np.testing.assert_array_equal(late, at_once, name)
    fused = usual("none")
    for name in CHECKPOINT:
        np.testing.assert_array_equal(fused[name], kept[name], name)
    floor = float(kept.storage_floor.max())
    assert (floor == 0) == (keep == "factored")
    for name in ("kl", "js"):
        error = abs(fused[name] - kept[name])
        assert (error.fillna(0) <= 2e-6 + 1e-4 * kept[name].fillna(0) + 10 * floor).all(), name
        error = abs(fused[f"mean_{name}"] - kept[f"mean_{name}"])
        assert float(error.max()) <= 2e-6 + floor, name
    for name in ("top1_agreement", "target_rms"):
        np.testing.assert_array_equal(fused[name], kept[name], name)


def test_the_planner_says_what_it_chose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    assert plans(capsys, tmp_path) == ["kept"]
    make_runs(tmp_path, seeds=("3",), steps=(5,))
    assert plans(capsys, tmp_path) == ["incremental"]
    make_runs(tmp_path, seeds=("4", "5"), steps=(5,))
    assert plans(capsys, tmp_path) == ["kept"]
    assert plans(capsys, tmp_path) == []
    fused = {"study__store": "fused.zarr", "log_probs__representation": "none"}
    assert plans(capsys, tmp_path, **fused) == ["fused"]


@pytest.mark.parametrize("keep", ["factored", "auto"])
def test_seeds_of_a_small_step_are_scored_side_by_side(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: str
) -> None:
    """Once it is known how large checkpoints are; results are the same, to the last bit."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    settings = {"log_probs__representation": keep}
    assert plans(capsys, tmp_path, **settings) == ["kept", "fused"]
    apart = {**settings, "study__store": "apart.zarr", "models__steps": [10]}
    assert plans(capsys, tmp_path, **apart) == ["kept"]
    both, alone = (open_study(tmp_path / name) for name in ("study.zarr", "apart.zarr"))
    assert both.dataset("m").load().sel(step=[10]).equals(alone.dataset("m").load())
    for seed in ("1", "2", "3"):
        kept, expected = (study.log_probs("m", seed, 10)[:] for study in (both, alone))
        np.testing.assert_array_equal(kept, expected)
    assert run(["verify", str(tmp_path / "study.zarr")]) == 0


@pytest.mark.parametrize("limit", ["_LOG_PROBS", "_WEIGHT_BYTES"])
def test_seeds_of_a_large_step_are_scored_one_by_one(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    monkeypatch.setattr(f"engine.coordination.small_steps.{limit}", 1000)
    assert plans(capsys, made, study__store=f"large{limit}.zarr") == ["kept"]


def test_seeds_that_would_take_turns_on_the_device_are_scored_one_by_one(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plans(capsys, made, study__store="turns.zarr", scoring__memory_gb=1e-4) == ["kept"]


def test_seeds_whose_log_probs_are_kept_dense_are_scored_one_by_one(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading takes less than computing, and less memory than all models."""
    dense = {"study__store": "one.zarr", "log_probs__representation": "dense"}
    assert plans(capsys, made, **dense) == ["kept"]


@pytest.mark.parametrize("fails", ["when read", "when run"])
def test_seeds_beside_one_that_fails_have_their_results(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: str
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "runs/seed2/step10/model.safetensors"
    weights = load_file(file)
    name = "embed_out.weight"
    weights[name] = weights[name] * (float("nan") if fails == "when read" else 1e30)
    save_file(weights, file, {"format": "pt"})
    study = write_study(tmp_path)
    assert run(["run", str(study), "--json"]) == 1
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    failed = [event for event in events if event["event"] == "failed"]
    assert [(event["fields"]["seed"], event["fields"]["step"]) for event in failed] == [("2", 10)]
    assert "seed2/step10" in failed[0]["text"]
    known = open_study(tmp_path / "study.zarr").ledger("m")
    assert set(known.scored) == {(s, t) for s in "123" for t in (0, 10)} - {("2", 10)}
    assert known.reduced[10] == {"1", "3"}


def test_an_incremental_step_is_committed_whole_or_not_at_all(tmp_path: Path) -> None:
    """The late seed and its pairs are one commit: there is no moment with one and not the other."""
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    score(tmp_path, "study.zarr")
    make_runs(tmp_path, seeds=("3",), steps=(5,))
    score(tmp_path, "study.zarr")
    log = (tmp_path / "study.zarr/commits/2.log").read_text()
    records = [json.loads(line.partition(" ")[2]) for line in log.splitlines()]
    kinds = [record["kind"] for record in records]
    assert kinds.index("reduced") == kinds.index("scored") + 1
    assert records[kinds.index("reduced")]["seeds"] == ["1", "2", "3"]


def test_models_that_do_not_fit_come_in_turn(
    made: Path, usual: Callable[[str], xarray.Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    in_turn = score(made, "turn.zarr", log_probs__representation="none", scoring__memory_gb=1e-4)
    assert "they are moved there in turn" in capsys.readouterr().err
    assert in_turn.equals(usual("none"))


def test_models_of_half_precision_come_in_turn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, steps=(5,), dtype=torch.bfloat16)
    fused = {"log_probs__representation": "none"}
    resident = score(tmp_path, "resident.zarr", **fused)
    capsys.readouterr()
    in_turn = score(tmp_path, "turn.zarr", **fused, scoring__memory_gb=1e-4)
    assert "they are moved there in turn" in capsys.readouterr().err
    assert in_turn.equals(resident)


class Memory:
    """A device on which a forward pass of more than that many positions runs out of memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.refused: list[int] = []
        forward = GPTNeoXForCausalLM.forward

        def limited(module: Any, input_ids: torch.Tensor, **options: Any) -> Any:
            if input_ids.numel() > most:
                self.refused.append(input_ids.numel())
                raise torch.OutOfMemoryError("out of memory")
            return forward(module, input_ids, **options)

        monkeypatch.setattr(GPTNeoXForCausalLM, "forward", limited)


def test_a_batch_that_does_not_fit_is_halved(
    made: Path,
    usual: Callable[[str], xarray.Dataset],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = usual("dense")
    memory = Memory(monkeypatch, most=70)  # two windows of 32 and not three
    capsys.readouterr()
    found = score(made, "halved.zarr")
    assert "out of memory with 9 windows at once; going on with 4" in capsys.readouterr().err
    assert memory.refused == [288, 128]  # once each: later batches and seeds start at what fits
    np.testing.assert_allclose(found.kl, expected.kl, rtol=1e-4, atol=2e-6)


def test_a_window_that_does_not_fit_fails_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "engine.coordination.coordinator.PATIENCE_SECONDS", 0.0
    )  # nothing changes by waiting
    make_runs(tmp_path, steps=(5,))
    Memory(monkeypatch, most=20)  # enough for the probe
    assert run(["run", str(write_study(tmp_path))]) == 1
    assert "out of memory with one token at a time; lower scoring.window" in capsys.readouterr().err
    fused = write_study(tmp_path, study__store="f.zarr", log_probs__representation="none")
    assert run(["run", str(fused)]) == 1
    assert "out of memory with 3 models at once" in capsys.readouterr().err


@pytest.mark.parametrize("representation", ["dense", "none"])
def test_a_block_that_does_not_fit_is_halved(
    made: Path,
    usual: Callable[[str], xarray.Dataset],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    representation: str,
) -> None:
    settings = {"log_probs__representation": representation}
    expected = usual(representation)
    softmax = torch.log_softmax

    def limited(values: torch.Tensor, dim: int, *, out: torch.Tensor) -> torch.Tensor:
        if len(values) > 40:
            raise torch.OutOfMemoryError("out of memory")
        return softmax(values, dim, out=out)

    monkeypatch.setattr(torch, "log_softmax", limited)
    capsys.readouterr()
    found = score(made, f"blocks-{representation}.zarr", **settings)
    assert "out of memory; going on with 32 tokens at once" in capsys.readouterr().err
    np.testing.assert_allclose(found.kl, expected.kl, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(found.surprisal, expected.surprisal, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("representation", "every"), [("dense", 7), ("none", 11)])
def test_what_went_through_before_memory_ran_out_is_kept(
    made: Path,
    usual: Callable[[str], xarray.Dataset],
    monkeypatch: pytest.MonkeyPatch,
    representation: str,
    every: int,
) -> None:
    """However late in a block a single window fails once, every token gets its own log-probs."""
    settings = {"log_probs__representation": representation, "scoring__batch_tokens": 32}
    expected = usual(representation)
    monkeypatch.setattr("engine.scoring.log_prob_rows._PRODUCT_BYTES", {"cpu": 2**16})  # 32 tokens
    monkeypatch.setattr("engine.scoring.passes._BLOCK_BYTES", {"cpu": 2**15})  # 16
    forward, calls = GPTNeoXForCausalLM.forward, itertools.count(1)

    def fails_at_times(module: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        if input_ids.numel() == 32 and next(calls) % every == 0:
            raise torch.OutOfMemoryError("out of memory")
        return forward(module, input_ids, **options)

    monkeypatch.setattr(GPTNeoXForCausalLM, "forward", fails_at_times)
    found = score(made, f"late-{representation}.zarr", **settings)
    np.testing.assert_allclose(found.surprisal, expected.surprisal, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.kl, expected.kl, rtol=1e-4, atol=2e-6)


def test_stored_log_probs_are_not_skipped_when_memory_runs_out(
    made: Path, usual: Callable[[str], xarray.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = usual("dense")
    monkeypatch.setattr("store.schema.layout._CHUNK_BYTES", 2**14)  # of log-probs: 16 tokens
    monkeypatch.setattr("engine.scoring.log_prob_rows._PRODUCT_BYTES", {"cpu": 2**16})
    monkeypatch.setattr("engine.scoring.passes._BLOCK_BYTES", {"cpu": 2**15})
    convert, calls = torch.from_numpy, itertools.count(1)

    def fails_at_times(values: Any) -> torch.Tensor:
        if values.dtype == np.float16 and next(calls) % 19 == 0:
            raise torch.OutOfMemoryError("out of memory")
        return convert(values)

    monkeypatch.setattr(torch, "from_numpy", fails_at_times)
    found = score(made, "skipped.zarr")
    np.testing.assert_allclose(found.kl, expected.kl, rtol=1e-4, atol=2e-6)


def test_a_step_that_cannot_be_reduced_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "engine.coordination.coordinator.PATIENCE_SECONDS", 0.0
    )  # nothing changes by waiting
    make_runs(tmp_path)

    def never(*blocks: torch.Tensor) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr("engine.scoring.compiled.divergences", never)
    assert run(["run", str(write_study(tmp_path))]) == 1
    message = capsys.readouterr().err
    assert "cannot reduce m, step 0: out of memory on cpu with log-probs of 3 stored" in message
    assert len(open_study(tmp_path / "study.zarr").ledger("m").scored) == 6


def test_the_noise_floor_is_measured_and_stored(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"), architecture="gpt2")
    exact = score(tmp_path, "exact.zarr").noise_floor
    rounded = score(tmp_path, "rounded.zarr", scoring__dtype="bfloat16").noise_floor
    assert exact.shape == (2, 2)
    assert (abs(exact) < 1e-9).all()  # float32: batches of another shape add up in another order
    assert (rounded >= -1e-9).all()
    assert float(rounded.max()) < 1e-2
    assert open_study(tmp_path / "rounded.zarr").snapshot().models[0].noise_floor.shape == (2,)


def test_models_of_different_architectures_take_turns(tmp_path: Path) -> None:
    """Step after step, each finds its own weights again in the module that waited for it."""
    runs = {"neox": "gpt-neox", "gpt2": "gpt2"}
    for name, architecture in runs.items():
        make_runs(tmp_path / name, architecture=architecture, seeds=("1", "2"))
    alone = {name: score(tmp_path / name, "alone.zarr") for name in runs}
    file = write_study(
        tmp_path,
        corpus__files=["neox/text.txt"],
        tokenizer__source="neox/tokenizer",
        models__name="neox",
        models__source="neox/runs/seed{seed}/step{step}",
    )
    second = '[[models]]\nname = "gpt2"\nsource = "gpt2/runs/seed{seed}/step{step}"\n'
    file.write_text(file.read_text() + second)
    assert run(["run", str(file)]) == 0
    study = open_study(tmp_path / "study.zarr")
    for name, expected in alone.items():
        assert study.dataset(name).load().equals(expected)


def test_the_shape_of_batches_does_not_matter(tmp_path: Path) -> None:
    make_runs(tmp_path, architecture="llama")
    exact = {"log_probs__representation": "factored"}
    usual = score(tmp_path, "usual.zarr", **exact)
    for size in (1, 100):
        other = score(tmp_path, f"{size}.zarr", **exact, scoring__batch_tokens=size)
        np.testing.assert_allclose(other.kl, usual.kl, rtol=1e-4, atol=2e-6)
        np.testing.assert_allclose(other.surprisal, usual.surprisal, rtol=1e-5, atol=1e-5)


def test_one_seed_is_one_seed_in_words() -> None:
    plan = make_plan(Step("m", 0, ("1",), reduce=True), ModelLedger(), "none")
    assert plan.why == "scoring 1 seed, storing no log-probs"
    plan = make_plan(Step("m", 0, ("1", "2"), reduce=True), ModelLedger(), "none")
    assert plan.why == "scoring 2 seeds together, storing no log-probs"
