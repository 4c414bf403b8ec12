"""What the Seeds screen asks the store of the pairs beyond their KL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from store import Study

PAIR_MEANS = ("mean_js", "top1_agreement", "target_rms")


@dataclass(frozen=True)
class PairMeans:
    """What is known of every pair at a step beside its KL: name -> (seed, other_seed)."""

    model: str
    step: int
    n_pairs: int  # reduced so far: with more of them, the answer is another

    KEEP: ClassVar[int] = 256

    def read(self, study: Study) -> dict[str, NDArray[np.float64]]:
        """Reads the arrays of `PAIR_MEANS`, units as in the store."""
        return {name: study.pair_means(self.model, name, self.step) for name in PAIR_MEANS}
