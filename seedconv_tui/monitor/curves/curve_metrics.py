"""Metrics to draw against the step: each makes arrays from a model's snapshot."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from store.schema import ENDS, ENSEMBLE_METRICS, PAIR_METRICS, REFERENCE_METRICS, Floats
from store.statistics import at_steps, mean_over_seeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedconv_tui.monitor.curves.minimal_pairs import PairsCurve
    from seedconv_tui.monitor.curves.step_bands import StepBand
    from seedconv_tui.monitor.curves.whole_summary import Whole
    from store.schema import ModelSnapshot


@dataclass(frozen=True, eq=False)
class Curve:
    """One model's metric; every array is (step,). NaN: not known at this step."""

    steps: NDArray[np.int64]
    value: Floats
    bands: dict[str, tuple[Floats, Floats]]  # low and high of each of the metric's bands
    n_seeds: NDArray[np.int64]
    n_pairs: NDArray[np.int64] | None = None  # None: not made from pairs
    n_left_out: NDArray[np.int64] | None = None  # pairs whose KL is not finite
    floors: tuple[tuple[str, Floats], ...] = ()  # what rounding alone makes, and where
    units: str = "nats"  # empty: none

    @property
    def floor(self) -> Floats | None:
        """Values below are rounding; None: that is not known of this metric."""
        highest: Floats | None = None
        for _, floor in self.floors:
            highest = floor if highest is None else np.fmax(highest, floor)
        return highest


@dataclass(frozen=True)
class Beside:
    """Data that a metric may need in addition to the model's snapshot."""

    vocab_size: int
    whole: Whole | None  # None: not read
    pairs: PairsCurve | None = None  # minimal pairs; None: not read, or there are none
    band: StepBand | None = None  # over all steps; None: not read


@dataclass(frozen=True, eq=False)
class Metric:
    """A quantity over training."""

    title: str
    bands: tuple[str, ...]  # what its bands are, the one that is shown at first in front
    needs: str  # what must be there before anything can be drawn
    curve: Callable[[ModelSnapshot, Beside], Curve]
    summarised: bool = False  # whether it is in summaries alone: `Beside.whole` is needed


def _expected_kl(model: ModelSnapshot, beside: Beside) -> Curve:
    mean, std = model.expected_kl, model.pair_std
    ends = np.full((len(mean), 2), np.nan) if model.kl_interval is None else model.kl_interval
    bands = {
        INTERVAL: (ends[:, 0], ends[:, 1]),
        SPREAD: (mean - std, mean + std),
        ALL_STEPS: _over_all_steps(model.steps, beside.band),
    }
    floors = ("storage floor", model.storage_floor), ("noise floor", model.noise_floor)
    of_pairs = model.n_pairs, model.n_left_out
    return Curve(model.steps, mean, bands, model.n_seeds, *of_pairs, floors)


def _over_all_steps(steps: NDArray[np.int64], band: StepBand | None) -> tuple[Floats, Floats]:
    if band is None:
        low, high = np.full((2, len(steps)), np.nan)
        return low, high
    return at_steps(steps, band.steps, band.low), at_steps(steps, band.steps, band.high)


