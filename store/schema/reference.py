"""Fixed distributions that seeds are compared with: a named model, and the end of training.

The arrays of a store, the metrics on the screens, the columns of `seedconv export` and the lines of
a report are taken from the table here. docs/method.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class ReferenceMetric:
    """The KL from each seed of a step to one fixed distribution, nats."""

    name: str  # of its values per token, and of their means by seed and level
    title: str  # on a screen
    in_report: str  # in a report's statistics
    description: str
    at_end: bool  # whether it is of log-probs that the study keeps of the step `reference.end`

    @property
    def mean(self) -> str:
        """Name of the mean over seeds: its columns in tables, with `_low` and `_high`."""
        return f"mean_{self.name}"


TO_MODEL = ReferenceMetric(
    "kl_to_reference",
    "KL to the reference model",
    "KL to reference",
    "KL divergence from seed to the model that `reference.model` names",
    at_end=False,
)
TO_END = ReferenceMetric(
    "kl_to_end",
    "KL to the seed's own end",
    "KL to own end",
    "KL divergence from seed to itself at the step `reference.end`",
    at_end=True,
)
TO_END_MEAN = ReferenceMetric(
    "kl_to_end_mean",
    "KL to the ensemble at the end",
    "KL to end's mean",
    "KL divergence from seed to the mean distribution, at the step `reference.end`, of the seeds "
    "that were compared",
    at_end=True,
)

REFERENCE_METRICS = (TO_MODEL, TO_END, TO_END_MEAN)
"""All of them, in the order in which they are stored, shown and exported."""

REFERENCES = tuple(metric.name for metric in REFERENCE_METRICS)
"""Their names, among the divergences of a study that has them."""


def references_of(divergences: Collection[str]) -> tuple[ReferenceMetric, ...]:
    """Return those that a study with these divergences has."""
    return tuple(metric for metric in REFERENCE_METRICS if metric.name in divergences)
