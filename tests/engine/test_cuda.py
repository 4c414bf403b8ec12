"""On a GPU: the numbers of the CPU, through every way that only a GPU takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from transformers import LlamaConfig, LlamaForCausalLM

from engine.machine.devices import DeviceGroup
from engine.models.output_head import hidden_states
from engine.models.spreading import all_weights, bring_back, release, spread
from engine.scoring.transfer import HostCopies
from seedconv_tui.cli.main import run
from store import open_study
from store.schema import DEPTHS, OF_STATES
from tests.support.architectures import LLAMA, make_model
from tests.support.tiny_models import make_runs, write_study

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def score(folder: Path, device: str, **settings: Any) -> xarray.Dataset:
    store = f"{device.replace(':', '')}-{'-'.join(map(str, settings.values()))}.zarr"
    file = write_study(folder, study__store=store, scoring__device=device, **settings)
    assert run(["run", str(file)]) == 0
    return open_study(folder / store).dataset("m").load()


def expect_the_same(
    folder: Path, representation: str, device: str, other: str, ways: Sequence[dict[str, Any]]
) -> None:
    """Score on `device`, and in several ways on the `other`."""
    settings: dict[str, Any] = {"log_probs__representation": representation}
    if representation == "none":
        settings["scoring__divergences"] = ["kl", *DEPTHS]
    alone = score(folder, device, **settings)
    for way in ways:
        found = score(folder, other, **settings, **way)
        for name in {*OF_STATES} & {*alone.data_vars}:
            np.testing.assert_allclose(found[name], alone[name], rtol=1e-4, err_msg=str(name))
        np.testing.assert_allclose(found.kl, alone.kl, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.surprisal, alone.surprisal, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("representation", ["dense", "factored", "none"])
@pytest.mark.parametrize("architecture", ["gpt-neox", "gpt2", "llama"])
def test_the_same_numbers_as_on_the_cpu(
    tmp_path: Path, architecture: str, representation: str
) -> None:
    make_runs(tmp_path, architecture=architecture)
    settings = {"log_probs__representation": representation}
    here, there = (score(tmp_path, device, **settings) for device in ("cpu", "cuda"))
    floor = float(here.storage_floor.max())
    for name in ("surprisal", "entropy", "top_log_prob"):
        np.testing.assert_allclose(there[name], here[name], rtol=1e-4, atol=1e-4)
    for name in ("kl", "js"):
        error = abs(there[name] - here[name]).fillna(0)
        assert (error <= 2e-6 + 1e-4 * here[name].fillna(0) + 8 * floor).all(), name
    error = abs(there.mean_kl - here.mean_kl).fillna(0)
    assert (error <= 2e-6 + 1e-4 * here.mean_kl.fillna(0) + floor).all()


def test_models_that_take_turns_give_the_same(tmp_path: Path) -> None:
    make_runs(tmp_path)
    fused = {"log_probs__representation": "none"}
    resident = score(tmp_path, "cuda", **fused)
    in_turn = score(tmp_path, "cuda", **fused, scoring__memory_gb=1e-4)
    np.testing.assert_allclose(in_turn.kl, resident.kl, rtol=1e-5, atol=1e-6)


def test_a_late_seed_on_the_gpu(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"))
    score(tmp_path, "cuda")
    make_runs(tmp_path, seeds=("3",))
    late = score(tmp_path, "cuda")
    assert int(np.isfinite(late.mean_kl).sum()) == 2 * 6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_has_a_noise_floor(tmp_path: Path, dtype: str) -> None:
    make_runs(tmp_path, seeds=("1", "2"))
    found = score(tmp_path, "cuda", scoring__dtype=dtype)
    assert 0 <= float(found.noise_floor.max()) < 0.05
    exact = score(tmp_path, "cuda")
    assert float(abs(found.mean_kl - exact.mean_kl).max()) < 0.05


def test_copies_come_back_as_they_were_sent() -> None:
    device = torch.device("cuda")
    copies, before = HostCopies(device), None
    for n in range(20):
        sent = {
            "a": torch.full((1000, 64), float(n), device=device),
            "b": torch.arange(n + 1).cuda(),
        }
        fetch = copies.start([sent])
        del sent
        if before is not None:
            (found,) = before[1]()
            assert (found["a"] == before[0]).all()
            assert found["b"].tolist() == list(range(before[0] + 1))
        before = n, fetch


@pytest.mark.parametrize("representation", ["dense", "factored", "none"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_weights_that_wait_in_the_hosts_memory_change_no_result(
    tmp_path: Path, architecture: str, representation: str
) -> None:
    # Memory for none of the weights, and for some.
    waiting = [{"scoring__offload": "cpu", "scoring__memory_gb": room} for room in (1e-5, 6e-5)]
    make_runs(tmp_path, architecture=architecture)
    expect_the_same(tmp_path, representation, "cuda", "cuda", waiting)


def test_waiting_weights_leave_the_gpu() -> None:
    module = make_model("llama", 304, 1).eval().requires_grad_(requires_grad=False)
    taken = torch.cuda.memory_allocated()
    spread(module, DeviceGroup.parse("cuda:0"), [0], offload=True)
    with torch.inference_mode():
        hidden_states(module, input_ids=torch.arange(20, device="cuda")[None])
    bring_back(module)
    n_bytes = sum(weight.nbytes for weight in all_weights(module).values())
    assert torch.cuda.memory_allocated() - taken < n_bytes / 4
    release(module)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("representation", ["dense", "factored", "none"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_layers_split_over_two_gpus_change_no_result(
    tmp_path: Path, architecture: str, representation: str
) -> None:
    splits: list[dict[str, Any]] = [{}, {"scoring__memory_gb": 1e-4}, {"scoring__offload": "cpu"}]
    make_runs(tmp_path, architecture=architecture)
    expect_the_same(tmp_path, representation, "cuda:0", "cuda:0+cuda:1", splits)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_both_gpus_hold_layers() -> None:
    sizes = LLAMA | {"num_hidden_layers": 8}
    module = LlamaForCausalLM(LlamaConfig(vocab_size=304, **sizes)).eval()
    spread(module, DeviceGroup.parse("cuda:0+cuda:1"), [None, None])
    found = {parameter.device.index for parameter in module.parameters()}
    assert found == {0, 1}
    release(module)
