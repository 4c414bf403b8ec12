"""Bands of figures: 95 % intervals of each step, 95 % bands over all steps, or those of the paper.

docs/report.md describes them. The paper's are the plain standard deviation, or standard error, over
the rows that a point is the mean of, as if these were independent; divisor n - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from seedconv_tui.tables.band_names import INTERVAL, SIMULTANEOUS
from store import SummaryReader
from store.statistics import (
    FEWEST_SEEDS,
    Estimate,
    mean_interval,
    ordered_pairs,
    simultaneous_mean_band,
)

if TYPE_CHECKING:
    from store import Study
    from store.schema import Floats

OVER_TOKENS = (
    "The paper's bands: standard deviation over tokens of the KL, mean over pairs of seeds."
)
OVER_PAIRS = "The paper's bands: standard deviation over ordered pairs of seeds."
OVER_SEEDS = "The paper's bands: standard deviation over seeds."
OVER_SEEDS_OF_PAIRS = (
    "The paper's bands: standard deviation over seeds, each counted once for each other seed."
)
OVER_TASKS = "The paper's bands: standard error over tasks and pairs of seeds, each pair once."
OVER_DOCUMENTS = "The paper's bands: standard error over documents and seeds together."


def around(value: Floats, half: Floats) -> Estimate:
    """Return the band of so much on either side."""
    return Estimate(value, value - half, value + half)


def over_seeds(values: Floats, band: str = INTERVAL) -> Estimate:
    """Return the mean over seeds with its band, (step, ...), of (seed, step, ...).

    An interval, and a simultaneous band, are NaN below three seeds.
    """
    if band == SIMULTANEOUS:
        return simultaneous_mean_band(values)
    found = mean_interval(values, fewest=FEWEST_SEEDS)
    return found if band == INTERVAL else around(found.value, deviation(values))


def over_seeds_of_pairs(values: Floats) -> Estimate:
    """Return what `over_seeds` does where each seed has a row for each other seed."""
    rows = np.repeat(values, max(len(values) - 1, 1), axis=0)
    return around(mean_interval(values, fewest=FEWEST_SEEDS).value, deviation(rows))


@np.errstate(invalid="ignore", divide="ignore")
def deviation(values: Floats) -> Floats:
    """Return the standard deviation over the first axis of what is finite; NaN below two."""
    known = np.isfinite(values)
    n = known.sum(axis=0)
    mean = np.where(known, values, 0.0).sum(axis=0) / n
    squares = np.where(known, values - mean, 0.0) ** 2
    return np.where(n > 1, np.sqrt(squares.sum(axis=0) / (n - 1)), np.nan)


def standard_error(values: Floats) -> Floats:
    """Return the standard error of the mean over the first axis, of what is finite."""
    n = np.isfinite(values).sum(axis=0)
    return np.asarray(deviation(values) / np.sqrt(np.maximum(n, 1)))


def over_tokens(study: Study, model: str, steps: Sequence[int]) -> Floats:
    """Return the standard deviation over tokens of the KL, (step,). Raise DamagedError."""
    each = (study.token_kl(model, step).astype(np.float64) for step in steps)
    return np.array([float(deviation(kl)) for kl in each])


def over_pairs(study: Study, model: str, category: str, steps: Sequence[int]) -> Floats:
    """Return the deviation over pairs of a level's mean KL, (step, level). Raise DamagedError."""
    reader, levels = SummaryReader(study, model), study.levels(category)
    found = []
    for step in steps:
        kl = reader.pairs(step)
        found.append(deviation(kl[ordered_pairs(len(kl))][:, levels]))
    return np.array(found, np.float64)
