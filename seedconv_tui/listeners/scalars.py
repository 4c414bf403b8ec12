"""Scalars for other tools' charts: a row of numbers for each step, read from the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from store import Study
from store.schema import CHARTED, UNDECIDED, Phase
from store.statistics import mean_over_seeds

PHASES = ("uniform", "sharp convergence", "sharp divergence", "slow reconvergence")


class StepScalars(NamedTuple):
    """One summarised step."""

    step: int
    n_seeds: int  # that were compared
    values: dict[str, float]  # finite; nats, but for `phase/index`


def read_rows(study: Study, model: str, categories: Sequence[str] = CHARTED) -> list[StepScalars]:
    """Read the summarised steps of a model, ascending.

    `expected_kl/mean`, `/low`, `/high` (95 %); `cross_entropy/mean` over seeds and `/seed <label>`;
    `kl_<category>/<level>` of each category that the model has; `phase/index`: 1 to 4 in the order
    of `PHASES`, 0 where it is undecided. What is not known has no entry. Raise DamagedError.
    """
    if not study.ledger(model).summaries:
        return []
    whole = study.summary(model)
    series: dict[str, np.ndarray] = {
        "expected_kl/mean": whole.expected_kl[:, 0],
        "expected_kl/low": whole.kl_low[:, 0],
        "expected_kl/high": whole.kl_high[:, 0],
    }
    by_seed = whole.cross_entropy[..., 0]
    odd = np.isfinite(by_seed).sum(axis=1) < whole.n_seeds  # no chart says what a mean is without
    series["cross_entropy/mean"] = np.where(odd, np.nan, mean_over_seeds(by_seed))
    for index, seed in enumerate(whole.seeds):
        series[f"cross_entropy/seed {seed}"] = by_seed[:, index]
    for category in categories:
        if category not in study.categories(model):
            continue
        parted = study.summary(model, category)
        for level, label in enumerate(parted.labels):
            by_step = dict(zip(parted.steps.tolist(), parted.expected_kl[:, level], strict=True))
            series[f"kl_{category}/{label}"] = np.array(
                [by_step.get(step, np.nan) for step in whole.steps.tolist()]
            )
    phases = study.ledger(model).phases
    return [
        StepScalars(
            step,
            int(whole.n_seeds[at]),
            {
                **{tag: float(of[at]) for tag, of in series.items() if np.isfinite(of[at])},
                "phase/index": float(phase_index(phases, step)),
            },
        )
        for at, step in enumerate(whole.steps.tolist())
        if whole.n_seeds[at]
    ]


def phase_index(phases: Sequence[Phase], step: int) -> int:
    """Return in which phase a step is: 1 to 4 in the order of `PHASES`, 0 where it is undecided."""
    name = UNDECIDED
    for phase in phases:
        if phase.start <= step:
            name = phase.name
    return PHASES.index(name) + 1 if name in PHASES else 0
