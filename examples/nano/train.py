"""Train three seeds of a small GPT of our own while seedconv watches; no checkpoint is written.

    pip install 'seedconv-tui[engine]'
    python examples/nano/train.py                                  # one pane
    seedconv watch examples/nano/study.toml --until-complete       # another
    seedconv tui examples/nano/data/study.zarr                     # a third

Takes less than a minute of two cores. `model.py` is torch alone; this file knows one thing of
seedconv, `Capture`: made once before the loop, called once in every step.
"""

from __future__ import annotations

import json
import math
import multiprocessing
from pathlib import Path

import torch
from model import Config, Nano
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional

from seedconv_tui.training import Capture

STUDY = Path(__file__).parent / "study.toml"
FOLDER = Path(__file__).parent / "data"
SEEDS = (1, 2, 3)
STEPS, BATCH, CONTEXT = 512, 16, 64
PEAK_RATE, WARM_UP = 1e-3, 30
END = "<|endoftext|>"
SEPARATOR = "\n\f\n"


def prepare() -> None:
    """Write the text and a small byte-level BPE where the study file says.

    The text comes with every Python: help on the language. The last topics are held out.
    """
    from pydoc_data.topics import topics

    texts = list(topics.values())
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "train.txt").write_text(SEPARATOR.join(texts[:-5]), encoding="utf-8")
    (FOLDER / "held_out.txt").write_text(SEPARATOR.join(texts[-5:]), encoding="utf-8")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    (FOLDER / "tokenizer").mkdir(exist_ok=True)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END}
    (FOLDER / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings))
    backend.save(str(FOLDER / "tokenizer" / "tokenizer.json"))


def train(seed: int) -> None:
    """One run, in a process of its own."""
    torch.set_num_threads(1)  # there are more runs than some machines have cores
    backend = Tokenizer.from_file(str(FOLDER / "tokenizer" / "tokenizer.json"))
    texts = (FOLDER / "train.txt").read_text(encoding="utf-8").split(SEPARATOR)
    ids = torch.tensor([token for text in texts for token in backend.encode(END + text).ids])
    torch.manual_seed(seed)
    rows = 64 * math.ceil(backend.get_vocab_size() / 64)  # which GPUs multiply faster
    model = Nano(Config(vocab=rows, context_length=CONTEXT))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    # Waits for `seedconv watch` or `seedconv order`, which say what is to be captured.
    capture = Capture(STUDY, model="nano", seed=seed, wait=600)
    for step in range(STEPS + 1):
        capture(model, step)  # at steps that the study file does not list it does nothing
        starts = torch.randint(len(ids) - CONTEXT, (BATCH, 1))
        batch = ids[starts + torch.arange(CONTEXT + 1)]
        logits = model(batch[:, :-1])
        functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def rate(step: int) -> float:
    """Learning rate over its peak: linear warm-up, then a cosine."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP)))


def main() -> None:
    """Write text and tokenizer, then train all seeds at once."""
    prepare()
    print(f"training {len(SEEDS)} seeds; now: seedconv watch {STUDY} --until-complete", flush=True)
    with multiprocessing.get_context("spawn").Pool(len(SEEDS)) as pool:
        pool.map(train, SEEDS)


if __name__ == "__main__":
    main()
