"""Reading arrays of means: each is what its record says, or what the results per token come to.

An infinite mean is a number like others, and so is one that is NaN because a token's is: no engine
of ours writes these, but nothing else of a study may be unreadable for them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from store.commits.ledger import ModelLedger
from store.commits.pair_sums import recorded_pairs
from store.errors import DamagedError
from store.reading.recorded_means import recorded_means
from store.schema import layout
from store.schema.array_types import Bools, Floats
from store.schema.seed_pairs import pairs_among
from store.statistics.means import MEAN_OF, PAIR_OF
from store.storage.arrays import Array, boxes, place, read, read_cells

AllFinite = Callable[[str, str, int, str | None], bool]  # of results, seed, step, other seed


class MeanReader:
    """Reads one array of means of one model.

    `all_finite` says whether all results per token of a checkpoint, or a pair, are; it may raise
    DamagedError.
    """

    def __init__(self, known: ModelLedger, name: str, all_finite: AllFinite) -> None:
        self._known, self._name, self._all_finite = known, name, all_finite

    def committed(self) -> Bools:
        """Return which checkpoints or pairs have one, (step, seed[, other_seed]), steps ascend."""
        known = self._known
        seeds, steps = list(known.seeds), sorted(known.steps)
        if layout.VARIABLES[self._name].by_pair:
            inside = [[seed in known.reduced.get(step, ()) for seed in seeds] for step in steps]
            return pairs_among(np.array(inside, np.bool_).reshape(len(steps), len(seeds)))
        if layout.VARIABLES[self._name].by_set:
            sets = [known.set_with(step, self._name) for step in steps]
            among = [[of is not None and seed in of.seeds for seed in seeds] for of in sets]
            return np.array(among, np.bool_).reshape(len(steps), len(seeds))
        scored = [[(seed, step) in known.scored for seed in seeds] for step in steps]
        return np.array(scored, np.bool_).reshape(len(steps), len(seeds))

    def all(self, array: Array, order: NDArray[np.intp], committed: Bools) -> Floats:
        """Return the means in the order of `committed`, NaN elsewhere. Raise DamagedError.

        `order` has the index of each step on the array's axis.
        """
        stored = np.empty_like(committed)
        stored[order] = committed
        values = read_cells(array, stored)
        recorded = recorded_means(self._known, self._name)[tuple(map(slice, values.shape))]
        self._refuse_others(array, values, recorded, stored, list(self._known.steps))
        return values[order]

    def recorded(self, order: NDArray[np.intp], committed: Bools) -> Floats | None:
        """Return the means as the log has them, see `all`; None: it lacks one, or has it as NaN."""
        found = recorded_means(self._known, self._name)[order]
        return None if np.isnan(found[committed]).any() else np.where(committed, found, np.nan)

    def at(self, array: Array, step: int) -> Floats:
        """Return the means of a step that is reduced, (seed, other_seed). Raise DamagedError."""
        known = self._known
        members = known.reduced[step]
        pairs = pairs_among(np.array([seed in members for seed in known.seeds], np.bool_))
        values = np.full(pairs.shape, np.nan)
        for box in boxes(pairs.shape, array.chunks[1:]):
            if pairs[box].any():  # else the chunk may not exist yet
                values[box] = read(array, (known.steps[step], *box))
        values = np.where(pairs, values, np.nan)
        recorded = recorded_pairs(known.pair_sums.get(step, ()), self._name, known.seeds)
        self._refuse_others(array, values[None], recorded[None], pairs[None], [step])
        return values

    def _refuse_others(
        self, array: Array, values: Floats, recorded: Floats, committed: Bools, steps: list[int]
    ) -> None:
        """Raise DamagedError when a committed value is not the recorded one, or lacks a reason.

        The first axis of all three has these steps.
        """
        seeds = list(self._known.seeds)
        wrong = committed & np.where(np.isnan(recorded), np.isnan(values), recorded != values)
        for at in np.argwhere(wrong):
            step, labels = steps[at[0]], [seeds[index] for index in at[1:]]
            other = labels[1] if len(labels) > 1 else None
            cell, there = tuple(at), ", ".join(f"seed {label}" for label in labels)
            if not np.isnan(values[cell]):
                raise DamagedError(
                    f"{place(array)}: {there}, step {step}: is not what was committed"
                )
            if not np.isnan(recorded[cell]) or self._comes_to_a_number(labels[0], step, other):
                # An older chunk, in a copy that is still growing
                raise DamagedError(f"{place(array)}: lacks values that were committed to it")

    def _comes_to_a_number(self, seed: str, step: int, other: str | None) -> bool:
        """Return whether what the mean is of is finite. Raise DamagedError."""
        if self._name in MEAN_OF:
            return self._all_finite(MEAN_OF[self._name], seed, step, other)
        if self._name in PAIR_OF and other is not None:
            of = PAIR_OF[self._name].of
            return all(self._all_finite(of, label, step, None) for label in (seed, other))
        return False  # a floor is in the record, or nowhere