def _over_seeds(steps: NDArray[np.int64], values: Floats) -> Curve:
    values = np.where(np.isfinite(values), values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # steps that no seed has reached
        band = np.nanmin(values, axis=1), np.nanmax(values, axis=1)
    return Curve(steps, mean_over_seeds(values), {RANGE: band}, np.isfinite(values).sum(axis=1))


def _kl_unigram(model: ModelSnapshot, beside: Beside) -> Curve:
    whole, values = beside.whole, np.full((len(model.steps), 1), np.nan)
    if whole is not None and whole.kl_unigram.size:
        values = at_steps(model.steps, whole.steps, whole.kl_unigram)
    return _over_seeds(model.steps, values)


def _of_pairs(measure: str) -> Callable[[ModelSnapshot, Beside], Curve]:
    def curve(_model: ModelSnapshot, beside: Beside) -> Curve:
        pairs = beside.pairs
        steps, n_seeds = (pairs.steps, pairs.n_seeds) if pairs is not None else ((), ())
        value, low, high = pairs.of(measure) if pairs is not None else np.empty((3, 0))
        n = np.array(n_seeds, np.int64)
        bands = {INTERVAL: (low, high)}
        return Curve(np.array(steps, np.int64), value, bands, n, n * (n - 1))

    return curve


def _of_states(array: str, model: ModelSnapshot, _beside: Beside) -> Curve:
    n_steps, n_seeds, _ = model.kl.shape
    values = model.of_states.get(array, np.full((n_steps, n_seeds, n_seeds), np.nan))
    pairs = values[:, *np.triu_indices(n_seeds, 1)]
    curve = _over_seeds(model.steps, pairs if pairs.size else np.full((n_steps, 1), np.nan))
    bands, n_pairs = {PAIRS: curve.bands[RANGE]}, 2 * curve.n_seeds
    return replace(curve, bands=bands, n_seeds=model.n_seeds, n_pairs=n_pairs, units="")


def _together(place: int, model: ModelSnapshot, beside: Beside) -> Curve:
    whole, values = beside.whole, np.full((len(model.steps), 3), np.nan)
    if whole is not None and whole.ensemble.size:
        first = len(ENDS) * place
        values = at_steps(model.steps, whole.steps, whole.ensemble[:, first : first + len(ENDS)])
    value, low, high = values.T
    return Curve(model.steps, value, {INTERVAL: (low, high)}, model.n_seeds)


def _to_reference(name: str, model: ModelSnapshot, beside: Beside) -> Curve:
    whole, values = beside.whole, np.full((len(model.steps), 3), np.nan)
    if whole is not None and name in whole.to_reference:
        values = at_steps(model.steps, whole.steps, whole.to_reference[name])
    value, low, high = values.T
    return Curve(model.steps, value, {INTERVAL: (low, high)}, model.n_seeds)


INTERVAL, SPREAD, RANGE = "95 % interval", "std over pairs", "min to max over seeds"
ALL_STEPS = "95 % over all steps at once"
PAIRS = "min to max over pairs"

OF_PAIRS: tuple[Metric, ...] = tuple(
    Metric(
        f"minimal pairs, {short}",
        (INTERVAL,),
        "two seeds asked minimal pairs at one step",
        _of_pairs(measure),
    )
    for measure, short in (("kl_of_means", "KL of the means"), ("mean_of_kl", "mean of the KL"))
)
"""Only of studies that have probes; the measures are those of `store.analysis.KL_MEASURES`."""

TOGETHER: tuple[Metric, ...] = tuple(
    Metric(
        metric.title,
        (INTERVAL,),
        "two seeds compared at a step",
        partial(_together, place),
        summarised=True,
    )
    for place, metric in enumerate(ENSEMBLE_METRICS)
)
"""Only of studies that keep `kl_to_mean`."""

STATES: dict[str, Metric] = {
    metric.array: Metric(
        metric.title, (PAIRS,), "two seeds compared at a step", partial(_of_states, metric.array)
    )
    for metric in PAIR_METRICS
    if metric.states
}
"""By array of what is made of hidden states; only of studies that have it."""

TO_REFERENCE: dict[str, Metric] = {
    metric.name: Metric(
        metric.title,
        (INTERVAL,),
        "two seeds compared at a step" + (", and the step reference.end" if metric.at_end else ""),
        partial(_to_reference, metric.name),
        summarised=True,
    )
    for metric in REFERENCE_METRICS
}
"""By name of the reference; only of studies that have it."""

OF_SOME_STUDIES = (*OF_PAIRS, *TOGETHER, *STATES.values(), *TO_REFERENCE.values())
"""Those that the key leaves out where no study that is shown has them."""

METRICS: tuple[Metric, ...] = (
    Metric(
        "expected KL", (INTERVAL, SPREAD, ALL_STEPS), "two seeds scored at one step", _expected_kl
    ),
    Metric(
        "cross-entropy",
        (RANGE,),
        "one scored checkpoint",
        lambda model, _: _over_seeds(model.steps, model.cross_entropy),
    ),
    Metric(
        "entropy",
        (RANGE,),
        "one scored checkpoint",
        lambda model, _: _over_seeds(model.steps, model.entropy),
    ),
    Metric(
        "KL to uniform",
        (RANGE,),
        "one scored checkpoint",
        lambda model, beside: _over_seeds(model.steps, np.log(beside.vocab_size) - model.entropy),
    ),
    Metric("KL to unigram", (RANGE,), "a step that is summarised", _kl_unigram, summarised=True),
    *OF_SOME_STUDIES,
)
"""The metrics, in the order in which the key goes through them."""
