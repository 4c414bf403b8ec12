"""Every ordered pair as a row of a table: the data behind Seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from store.schema import Floats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedconv_tui.monitor.common.study_screen import Columns
    from store.schema import ModelSnapshot


def pair_columns(
    model: ModelSnapshot,
    at: int,
    means: Mapping[str, Floats],
    distance: Floats,
    outlier: NDArray[np.bool_],
) -> Columns:
    """Return the ordered pairs at a step; `means` are (seed, other_seed), the last two (seed,)."""
    first, second = np.nonzero(np.isfinite(model.kl[at]))
    return {
        "model": [model.name] * len(first),
        "step": np.full(len(first), model.steps[at]),
        "seed": [model.seeds[n] for n in first],
        "other_seed": [model.seeds[n] for n in second],
        "kl": model.kl[at, first, second],
        **{name: values[first, second] for name, values in means.items()},
        "seed_distance": distance[first],
        "seed_is_outlier": outlier[first],
    }
