"""One training process of the soak: one seed of each model, one after the other.

    python -m tests.soak.trainer FOLDER SEED SECONDS

Same seed, same weights, however often it is killed and started again. A checkpoint is put into
`runs` as a trainer does, file by file with `trainer_state.json` last and never whole at once, and
then, whole, into `archive`: what is there is not made again.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from tests.support.tiny_models import TEXT

MODELS = ("neox", "gpt2")
SEEDS = tuple(map(str, range(1, 7)))
STEPS = (0, 1, 2, 4, 8, 16, 32)
_BATCH, _LENGTH = 8, 32
_BREATH = 0.03  # seconds between two pieces of a file


def checkpoint(root: Path, model: str, seed: str, step: int) -> Path:
    """Where a checkpoint lies below `runs` or `archive`."""
    return root / model / f"seed{seed}" / f"checkpoint-{step}"


def make_model(name: str, vocab: int, seed: str) -> Any:
    """A model at the beginning of training."""
    torch.manual_seed(1000 * MODELS.index(name) + int(seed))
    if name == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocab, n_embd=48, n_layer=2, n_head=2, n_positions=64,
                bos_token_id=0, eos_token_id=0,
            )
        )  # fmt: skip
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=vocab, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


def train(folder: Path, name: str, seed: str, seconds: float) -> None:
    """Train one model; `seconds` pass before each checkpoint that is new."""
    backend = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    stream = torch.tensor(backend.encode(TEXT).ids)
    model = make_model(name, backend.get_vocab_size(), seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    order = torch.Generator().manual_seed(int(seed))
    for step in range(STEPS[-1] + 1):
        if step in STEPS and not checkpoint(folder / "archive", name, seed, step).exists():
            time.sleep(seconds)
            save(folder, model, name, seed, step)
        starts = torch.randint(len(stream) - _LENGTH, (_BATCH,), generator=order)
        batch = torch.stack([stream[start : start + _LENGTH] for start in starts.tolist()])
        model(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def save(folder: Path, model: Any, name: str, seed: str, step: int) -> None:
    """Put a checkpoint into `runs`, then into `archive`."""
    archived = checkpoint(folder / "archive", name, seed, step)
    made = archived.with_name(f"{archived.name}.part")
    shutil.rmtree(made, ignore_errors=True)
    model.save_pretrained(made)
    (made / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    put(made, checkpoint(folder / "runs", name, seed, step))
    made.rename(archived)
    print(f"{name}, seed {seed}: saved step {step}", flush=True)


def put(source: Path, target: Path) -> None:
    """Copy a checkpoint piece by piece, `trainer_state.json` last, over what may be there."""
    target.mkdir(parents=True, exist_ok=True)
    files = sorted(source.iterdir(), key=lambda file: (file.name == "trainer_state.json", file))
    for file in files:
        data = file.read_bytes()
        half = len(data) // 2
        with (target / file.name).open("wb", buffering=0) as stream:
            stream.write(data[:half])
            time.sleep(_BREATH)
            stream.write(data[half:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    where, label, pause = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    for model_name in MODELS:
        train(where, model_name, label, pause)
