"""Reading back probes: what their items are, and what each checkpoint says of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from store.analysis.probe_scores import PROBE_KINDS
from store.errors import DamagedError
from store.maintenance.twice import twice
from store.reading.probe_arrays import (
    items_layout,
    loose_name,
    open_result,
    probe_path,
    result_name,
)
from store.schema import layout
from store.schema.damage import Damage, Part
from store.storage.arrays import expect, open_array, place
from store.storage.checked_stores import CommittedStore
from store.storage.metadata import expect_group, expect_nothing_else
from store.study import Study


def probe_damage(study: Study) -> list[Damage]:
    """Return the probes whose items cannot be read."""
    found, store = [], CommittedStore(study.folder)
    if study.probes() and (
        message := twice(study, lambda: expect_group(study.folder, layout.PROBES, {}))
    ):
        found.append(Damage(Part.PROBE, layout.PROBES, message))
    for name in study.probes():

        def check(name: str = name) -> None:
            probe, array = study.probe(name), open_array(store, probe_path(name))
            attributes = dict(array.attrs)  # the digest is of them
            expect(array, items_layout(len(probe.task), attributes))
            expect_nothing_else(study.folder, array)

        if message := twice(study, check):
            found.append(Damage(Part.PROBE, probe_path(name), message))
    return found


def metadata_checks(study: Study, model: str) -> dict[str, Callable[[], None]]:
    """Return by path the checks of a model's arrays for probes. They raise DamagedError."""
    store = CommittedStore(study.folder)

    def check(name: str, path: str) -> None:
        if name not in study.probes():
            return
        known = study.ledger(model)
        array = open_result(store, model, name, known, study.probe_entry(name), path)
        expect_nothing_else(study.folder, array)
        shape = (len(known.steps), len(known.seeds), *array.shape[2:])
        if array.shape != shape and not study.live:  # no engine is about to use the rest
            raise DamagedError(f"{place(array)}: has shape {array.shape}, not {shape}")

    group = layout.model_path(model)
    return {
        f"{group}/{path}": partial(check, name, path)
        for name in study.probes()
        for path in (result_name(name), loose_name(name))
    }


def value_damage(study: Study, model: str, name: str, seed: str, step: int) -> list[Damage]:
    """Return what is wrong with what one checkpoint says of a probe."""

    def check() -> None:
        if name not in study.probes() or (seed, step) not in study.ledger(model).probed[name]:
            return
        values = study.probe_values(model, name, seed, step)
        kind = PROBE_KINDS.get(study.probe(name).kind)
        if kind is not None and kind.complete and np.isnan(values).all():
            raise DamagedError(f"{study.folder / path}: lacks values of {seed}, step {step}")

    path = f"{layout.model_path(model)}/{result_name(name)}"
    message = twice(study, check)
    return [Damage(Part.PROBE, path, message, model, seed, step)] if message else []
