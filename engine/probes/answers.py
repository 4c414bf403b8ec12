"""Asking one model a probe's questions: batched, padded and halved as the corpus is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import first_line
from engine.machine.device_errors import is_out_of_memory
from engine.machine.faults import is_fault
from engine.models.language_model import LanguageModel
from engine.probes.questions import Questions
from engine.scoring.captured_seed import CapturedSeed
from engine.scoring.log_prob_rows import Batches, Rows
from engine.scoring.scorer import Scorer, rows_within

_BLOCK_BYTES = {"cpu": 2**22, "cuda": 2**27}  # float32 log-probs


class SilentError(Exception):
    """A log-prob is NaN or infinite."""

    def __init__(self, label: str) -> None:
        super().__init__(f"log-probs are NaN or infinite at an item of {label!r}")


@dataclass
class Answers:
    """One model's answers to probes, by their names."""

    values: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    failures: dict[str, tuple[str, bool]] = field(default_factory=dict)  # why; whether it may pass
    notes: list[str] = field(default_factory=list)  # what the user should know besides


def ask_each(
    scorer: Scorer,
    model: LanguageModel | CapturedSeed,
    probes: Iterable[Questions],
    progress: Callable[[str, int, int], None],
) -> Answers:
    """Ask a model probes: one that fails does not keep the others from being asked.

    `progress` hears of which probe how many predictions are done, of how many. Raise what it
    raises, and the device's error when that does not work any more.
    """
    found = Answers()
    for questions in probes:
        name = questions.probe.name
        try:
            found.values[name] = ask(scorer, model, questions, partial(progress, name))
        except SilentError as error:
            found.failures[name] = str(error), False
        except BaseException as error:
            memory = is_out_of_memory(error)
            if not memory and (isinstance(error, OSError) or not is_fault(error)):
                raise  # an OSError is that of `progress`
            text = "out of memory with one sequence at a time" if memory else first_line(error)
            found.failures[name] = text, memory
        else:
            if note := too_long(scorer, model, questions):
                found.notes.append(note)
    return found


def captured_probe(seed: CapturedSeed, questions: Questions) -> int | None:
    """Return which probe of a capture has these questions; None: it has no answers to them."""
    found = seed.model.handover.probes.get(questions.probe.name)
    same = found is not None and found.digest == questions.ordered.digest
    return found.index if found is not None and same else None


def ask(
    scorer: Scorer,
    model: LanguageModel | CapturedSeed,
    questions: Questions,
    progress: Callable[[int, int], None],
) -> NDArray[np.float32]:
    """Return what a model says of every item, (item, variant) float32, nats; NaN: nothing is asked.

    One that was captured has said it before: that is read.

    Log-probs of minimal pairs, summed over tokens in float64; surprisals of long documents.
    `progress` hears how many predictions are done, of how many, and may raise to stop.

    Raise SilentError, OutOfMemoryError when there is no memory for a single sequence, and what
    the model's code raises.
    """
    probe, sequences = questions.probe, questions.sequences
    asked = np.ones(len(sequences), np.bool_)
    if questions.whole:
        asked = np.diff(questions.ends, prepend=0) <= _window(scorer, model)
    predicted = np.array([sequence.predicts.sum() for sequence in sequences])
    kept = np.repeat(asked, predicted)
    item, variant = questions.item[kept], questions.variant[kept]
    values = np.full(probe.shape, np.nan)
    values[item, variant] = 0.0
    if asked.any():
        chosen = [sequence for sequence, wanted in zip(sequences, asked, strict=True) if wanted]
        reading = scorer.reading(chosen, questions.target[kept])
        if isinstance(model, CapturedSeed):
            number = captured_probe(model, questions)
            assert number is not None
            rows = model.probe_rows(reading, number, sequences, kept)
        else:
            rows = Rows(reading, model.head, Batches(reading, model).more)
        log_p = _log_probs(reading, rows, progress)
        if not np.isfinite(log_p).all():
            raise SilentError(probe.labels[item[~np.isfinite(log_p)][0]])
        np.add.at(values, (item, variant), -log_p if questions.surprisals else log_p)
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    if np.isinf(found).any():
        raise SilentError(probe.labels[np.argwhere(np.isinf(found))[0, 0]])
    return found


def _window(scorer: Scorer, model: LanguageModel | CapturedSeed) -> int:
    """Return how many tokens are read at once."""
    return (model.window if isinstance(model, CapturedSeed) else scorer.window(model))[0]


def too_long(
    scorer: Scorer, model: LanguageModel | CapturedSeed, questions: Questions
) -> str | None:
    """Return what is not asked as the model, or the study, takes fewer tokens at once; or None."""
    window = _window(scorer, model)
    lengths = np.diff(questions.ends, prepend=0)
    if not questions.whole or lengths.max() <= window:
        return None
    probe = questions.probe
    of = questions.variant[lengths > window]  # one prediction a sequence
    names = [name for number, name in enumerate(probe.variants) if number in of]
    return (
        f"probe {probe.name}: no {', '.join(names)}: these take {lengths.max()} tokens at once, "
        f"the window is {window}"
    )


def _log_probs(
    scorer: Scorer, rows: Rows, progress: Callable[[int, int], None]
) -> NDArray[np.float64]:
    """Return log-probs of the targets of all sequences, (prediction,), nats."""
    n = len(scorer.targets)
    found = np.empty(n)
    size = min(n, rows_within(_BLOCK_BYTES[scorer.device.type], scorer.vocab_size))
    start, shrunk = 0, False  # and not told yet
    with torch.inference_mode():
        while start < n:
            stop = min(start + size, n)
            picked: torch.Tensor | None = None
            try:
                picked = _of_targets(scorer, rows, start, stop)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            if picked is None:  # not in the handler: the error holds on to what was computed
                size, shrunk = size // 2, True
                rows.shrink()
                if scorer.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            if shrunk:
                scorer.note(f"out of memory; going on with {size} predictions at once")
                shrunk = False
            found[start:stop] = picked.numpy()
            start = stop
            progress(start, n)
    return found


def _of_targets(scorer: Scorer, rows: Rows, start: int, stop: int) -> torch.Tensor:
    block = torch.empty(stop - start, scorer.vocab_size, device=scorer.device)
    rows.fill(start, stop, block)
    return block.gather(-1, scorer.targets[start:stop, None])[:, 0].cpu()
