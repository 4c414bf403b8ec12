"""Means and intervals as plain loops, to compare those of the store with."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student_t

from store.schema import Floats


def plain_mean(kl: Floats, seeds: list[int]) -> float:
    return float(np.mean([kl[i, j] for i in seeds for j in seeds if i != j]))


def plain_jackknife(kl: Floats) -> float:
    n = len(kl)
    left = [plain_mean(kl, [s for s in range(n) if s != out]) for out in range(n)]
    return (n - 1) / n * sum((value - np.mean(left)) ** 2 for value in left)


def plain_cluster(total: Floats, n: Floats) -> tuple[float, float]:
    """Variance and effective degrees of freedom of one level."""
    there = [c for c in range(len(n)) if n[c] > 0]
    tokens = sum(n[c] for c in there)
    mean = sum(total[c] for c in there) / tokens
    variance = 0.0
    for c in there:
        variance += ((total[c] - mean * n[c]) / tokens) ** 2 / (1 - n[c] / tokens)
    return variance, max(tokens**2 / sum(n[c] ** 2 for c in there) - 1, 1)


def plain_half(parts: list[tuple[float, float]], confidence: float) -> float:
    variance = sum(v for v, _ in parts)
    df = variance**2 / sum(v**2 / f for v, f in parts if f)
    return float(student_t.ppf((1 + confidence) / 2, df) * variance**0.5)
