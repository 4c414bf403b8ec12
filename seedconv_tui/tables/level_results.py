"""A model's results by the levels of a category, as reports, exports and screens take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from store.schema import Floats
from store.statistics import mean_over_seeds

if TYPE_CHECKING:
    from store import Study, Summary


@dataclass(frozen=True, eq=False)
class Levels:
    """A model's results by the levels of a category, at the summarised steps.

    All in nats, (step, level), NaN where a level has no tokens.
    """

    categories: tuple[str, ...]  # that the model has; none: nothing is summarised yet
    category: str
    description: str
    step_of_levels: int | None  # the levels are made of this step's results; None: of the corpus
    labels: tuple[str, ...]  # (level,), untrusted
    counts: NDArray[np.int64]  # (level,) tokens
    steps: NDArray[np.int64]  # (step,) ascending
    n_seeds: NDArray[np.int64]  # (step,) whose pairs were taken
    kl: Floats
    kl_low: Floats  # 95 % interval; NaN below three seeds
    kl_high: Floats
    cross_entropy: Floats  # this and the following: mean over seeds
    kl_uniform: Floats
    kl_unigram: Floats
    ensemble: Floats  # (step, statistic, level) see `Summary.of_ensemble`; NaN: the study has none
    # (step, end, level) by name of a reference that the study has: mean over seeds, its interval
    to_reference: Mapping[str, Floats]

    @property
    def has_ensemble(self) -> bool:
        """Return whether anything is known of the seeds' mean distribution."""
        return bool(np.isfinite(self.ensemble).any())


def read_levels(study: Study, model: str, category: str) -> Levels:
    """Read a model's levels of a category that it has. Raise StoreError, DamagedError."""
    return levels_of(study.summary(model, category), study.categories(model))


def levels_of(found: Summary, categories: tuple[str, ...]) -> Levels:
    """Return a summary as `Levels`; `categories` are those that its model has."""
    done = found.n_seeds > 0
    return Levels(
        categories=categories,
        category=found.category,
        description=found.description,
        step_of_levels=found.step_of_levels,
        labels=found.labels,
        counts=found.counts,
        steps=found.steps[done],
        n_seeds=found.n_seeds[done],
        kl=found.expected_kl[done],
        kl_low=found.kl_low[done],
        kl_high=found.kl_high[done],
        cross_entropy=mean_over_seeds(found.cross_entropy[done]),
        kl_uniform=mean_over_seeds(found.kl_uniform[done]),
        kl_unigram=mean_over_seeds(found.kl_unigram[done]),
        ensemble=found.ensemble[done],
        to_reference={name: of[done] for name, of in found.mean_to_reference.items()},
    )


def base(category: str) -> str:
    """Return the category of the target that belongs to one of the context."""
    from store.schema import CONTEXT

    return category.removesuffix(CONTEXT)
