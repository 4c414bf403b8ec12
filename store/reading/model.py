"""The state of one model, read from what is committed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from store.commits.study_progress import probes_of, states
from store.reading.study_reader import StudyReader
from store.reading.summary import SummaryReader
from store.schema.category import ALL
from store.schema.pair_metrics import metrics_of
from store.schema.snapshot import ModelSnapshot
from store.statistics.means import mean_over_seeds


def read_model(study: StudyReader, name: str) -> ModelSnapshot:
    """Read how a model stands as of the last refresh. Raise StoreError, DamagedError."""
    known = study.ledger(name)
    seeds, steps = tuple(known.seeds), sorted(known.steps)

    def means(variable: str) -> NDArray[np.float64]:
        # A remote store need not be asked for what the log says already.
        return study.means(name, variable, recorded=not study.files.near)

    def over_seeds(variable: str) -> NDArray[np.float64]:
        return mean_over_seeds(means(variable))

    return ModelSnapshot(
        name=name,
        seeds=seeds,
        steps=np.array(steps, np.int64),
        state=states(known, seeds, steps),
        kl=means("mean_kl"),
        reduced=study.committed(name, "mean_kl"),
        cross_entropy=means("cross_entropy"),
        entropy=means("mean_entropy"),
        storage_floor=over_seeds("storage_floor"),
        noise_floor=over_seeds("noise_floor"),
        errors=known.errors(),
        kl_interval=_interval(study, name),
        phases=known.phases,
        duplicates=study.duplicates(name),
        failures=known.failures_now(),
        captured=known.captured(),
        of_states={of.array: means(of.array) for of in metrics_of(study.divergences) if of.states},
        **probes_of(known, study.probes()),
    )


def _interval(study: StudyReader, name: str) -> NDArray[np.float64] | None:
    """Return that of the expected KL over all tokens; of the pairs that are summarised."""
    if study.partition(name, ALL) is None:
        return None
    reader = SummaryReader(study, name)
    return np.stack([reader.read(end, ALL)[:, 0] for end in ("kl_low", "kl_high")], axis=1)
