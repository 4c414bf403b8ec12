"""P-values of many comparisons at once."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from store.schema.array_types import Floats

Adjustment = Literal["holm", "bh"]

ADJUSTMENTS: tuple[Adjustment, ...] = get_args(Adjustment)
"""How p-values may be adjusted: for any false claim among them, or for the share of false ones."""


def adjusted(p: Floats, how: Adjustment = "holm") -> Floats:
    """Return p-values of any shape, adjusted for how many there are; NaN stays and does not count.

    `holm` (1979): at a threshold of 5 %, there is a claim that is false in 5 % of such families at
    most, however they depend on each other. `bh` (Benjamini and Hochberg 1995): of the claims,
    5 % are false on average, where tests are independent or depend positively.
    """
    found = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    values = p[known]
    order, n = np.argsort(values, kind="stable"), len(values)
    if how == "holm":
        stepped = np.maximum.accumulate(values[order] * (n - np.arange(n)))
    else:
        shares = values[order] * n / np.arange(1, n + 1)
        stepped = np.minimum.accumulate(shares[::-1])[::-1]
    made = np.empty(n)
    made[order] = np.minimum(stepped, 1.0)
    found[known] = made
    return found
