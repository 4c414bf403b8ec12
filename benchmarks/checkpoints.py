"""Checkpoints to measure with: five seeds that were really trained, a little.

    python -m benchmarks.checkpoints DIR

Writes GPT-NeoX models of the shape of Pythia-14m (128 units, 6 layers, 4 heads, vocabulary 50,304,
window 2,048) as `DIR/runs/seed<seed>/step<step>`, their tokenizer, and text held out of training:
all of it Python's own library. Takes two minutes on two cores; what is there already is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from benchmarks.study import SEEDS, STEPS, VOCAB, WINDOW

END = "<|endoftext|>"
_UNITS, _LAYERS, _HEADS = 128, 6, 4
_BATCH, _LENGTH, _RATE = 4, 64, 2e-3
_TRAINING_CHARACTERS, _HELD_OUT_CHARACTERS = 8 * 2**20, 2**18


def library_text() -> str:
    """The sources of Python's library, in an order that is always the same."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(file for file in folder.rglob("*.py") if "site-packages" not in file.parts)
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def train_tokenizer(text: str) -> Tokenizer:
    """A byte-level BPE of VOCAB entries, trained on the text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(text.splitlines(keepends=True), trainer)
    return backend


def save_tokenizer(backend: Tokenizer, folder: Path) -> None:
    """Save it as `transformers` expects it."""
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def train(ids: torch.Tensor, seed: int) -> Iterator[tuple[int, Any]]:
    """Train one seed on token ids (token,); yield (step, model) at each of STEPS."""
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=VOCAB,
        hidden_size=_UNITS,
        intermediate_size=4 * _UNITS,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        max_position_embeddings=WINDOW,
        bos_token_id=0,
        eos_token_id=0,
    )
    model: Any = GPTNeoXForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.1, fused=True)
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            yield step, model
        starts = torch.randint(len(ids) - _LENGTH, (_BATCH,))
        batch = torch.stack([ids[start : start + _LENGTH] for start in starts.tolist()])
        model(batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def make_checkpoints(folder: Path) -> None:
    """Write tokenizer, text and every checkpoint into `folder`."""
    transformers.utils.logging.disable_progress_bar()
    text = library_text()
    backend = train_tokenizer(text)
    save_tokenizer(backend, folder / "tokenizer")
    (folder / "text.txt").write_text(text[-_HELD_OUT_CHARACTERS:], encoding="utf-8")
    ids = torch.tensor(backend.encode(text[:_TRAINING_CHARACTERS]).ids)
    for seed in SEEDS:
        for step, model in train(ids, seed):
            model.save_pretrained(folder / "runs" / f"seed{seed}" / f"step{step}")
            print(f"checkpoints: seed {seed}, step {step}", file=sys.stderr, flush=True)


def main() -> None:
    """Make them, unless they are there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="where they are put")
    folder: Path = parser.parse_args().folder
    made, what = folder / "made.json", json.dumps([VOCAB, WINDOW, SEEDS, STEPS])
    if not (made.exists() and made.read_text(encoding="utf-8") == what):
        make_checkpoints(folder)
        made.write_text(what, encoding="utf-8")


if __name__ == "__main__":
    main()
