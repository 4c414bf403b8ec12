"""Fold a matrix of checkpoints until it fits: choose its rows, and what shares a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.monitor.common.theme import RELEVANCE
from store.schema import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.schema import ModelSnapshot

_RANK = np.array([RELEVANCE.index(state) for state in State], dtype=np.uint8)
_BY_RANK: NDArray[np.uint8] = np.array(RELEVANCE, dtype=np.uint8)
_MAX_CELL = 4


@dataclass(frozen=True)
class Fold:
    """The map of steps to columns."""

    steps_per_cell: int
    cell_width: int
    n_cells: int

    @classmethod
    def of(cls, n_steps: int, width: int) -> Fold:
        """Return the widest cells that fit; several steps to a cell only if single ones do not."""
        if n_steps <= max(width, 1):
            return cls(1, min(width // max(n_steps, 1), _MAX_CELL), n_steps)
        per_cell = -(-n_steps // max(width, 1))
        return cls(per_cell, 1, -(-n_steps // per_cell))


def fold_states(state: NDArray[np.uint8], fold: Fold) -> NDArray[np.uint8]:
    """Return one state per cell, of (step, seed): the one that matters most of all it covers."""
    ranks = np.zeros(fold.n_cells * fold.steps_per_cell, dtype=np.uint8)
    ranks[: len(state)] = _RANK[state].max(axis=1)
    by_cell = ranks.reshape(fold.n_cells, fold.steps_per_cell).max(axis=1)
    folded: NDArray[np.uint8] = _BY_RANK[by_cell]
    return folded


@dataclass(frozen=True)
class FoldedRow:
    """The contents of one row of the matrix."""

    model: int
    kind: str  # "title", "axis", "seed" or "shut"
    seed: int = 0


def lay_out(models: Sequence[ModelSnapshot], chosen: int, height: int) -> list[FoldedRow]:
    """Return the rows from top to bottom, all of them whether they fit or not.

    The chosen model is open, and of the others as many as fit: those after it, then those before.
    """
    opened = {chosen}
    taken = len(models) + 1 + len(models[chosen].seeds)
    for number in (*range(chosen + 1, len(models)), *range(chosen - 1, -1, -1)):
        taken += 1 + len(models[number].seeds)
        if taken <= height:
            opened.add(number)
    rows: list[FoldedRow] = []
    for number, model in enumerate(models):
        if number in opened:
            rows += [FoldedRow(number, "title"), FoldedRow(number, "axis")]
            rows += [FoldedRow(number, "seed", seed) for seed in range(len(model.seeds))]
        else:
            rows.append(FoldedRow(number, "shut"))
    return rows
