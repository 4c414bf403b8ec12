"""Writing categories, and the summaries of steps by their levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from store.commits.ledger import Partition, Record
from store.reading.category_arrays import write_category
from store.reading.recorded_means import numbers_checksum
from store.reading.summary import BY_LEVEL
from store.schema import layout
from store.schema.array_types import Floats
from store.schema.category import Category
from store.schema.packed import chunk_keys
from store.storage.arrays import read
from store.writing.part_writer import PartWriter


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
        """Commit what was made of a step's results.

        Args:
            model: The model.
            step: A step that is reduced.
            seeds: The seeds whose pairs were taken, in the order of the arrays of `levels`.
            token_kl: (token,) nats.
            levels: By category, then by name in `layout.SUMMARIES`: arrays over the dimensions
                that follow `step`, with `seeds` and the category's levels for axes. Summaries by
                other categories stay if they are of the same seeds.

        Raises:
            DamagedError: what lies where they go cannot be read.
        """
        self._commits.check()
        known, arrays = self._ledger.model(model), self._arrays[model]
        before = known.summaries.get(step)
        digests = {name: self._partition(model, name).digest for name in levels}
        if before is not None and before.seeds == set(seeds):
            digests = {**before.categories, **digests}
        elif before is not None:
            self.forget(model, [step])
        t = known.steps[step]
        by_level = {name: layout.SUMMARIES[name] for name in BY_LEVEL}
        rows = {
            name: read(arrays[f"{layout.SUMMARY}/{name}"], (slice(t, t + 1),)) for name in by_level
        }
        cells, sums = None, {}
        if before is None or before.seeds != set(seeds):
            array = arrays[f"{layout.SUMMARY}/token_kl"]
            array[t] = token_kl
            keys = chunk_keys(array.path, array.shape, array.chunks, (t,))
            cells = self._store.take_checksums(keys)
        else:
            cells, sums = before.cells, dict(before.sums)
        index = [known.seeds[seed] for seed in seeds]
        for name, row in rows.items():
            for category, values in levels.items():
                row[by_level[name].cells(0, index, self._ledger.levels[category])] = values[name]
        for category in levels:
            span = self._ledger.levels[category]
            sums[category] = "".join(
                numbers_checksum(row[by_level[name].cells(0, sorted(index), span)])
                for name, row in rows.items()
            )
        for name, row in rows.items():
            arrays[f"{layout.SUMMARY}/{name}"][t : t + 1] = row  # its chunk is replaced whole: once
        self._store.flush()
        self._commits.append(
            {
                "kind": "summarised",
                "model": model,
                "step": step,
                "seeds": list(seeds),
                "categories": digests,
                "cells": cells,
                "sums": {name: found for name, found in sums.items() if name in digests},
            }
        )

    def forget(self, model: str, steps: Iterable[int]) -> None:
        """Take summaries back, so that they are made again."""
        there = self._ledger.model(model).summaries.keys() & set(steps)
        record = {"kind": "forgotten", "model": model, "what": "summaries"}
        if there:
            self._commits.append(*({**record, "step": step} for step in sorted(there)))

    def drop_category(self, name: str, model: str | None = None) -> None:
        """Take a partition back, and with it all that was summarised by it."""
        known = self._ledger if model is None else self._ledger.model(model)
        if name in known.categories:
            record: Record = {"kind": "category", "name": name, "digest": None}
            self._commits.append(record if model is None else {**record, "model": model})

    def _partition(self, model: str, name: str) -> Partition:
        own = self._ledger.model(model).categories
        return own[name] if name in own else self._ledger.categories[name]
