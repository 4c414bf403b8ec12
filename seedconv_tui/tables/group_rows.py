"""KL within and between groups of seeds as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from seedconv_tui.tables.rows import Batch, batch
from seedconv_tui.tables.selection import Choice, chosen_categories, chosen_steps, summarised
from store import Study, SummaryReader
from store.schema import ALL
from store.statistics import Grouped, grouped, groups_of


def groups_at(study: Study, model: str, step: int, levels: slice) -> Grouped:
    """Return what the pairs of a summarised step come to by the model's groups, at these levels.

    `levels` are those of the axis of all categories. Raise DamagedError.
    """
    known = study.ledger(model)
    kl = SummaryReader(study, model).pairs(step)[..., levels]
    seeds = [seed for seed in known.seeds if seed in known.summaries[step].seeds]
    return grouped(kl, groups_of(seeds, [*known.groups.values()]), len(known.groups))


def group_rows(study: Study, choice: Choice) -> Iterator[Batch]:
    """See `long_tables.TABLES`. Raise ChoiceError, StoreError, DamagedError."""
    steps = chosen_steps(study, choice, summarised(study))
    for model, categories in chosen_categories(study, choice, lambda name: name == ALL).items():
        if not study.ledger(model).groups:
            continue
        for category in categories:
            read = partial(_rows, study, model, category, steps[model])
            yield from study.consistent({model: steps[model]}, read)


def _rows(study: Study, model: str, category: str, steps: Sequence[int]) -> list[Batch]:
    found, span = study.category(model, category), study.levels(category)
    known, partition, batches = study.ledger(model), study.partition(model, category), []
    for step in steps:
        summary = known.summaries.get(step)
        if partition is None or summary is None:
            continue
        if summary.categories.get(category) == partition.digest:
            of = groups_at(study, model, step, slice(span.start, span.stop))
            head = {"model": model, "step": step, "category": category}
            head |= {"label": list(found.labels), "n": found.counts}
            columns = _columns(of, tuple(known.groups), len(found.labels))
            batches += [batch(len(found.labels), **head, **row) for row in columns]
    return batches


def _columns(of: Grouped, names: Sequence[str], n_levels: int) -> Iterator[dict[str, Any]]:
    """Yield what the rows of each group, of all within groups and of all between them say."""
    nothing = {"share": None, "p": np.full(n_levels, np.nan), "arrangements": None, "exact": None}
    for name, n, kl in zip(names, of.n_runs, of.each, strict=True):
        yield {"pairs": "group", "group": name, "n_seeds": n, "kl": kl, **nothing}
    test = {"arrangements": of.arrangements, "exact": of.exact}
    for pairs, kl, share, p in (
        ("within", of.within, of.share_within, of.p_each),
        ("between", of.between, 1 - of.share_within, of.p_between),
    ):
        head = {"pairs": pairs, "group": None, "n_seeds": sum(of.n_runs), "kl": kl}
        yield {**head, "share": share, "p": p, **test}
