"""Read a model's band over all steps for the Curves screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from store import from_extra
from store.schema import Floats

if TYPE_CHECKING:
    from store import Study


@dataclass(frozen=True, eq=False)
class StepBand:
    """The 95 % band of expected KL that covers at all steps at once, (step,) each, nats."""

    steps: NDArray[np.int64]  # summarised ones, ascending
    low: Floats
    high: Floats


@dataclass(frozen=True)
class BandOverSteps:
    """The band of a model; after another commit, the answer is another."""

    model: str
    generation: int

    KEEP: ClassVar[int] = 64

    def read(self, study: Study) -> StepBand:
        """Read results per token of all steps, and compute it."""
        from store.analysis import simultaneous_band
        from store.schema import ALL

        study.refresh()  # to what the generation has
        if ALL not in study.categories(self.model):
            return StepBand(np.empty(0, np.int64), np.empty(0), np.empty(0))
        with from_extra("a band", "analysis"):
            steps, band = simultaneous_band(study, self.model, ALL)
        return StepBand(steps, band.low[:, 0], band.high[:, 0])
