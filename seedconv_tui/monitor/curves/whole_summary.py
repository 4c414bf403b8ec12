"""Read a model's summaries as a whole for the Curves screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from store.schema import Floats

if TYPE_CHECKING:
    from store import Study


@dataclass(frozen=True, eq=False)
class Whole:
    """Values of a model as a whole that only summaries hold, at the summarised steps."""

    steps: NDArray[np.int64]  # (step,) ascending
    kl_unigram: Floats  # (step, seed) from prediction to unigram, nats
    ensemble: Floats  # (step, statistic) of all seeds together, nats; empty: the study has none
    to_reference: Mapping[str, Floats]  # (step, end) by name of a reference that the study has


@dataclass(frozen=True)
class WholeSummary:
    """The summary over all tokens of a model; after another commit, the answer is another."""

    model: str
    generation: int

    KEEP: ClassVar[int] = 64

    def read(self, study: Study) -> Whole:
        """Read the arrays of the summary that the study has."""
        from store import SummaryReader
        from store.schema import ALL, has_ensemble, references_of

        study.refresh()  # to what the generation has
        if ALL not in study.categories(self.model):
            return Whole(np.empty(0, np.int64), np.empty((0, 0)), np.empty((0, 0)), {})
        reader = SummaryReader(study, self.model)
        done, ensemble = reader.valid(ALL), np.empty((0, 0))
        if has_ensemble(study.divergences):
            ensemble = reader.read("ensemble", ALL)[done][..., 0]
        of_seeds = reader.read("kl_unigram", ALL)[done][..., 0]
        to_reference = {
            metric.name: reader.read(metric.mean, ALL)[done][..., 0]
            for metric in references_of(study.divergences)
        }
        return Whole(reader.steps[done], of_seeds, ensemble, to_reference)
