"""Small real checkpoints and study files, made where a test needs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.utils.logging import disable_progress_bar

disable_progress_bar()  # of what a test saves: stderr is what the commands under test write

TEXT = (
    "The seeds of a model are trained on the same text in another order.\n"
    "Do they learn the same distribution? Sometimes: naïve readers say “always”, "
    "careful ones measure it, token by token, step by step.\n"
) * 4
END = "<|endoftext|>"
CUSTOM = """
[[categories.custom]]
name = "vowel"
pattern = "[aeiou]"
"""


def make_tokenizer(folder: Path, size: int = 300) -> Tokenizer:
    """Train a byte-level BPE and save it as transformers does."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([TEXT], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return backend


def make_model(architecture: str, vocab: int, seed: int) -> Any:
    """A random model with logits far from uniform."""
    torch.manual_seed(seed)
    small = {"vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0}
    match architecture:
        case "gpt2":
            return GPT2LMHeadModel(
                GPT2Config(
                    n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.2, **small
                )
            )
        case "llama":
            return LlamaForCausalLM(
                LlamaConfig(
                    hidden_size=32,
                    intermediate_size=64,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                    max_position_embeddings=64,
                    initializer_range=0.2,
                    **small,
                )
            )
        case _:
            return GPTNeoXForCausalLM(
                GPTNeoXConfig(
                    hidden_size=32,
                    intermediate_size=64,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    max_position_embeddings=64,
                    initializer_range=0.2,
                    **small,
                )
            )


def make_runs(
    folder: Path,
    *,
    architecture: str = "gpt-neox",
    seeds: tuple[str, ...] = ("1", "2", "3"),
    steps: tuple[int, ...] = (0, 10),
    padding: int = 4,
    dtype: torch.dtype = torch.float32,
    shard: str = "5GB",
) -> None:
    """Write tokenizer, text and checkpoints `runs/seed<seed>/step<step>` into `folder`."""
    vocab = make_tokenizer(folder / "tokenizer").get_vocab_size() + padding
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    for seed in seeds:
        for step in steps:
            model = make_model(architecture, vocab, seed=1000 * int(seed) + step)
            target = folder / "runs" / f"seed{seed}" / f"step{step}"
            model.to(dtype).save_pretrained(target, max_shard_size=shard)


def write_study(folder: Path, **changes: Any) -> Path:
    """Write a study file for what `make_runs` made; `changes` are `section__field=value`."""
    sections: dict[str, dict[str, Any]] = {
        "study": {"name": "test", "store": "study.zarr"},
        "corpus": {"files": ["text.txt"], "separator": "\n", "max_tokens": 150},
        "tokenizer": {"source": "tokenizer"},
        "models": {"name": "m", "source": "runs/seed{seed}/step{step}"},
        "scoring": {"window": 32, "overlap": 16, "device": "cpu"},
        "log_probs": {"representation": "dense"},  # arrays of log-probs, which tests read
        "reference": {},
        "categories": {"include": ["frequency", "surprisal", "document"]},  # none needs spaCy
        "watch": {},
    }
    for name, value in changes.items():
        section, _, field = name.partition("__")
        sections[section][field] = value
    lines: list[str] = []
    for section, fields in sections.items():
        lines.append("[[models]]" if section == "models" else f"[{section}]")
        lines += [f"{field} = {json.dumps(value)}" for field, value in fields.items()]
    file = folder / "study.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def finish(folder: Path) -> None:
    """Say of every checkpoint in `folder`, as Trainer does last, that it is finished."""
    for checkpoint in (folder / "runs").glob("*/*"):
        (checkpoint / "trainer_state.json").write_text("{}")


def pickle_weights(folder: Path, *, sharded: bool = False) -> None:
    """Turn safetensors into what torch.save writes."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    file.unlink()
    if not sharded:
        torch.save(weights, folder / "pytorch_model.bin")
        return
    index = {}
    for n, (name, tensor) in enumerate(weights.items()):
        shard = f"pytorch_model-{n % 2}.bin"
        index[name] = shard
        known = torch.load(folder / shard) if (folder / shard).exists() else {}
        torch.save({**known, name: tensor}, folder / shard)
    text = json.dumps({"weight_map": index})
    (folder / "pytorch_model.bin.index.json").write_text(text)
