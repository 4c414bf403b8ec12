"""Writing categories, and the summaries of steps by their levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store.commits.ledger import Partition, Record
from store.reading.category_arrays import write_category
from store.reading.recorded_means import numbers_checksum
from store.reading.summary import by_level
from store.schema import layout
from store.schema.array_types import Floats
from store.schema.category import Category
from store.schema.packed import chunk_keys
from store.schema.variable import Variable
from store.storage.arrays import read, write
from store.storage.side_by_side import side_by_side
from store.writing.part_writer import PartWriter


@dataclass(frozen=True)
class StepSummary:
    """The results of summarising a reduced step."""

    step: int
    seeds: tuple[str, ...]  # whose pairs were taken, in the order of the arrays of `levels`
    token_kl: NDArray[np.float32]  # (token,) nats
    # By category, then by name in `layout.SUMMARIES`: arrays over the dimensions that follow
    # `step`, with `seeds` and the category's levels for axes. Summaries by other categories stay
    # if they are of the same seeds.
    levels: Mapping[str, Mapping[str, Floats]]

    @property
    def n_bytes(self) -> int:
        """Return how much memory it takes."""
        arrays = (array for of in self.levels.values() for array in of.values())
        return self.token_kl.nbytes + sum(array.nbytes for array in arrays)


@dataclass
class _Block:
    """Steps of one array of summaries, no more than lie in one chunk of the axis."""

    name: str
    run: slice
    values: NDArray[np.float64]  # (step, ...) being changed, nats


def _runs(indices: Iterable[int], variable: Variable) -> list[slice]:
    """Return, for each chunk of the axis `step` that holds some of the indices, their extent."""
    size, found = variable.chunks(1)[0], dict[int, list[int]]()
    for index in indices:
        found.setdefault(index // size, []).append(index)
    return [slice(min(within), max(within) + 1) for within in found.values()]


class SummaryWriter(PartWriter):
    """The part of a `StudyWriter` that writes categories and summaries."""

    def set_category(
        self, category: Category, model: str | None = None, step: int | None = None
    ) -> None:
        """Keep a partition of the corpus, or a model's own, which is made of results of `step`.

        Summaries by an earlier one of the same name count no more. Nothing is done when this is
        the one that is kept.
        """
        known = self._ledger if model is None else self._ledger.model(model)
        before = known.categories.get(category.name)
        if before is not None and before.digest == category.digest:
            return
        self.drop_category(category.name, model)  # its array changes now
        record: Record = {"kind": "category", "name": category.name}
        record |= {} if model is None else {"model": model}
        write_category(self._store, category, model)
        self._store.flush()
        record |= {} if step is None else {"step": step}
        size, n_levels = len(category.labels), self._ledger.n_levels
        span = self._ledger.levels.get(category.name, range(0))
        first = span.start if len(span) == size else n_levels
        if first + size > n_levels:  # before the record: readers expect arrays as long as it says
            for name, ledger in self._ledger.models.items():
                self._arrays.grow(name, ledger.steps, ledger.seeds, first + size)
            self._store.flush()
        self._commits.append({**record, "digest": category.digest, "first": first, "size": size})

    def summarise(
        self,
        model: str,
        step: int,
        seeds: Sequence[str],
        token_kl: NDArray[np.float32],
        levels: Mapping[str, Mapping[str, Floats]],
    ) -> None:
        """Commit what was made of one step's results, as `summarise_steps` does."""
        self.summarise_steps(model, [StepSummary(step, tuple(seeds), token_kl, levels)])

    def summarise_steps(self, model: str, made: Sequence[StepSummary]) -> None:
        """Commit what was made of these steps' results, all at once.

        Each chunk of summaries is replaced once, whatever number of the steps it holds. Raise
        DamagedError when what lies where they go cannot be read; nothing is changed then.
        """
        self._commits.check()
        known, arrays = self._ledger.model(model), self._arrays[model]
        blocks = [
            _Block(name, run, read(arrays[f"{layout.SUMMARY}/{name}"], (run,)))
            for name in by_level(self._arrays.divergences)
            for run in _runs((known.steps[one.step] for one in made), layout.SUMMARIES[name])
        ]
        others = [one.step for one in made if not self._goes_on(model, one)]
        kept = {one.step: known.summaries[one.step] for one in made if one.step not in others}
        self.forget(model, others)  # before the first number of theirs is another
        sums: dict[int, dict[str, list[str]]] = {one.step: {} for one in made}
        for block in blocks:
            for one in made:
                if block.run.start <= known.steps[one.step] < block.run.stop:
                    self._fill(block, model, one, sums[one.step])

        def write_block(block: _Block) -> None:
            write(arrays[f"{layout.SUMMARY}/{block.name}"], (block.run,), block.values)

        def write_token_kl(one: StepSummary) -> None:
            write(arrays[f"{layout.SUMMARY}/token_kl"], (known.steps[one.step],), one.token_kl)

        side_by_side(write_block, blocks)
        side_by_side(write_token_kl, [one for one in made if one.step in others])
        self._store.flush()
        records = []
        for one in made:
            digests = {name: self._partition(model, name).digest for name in one.levels}
            of_step = {name: "".join(found) for name, found in sums[one.step].items()}
            if one.step in kept:
                before = kept[one.step]
                digests, cells = {**before.categories, **digests}, before.cells
                of_step = {**before.sums, **of_step}
            else:
                array = arrays[f"{layout.SUMMARY}/token_kl"]
                keys = chunk_keys(array.path, array.shape, array.chunks, (known.steps[one.step],))
                cells = self._store.take_checksums(keys)
            records.append(
                {
                    "kind": "summarised",
                    "model": model,
                    "step": one.step,
                    "seeds": list(one.seeds),
                    "categories": digests,
                    "cells": cells,
                    "sums": {name: found for name, found in of_step.items() if name in digests},
                }
            )
        self._commits.append(*records)

    def _goes_on(self, model: str, made: StepSummary) -> bool:
        """Return whether summaries of the step by other categories stay: they are of its seeds."""
        before = self._ledger.model(model).summaries.get(made.step)
        return before is not None and before.seeds == set(made.seeds)

    def _fill(
        self, block: _Block, model: str, made: StepSummary, sums: dict[str, list[str]]
    ) -> None:
        """Put a step's numbers into a block, and add their checksums to `sums`, by category."""
        known, variable = self._ledger.model(model), layout.SUMMARIES[block.name]
        t = known.steps[made.step] - block.run.start
        index = [known.seeds[seed] for seed in made.seeds]
        for category, values in made.levels.items():
            span = self._ledger.levels[category]
            block.values[variable.cells(t, index, span)] = values[block.name]
            found = block.values[variable.cells(t, sorted(index), span)]
            sums.setdefault(category, []).append(numbers_checksum(found))

    def forget(self, model: str, steps: Iterable[int]) -> None:
        """Take summaries back, so that they are made again."""
        there = self._ledger.model(model).summaries.keys() & set(steps)
        record = {"kind": "forgotten", "model": model, "what": "summaries"}
        if there:
            self._commits.append(*({**record, "step": step} for step in sorted(there)))

    def drop_category(self, name: str, model: str | None = None) -> None:
        """Take a partition back, and with it everything that was summarised by it."""
        known = self._ledger if model is None else self._ledger.model(model)
        if name in known.categories:
            record: Record = {"kind": "category", "name": name, "digest": None}
            self._commits.append(record if model is None else {**record, "model": model})

    def _partition(self, model: str, name: str) -> Partition:
        own = self._ledger.model(model).categories
        return own[name] if name in own else self._ledger.categories[name]
