"""Locate results per token by their names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from store.commits.ledger import ModelLedger
from store.errors import StoreError
from store.schema import layout
from store.schema.keys import ResultPart
from store.storage.arrays import Array, fetch
from store.storage.direct_chunks import Selection

Place = tuple[Array, Selection]


def locate(
    path: object, known: ModelLedger, part: ResultPart, open_it: Callable[[str], Array]
) -> Place:
    """Return array and selection of a part of the study at `path`; `open_it` opens arrays by name.

    Raise StoreError when it is not committed, DamagedError.
    """
    model, step = part.model, part.step
    if part.seed is None:
        if step not in known.summaries:
            raise StoreError(f"{path}: {model}, step {step}: not summarised (yet)")
        return open_it(f"{layout.SUMMARY}/{part.name}"), (known.steps[step], part.tokens)
    variable = layout.VARIABLES[part.name]
    if variable.by_set:
        of = known.set_with(step, part.name)
        if of is None or part.seed not in of.seeds:
            raise StoreError(f"{path}: {part.name} of {model}, {part.seed}, step {step}: not there")
        cell = known.steps[step], known.seeds[part.seed], of.place
        return open_it(part.name), (*cell, part.tokens)
    by_pair = variable.by_pair
    seeds = known.reduced.get(step, frozenset()) if by_pair else known.scored_at(step)
    asked = (part.seed, part.other) if by_pair and part.other is not None else (part.seed,)
    if not seeds.issuperset(asked) or len(set(asked)) != 1 + by_pair:
        raise StoreError(f"{path}: {part.name} of {model}, {asked}, step {step}: no such result")
    index = variable.seed_cell(*(known.seeds[label] for label in asked))
    return open_it(part.name), (known.steps[step], *index, part.tokens)


def fetch_parts(parts: Iterable[ResultPart], where: Callable[[ResultPart], Place]) -> None:
    """Ask a remote store for all of these at once, but for what is not committed or readable."""
    found = []
    for part in parts:
        with contextlib.suppress(StoreError):  # readers hear why
            found.append(where(part))
    fetch(found)
