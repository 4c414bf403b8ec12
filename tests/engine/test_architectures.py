"""Architectures by the generic path: small random checkpoints against transformers in float64."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from engine.models.modules import Modules
from engine.models.output_head import find_head
from engine.models.weights import CheckpointWeights
from seedconv_tui.cli.main import run
from store import Study, open_study
from tests.support.reference import reference_log_probs
from tests.support.tiny_models import TEXT, make_tokenizer, write_study

PADDING = 4
SEEDS = ("1", "2", "3")
IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
MAMBA = {"hidden_size": 32, "num_hidden_layers": 2, "conv_kernel": 3}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
NEOX = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "initializer_range": 0.2}
CAPPED = {"head_dim": 8, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0}

# Windows are 32 tokens here, with an overlap of 16.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt-neox": ("GPTNeoXConfig", NEOX),
    "gpt2": ("GPT2Config", GPT2),
    "gpt2, shorter than our window": ("GPT2Config", GPT2 | {"n_positions": 24}),
    "llama": ("LlamaConfig", LLAMA),
    "llama, tied": ("LlamaConfig", LLAMA | {"tie_word_embeddings": True}),
    "olmo2": ("Olmo2Config", LLAMA),
    "qwen2": ("Qwen2Config", LLAMA),
    "qwen3, tied": ("Qwen3Config", LLAMA | {"head_dim": 8, "tie_word_embeddings": True}),
    "mamba": ("MambaConfig", MAMBA | {"state_size": 4, "initializer_range": 0.2}),
    "mamba2": (
        "Mamba2Config",
        MAMBA | {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 8},
    ),
    "mistral, sliding": ("MistralConfig", LLAMA | {"sliding_window": 7}),
    "gemma2, capped, sliding": ("Gemma2Config", LLAMA | CAPPED | {"sliding_window": 7}),
    "recurrent gemma, capped": (
        "RecurrentGemmaConfig",
        {key: value for key, value in LLAMA.items() if key != "max_position_embeddings"}
        | {"lru_width": 32, "attention_window_size": 7, "logits_soft_cap": 4.0}
        | {"block_types": ["recurrent", "attention"]},
    ),
}


def make_model(architecture: str, vocab: int, seed: int) -> Any:
    kind, settings = ARCHITECTURES[architecture]
    torch.manual_seed(seed)
    config = getattr(transformers, kind)(vocab_size=vocab, **IDS, **settings)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def make_runs(
    folder: Path, make: Callable[[int, int], Any], seeds: tuple[str, ...] = SEEDS
) -> None:
    """Tokenizer, text and `runs/seed<seed>/step5`; `make` makes a model of (vocabulary, seed)."""
    vocab = make_tokenizer(folder / "tokenizer").get_vocab_size() + PADDING
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    for seed in seeds:
        make(vocab, int(seed)).save_pretrained(folder / f"runs/seed{seed}/step5")


def score(folder: Path, **settings: Any) -> Study:
    """Score with nothing kept, so that storage rounds nothing."""
    file = write_study(folder, log_probs__representation="none", **settings)
    assert run(["run", str(file)]) == 0
    return open_study(folder / "study.zarr")


def assert_agrees(study: Study, exact: dict[str, NDArray[np.float64]]) -> None:
    """Surprisals and all pairs' KL are those of these log-probs, (token, vocab) float64."""
    data = study.dataset("m").sel(step=5).load()
    targets = study.corpus.token_id
    assert len(targets) == 150
    for i, log_p in exact.items():
        surprisal = -log_p[range(len(targets)), targets]
        np.testing.assert_allclose(data.surprisal.sel(seed=i), surprisal, rtol=1e-4, atol=1e-5)
        for j in exact.keys() - {i}:
            kl = (np.exp(log_p) * (log_p - exact[j])).sum(1)
            assert kl.mean() > 1e-3  # else nothing is compared
            error = np.abs(data.kl.sel(seed=i, other_seed=j).to_numpy() - kl)
            assert (error <= 2e-6 + 1e-4 * kl).all()


