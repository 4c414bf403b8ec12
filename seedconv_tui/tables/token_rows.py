"""Rows about tokens: each, those that stand out, and by vocabulary entry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.tables.rows import Batch, batch
from seedconv_tui.tables.selection import Choice, chosen_categories, chosen_steps, summarised
from store import Study, statistics
from store.analysis import entries_at, kl_and_surprisal
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
    return *kl_and_surprisal(study, model, step), labels


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
            read = partial(kl_and_surprisal, study, model, step)
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


def by_entry(study: Study, choice: Choice) -> Iterator[Batch]:
    """See `long_tables.TABLES`. Raise ChoiceError, StoreError, DamagedError."""
    names = study.vocabulary.text
    for model, steps in chosen_steps(study, choice, summarised(study), newest=True).items():
        for step in steps:
            found = study.consistent({model: [step]}, partial(entries_at, study, model, step))
            order = np.argsort(found.kl.value, kind="stable")
            yield batch(
                len(order),
                model=model,
                step=step,
                token_id=found.token_id[order],
                text=[names[number] for number in found.token_id[order].tolist()],
                n=found.n[order],
                n_documents=found.n_documents[order],
                kl=found.kl.value[order],
                kl_low=found.kl.low[order],
                kl_high=found.kl.high[order],
                cross_entropy=found.cross_entropy[order],
            )


def _cut(text: str, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> list[str]:
    return [text[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
