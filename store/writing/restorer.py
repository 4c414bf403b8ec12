"""Writing damaged results again, and records that say what the cells are now."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.commits.ledger import RESULTS, Record
from store.commits.pair_sums import Pair, once, recorded_pairs
from store.commits.seed_sets import FIELD
from store.errors import StoreError
from store.schema import layout
from store.schema.ensemble import TO_MEAN
from store.schema.packed import NOT_KNOWN, checksum_at, chunk_keys, n_checksums, pack_numbers
from store.statistics.means import MEAN_OF, PAIR_OF
from store.storage.arrays import open_array
from store.storage.links import remove_tree
from store.study import Study
from store.writing.writer import StudyWriter


class Restorer:
    """Puts results that were computed again in the place of damaged ones."""

    def __init__(self, writer: StudyWriter, study: Study, model: str) -> None:
        """Write to `writer`; `study` reads the same study."""
        self._writer, self._study, self._model = writer, study, model

    def results(self, seed: str, step: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Commit these results of a checkpoint, (token[, rank]) by array, with their means."""
        known = self._writer.ledger.model(self._model)
        record: Record = dict(known.scored[seed, step])
        at = known.steps[step], known.seeds[seed]
        written = {name: self._write(name, at, cell) for name, cell in values.items()}
        n_chunks = max(map(n_checksums, written.values()))
        record["cells"] = "".join(
            written.get(name)
            or "".join(
                checksum_at(record.get("cells"), position * n_chunks + n) or NOT_KNOWN
                for n in range(n_chunks)
            )
            for position, name in enumerate(RESULTS)
        )
        for mean, of in MEAN_OF.items():
            if of in values and math.isfinite(value := float(values[of].mean(dtype=np.float64))):
                record[mean] = value
        record["restored"] = sorted({*record.get("restored", ()), *values})
        if (seed, step) in known.stored:
            record["log_prob_cells"] = known.log_prob_cells.get((seed, step), {})
        self._writer.commit_restored(record)
        self._study.refresh()
        if {pair.of for pair in PAIR_OF.values()} & values.keys():
            self.pairs(step, {}, again=seed)

    def pairs(
        self,
        step: int,
        values: Mapping[Pair, Mapping[str, NDArray[np.float32]]],
        *,
        again: str | None = None,
    ) -> None:
        """Commit these divergences of pairs, (token,) by array, with their means.

        Means that are made of the results of both seeds are taken `again` where one is this seed.
        """
        known = self._writer.ledger.model(self._model)
        seeds = sorted(known.reduced.get(step, ()))
        if not seeds or not (values or again in seeds):
            return
        means = {
            name: recorded_pairs(known.pair_sums.get(step, ()), name, known.seeds)
            for name, variable in layout.variables_of(self._writer.divergences).items()
            if variable.by_pair and not variable.per_token
        }
        both = list(itertools.permutations(seeds, 2))
        written: dict[tuple[str, Pair], str] = {}
        for pair, of in values.items():
            i, j = (known.seeds[seed] for seed in pair)
            for name, cell in of.items():
                at = known.steps[step], *layout.VARIABLES[name].seed_cell(i, j)
                written[name, pair] = self._write(name, at, cell)
            for mean, name in MEAN_OF.items():
                if name in of:
                    means[mean][i, j] = of[name].mean(dtype=np.float64)
                    if layout.VARIABLES[name].symmetric:
                        means[mean][j, i] = means[mean][i, j]
        for pair in both if again is not None else []:
            if again in pair:
                i, j = (known.seeds[seed] for seed in pair)
                for name, value in self._of_both(step, pair).items():
                    means[name][i, j] = value
        self._writer.commit_restored(
            {
                "kind": "reduced",
                "model": self._model,
                "step": step,
                "seeds": seeds,
                "before": [],
                "cells": self._checksums(step, both, written),
                "once": [name for name, variable in layout.VARIABLES.items() if variable.symmetric],
                "means": {
                    name: pack_numbers(row[known.seeds[i], known.seeds[j]] for i, j in both)
                    for name, row in means.items()
                },
            }
        )
        self._study.refresh()

    def to_mean(self, step: int, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Commit the KL of these seeds, (token,), to the mean of all seeds compared there."""
        known = self._writer.ledger.model(self._model)
        of, t = known.sets[step], known.steps[step]
        packed = ""
        for seed in of.seeds:
            if seed in values:
                cell = t, known.seeds[seed], of.place
                packed += self._write(TO_MEAN, cell, values[seed])
            else:
                found = of.checksums(TO_MEAN, seed)
                packed += "".join(checksum or NOT_KNOWN for checksum in found)
        self._writer.commit_restored(
            {
                "kind": "reduced",
                "model": self._model,
                "step": step,
                "seeds": list(of.seeds),
                "before": list(of.seeds),
                FIELD: {**of.cells, TO_MEAN: packed},
            }
        )
        self._study.refresh()

    def _of_both(self, step: int, pair: Pair) -> dict[str, float]:
        """Return the means that are made of the results of both seeds, as far as there are any."""
        found = {}
        for name, mean in PAIR_OF.items():
            try:
                i, j = (self._study.values(self._model, mean.of, seed, step) for seed in pair)
            except StoreError:  # damaged as well: restored after this, or forgotten
                found[name] = np.nan
            else:
                found[name] = mean.mean(mean.total(i, j), self._writer.n_tokens)
        return found

    def _checksums(
        self, step: int, pairs: Iterable[Pair], written: Mapping[tuple[str, Pair], str]
    ) -> dict[str, str]:
        known, packed = self._writer.ledger.model(self._model), {}
        n_tokens, pairs = self._writer.n_tokens, list(pairs)
        for name, variable in layout.variables_of(self._writer.divergences).items():
            if variable.by_pair and variable.per_token:
                n_chunks = -(-n_tokens // variable.chunks(n_tokens)[-1])
                packed[name] = ""
                for pair in once(pairs) if variable.symmetric else pairs:
                    i, j = pair
                    cell = variable.seed_cell(known.seeds[i], known.seeds[j])
                    kept = pair if cell[0] == known.seeds[i] else (j, i)
                    found = known.pair_checksums(step, name, kept) or (None,) * n_chunks
                    before = "".join(checksum or NOT_KNOWN for checksum in found)
                    again = written.get((name, (i, j)))
                    if variable.symmetric:
                        again = written.get((name, (j, i))) or again
                    packed[name] += again or before
        return packed

    def _write(self, name: str, at: tuple[int, ...], values: NDArray[Any]) -> str:
        """Write one cell in the place of what is there; return the checksums of its chunks."""
        store = self._writer.files
        path = f"{layout.model_path(self._model)}/{layout.array_path(name)}"
        remove_tree(store.root, store.root / path / "c" / "/".join(map(str, at)))
        array = open_array(store, path)
        array[at] = values
        store.flush()
        return store.take_checksums(chunk_keys(path, array.shape, array.chunks, at))
