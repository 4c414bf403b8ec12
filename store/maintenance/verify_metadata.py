"""Reading back the corpus, the metadata of a model's arrays, and its coordinates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from store.errors import DamagedError
from store.maintenance.twice import twice
from store.maintenance.verify_probes import metadata_checks
from store.reading.corpus_reader import CORPUS_ARRAYS
from store.schema import layout
from store.schema.damage import Damage, Part
from store.storage.arrays import expect, open_array, place, read
from store.storage.checked_stores import CommittedStore
from store.storage.metadata import (
    coordinate_layout,
    coordinates,
    expect_group,
    expect_nothing_else,
    model_groups,
)
from store.study import Study


def corpus_damage(study: Study) -> list[Damage]:
    """Return what is wrong with tokens, text and document names."""
    store = CommittedStore(study.folder)

    def check() -> None:
        names, source = list(study.corpus.document_name), study.vocabulary.source
        attributes = {"document_names": names, "unigram_source": source}
        expect_group(study.folder, layout.CORPUS, attributes)
        for name in CORPUS_ARRAYS:
            array = open_array(store, f"{layout.CORPUS}/{name}")
            expect_nothing_else(study.folder, array)

    message = twice(study, check)
    return [Damage(Part.CORPUS, layout.CORPUS, message)] if message else []


def metadata_damage(study: Study, model: str) -> list[Damage]:
    """Return the groups and arrays of a model whose `zarr.json` is not what it must be."""
    group, known = layout.model_path(model), study.ledger(model)
    checks: dict[str, Callable[[], Any]] = {}
    if known.steps or known.seeds:
        stored = {seed for seed, _ in known.stored}
        for path, attributes in model_groups(model, stored, probes=bool(study.probes())).items():
            checks[path] = partial(expect_group, study.folder, path, attributes)
        for name in layout.arrays_of(study.divergences):
            checks[f"{group}/{name}"] = partial(_check_array, study, model, name)
        checks |= metadata_checks(study, model)
    found = []
    for path, check in checks.items():
        if message := twice(study, check):
            found.append(Damage(Part.METADATA, path, message, model))
    return found


def _check_array(study: Study, model: str, name: str) -> None:
    array, known = study.array_at(model, name), study.ledger(model)
    expect_nothing_else(study.folder, array)
    sizes = len(known.steps), len(known.seeds), study.n_tokens, study.n_levels
    shape = layout.ARRAYS[name].shape(*sizes)
    if array.shape != shape and not study.live:  # no engine is about to use the rest
        raise DamagedError(f"{place(array)}: has shape {array.shape}, not {shape}")


def coordinate_damage(study: Study, model: str) -> list[Damage]:
    """Return what is wrong with steps and seeds; an engine may have added more of them."""
    known, store, found = study.ledger(model), CommittedStore(study.folder), []
    if not known.steps and not known.seeds:
        return []
    for name, values in coordinates(known.steps, known.seeds).items():
        path = f"{layout.model_path(model)}/{name}"

        def check(name: str = name, path: str = path, values: Any = values) -> None:
            array, live = open_array(store, path), study.live
            attributes = {} if name == "step" else {"labels": list(known.seeds)}
            labels: Any = array.attrs.get("labels")
            if live and name != "step" and isinstance(labels, list):
                attributes["labels"] += labels[len(known.seeds) :]
            expect(
                array,
                coordinate_layout(name, len(values), attributes),
                growing=(0,) if live else (),
            )
            expect_nothing_else(study.folder, array)
            if not np.array_equal(read(array, (slice(0, len(values)),)), values):
                raise DamagedError(f"{place(array)}: differs from the commit log")

        if message := twice(study, check):
            found.append(Damage(Part.COORDINATES, path, message, model))
    return found
