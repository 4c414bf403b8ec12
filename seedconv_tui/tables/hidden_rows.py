"""How alike the seeds' hidden states are, as rows of a table: computed on reading."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from seedconv_tui.tables.rows import Batch, batch
from seedconv_tui.tables.selection import Choice, chosen_steps
from store import Study
from store.analysis import hidden_alignment, hidden_seeds


def hidden_rows(study: Study, choice: Choice) -> Iterator[Batch]:
    """See `long_tables.TABLES`. Raise ChoiceError, StoreError, DamagedError."""
    there = {model: hidden_seeds(study, model) for model in study.models}
    steps = chosen_steps(
        study, choice, lambda model: tuple(there[model]), "a step with hidden states of two seeds"
    )
    for model, of in steps.items():
        for step in of:
            seeds = there[model][step]
            checkpoints = [(model, seed, step) for seed in seeds]
            found = hidden_alignment(study, checkpoints)
            widths = [study.log_probs(*checkpoint).hidden_width for checkpoint in checkpoints]
            pairs = [*combinations(range(len(seeds)), 2)]
            index = tuple(np.array(pairs).T)
            yield batch(
                len(pairs),
                model=model,
                step=step,
                seed=[seeds[i] for i, _ in pairs],
                other_seed=[seeds[j] for _, j in pairs],
                n=study.n_tokens,
                units=[widths[i] for i, _ in pairs],
                cka=found.cka[index],
                cka_debiased=found.debiased[index],
            )
