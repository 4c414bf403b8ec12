"""Train three seeds of a tiny GPT-2 with transformers' Trainer while seedconv watches.

    pip install 'seedconv-tui[engine]' accelerate
    python examples/train_three_seeds.py

and, once that says so, in two other panes:

    seedconv watch examples/train_three_seeds.toml --until-complete
    seedconv tui examples/three_seeds/study.zarr

Takes half a minute of two cores. Trainer keeps only two checkpoints of each run; what is not scored
yet is held until it is.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from seedconv_tui.training import SeedconvCallback

STUDY = Path(__file__).with_suffix(".toml")
FOLDER = Path(__file__).parent / "three_seeds"
SEEDS = (1, 2, 3)
STEPS, SAVE_STEPS, LENGTH = 300, 30, 64
END = "<|endoftext|>"


def documents() -> list[str]:
    """Prose that comes with every Python: the help texts of the language reference."""
    from pydoc_data.topics import topics

    return list(topics.values())


def make_tokenizer(texts: list[str]) -> None:
    """A small byte-level BPE, saved where the study file says."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    (FOLDER / "tokenizer").mkdir(parents=True, exist_ok=True)
    backend.save(str(FOLDER / "tokenizer" / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END}
    (FOLDER / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings))


def examples(backend: Tokenizer, texts: list[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Pieces of the text, each its own labels."""
    ids = torch.tensor([token for text in texts for token in backend.encode(text).ids])
    for start in range(0, len(ids) - LENGTH, LENGTH):
        piece = ids[start : start + LENGTH]
        yield {"input_ids": piece, "labels": piece}


def train(seed: int) -> None:
    """One run, in a process of its own. It knows only the callback of seedconv."""
    torch.set_num_threads(1)  # there are more runs than some machines have cores
    backend = Tokenizer.from_file(str(FOLDER / "tokenizer" / "tokenizer.json"))
    data = list(examples(backend, documents()[:-3]))
    set_seed(seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=backend.get_vocab_size(),
            n_embd=64,
            n_layer=2,
            n_head=2,
            n_positions=LENGTH,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    arguments = TrainingArguments(
        output_dir=str(FOLDER / "runs" / f"seed{seed}"),
        seed=seed,
        max_steps=STEPS,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        save_steps=SAVE_STEPS,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    Trainer(
        model,
        arguments,
        train_dataset=data,  # type: ignore[arg-type]  # any sequence will do
        data_collator=default_data_collator,
        callbacks=[SeedconvCallback(STUDY, model="tiny-gpt2", hold=True, hold_at_most=10)],
    ).train()


def main() -> None:
    """Write the text and the tokenizer, then train all seeds at once."""
    texts = documents()
    make_tokenizer(texts)
    (FOLDER / "held_out.txt").write_text("\n\n".join(texts[-3:]), encoding="utf-8")
    print(f"training {len(SEEDS)} seeds; now: seedconv watch {STUDY}", flush=True)
    with multiprocessing.get_context("spawn").Pool(len(SEEDS)) as pool:
        pool.map(train, SEEDS)


if __name__ == "__main__":
    main()
