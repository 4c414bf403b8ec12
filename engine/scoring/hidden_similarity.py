"""How alike the hidden states of seeds are, summed up while a pass compares their log-probs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch

from engine.scoring.log_prob_rows import Rows
from store.schema import CKA, ESTIMATES, Floats
from store.statistics import CrossMoments
from store.words import counted

_ROWS = 2**10  # tokens that are added at once: a few would take as long as the whole matrix

_DENSE = "their log-probs are kept dense, or their logits are not made of any"
_INNER = "their layers are not known, or their logits are not made of any"


class HiddenSimilarity:
    """CKA of some hidden states of those seeds of a pass that have them."""

    def __init__(self, seeds: Sequence[Rows], which: str) -> None:
        """Take the final states, or those after some layers (`store.schema.ESTIMATES`)."""
        self.which, self._n_seeds = which, len(seeds)
        self._at = [at for at, rows in enumerate(seeds) if rows.has_hidden(which)]
        self._rows = [seeds[at] for at in self._at]
        self._moments: CrossMoments | None = None
        self._pieces: list[torch.Tensor] = []  # that were not added yet
        self._taken = 0  # tokens

    @property
    def n_without(self) -> int:
        """How many seeds have no hidden states."""
        return self._n_seeds - len(self._at)

    def take(self, start: int, stop: int) -> None:
        """Add tokens [start, stop); those that were taken are not added twice.

        So it may be asked for again where memory ran out.
        """
        start = max(start, self._taken)
        if start >= stop or len(self._rows) < 2:
            return
        states = [rows.hidden(self.which, start, stop) for rows in self._rows]
        if self._moments is None:
            self._moments = CrossMoments([of.shape[1] for of in states])
        self._pieces.append(torch.cat(states, 1))
        self._taken = stop
        if sum(map(len, self._pieces)) >= _ROWS:
            self._add()

    def _add(self) -> None:
        assert self._moments is not None
        self._moments.add(torch.cat(self._pieces).double())
        self._pieces = []

    def values(self) -> dict[str, Floats]:
        """Return what there is by array of the store, (seed, other_seed); NaN: not known."""
        found = {name: np.full((self._n_seeds,) * 2, np.nan) for name in ESTIMATES[self.which]}
        if self._moments is not None:
            if self._pieces:
                self._add()
            for values, of in zip(found.values(), self._moments.alignment(), strict=True):
                values[np.ix_(self._at, self._at)] = of
        return found


def similarities(
    seeds: Sequence[Rows], arrays: Collection[str], note: Callable[[str], None]
) -> list[HiddenSimilarity]:
    """Return what these arrays of a store are made of, and note which seeds have no such states."""
    found = [
        HiddenSimilarity(seeds, which) for which, both in ESTIMATES.items() if {*both} & {*arrays}
    ]
    lacking: dict[tuple[int, str], list[str]] = defaultdict(list)
    for of in found:
        if of.n_without:
            lacking[of.n_without, _DENSE if of.which == CKA else _INNER].append(of.which)
    for (n_seeds, why), names in lacking.items():
        are = "is" if len(names) == 1 else "are"
        note(
            f"{counted(n_seeds, 'seed')} without hidden states ({why}); {', '.join(names)} {are} "
            "left out for their pairs"
        )
    return found
