"""Two stores value by value: the same checkpoints, and the same results to float32 rounding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store import Study, open_study
from store.schema import Key
from tests.support.made_store import PER_TOKEN

RELATIVE, ABSOLUTE = 1e-5, 2e-6  # nats: what float32 sums differ by, taken in another order
Named = tuple[Any, ...]


def scored(store: Path) -> dict[str, set[Key]]:
    """The checkpoints whose results are committed, by model."""
    study = open_study(store)
    return {model: set(study.ledger(model).scored) for model in study.models}


def differences(ours: Path, theirs: Path) -> tuple[list[str], int, float]:
    """What differs, in words; the arrays that were compared; and the largest difference, nats."""
    found, n, largest = [], 0, 0.0
    here, there = dict(_results(open_study(ours))), dict(_results(open_study(theirs)))
    found += [f"only under fire: {name}" for name in sorted(here.keys() - there.keys(), key=str)]
    found += [f"only in peace: {name}" for name in sorted(there.keys() - here.keys(), key=str)]
    for name in here.keys() & there.keys():
        a, b = here[name], there[name]
        n += 1
        if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
            found.append(f"another shape, or other cells are empty: {name}")
            continue
        apart = np.nan_to_num(np.abs(a - b))
        if apart.size:
            largest = max(largest, float(apart.max()))
        if (apart > ABSOLUTE + RELATIVE * np.nan_to_num(np.abs(b))).any():
            found.append(f"differs by up to {apart.max():.3g}: {name}")
    return found, n, largest


def _results(study: Study) -> Iterator[tuple[Named, NDArray[np.float64]]]:
    """Every committed array of a store, whatever the order in which its parts came."""
    for model in study.models:
        known, snapshot = study.ledger(model), study.model_snapshot(model)
        rows = {int(step): row for row, step in enumerate(snapshot.steps)}
        columns = {seed: column for column, seed in enumerate(snapshot.seeds)}
        for seed, step in known.scored:
            for variable in PER_TOKEN:
                yield (
                    (model, variable, seed, step),
                    _floats(study.values(model, variable, seed, step)),
                )
            at = rows[step], columns[seed]
            means = np.array([snapshot.cross_entropy[at], snapshot.entropy[at]])
            yield (model, "means", seed, step), means
            if (seed, step) in known.stored:
                log_probs = study.log_probs(model, seed, step)[:]
                yield (model, "log_probs", seed, step), _floats(log_probs)
        for step, seeds in known.reduced.items():
            members = sorted(seeds)
            yield (model, "seeds", tuple(members), step), np.zeros(0)
            yield (model, "expected_kl", step), _floats(snapshot.expected_kl[rows[step]])
            if snapshot.kl_interval is not None:
                yield (model, "interval", step), _floats(snapshot.kl_interval[rows[step]])
            for i in members:
                for j in members:
                    if i != j:
                        for variable in study.divergences:
                            values = study.values(model, variable, i, step, j)
                            yield (model, variable, i, j, step), _floats(values)
        for category in study.categories(model):
            summary = study.summary(model, category)
            done = np.flatnonzero(summary.n_seeds)
            for row in done.tolist():
                step = int(summary.steps[row])
                yield (model, "summary", category, step), _floats(summary.expected_kl[row])
            yield (model, "counts", category), _floats(summary.counts)


def _floats(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, np.float64)
