"""Every checkpoint as a row of a table: the data behind Runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from store.schema import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedconv_tui.monitor.common.study_screen import Columns
    from store.schema import ModelSnapshot


def checkpoint_columns(models: Sequence[ModelSnapshot]) -> Columns:
    """Return every checkpoint that is planned or there."""
    names = ("model", "seed", "step", "state", "cross_entropy", "error", "captured")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for model in models:
        states = model.marked
        for at, seed in np.argwhere(states != State.ABSENT).tolist():
            label, step = model.seeds[seed], int(model.steps[at])
            row = (
                model.name,
                label,
                step,
                State(states[at, seed]).name.lower(),
                float(model.cross_entropy[at, seed]),
                model.reason((label, step)),
                (label, step) in model.captured,
            )
            for name, value in zip(names, row, strict=True):
                columns[name].append(value)
    return columns
