"""Read for the Seeds screen what pairs have beyond their KL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from store.schema import KL, metrics_of

if TYPE_CHECKING:
    from store import Study


@dataclass(frozen=True)
class PairMeans:
    """Values of every pair at a step besides its KL: name -> (seed, other_seed)."""

    model: str
    step: int
    n_pairs: int  # reduced so far: with more of them, the answer is another

    KEEP: ClassVar[int] = 256

    def read(self, study: Study) -> dict[str, NDArray[np.float64]]:
        """Read what the study has, by name, units as in the store."""
        return {
            metric.name: study.pair_means(self.model, metric.array, self.step)
            for metric in metrics_of(study.divergences)
            if metric != KL
        }
