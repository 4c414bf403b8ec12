"""How one model stands, read from what is committed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from store.commits.ledger import ModelLedger
from store.commits.progress import probes_of, states
from store.reading.category import ALL
from store.reading.summary import SummaryReader
from store.schema import variables as layout
from store.schema.keys import CheckpointName, Key
from store.schema.snapshot import ModelSnapshot
from store.statistics.means import mean_over_seeds, pairs_among
from store.storage.arrays import read_cells

if TYPE_CHECKING:
    from store.study import Study


def read_model(
    study: Study, name: str, known: ModelLedger, duplicates: Mapping[Key, CheckpointName]
) -> ModelSnapshot:
    """See `Study.model_snapshot`."""
    seeds, steps = tuple(known.seeds), sorted(known.steps)

    def over_seeds(variable: str) -> NDArray[np.float64]:
        return mean_over_seeds(read_means(study, name, variable))

    return ModelSnapshot(
        name=name,
        seeds=seeds,
        steps=np.array(steps, np.int64),
        state=states(known, seeds, steps),
        kl=read_means(study, name, "mean_kl"),
        cross_entropy=read_means(study, name, "cross_entropy"),
        entropy=read_means(study, name, "mean_entropy"),
        storage_floor=over_seeds("storage_floor"),
        noise_floor=over_seeds("noise_floor"),
        errors=known.errors(),
        kl_interval=_interval(study, name),
        phases=known.phases,
        duplicates=duplicates,
        failures={key: known.failures[key] for key in known.failed},
        **probes_of(known, study.probes()),
    )


def _interval(study: Study, name: str) -> NDArray[np.float64] | None:
    """Of the expected KL over all tokens; of the pairs that are summarised."""
    if study.partition(name, ALL) is None:
        return None
    reader = SummaryReader(study, name)
    return np.stack([reader.read(end, ALL)[:, 0] for end in ("kl_low", "kl_high")], axis=1)


def read_means(study: Study, model: str, name: str) -> NDArray[np.float64]:
    """See `Study.means`."""
    known = study.ledger(model)
    seeds, steps = tuple(known.seeds), sorted(known.steps)
    if layout.VARIABLES[name].by_pair:
        members = [[seed in known.reduced.get(step, ()) for seed in seeds] for step in steps]
        inside = np.array(members, bool).reshape(len(steps), len(seeds))
        committed = pairs_among(inside)
    else:
        scored = [[(seed, step) in known.scored for seed in seeds] for step in steps]
        committed = np.array(scored, bool).reshape(len(steps), len(seeds))
    if not committed.any():
        return np.full(committed.shape, np.nan)
    order = np.array([known.steps[step] for step in steps], np.intp)
    stored = np.empty_like(committed)
    stored[order] = committed
    return read_cells(study.array(model, name), stored)[order]
