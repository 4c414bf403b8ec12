"""Models larger than a device: split over several, or brought there layer by layer."""

from __future__ import annotations

import copy
import gc
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from engine.machine.devices import DeviceGroup
from engine.models.output_head import find_head, hidden_states
from engine.models.spreading import (
    ChangedError,
    RefuseChanges,
    all_weights,
    bring_back,
    is_spread,
    release,
    spread,
    waiting_weights,
)
from seedconv_tui.cli.main import run
from store import open_study
from tests.support.architectures import ARCHITECTURES, LLAMA, make_model, make_runs
from tests.support.masked_models import MODELS, make_masked, make_masked_runs
from tests.support.tiny_models import make_runs as make_tiny_runs
from tests.support.tiny_models import write_study

CPU, AWAY = torch.device("cpu"), torch.device("meta")
ONE, TWO = DeviceGroup.parse("cpu"), DeviceGroup.parse("cpu+cpu")
IDS = torch.arange(20)[None] % 13
CHANGING = "rwkv, which changes its weights"


def model_of(name: str) -> Any:
    model = make_masked(name, 120, 1) if name in MODELS else make_model(name, 120, 1)
    return model.eval().requires_grad_(requires_grad=False)


def logits(module: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = module(input_ids=IDS).logits
    return found


TELLING = {"gpt2", "mamba", "recurrent gemma, capped", CHANGING, "roberta"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in TELLING else pytest.mark.long)
        for name in (*ARCHITECTURES, *MODELS)
    ],
)
def test_the_same_numbers_wherever_the_weights_are(name: str) -> None:
    model = model_of(name)
    n_bytes = sum(parameter.nbytes for parameter in model.parameters())
    exact = logits(copy.deepcopy(model))
    for devices, rooms, offload in (
        (ONE, [0], True),
        (ONE, [n_bytes // 2], True),
        (TWO, [n_bytes // 3, n_bytes // 3], True),
        (TWO, [None, None], False),
        (TWO, [n_bytes // 4, n_bytes // 4], False),  # the last has to take the rest
    ):
        module = copy.deepcopy(model)
        spread(module, devices, rooms, offload=offload)
        assert is_spread(module)
        assert bool(waiting_weights(module)) == offload
        every = all_weights(module)
        assert all(torch.equal(every[key], tensor) for key, tensor in all_weights(model).items())
        if offload and name == CHANGING:
            with pytest.raises(ChangedError), RefuseChanges():
                logits(module)
            continue
        with RefuseChanges():
            assert torch.equal(logits(module), exact)
        assert torch.equal(logits(module), exact)


@pytest.mark.parametrize("tied", [False, True])
def test_the_first_device_has_the_first_layers(tied: bool) -> None:
    """The second one here is "meta", where nothing is computed, but tensors say that they are."""
    sizes = LLAMA | {"num_hidden_layers": 8, "tie_word_embeddings": tied}
    module = LlamaForCausalLM(LlamaConfig(vocab_size=120, **sizes))
    spread(module, DeviceGroup.parse("cpu+meta"), [None, None])
    places = [{p.device for p in layer.parameters()} for layer in module.model.layers]
    n_first = places.count({CPU})
    assert places == [{CPU}] * n_first + [{AWAY}] * (8 - n_first)
    assert 3 <= n_first <= 5
    assert module.model.embed_tokens.weight.device == CPU
    assert module.model.norm.weight.device == AWAY
    assert module.lm_head.weight.device == (CPU if tied else AWAY)


@pytest.mark.parametrize("name", ["llama, tied", "mamba", "bert"])
def test_what_ends_early_leaves_nothing_on_the_device(name: str) -> None:
    module, plain = model_of(name), model_of(name)
    spread(module, ONE, [0], offload=True)
    with torch.inference_mode():
        head, exact = (find_head(one, 110, input_ids=IDS) for one in (module, plain))
        assert head is not None
        assert exact is not None
        assert torch.equal(head.weight, exact.weight)
        states, same = (hidden_states(one, input_ids=IDS) for one in (module, plain))
    assert torch.equal(states, same)
    bring_back(module)
    assert {p.device for p in module.parameters()} == {AWAY}
    assert torch.equal(logits(module), logits(plain))  # it can still be called


@pytest.mark.parametrize("offload", [True, False])
def test_what_is_released_is_freed_at_once(offload: bool) -> None:
    module = model_of("llama")
    spread(module, *((ONE, [0]) if offload else (TWO, [None, None])), offload=offload)
    logits(module)
    weights = [weakref.ref(parameter) for parameter in module.parameters()]
    waiting = [weakref.ref(tensor) for tensor in waiting_weights(module).values()]
    gc.disable()
    try:
        release(module)
        del module
        assert not any(reference() is not None for reference in (*weights, *waiting))
    finally:
        gc.enable()


# -- through the command line --------------------------------------------------------------------


def score(folder: Path, name: str, **settings: Any) -> xarray.Dataset:
    file = write_study(folder, study__store=name, **settings)
    assert run(["run", str(file)]) == 0
    return open_study(folder / name).dataset("m").load()


@pytest.mark.parametrize(
    ("architecture", "representation"),
    [
        ("gpt2", "factored"),
        ("llama", "none"),
        pytest.param("gpt-neox", "dense", marks=pytest.mark.long),
        pytest.param("gpt2", "none", marks=pytest.mark.long),
    ],
)
def test_weights_that_wait_change_no_result(
    tmp_path: Path, architecture: str, representation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny_runs(tmp_path, architecture=architecture, seeds=("1", "2"))
    plain = score(tmp_path, "plain.zarr", log_probs__representation=representation)
    capsys.readouterr()
    little = {"scoring__offload": "cpu", "scoring__memory_gb": 3e-5}
    waiting = score(tmp_path, "waiting.zarr", log_probs__representation=representation, **little)
    assert "brought there layer by layer" in capsys.readouterr().err
    assert waiting.equals(plain)


def test_a_model_that_fits_is_left_alone_and_so_is_a_cpu_without_a_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    plain = score(tmp_path, "plain.zarr")
    for name, more in (("roomy.zarr", {"scoring__memory_gb": 1}), ("unlimited.zarr", {})):
        assert score(tmp_path, name, scoring__offload="cpu", **more).equals(plain)
    assert "layer by layer" not in capsys.readouterr().err


@pytest.mark.long
def test_seeds_take_turns_while_each_fits_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    fused = {"log_probs__representation": "none", "scoring__offload": "cpu"}
    assert score(tmp_path, "turns.zarr", scoring__memory_gb=2e-4, **fused).equals(
        score(tmp_path, "plain.zarr", **fused)
    )
    said = capsys.readouterr().err
    assert "moved there in turn" in said
    assert "layer by layer" not in said


@pytest.mark.long
def test_masked_models_too(tmp_path: Path) -> None:
    make_masked_runs(tmp_path, "roberta")
    masked = {"scoring__prediction": "visible", "scoring__windowing": "document"}
    little = {"scoring__offload": "cpu", "scoring__memory_gb": 1e-5}
    plain = score(tmp_path, "plain.zarr", **masked)
    assert score(tmp_path, "waiting.zarr", **masked, **little).equals(plain)


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.long)])
def test_half_precision_too(tmp_path: Path, dtype: str) -> None:
    make_tiny_runs(tmp_path, architecture="llama", seeds=("1", "2"), steps=(0,))
    half = {"scoring__dtype": dtype, "log_probs__representation": "factored"}
    little = {"scoring__offload": "cpu", "scoring__memory_gb": 1e-5}
    plain = score(tmp_path, "plain.zarr", **half)
    assert score(tmp_path, "waiting.zarr", **half, **little).equals(plain)


def test_an_architecture_that_changes_its_weights_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model(CHANGING, vocab, seed), ("1", "2"))
    little = {"scoring__offload": "cpu", "scoring__memory_gb": 1e-5}
    assert run(["run", str(write_study(tmp_path, **little))]) == 1
    said = capsys.readouterr().err
    for seed in ("1", "2"):
        assert (
            f"runs/seed{seed}/step5: RwkvForCausalLM changes its weights when it is called, so they"
            " cannot wait in the host's memory (scoring.offload); choose a larger device"
        ) in said


def test_a_waiting_weight_that_is_not_finite_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tiny_runs(tmp_path, seeds=("1",), steps=(0,))
    file = tmp_path / "runs/seed1/step0/model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "dense_h_to_4h.weight" in name)
    weights[name][0, 0] = torch.inf
    save_file(weights, file, metadata={"format": "pt"})
    little = {"scoring__offload": "cpu", "scoring__memory_gb": 1e-5}
    assert run(["run", str(write_study(tmp_path, **little))]) == 1
    assert f"{name} holds NaN or infinite weights" in capsys.readouterr().err


# -- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "cuda:7+cuda:7"}, 'scoring.device: found "cuda:7+cuda:7", which names a GPU'),
        ({"device": "cuda:0+cuda:63"}, 'scoring.device: found "cuda:0+cuda:63", but this machine'),
        ({"device": ["cpu", "cuda:63"]}, 'scoring.device: found "cuda:63", but this machine has'),
        ({"device": "cuda:0+cpu"}, 'scoring.device: should not have "cpu" next to "+": layers are'),
        ({"device": "cuda+cuda:1"}, 'scoring.device: should number the GPUs next to "+", as in'),
        ({"device": "cuda:0+"}, 'scoring.device: should be "auto", "cpu", "cuda" or a list such'),
        ({"device": ["auto", "cpu"]}, 'scoring.device: should be "auto", "cpu", "cuda" or a list'),
        ({"device": [0, 1]}, "scoring.device: should be a valid string"),
        ({"offload": "disk"}, "scoring.offload: should be 'cpu', found 'disk'"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_read(
    tmp_path: Path, settings: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, **{f"scoring__{name}": value for name, value in settings.items()})
    assert run(["run", str(file)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"offload": "cpu"}, {"device": "cuda:0+cuda:1"}])
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    ((field, value),) = settings.items()
    file = write_study(tmp_path, **{f"scoring__{field}": value})
    assert run(["run", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"scoring.{field}: needs accelerate, which is not installed" in line
    assert line.endswith("pip install 'seedconv-tui[engine,accelerate]'")


@pytest.mark.parametrize(
    ("representation", "more"),
    [
        ("factored", {}),
        pytest.param("none", {"memory_gb": 6e-5}, marks=pytest.mark.long),  # in turn
        pytest.param("none", {"memory_gb": 2e-5, "offload": "cpu"}, marks=pytest.mark.long),
    ],
)
def test_layers_on_two_devices_change_no_result(
    tmp_path: Path,
    representation: str,
    more: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both are the CPU here, which no setting asks for; test_cuda.py has GPUs."""
    make_tiny_runs(tmp_path, architecture="llama", seeds=("1", "2"))
    kept = {"log_probs__representation": representation}
    plain = score(tmp_path, "plain.zarr", **kept)
    monkeypatch.setattr("engine.workers.choice.choose_devices", lambda setting: (TWO,))
    settings = kept | {f"scoring__{name}": value for name, value in more.items()}
    split = score(tmp_path, "split.zarr", **settings)
    assert split.equals(plain)
    scored = open_study(tmp_path / "split.zarr").ledger("m").scored
    assert {record["device"] for record in scored.values()} == {"cpu+cpu"}