def reference(
    folder: Path, seeds: tuple[str, ...] = SEEDS, window: int = 32
) -> dict[str, NDArray[np.float64]]:
    return {
        seed: reference_log_probs(
            folder,
            folder / f"runs/seed{seed}/step5",
            stream=True,
            dtype=torch.float64,
            window=window,
        )[0]
        for seed in seeds
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_those_of_transformers_in_float64(tmp_path: Path, architecture: str) -> None:
    seeds = ("1", "2")
    make_runs(tmp_path, lambda vocab, seed: make_model(architecture, vocab, seed), seeds)
    study = score(tmp_path)
    window = 24 if "shorter" in architecture else 32
    assert_agrees(study, reference(tmp_path, seeds, window))
    assert study.ledger("m").scored["1", 5]["window"] == window
    assert (study.dataset("m").noise_floor.sel(step=5) < 1e-9).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_output_layer_is_found(architecture: str) -> None:
    model = make_model(architecture, 304, 1)
    ids = torch.arange(20)[None] % 13
    with torch.inference_mode():
        head = find_head(model, 300, input_ids=ids, use_cache=False)
    assert head is not None
    assert head.weight.shape == (300, 32)
    assert head.soft_cap == (4.0 if "capped" in architecture else None)
    assert head.scale == 1.0


def test_warnings_of_transformers_are_not_the_users(tmp_path: Path) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model("mamba", vocab, seed), ("1", "2"))
    command = [
        sys.executable,
        "-m",
        "seedconv_tui.cli.main",
        "run",
        str(write_study(tmp_path)),
        "--json",
    ]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert all(line.startswith("{") for line in told.splitlines())


BROKEN = """
from transformers import LlamaForCausalLM

class Broken(LlamaForCausalLM):
    def forward(self, *arguments, **options):
        raise RuntimeError("no luck\\ntoday")
"""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rms_norm_eps": "small"}, "/config.json: Validation error for field 'rms_norm_eps': Ty"),
        (
            {"model_type": "vit", "vocab_size": None},
            ": ViTConfig has no vocabulary: it is no language model",
        ),
        ({"model_type": "t5"}, ": T5Config is an encoder with a decoder, neither a causal nor a"),
        ({"auto_map": {"AutoModelForCausalLM": "broken.Broken"}}, ": its model fails: no luck"),
    ],
)
def test_a_model_that_cannot_be_used_is_told_and_the_others_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model("llama", vocab, seed))
    checkpoint = tmp_path / "runs/seed2/step5"
    (checkpoint / "broken.py").write_text(BROKEN)
    config = json.loads((checkpoint / "config.json").read_text()) | changes
    (checkpoint / "config.json").write_text(json.dumps(config))
    study = write_study(tmp_path, models__trust_remote_code="auto_map" in changes)
    assert run(["run", str(study)]) == 1
    assert f"{checkpoint}{said}" in capsys.readouterr().err
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {5: {"1", "3"}}


STRANGE = """
from transformers import LlamaForCausalLM

class Strange(LlamaForCausalLM):
    def forward(self, input_ids=None, logits_to_keep=0, **options):
        output = super().forward(input_ids=input_ids, logits_to_keep=logits_to_keep, **options)
        output.logits = output.logits + 0.3 * output.logits.roll(1, -1).square()
        return output
"""


