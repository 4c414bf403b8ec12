"""Reading back per-token results, and log-probs."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np

from store.errors import DamagedError
from store.maintenance.twice import twice
from store.reading.log_probs import REPRESENTATIONS
from store.schema import layout
from store.schema.damage import Damage, Part
from store.storage.arrays import open_array, read
from store.storage.checked_stores import CommittedStore
from store.storage.metadata import expect_group, expect_nothing_else
from store.study import Study

Means = dict[tuple[str, str, tuple[int, ...]], tuple[float, float]]


class ResultReader:
    """Reads back per-token results, and keeps what they come to."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.unreadable: set[tuple[str, str]] = set()  # (model, array): its metadata are damaged
        self.means: Means = {}  # by model, array and cell: mean over tokens, and mean size

    def of_checkpoint(self, model: str, seed: str, step: int) -> list[Damage]:
        """Return what is wrong with the per-token results of one checkpoint."""
        record, found = self.study.ledger(model).scored.get((seed, step)), []
        for name, variable in layout.VARIABLES.items():
            if not variable.per_token or variable.by_pair or (model, name) in self.unreadable:
                continue
            known = self.study.ledger(model)
            cell = (known.steps[step], known.seeds[seed])
            message = twice(
                self.study,
                partial(self._read, model, name, cell),
                lambda: self.study.ledger(model).scored.get((seed, step)) == record,
            )
            if message:
                path = f"{layout.model_path(model)}/{name}"
                found.append(Damage(Part.RESULTS, path, message, model, seed, step))
        return found

    def of_pairs(self, model: str, step: int) -> list[Damage]:
        """Return what is wrong with the divergences per token of all pairs reduced at a step."""
        names = self.study.divergences
        found, seeds = [], sorted(self.study.ledger(model).reduced.get(step, ()))
        for name, (i, j) in itertools.product(names, itertools.permutations(seeds, 2)):
            if (model, name) in self.unreadable:
                continue
            known = self.study.ledger(model)
            t, *index = known.steps[step], known.seeds[i], known.seeds[j]
            cell = (t, *layout.VARIABLES[name].seed_cell(*index))
            if cell[1:] != tuple(index):  # of which the other order is kept
                continue
            message = twice(
                self.study,
                partial(self._read, model, name, cell),
                lambda i=i, j=j: (  # type: ignore[misc]
                    {i, j} <= self.study.ledger(model).reduced.get(step, frozenset())
                ),
            )
            if message:
                path = f"{layout.model_path(model)}/{name}"
                found.append(Damage(Part.PAIRS, path, message, model, i, step, j))
        return found

    @np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
    def _read(self, model: str, name: str, cell: tuple[int, ...]) -> None:
        """Read all tokens of a cell, and keep their mean."""
        array, total, size = self.study.array(model, name), 0.0, 0.0
        rows, n_tokens = array.chunks[len(cell)], self.study.n_tokens
        for start in range(0, n_tokens, rows):
            block = read(array, (*cell, slice(start, min(start + rows, n_tokens))))
            total += float(block.sum(dtype=np.float64))
            size += float(np.abs(block).sum(dtype=np.float64))
        self.means[model, name, cell] = total / n_tokens, size / n_tokens
        if layout.VARIABLES[name].symmetric:
            t, i, j = cell
            self.means[model, name, (t, j, i)] = self.means[model, name, cell]


def log_prob_damage(study: Study, model: str, seed: str, step: int) -> list[Damage]:
    """Return what is wrong with the log-probs of one checkpoint, read block by block."""

    def check() -> None:  # whatever their representation
        log_probs, at = study.log_probs(model, seed, step), 0
        shape = (study.n_tokens, study.vocab_size)
        where = study.folder / path
        if tuple(log_probs.shape) != shape:
            raise DamagedError(f"{where}: has shape {log_probs.shape} where {shape} belongs")
        for start, block in log_probs.blocks():
            if start != at or block.shape[1:] != shape[1:] or np.isnan(block).any():
                raise DamagedError(f"{where}: no log-probs from token {at} on")
            at += len(block)
        if at != shape[0]:
            raise DamagedError(f"{where}: ends at token {at} of {shape[0]}")
        kept = REPRESENTATIONS[str(study.ledger(model).scored[seed, step]["log_probs"])]
        if kept is not None and kept.has_factors:
            expect_group(study.folder, path, {})
        for name in kept.layouts(*shape, 1) if kept is not None else ():
            node = f"{path}/{name}" if name else path
            expect_nothing_else(study.folder, open_array(CommittedStore(study.folder), node))

    path = layout.log_probs_path(model, seed, step)
    message = twice(study, check, lambda: (seed, step) in study.ledger(model).stored)
    return [Damage(Part.LOG_PROBS, path, message, model, seed, step)] if message else []
