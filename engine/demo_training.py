"""Tiny seeds trained on the prose that ships with Python: of the demo, and of `make reproduce`.

`prepare` writes corpus, tokenizer, study file and plan; `python -m engine.demo_training DIR` is the
trainer, a process of its own. It knows nothing of seedconv and leaves ordinary `transformers`
checkpoints; or, with `TrainingPlan.capture`, it leaves none and calls `Capture` in their place.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.demo_pairs import write_pairs

if TYPE_CHECKING:
    from seedconv_tui.training.capture import Capture

_VOCAB = 2048
_SHARED = 1000  # the random seed of what decoupled runs have in common
_BATCH, _LENGTH = 16, 64
_PEAK_RATE, _WARM_UP, _FLOOR = 1e-3, 30, 0.02
_END_OF_TEXT = "<|endoftext|>"
_SEPARATOR = "\n\f\n"
_PLAN = "plan.json"
_WRITTEN_LAST = "trainer_state.json"
_WAIT_FOR_ORDER = 600.0  # seconds; the engine starts at the same time


@dataclass(frozen=True)
class Size:
    """One model size."""

    name: str
    hidden: int
    layers: int
    heads: int
    decoupled: bool = False  # half of its runs share an initialisation, the others a data order


TINY, SMALL = Size("tiny", 64, 2, 4), Size("small", 128, 3, 4)
DECOUPLED = Size("tiny-decoupled", 64, 2, 4, decoupled=True)
_FEW = (0, 64, 256)  # steps of decoupled runs that are saved; they end with the last
_EARLY = (0, 1, 2, 4, 8, 12, 16, 24, 32, 48)


@dataclass(frozen=True)
class TrainingPlan:
    """The models to train, and the tokens on which they are scored."""

    name: str = "demo"
    sizes: tuple[Size, ...] = (TINY,)
    seeds: tuple[int, ...] = (1, 2, 3)
    n_steps: int = 768
    held_out_tokens: int = 2000
    most_of_document: int = 2000  # tokens held out of one document: its end, or all of it
    counts: tuple[str, ...] = ()  # text files whose tokens are counted; else the corpus's are
    capture: bool = False  # hand over what the models say, and save no checkpoint
    divergences: tuple[str, ...] = ()  # that are computed; the usual ones if none is named
    pairs: bool = False  # ask minimal pairs of every checkpoint

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps whose checkpoints are saved."""
        every = {*_EARLY, *range(64, self.n_steps, 32), self.n_steps}
        return tuple(sorted(step for step in every if step <= self.n_steps))

    def steps_of(self, size: Size) -> tuple[int, ...]:
        """Return the steps of a size whose checkpoints are saved."""
        if not size.decoupled:
            return self.steps
        last = min(_FEW[-1], self.n_steps)
        return tuple(step for step in self.steps if step in {*_FEW, last})

    def runs_of(self, size: Size) -> dict[str, tuple[int, int]]:
        """Return, by label, the random seeds of a run: of its initialisation, of its data order."""
        if not size.decoupled:
            return {str(seed): (seed, seed) for seed in self.seeds}
        orders = {f"order{seed}": (_SHARED, seed) for seed in self.seeds}
        return orders | {f"init{seed}": (seed, _SHARED) for seed in self.seeds}


_STUDY = """\
[study]
name = "{name}"
store = "study.zarr"

[corpus]
files = ["held_out.txt"]
separator = "\\n\\f\\n"
max_tokens = {tokens}
{counts}
[tokenizer]
source = "tokenizer"

[scoring]
window = {length}
overlap = {overlap}
device = "cpu"
{divergences}"""

_MODEL = """
[[models]]
name = "{name}"
source = "{source}"
seeds = {seeds}
steps = {steps}
"""
_GROUPS = """\
groups = {{ "one initialisation" = {orders}, "one data order" = {inits} }}
"""
_PAIRS = """
[[probes]]
name = "pairs"
kind = "blimp"
folder = "pairs"
"""
_SAVED, _CAPTURED = "runs/{model}/seed{seed}/checkpoint-{step}", "captured"
_FACTORED = """
[log_probs]
representation = "factored"  # a tenth of what dense would have the trainer write
"""