def test_logits_that_are_no_product_are_scored_as_the_model_makes_them(tmp_path: Path) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model("llama", vocab, seed))
    for seed in SEEDS:
        checkpoint = tmp_path / f"runs/seed{seed}/step5"
        (checkpoint / "modeling_strange.py").write_text(STRANGE)
        config = json.loads((checkpoint / "config.json").read_text())
        config["auto_map"] = {"AutoModelForCausalLM": "modeling_strange.Strange"}
        (checkpoint / "config.json").write_text(json.dumps(config))
    strange = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, trust_remote_code=True)
    with torch.inference_mode():
        assert find_head(strange, 300, input_ids=torch.arange(9)[None], use_cache=False) is None
    exact = {
        seed: reference_log_probs(
            tmp_path,
            tmp_path / f"runs/seed{seed}/step5",
            stream=True,
            dtype=torch.float64,
            trust_remote_code=True,
        )[0]
        for seed in SEEDS
    }
    one_at_a_time = {"models__trust_remote_code": True, "scoring__batch_tokens": 32}
    assert_agrees(score(tmp_path, **one_at_a_time), exact)


def half(vocab: int, seed: int) -> Any:
    return make_model("qwen2", vocab, seed).bfloat16()


def test_half_precision_checkpoints_are_scored_in_float32(tmp_path: Path) -> None:
    make_runs(tmp_path, half)
    assert_agrees(score(tmp_path), reference(tmp_path))


def rename(folder: Path, change: Callable[[str], str | None]) -> None:
    """Give the weights of a checkpoint other names; None leaves one out."""
    file = folder / "model.safetensors"
    renamed = {change(name): tensor for name, tensor in load_file(file).items()}
    save_file({k: v for k, v in renamed.items() if k is not None}, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        ("gpt2", lambda name: name.removeprefix("transformer.")),  # as the first GPT-2 has them
        ("llama, tied", lambda name: name if "embed" not in name else "lm_head.weight"),
    ],
)
def test_checkpoints_whose_weights_have_other_names(
    tmp_path: Path, architecture: str, change: Callable[[str], str | None]
) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model(architecture, vocab, seed))
    for seed in SEEDS:
        rename(tmp_path / f"runs/seed{seed}/step5", change)
    assert_agrees(score(tmp_path), reference(tmp_path))


@pytest.mark.parametrize(("architecture", "swapped"), [("gpt2", True), ("renamed", False)])
def test_weights_swapped_into_one_module_are_as_built_anew(
    tmp_path: Path, architecture: str, swapped: bool
) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model("gpt2", vocab, seed))
    folders = [tmp_path / f"runs/seed{seed}/step5" for seed in SEEDS]
    if architecture == "renamed":
        for folder in folders:
            rename(folder, lambda name: name.removeprefix("transformer."))
    config = transformers.AutoConfig.from_pretrained(folders[0])
    modules = Modules(torch.float32, torch.device("cpu"))
    loaded = []
    for folder in folders:
        weights = load_file(folder / "model.safetensors")
        loaded.append(modules.load(CheckpointWeights(folder, "", config, weights, "", 0)))
        if swapped and len(loaded) > 1:  # the weights used last are gone before there are others
            assert not any(p.numel() for p in loaded[0].module.parameters())
        loaded[-1].activate()
    assert all((model.module is loaded[0].module) == swapped for model in loaded[1:])
    ids = torch.arange(20)[None]
    for model, folder in reversed([*zip(loaded, folders, strict=True)]):
        anew = transformers.AutoModelForCausalLM.from_pretrained(folder)
        with torch.inference_mode():
            assert torch.equal(model.activate()(ids).logits, anew(ids).logits)


def test_a_seed_whose_tied_weights_differ_is_not_tied(tmp_path: Path) -> None:
    """A checkpoint that has both counts, whatever its configuration says, as in transformers."""
    make_runs(tmp_path, lambda vocab, seed: make_model("llama, tied", vocab, seed))
    for seed in SEEDS:
        file = tmp_path / f"runs/seed{seed}/step5/model.safetensors"
        weights = load_file(file)
        embedding = weights["model.embed_tokens.weight"]
        weights["lm_head.weight"] = embedding.roll(int(seed == "2"), 0).contiguous()
        save_file(weights, file, metadata={"format": "pt"})
    assert_agrees(score(tmp_path), reference(tmp_path))
