"""What can be drawn against the step: each metric makes arrays out of a model's snapshot."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from store.snapshot import ModelSnapshot

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """One model's metric; every array is (step,). NaN: not known at this step."""

    steps: NDArray[np.int64]
    value: Floats
    low: Floats
    high: Floats
    n_seeds: NDArray[np.int64]
    n_pairs: NDArray[np.int64] | None  # None: not made from pairs
    floor: Floats | None  # values below are rounding


@dataclass(frozen=True, eq=False)
class Metric:
    """A quantity over training, in nats."""

    title: str
    band: str  # what the band is
    needs: str  # what must be there before anything can be drawn
    curve: Callable[[ModelSnapshot], Curve]


def _expected_kl(model: ModelSnapshot) -> Curve:
    mean, std = model.expected_kl, model.pair_std
    floor = model.floor
    return Curve(model.steps, mean, mean - std, mean + std, model.n_seeds, model.n_pairs, floor)


def _over_seeds(steps: NDArray[np.int64], values: Floats) -> Curve:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # steps that no seed has reached
        mean = np.nanmean(values, axis=1)
        low, high = np.nanmin(values, axis=1), np.nanmax(values, axis=1)
    return Curve(steps, mean, low, high, np.isfinite(values).sum(axis=1), None, None)


METRICS: tuple[Metric, ...] = (
    Metric("expected KL", "std over pairs", "two seeds scored at one step", _expected_kl),
    Metric(
        "cross-entropy",
        "min to max over seeds",
        "one scored checkpoint",
        lambda model: _over_seeds(model.steps, model.cross_entropy),
    ),
    Metric(
        "entropy",
        "min to max over seeds",
        "one scored checkpoint",
        lambda model: _over_seeds(model.steps, model.entropy),
    ),
)
"""The metrics, in the order in which the key goes through them."""
