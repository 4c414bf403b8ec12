"""What a study says of one claim: a figure, its interval and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from store.statistics.intervals import Estimate

Verdict = Literal["holds", "does not hold", "not sure"]


@dataclass(frozen=True)
class Finding:
    """One claim and what a study says of it."""

    claim: str
    where: str  # model and step
    figure: str
    interval: str
    verdict: Verdict


def verdict(low: float, high: float) -> Verdict:
    """Return what an interval of a difference that is claimed to be above zero says."""
    if low > 0:
        return "holds"
    return "does not hold" if high < 0 else "not sure"


def finding(claim: str, where: str, estimate: Estimate) -> Finding:
    """Return what an estimate of one difference, (1,) each, says of a claim that it is above 0."""
    value, low, high = (float(part[0]) for part in estimate)
    return Finding(
        claim, where, f"{value:+.4f} nats", f"{low:+.4f} to {high:+.4f}", verdict(low, high)
    )
