"""Whether one half of the documents says the same as the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from store.schema.array_types import Floats

FEWEST_DOCUMENTS = 4
FEWEST_COMPARED = 4  # steps, or pairs: a correlation of fewer is meaningless
_SPLITS = 200


@np.errstate(invalid="ignore", divide="ignore")  # of what has no spread, or is not finite: NaN
def split_half(total: Floats, n: NDArray[np.int64]) -> float:
    """Return how well halves of the documents agree, as of all of them; NaN: not known.

    Args:
        total: (compared, document) sums over tokens, such as the KL at each step, or of each pair;
            what is not finite is not compared.
        n: (document,) tokens, 1 at least.

    Returns:
        The correlation of the means of two halves over what is compared, mean over random splits of
        the documents, stepped up to twice the length (Spearman 1910; Brown 1910): 1 where all that
        is compared differs by more than the text's chance, 0 where it differs by chance alone.
    """
    total = total[np.isfinite(total).all(axis=1)]
    if len(n) < FEWEST_DOCUMENTS or len(total) < FEWEST_COMPARED:
        return float("nan")
    rng = np.random.default_rng(0)
    inside = np.zeros((len(n), _SPLITS))
    for split in range(_SPLITS):
        inside[rng.permutation(len(n))[: len(n) // 2], split] = 1.0
    first, second = (total @ of / (n @ of) for of in (inside, 1.0 - inside))
    first, second = (of - of.mean(axis=0) for of in (first, second))
    both = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    r = float(((first * second).sum(axis=0) / both).mean())
    return 2 * r / (1 + r) if r > 0 else r
