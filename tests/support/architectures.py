"""Small random models of many architectures, and their log-probs in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

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
RWKV = {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 7}
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 12}
LONG |= {"short_factor": [1.0, 1.0, 1.0, 1.0], "long_factor": [1.0, 4.0, 16.0, 64.0]}
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
    "rwkv, which changes its weights": ("RwkvConfig", RWKV | {"context_length": 64}),
    "phi3, longrope": ("Phi3Config", LLAMA | {"rope_parameters": LONG}),
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
    return open_study(folder / settings.get("study__store", "study.zarr"))


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
    folder: Path, seeds: tuple[str, ...] = SEEDS, window: int = 32, *, stream: bool = True
) -> dict[str, NDArray[np.float64]]:
    return {
        seed: reference_log_probs(
            folder,
            folder / f"runs/seed{seed}/step5",
            stream=stream,
            dtype=torch.float64,
            window=window,
        )[0]
        for seed in seeds
    }
