"""Rows about tokens: their KL and levels at a step, and those that stand out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.tables.rows import Batch, batch
from seedconv_tui.tables.selection import Choice, chosen_categories, chosen_steps, summarised
from store import Study, statistics
from store.schema import ALL, Floats

CONTEXT = 60  # characters on either side of a token
_ROWS = 16_384  # tokens to a batch


def tokens(study: Study, choice: Choice) -> Iterator[Batch]:
    """See `long_tables.TABLES`. Raise ChoiceError, StoreError, DamagedError."""
    steps = chosen_steps(study, choice, summarised(study), newest=True)
    partitions = label_columns(study, choice)
    corpus = study.corpus
    for model, categories in chosen_categories(study, choice, _is_no_total).items():
        for step in steps[model]:
            read = partial(_token_values, study, model, step, categories)
            kl, surprisal, labels = study.consistent({model: [step]}, read)
            for start in range(0, len(corpus), _ROWS):
                part = slice(start, min(start + _ROWS, len(corpus)))
                tokens = range(part.start, part.stop)
                yield batch(
                    len(tokens),
                    model=model,
                    step=step,
                    token=list(tokens),
                    token_id=corpus.token_id[part],
                    text=list(map(corpus.token_text, tokens)),
                    document=[corpus.document_name[d] for d in corpus.document[part]],
                    kl=kl[part],
                    surprisal=surprisal[part],
                    **{
                        column: list(map(labels[name][0].__getitem__, labels[name][1][part]))
                        if name in labels
                        else None
                        for name, column in partitions.items()
                    },
                )


def _token_values(
    study: Study, model: str, step: int, categories: Sequence[str]
) -> tuple[Floats, Floats, dict[str, tuple[tuple[str | None, ...], NDArray[np.int32]]]]:
    labels = {}
    for name in categories:
        found = study.category(model, name)
        labels[name] = (*found.labels, None), found.level  # -1, the last: in no level
    return *_kl_and_surprisal(study, model, step), labels


def _kl_and_surprisal(study: Study, model: str, step: int) -> tuple[Floats, Floats]:
    """Return means over the step's pairs and seeds, (token,) each, nats."""
    kl = study.token_kl(model, step).astype(np.float64)
    seeds = sorted(study.ledger(model).summaries[step].seeds)
    total = np.zeros(study.n_tokens)
    for seed in seeds:
        total += study.values(model, "surprisal", seed, step)
    return kl, total / len(seeds)


def _is_no_total(category: str) -> bool:
    return category != ALL


def label_columns(study: Study, choice: Choice) -> dict[str, str]:
    """Return the column of each chosen category, whichever of the models has it."""
    by_model = chosen_categories(study, choice, _is_no_total).values()
    return {name: f"category_{name}" for names in by_model for name in names}


def extremes(study: Study, choice: Choice) -> Iterator[Batch]:
    """See `long_tables.TABLES`. Raise ChoiceError, StoreError, DamagedError."""
    corpus = study.corpus
    ends = np.append(corpus.document_start[1:], len(corpus.text))
    for model, steps in chosen_steps(study, choice, summarised(study), newest=True).items():
        for step in steps:
            read = partial(_kl_and_surprisal, study, model, step)
            kl, surprisal = study.consistent({model: [step]}, read)
            found = statistics.extremes(kl, 10 if choice.count is None else choice.count)
            for kind, tokens in found._asdict().items():
                document = corpus.document[tokens]
                starts, stops = corpus.char_start[tokens], corpus.char_end[tokens]
                first = np.maximum(corpus.document_start[document], starts - CONTEXT)
                last = np.minimum(ends[document], stops + CONTEXT)
                yield batch(
                    len(tokens),
                    model=model,
                    step=step,
                    kind=kind,
                    rank=list(range(1, len(tokens) + 1)),
                    token=tokens,
                    token_id=corpus.token_id[tokens],
                    kl=kl[tokens],
                    surprisal=surprisal[tokens],
                    document=[corpus.document_name[d] for d in document],
                    before=_cut(corpus.text, first, starts),
                    text=_cut(corpus.text, starts, stops),
                    after=_cut(corpus.text, stops, last),
                )


def _cut(text: str, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> list[str]:
    return [text[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
