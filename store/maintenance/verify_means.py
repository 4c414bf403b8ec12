"""Checking arrays of means: readable, and the means of the values that were read."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import StoreError
from store.maintenance.twice import twice
from store.maintenance.verify_results import Means
from store.reading.recorded_means import recorded_means
from store.schema import layout
from store.schema.array_types import Floats
from store.schema.damage import Damage, Part
from store.schema.pair_metrics import OF_STATES
from store.schema.seed_pairs import mean_over_pairs
from store.statistics.means import MEAN_OF, PAIR_OF, RECORDED
from store.storage.arrays import read_cells
from store.study import Study

_ROUNDING = 1e-10  # of means: relative to the mean size of what was summed, in float64


class MeanChecker:
    """Compares means with the per-token results they are of."""

    def __init__(self, study: Study, read: Means) -> None:
        """Take `read` as what the results come to; what it lacks cannot be compared."""
        self.study, self._read = study, read
        self._recorded: tuple[str, str, int, Floats] = ("", "", -1, np.empty(0))
        self._step_values: tuple[str, int, dict[tuple[str, str], NDArray[Any]]] = ("", -1, {})

    def of_array(self, model: str, name: str) -> list[Damage]:
        """Return the cells of an array of means that are not the means of what was read."""
        path, cells = f"{layout.model_path(model)}/{name}", mean_cells(self.study, model, name)
        if not cells:
            return []
        stored: list[Floats] = []
        if message := twice(self.study, lambda: stored.append(self._stored(model, name))):
            return [Damage(Part.MEANS, path, message, model)]
        if not stored:  # forgotten in between
            return []
        known, found = self.study.ledger(model), []
        recorded = self._of_records(model, name)
        for cell, (seed, step, other) in cells.items():
            value = float(stored[0][cell])
            if value == recorded[cell]:  # as nearly always
                continue
            expected = self._expected(model, name, cell, seed, step, other)
            if expected is None or _agree(value, *expected):
                continue
            now = mean_cells(self.study, model, name)  # forgotten or reduced again in between
            if cell in now and known is self.study.ledger(model):
                message = f"{self.study.folder / path}: {value!r} where {expected[0]!r} belongs"
                found.append(Damage(Part.MEANS, path, message, model, seed, step, other))
        return found

    def _expected(
        self, model: str, name: str, cell: tuple[int, ...], seed: str | None, step: int,
        other: str | None,
    ) -> tuple[float, float] | None:  # fmt: skip
        """Return what a mean must be and the size of what it sums; None: that is not known."""
        known = self.study.ledger(model)
        if "seed" in layout.VARIABLES[name].dims:
            recorded = float(self._of_records(model, name)[cell])
            if not np.isnan(recorded):
                return recorded, 0.0
        if name in MEAN_OF:
            return self._read.get((model, MEAN_OF[name], cell))
        if name in RECORDED:
            floor = known.scored[seed, step].get(name)  # type: ignore[index]
            return None if floor is None else (float(floor), 0.0)
        if name in PAIR_OF:
            pair, n_tokens = PAIR_OF[name], self.study.n_tokens
            try:
                both = [self._values(model, pair.of, str(label), step) for label in (seed, other)]
            except StoreError:  # said of the results themselves
                return None
            return pair.mean(pair.total(*both), n_tokens), 1.0
        if name in OF_STATES:  # no pair of theirs has hidden states
            return None
        if self.study.live:  # an engine writes the mean over pairs before it commits the pairs
            return None
        index = [known.seeds[label] for label in known.reduced[step]]
        n = len(known.seeds)
        row: Floats = np.full((n, n), np.nan)
        sizes = []
        for i, j in itertools.permutations(index, 2):
            recorded = float(self._of_records(model, "mean_kl")[cell[0], i, j])
            if (model, "kl", (cell[0], i, j)) in self._read:
                row[i, j], size = self._read[model, "kl", (cell[0], i, j)]
            elif not np.isnan(recorded):
                row[i, j], size = recorded, abs(recorded)
            else:
                return None
            sizes.append(size)
        return mean_over_pairs(row, index), float(np.mean(sizes))

    def _of_records(self, model: str, name: str) -> Floats:
        """Return the means that records have, read once for an array while nothing changes."""
        known = self.study.ledger(model)
        if self._recorded[:3] != (model, name, known.changes):
            self._recorded = model, name, known.changes, recorded_means(known, name)
        return self._recorded[3]

    def _values(self, model: str, name: str, seed: str, step: int) -> NDArray[Any]:
        """Return per-token results of one checkpoint; a step's are kept for its other pairs."""
        if self._step_values[:2] != (model, step):
            self._step_values = model, step, {}
        held = self._step_values[2]
        if (name, seed) not in held:
            held[name, seed] = self.study.values(model, name, seed, step)
        return held[name, seed]

    def _stored(self, model: str, name: str) -> Floats:
        """Return the committed cells as on disk, NaN elsewhere. Raise DamagedError."""
        known = self.study.ledger(model)
        shape = layout.VARIABLES[name].shape(len(known.steps), len(known.seeds), 0)
        committed = np.zeros(shape, np.bool_)
        cells = np.array(list(mean_cells(self.study, model, name)), np.intp)
        committed[tuple(cells.reshape(-1, committed.ndim).T)] = True
        return read_cells(self.study.array(model, name), committed)


def _agree(value: float, expected: float, size: float) -> bool:
    """Return whether a mean is what it must be; a record does not say in which way it is not."""
    if not np.isfinite(expected):
        return not np.isfinite(value)
    return value == expected or abs(value - expected) <= _ROUNDING * size


def mean_cells(
    study: Study, model: str, name: str
) -> dict[tuple[int, ...], tuple[str | None, int, str | None]]:
    """Return the committed cells of an array of means: index -> (seed, step, other seed)."""
    known, dims = study.ledger(model), layout.VARIABLES[name].dims
    if "seed" not in dims:
        return {(known.steps[step],): (None, step, None) for step in known.reduced}
    if "other_seed" not in dims:
        return {
            (known.steps[step], known.seeds[seed]): (seed, step, None)
            for seed, step in known.scored
        }
    return {
        (known.steps[step], known.seeds[i], known.seeds[j]): (i, step, j)
        for step, seeds in known.reduced.items()
        for i, j in itertools.permutations(sorted(seeds), 2)
    }