def prepare(folder: Path, plan: TrainingPlan) -> Path:
    """Write everything that training and scoring start from into `folder`; return the study file.

    What the same plan left there earlier is kept, so that training continues from there.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder.mkdir(parents=True, exist_ok=True)
    documents = list(_topics())
    if not (folder / "tokenizer" / "tokenizer.json").exists():
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=_VOCAB,
            special_tokens=[_END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(documents, trainer)
        (folder / "tokenizer").mkdir(exist_ok=True)
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": _END_OF_TEXT,
            "eos_token": _END_OF_TEXT,
        }
        (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings))
        backend.save(str(folder / "tokenizer" / "tokenizer.json"))
    backend = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    train, held_out = _hold_out(documents, backend, plan)
    (folder / "train.txt").write_text(_SEPARATOR.join(train), encoding="utf-8")
    (folder / "held_out.txt").write_text(_SEPARATOR.join(held_out), encoding="utf-8")
    study = _STUDY.format(
        name=plan.name,
        tokens=plan.held_out_tokens,
        counts=f"counts = {json.dumps(plan.counts)}\n" if plan.counts else "",
        length=_LENGTH,
        overlap=_LENGTH // 2,
        divergences=f"divergences = {json.dumps(plan.divergences)}\n" if plan.divergences else "",
    )
    for size in plan.sizes:
        study += _MODEL.format(
            name=size.name,
            source=_CAPTURED if plan.capture else _SAVED,
            seeds=json.dumps([*plan.runs_of(size)]) if size.decoupled else list(plan.seeds),
            steps=list(plan.steps_of(size)),
        )
        if size.decoupled:
            labels = [*plan.runs_of(size)]
            half = len(labels) // 2
            study += _GROUPS.format(
                orders=json.dumps(labels[:half]), inits=json.dumps(labels[half:])
            )
    if plan.pairs:
        study += _PAIRS
        write_pairs(folder / "pairs")
    if plan.capture:
        study += _FACTORED
        if not (folder / "study.zarr").exists():  # what was captured went with the store
            for mark in folder.glob("runs/*/seed*/captured-*.json"):
                mark.unlink()
    (folder / _PLAN).write_text(json.dumps(asdict(plan), indent=2), encoding="utf-8")
    file = folder / "study.toml"
    file.write_text(study, encoding="utf-8")
    return file


def _hold_out(
    documents: list[str], backend: Any, plan: TrainingPlan
) -> tuple[list[str], list[str]]:
    """Part documents into what is trained on and what is held out, from the last document on."""
    held_out: list[str] = []
    train, left = list(documents), plan.held_out_tokens
    for n in reversed(range(len(train))):
        if not left:
            break
        text = train[n]
        offsets = backend.encode(text).offsets
        taken = min(len(offsets), plan.most_of_document, left)
        cut = offsets[-taken][0] if taken < len(offsets) else 0
        train[n] = text[:cut]
        held_out.insert(0, text[cut:])
        left -= taken
    return [text for text in train if text], held_out


def _topics() -> Iterator[str]:
    """Return the language reference's help texts: 465 kB of English prose in every CPython."""
    from pydoc_data.topics import topics

    yield from topics.values()


def train(folder: Path) -> None:
    """Train every size with every seed, a process each, saving checkpoints side by side."""
    plan = _read_plan(folder)
    context = multiprocessing.get_context("spawn")
    for size in plan.sizes:
        labels = plan.runs_of(size)
        together = context.Barrier(len(labels))
        last = plan.steps_of(size)[-1]
        ends = [_mark(folder, plan, size, label, last) for label in labels]
        if all(end.exists() for end in ends):
            continue
        runs = [
            context.Process(target=_run, args=(folder, plan, size, label, together))
            for label in labels
        ]
        for run in runs:
            run.daemon = True  # ends with this process
            run.start()
        for run in runs:
            run.join()
            if run.exitcode:
                raise SystemExit(f"training of {size.name} failed with exit code {run.exitcode}")


