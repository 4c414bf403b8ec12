"""What a study of a few seeds shows, in four sentences with its own numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.text import count, nats
from store import Study, Summary

_KINDS = "word_class"


def what_you_saw(study: Study) -> Iterator[str]:
    """Yield four sentences about each model with at least two compared steps."""
    for model in study.snapshot().models:
        there = np.flatnonzero(np.isfinite(model.expected_kl))
        if len(there) > 1:
            kl = model.expected_kl[there]
            yield from of_training(model.name, len(model.seeds), model.steps[there], kl)
            yield _of_kinds(study, model.name)


def of_training(
    name: str, n_seeds: int, steps: NDArray[np.int64], kl: NDArray[np.float64]
) -> Iterator[str]:
    """Yield three sentences: where it began, where it was least, and what came after that.

    `kl`, (step,) nats, is finite.
    """
    least, end = int(kl.argmin()), len(kl) - 1
    yield (
        f"{n_seeds} seeds of {name} began {nats(kl[0])} nats apart (expected KL, "
        f"step {count(steps[0])})."
    )
    if least == 0:
        yield "They were never closer than at their beginning."
    else:
        yield (
            f"They came closer while they learned the same, to {nats(kl[least])} nats at step "
            f"{count(steps[least])}."
        )
    most = least + int(kl[least:].argmax())
    last = f"{nats(kl[end])} nats at step {count(steps[end])}"
    if least == end:
        yield f"That is the last step that is compared: nothing has driven them apart yet ({last})."
    elif most == end:
        yield f"Then each learned something of its own, and they are furthest at the end: {last}."
    else:
        yield (
            f"Then each learned something of its own, up to {nats(kl[most])} nats at step "
            f"{count(steps[most])}; at the end they are nearer again: {last}."
        )


def _of_kinds(study: Study, model: str) -> str:
    """Return a sentence about kinds of words, or else about the text."""
    tokens = f"{count(len(study.corpus))} tokens that none was trained on"
    if _KINDS in study.categories(model):
        summary = study.summary(model, _KINDS)
        done = np.flatnonzero(summary.n_seeds)
        if len(done) and (said := _levels(summary, int(done[-1]))):
            return f"Of {tokens}, the seeds agree {said}."
    return f"All this was measured on {tokens}."


def _levels(summary: Summary, step: int) -> str:
    kl = np.where(np.asarray(summary.counts) > 0, summary.expected_kl[step], np.nan)
    if np.isfinite(kl).sum() < 2:
        return ""
    least, most = int(np.nanargmin(kl)), int(np.nanargmax(kl))
    labels = summary.labels
    return (
        f"most on {labels[least]} words ({nats(float(kl[least]))} nats at step "
        f"{count(summary.steps[step])}) and least on {labels[most]} words "
        f"({nats(float(kl[most]))} nats)"
    )
