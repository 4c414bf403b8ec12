"""Linear CKA as it is defined on Gram matrices (token, token), in float64, and what it is of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def kept(store: Path, seed: str, step: int) -> Floats:
    """The hidden states of a checkpoint of `m` as a store keeps them, (token, unit)."""
    array = zarr.open_array(str(store / f"models/m/log_probs/{seed}/{step}/hidden"), mode="r")
    return np.asarray(array[:]).astype(np.float64)


def plain_cka(x: Floats, y: Floats) -> tuple[float, float]:
    """CKA and its debiased estimate, with Gram matrices (token, token)."""
    n, ones = len(x), np.ones(len(x))
    centre = np.eye(n) - 1 / n

    def biased(k: Floats, other: Floats) -> float:
        return float(np.trace(centre @ k @ centre @ other))

    def unbiased(k: Floats, other: Floats) -> float:
        k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
        sums = (ones @ k @ ones) * (ones @ other @ ones) / ((n - 1) * (n - 2))
        return float(np.trace(k @ other) + sums - 2 / (n - 2) * (ones @ k @ other @ ones))

    k, other = x @ x.T, y @ y.T
    first, second = (
        hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other)) for hsic in (biased, unbiased)
    )
    return first, second