def _read_plan(folder: Path) -> TrainingPlan:
    fields = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
    sizes = tuple(Size(**size) for size in fields.pop("sizes"))
    seeds, counts = tuple(fields.pop("seeds")), tuple(fields.pop("counts"))
    return TrainingPlan(sizes=sizes, seeds=seeds, counts=counts, **fields)


def _run(folder: Path, plan: TrainingPlan, size: Size, label: str, together: Barrier) -> None:
    """Train one run; same seed, same weights. Waits for the others at every checkpoint."""
    import torch
    from tokenizers import Tokenizer
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from seedconv_tui.training.capture import Capture

    torch.set_num_threads(1)  # there are as many processes as cores, or more
    backend = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    end: Any = backend.token_to_id(_END_OF_TEXT)
    ids: list[int] = []
    for document in (folder / "train.txt").read_text(encoding="utf-8").split(_SEPARATOR):
        ids += [end, *backend.encode(document).ids]
    stream = torch.tensor(ids)
    of_init, of_order = plan.runs_of(size)[label]
    torch.manual_seed(of_init)
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=_VOCAB,
            hidden_size=size.hidden,
            intermediate_size=4 * size.hidden,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            max_position_embeddings=2 * _LENGTH,
            initializer_range=0.06,
            bos_token_id=end,
            eos_token_id=end,
        )
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=_PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, n_steps=plan.n_steps))
    order = torch.Generator().manual_seed(of_order)
    capture = None
    if plan.capture:
        file = folder / "study.toml"
        capture = Capture(file, model=size.name, seed=label, wait=_WAIT_FOR_ORDER)
    steps = plan.steps_of(size)
    for step in range(steps[-1] + 1):
        if step in steps:
            together.wait()
            _keep(model, step, _mark(folder, plan, size, label, step), capture)
            done = "captured" if plan.capture else "saved"
            print(f"{size.name}, seed {label}: {done} step {step}", flush=True)
        starts = torch.randint(len(stream) - _LENGTH, (_BATCH,), generator=order)
        batch = torch.stack([stream[start : start + _LENGTH] for start in starts.tolist()])
        model(batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def _rate(step: int, n_steps: int) -> float:
    """Learning rate over its peak: linear warm-up, then a cosine."""
    if step < _WARM_UP:
        return (step + 1) / _WARM_UP
    progress = (step - _WARM_UP) / max(n_steps - _WARM_UP, 1)
    return _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * progress))


def _mark(folder: Path, plan: TrainingPlan, size: Size, seed: str, step: int) -> Path:
    """Return the file whose existence says that this step of this run is dealt with."""
    run = folder / "runs" / size.name / f"seed{seed}"
    if plan.capture:
        return run / f"captured-{step}.json"
    return run / f"checkpoint-{step}" / _WRITTEN_LAST


def drop_checkpoints(folder: Path) -> None:
    """Remove all checkpoints but the last of each seed, by which it is known that all are made."""
    plan = _read_plan(folder)
    for size in plan.sizes:
        for seed in plan.runs_of(size):
            for step in plan.steps_of(size)[:-1]:
                if not plan.capture:
                    shutil.rmtree(_mark(folder, plan, size, seed, step).parent, ignore_errors=True)


def _keep(model: Any, step: int, mark: Path, capture: Capture | None) -> None:
    if mark.exists():
        return  # of an earlier demo; training is deterministic
    if capture is None:
        model.save_pretrained(mark.parent)
    elif not capture(model, step):
        return  # the trainer's log says why
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps({"global_step": step}))


if __name__ == "__main__":
    train(Path(sys.argv[1]))
