"""Reading back per-token results, and log-probs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter

import numpy as np

from store.commits.seed_sets import SET_RESULTS
from store.errors import DamagedError, StoreError
from store.maintenance.twice import twice
from store.reading.log_probs import REPRESENTATIONS
from store.schema import layout
from store.schema.damage import Damage, Part
from store.storage.arrays import read_in_a_row
from store.storage.metadata import expect_group, expect_nothing_else
from store.study import Study

# An array, where in it, and its seed or seeds.
_Cell = tuple[str, tuple[int, ...], tuple[str, str | None]]
_Still = Callable[[str, str | None], bool]
Means = dict[tuple[str, str, tuple[int, ...]], tuple[float, float]]


class ResultReader:
    """Reads back per-token results, and keeps what they come to."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.unreadable: set[tuple[str, str]] = set()  # (model, array): its metadata are damaged
        self.means: Means = {}  # by model, array and cell: mean over tokens, and mean size

    def of_checkpoints(self, model: str, step: int, seeds: Sequence[str]) -> list[Damage]:
        """Return what is wrong with the per-token results of these checkpoints of a step."""
        known = self.study.ledger(model)
        records = {seed: known.scored.get((seed, step)) for seed in seeds}
        cells = [
            (name, (known.steps[step], known.seeds[seed]), (seed, None))
            for name, variable in layout.PER_TOKEN.items()
            if variable.of_checkpoint
            for seed in seeds
        ]

        def still(seed: str, other: str | None) -> bool:
            return records[seed] is not None and (
                self.study.ledger(model).scored.get((seed, step)) == records[seed]
            )

        return self._damage(Part.RESULTS, model, step, cells, still)

    def of_pairs(self, model: str, step: int) -> list[Damage]:
        """Return what is wrong with the divergences per token of all pairs reduced at a step."""
        known = self.study.ledger(model)
        t, seeds = known.steps[step], sorted(known.reduced.get(step, ()))
        cells = []
        names = [
            name
            for name in self.study.divergences
            if (of := layout.VARIABLES[name]).by_pair and of.per_token
        ]
        for name, (i, j) in itertools.product(names, itertools.permutations(seeds, 2)):
            index = known.seeds[i], known.seeds[j]
            if layout.VARIABLES[name].seed_cell(*index) == index:  # else the other order is kept
                cells.append((name, (t, *index), (i, j)))

        def still(seed: str, other: str | None) -> bool:
            return {seed, other} <= self.study.ledger(model).reduced.get(step, frozenset())

        found = self._damage(Part.PAIRS, model, step, cells, still)
        return found + self._of_set(model, step)

    def _of_set(self, model: str, step: int) -> list[Damage]:
        """Return what is wrong with results per token that depend on all seeds of a step."""
        known = self.study.ledger(model)
        if (of := known.sets.get(step)) is None:
            return []
        cells = [
            (name, (known.steps[step], known.seeds[seed], of.place), (seed, None))
            for name, seed in itertools.product(SET_RESULTS, of.seeds)
            if name in of.cells
        ]

        def still(seed: str, other: str | None) -> bool:
            return self.study.ledger(model).sets.get(step) == of

        return self._damage(Part.PAIRS, model, step, cells, still)

    def _damage(
        self, part: Part, model: str, step: int, cells: Sequence[_Cell], still: _Still
    ) -> list[Damage]:
        """Return which of these cells cannot be read, though they are `still` committed."""
        readable = [cell for cell in cells if (model, cell[0]) not in self.unreadable]
        try:
            for name, of in itertools.groupby(readable, itemgetter(0)):
                self._read(model, name, [at for _, at, _ in of])
        except StoreError:  # then each is looked at by itself
            pass
        else:
            return []
        found = []
        for name, at, (seed, other) in readable:
            message = twice(
                self.study, partial(self._read, model, name, [at]), partial(still, seed, other)
            )
            if message:
                path = f"{layout.model_path(model)}/{name}"
                found.append(Damage(part, path, message, model, seed, step, other))
        return found

    @np.errstate(invalid="ignore")  # what is not finite comes to NaN, or to infinity
    def _read(self, model: str, name: str, cells: Sequence[tuple[int, ...]]) -> None:
        """Read all tokens of these cells, and keep their means."""
        array, n_tokens = self.study.array(model, name), self.study.n_tokens
        variable = layout.VARIABLES[name]
        rows = variable.chunks(n_tokens)[len(cells[0])]
        totals, sizes = np.zeros(len(cells)), np.zeros(len(cells))
        for start in range(0, n_tokens, rows):
            tokens = slice(start, min(start + rows, n_tokens))
            blocks = read_in_a_row(array, ((*cell, tokens) for cell in cells))
            for at, block in enumerate(blocks):
                total = block.sum(dtype=np.float64)
                totals[at] += total
                sizes[at] += total if block.min() >= 0 else np.abs(block).sum(dtype=np.float64)
        for cell, total, size in zip(cells, totals.tolist(), sizes.tolist(), strict=True):
            self.means[model, name, cell] = total / n_tokens, size / n_tokens
            if variable.symmetric:
                t, i, j = cell
                self.means[model, name, (t, j, i)] = self.means[model, name, cell]


def log_prob_damage(study: Study, model: str, seed: str, step: int) -> list[Damage]:
    """Return what is wrong with the log-probs of one checkpoint, read block by block."""

    def check() -> None:  # whatever their representation
        log_probs = study.log_probs(model, seed, step)
        shape = (study.n_tokens, study.vocab_size)
        where = study.folder / path
        if tuple(log_probs.shape) != shape:
            raise DamagedError(f"{where}: has shape {log_probs.shape} where {shape} belongs")
        for start in range(0, shape[0], log_probs.block_rows):
            stop = min(start + log_probs.block_rows, shape[0])
            block = log_probs.stored(start, stop).astype(np.float32, copy=False)
            # The row of a token can be normalised if its largest number is one.
            if block.shape != (stop - start, shape[1]) or not np.isfinite(block.max(axis=1)).all():
                raise DamagedError(f"{where}: no log-probs from token {start} on")
        kept = REPRESENTATIONS[str(study.ledger(model).scored[seed, step]["log_probs"])]
        if kept is not None and kept.has_factors:
            expect_group(study.folder, path, {})
        for name in kept.layouts(*shape, 1) if kept is not None else ():
            expect_nothing_else(study.folder, study.array_at(model, f"{below}/{name}".rstrip("/")))

    path = layout.log_probs_path(model, seed, step)
    below = path.removeprefix(f"{layout.model_path(model)}/")
    message = twice(study, check, lambda: (seed, step) in study.ledger(model).stored)
    return [Damage(Part.LOG_PROBS, path, message, model, seed, step)] if message else []
