"""Results of a step's seeds taken together: of the mean of their distributions.

`kl_to_mean` is kept per token; all else of the mean follows from it, from `surprisal` and from
`entropy`. The summaries of a store, the metrics on the screens, the columns of `seedconv export`
and the figure of a report are taken from the table here. docs/method.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

TO_MEAN = "kl_to_mean"
"""The name by which `scoring.divergences` asks for it, and of its arrays."""


@dataclass(frozen=True)
class EnsembleMetric:
    """One number of all seeds of a step together, of the tokens of a level: nats, never below 0."""

    name: str  # of its columns in tables, with `_low` and `_high` for its interval
    title: str  # on a screen
    in_report: str  # in a report's statistics
    description: str


ENSEMBLE_METRICS = (
    EnsembleMetric(
        "seed_divergence",
        "divergence of the seeds",
        "Seeds to mean KLD",
        "kl_to_mean, mean over seeds: the generalised Jensen-Shannon divergence, log S at most",
    ),
    EnsembleMetric(
        "ensemble_entropy",
        "entropy of the ensemble",
        "Ensemble entropy",
        "entropy of the seeds' mean distribution",
    ),
    EnsembleMetric(
        "ensemble_cross_entropy",
        "cross-entropy of the ensemble",
        "Ensemble x-entropy",
        "surprisal of the target under the seeds' mean distribution",
    ),
    EnsembleMetric(
        "ambiguity",
        "ambiguity",
        "Ambiguity",
        "cross-entropy, mean over seeds, less that of the ensemble",
    ),
)
"""All of them, in the order in which a summary has them."""

ENDS = ("value", "low", "high")
"""What a summary has of each: the value and its 95 % interval."""

STATISTICS = tuple(
    metric.name if end == "value" else f"{metric.name}_{end}"
    for metric in ENSEMBLE_METRICS
    for end in ENDS
)
"""What is on the axis `statistic` of the summary `ensemble`, in order."""

SUMMARY_ARRAYS = (TO_MEAN, "ensemble")
"""Summaries by level that only a study has which keeps `kl_to_mean`."""


def has_ensemble(divergences: Collection[str]) -> bool:
    """Return whether a study with these divergences keeps what an ensemble needs."""
    return TO_MEAN in divergences
