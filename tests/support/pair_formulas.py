"""Divergences of two distributions as they are defined, in float64, without the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Logs = NDArray[np.float64]


def kl(p: Logs, q: Logs) -> Logs:
    """KL from p to q, nats."""
    return np.asarray((np.exp(p) * (p - q)).sum(-1))


def js(p: Logs, q: Logs) -> Logs:
    """Jensen-Shannon divergence, nats."""
    middle = np.logaddexp(p, q) - np.log(2)
    return np.asarray((kl(p, middle) + kl(q, middle)) / 2)


def hellinger(p: Logs, q: Logs) -> Logs:
    """The root of one minus the Bhattacharyya coefficient."""
    return np.asarray(np.sqrt(np.maximum(1 - np.exp((p + q) / 2).sum(-1), 0)))


def tv(p: Logs, q: Logs) -> Logs:
    """The largest difference that there is of the probability of any set of tokens."""
    return np.asarray(np.maximum(np.exp(p) - np.exp(q), 0).sum(-1))


FORMULAS: Mapping[str, Callable[[Logs, Logs], Logs]] = {
    "kl": kl,
    "js": js,
    "hellinger": hellinger,
    "tv": tv,
}
"""By name, of log-probs (..., vocab) of both."""
