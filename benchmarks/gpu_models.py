"""Models of Pythia's shapes with random weights, made on the device where they are measured.

Nothing is trained: for time and memory any weights do. Their output layers are scaled so that the
distributions are as far from uniform as those of real models, and differ between seeds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

SEEDS, STEP = (1, 2, 3), 0
_END = "<|endoftext|>"
_SPREAD = 2.0  # standard deviation of a token's logits


@dataclass(frozen=True)
class Shape:
    """A size of model, and how much text it is measured with."""

    units: int
    layers: int
    heads: int
    vocab: int = 50_304
    window: int = 2048
    tokens: int = 32_768
    dense_tokens: int = 8_192  # log-probs of these are written: 0.8 GB a seed


SHAPES = {
    "14m": Shape(128, 6, 4),
    "70m": Shape(512, 6, 8),
    "160m": Shape(768, 12, 12),
    "410m": Shape(1024, 24, 16),
    "1b": Shape(2048, 16, 8),
}
SMALL = {"tiny": Shape(32, 2, 2, vocab=512, window=128, tokens=512, dense_tokens=256)}


def make_text(folder: Path, shape: Shape) -> None:
    """Write tokenizer and text: words that stand for one token each, by Zipf's law."""
    words = [_END, *(f"w{number}" for number in range(1, shape.vocab))]
    backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, _END))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer/tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": _END, "eos_token": _END}
    (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps(settings))
    drawn = np.random.default_rng(0).zipf(1.2, 4 * shape.tokens)
    drawn = drawn[drawn < shape.vocab][: shape.tokens + 1]
    (folder / "text.txt").write_text(" ".join(f"w{number}" for number in drawn), encoding="utf-8")


def make_model(shape: Shape, seed: int, device: str) -> Any:
    """A model in float32 on the device."""
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.units,
        intermediate_size=4 * shape.units,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.window,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=False,
    )
    with torch.device(device):
        model: Any = GPTNeoXForCausalLM(config)
    torch.nn.init.normal_(model.get_output_embeddings().weight, std=_SPREAD / shape.units**0.5)
    return model.eval().requires_grad_(requires_grad=False)


def checkpoint(folder: Path, seed: int) -> Path:
    """The folder of one seed's checkpoint."""
    return folder / "runs" / f"seed{seed}" / f"step{STEP}"


def make_checkpoints(folder: Path, shape: Shape, device: str) -> None:
    """Write the seeds' checkpoints in bfloat16, as large ones are published."""
    for seed in SEEDS:
        make_model(shape, seed, device).bfloat16().save_pretrained(checkpoint(folder, seed))
