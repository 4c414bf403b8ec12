"""The phases of training in a curve of expected KL: piecewise-linear fits over log(step + 1)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from store.snapshot import Phase

# In the order in which training goes through them, with the sign of the slope that marks each
# (Fehlauer, Mahowald and Pimentel 2025, section 5). A curve may begin late or skip a phase.
_PHASES = (
    ("uniform", 0),
    ("sharp convergence", -1),
    ("sharp divergence", 1),
    ("slow reconvergence", -1),
)
_FEWEST = 6  # points below which nothing is said
_CHANGE = 0.08  # a slope must carry the curve this share of its range to be more than a wiggle


def find_phases(steps: NDArray[np.int64], expected_kl: NDArray[np.float64]) -> tuple[Phase, ...]:
    """Name the phases that the curve supports so far, each with the step at which it starts.

    Args:
        steps: (n,) ascending training steps.
        expected_kl: (n,) nats; steps at which it is NaN are left out.

    Returns:
        The least-squares split into at most one straight piece per phase, in order, with a charge
        per piece that grows with the noise; empty while there are fewer than 6 points.
    """
    known = np.isfinite(expected_kl)
    steps, y = steps[known], expected_kl[known]
    n = len(steps)
    span = float(np.ptp(y)) if n else 0.0
    if n < _FEWEST or span == 0.0:
        return ()
    x = np.log(steps + 1.0)
    y = y / span
    noise = _noise(x, y)
    charge = 3.0 * noise**2 * math.log(n) + 1e-4 * n
    least = max(_CHANGE, 4.0 * noise)
    cost, slope, change = _lines(x, y)
    # best[p][b]: least cost of explaining points 0..b with phase p last; pieces share end points.
    best = np.full((len(_PHASES), n), np.inf)
    came: dict[tuple[int, int], tuple[int, int]] = {}
    for b in range(1, n):
        for p, (_, sign) in enumerate(_PHASES):
            for a in range(b):
                if sign and (np.sign(slope[a, b]) != sign or abs(change[a, b]) < least):
                    continue
                piece = (
                    cost[a, b] if sign else float(((y[a : b + 1] - y[a : b + 1].mean()) ** 2).sum())
                )
                before, source = (0.0, (-1, -1)) if a == 0 else (np.inf, (-1, -1))
                if a > 0 and p > 0:
                    q = int(best[:p, a].argmin())
                    before, source = float(best[q, a]), (q, a)
                if before + piece + charge < best[p, b]:
                    best[p, b], came[p, b] = before + piece + charge, source
    p, b = int(best[:, n - 1].argmin()), n - 1
    found: list[Phase] = []
    while b > 0:
        p_before, a = came[p, b]
        found.append(Phase(_PHASES[p][0], int(steps[max(a, 0)])))
        p, b = p_before, a
    return tuple(reversed(found))


def _noise(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Standard deviation of a point about the line through its neighbours, robustly."""
    weight = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    miss = y[1:-1] - (y[:-2] + weight * (y[2:] - y[:-2]))
    spread = np.sqrt(1.0 + weight**2 + (1.0 - weight) ** 2)
    return float(1.4826 * np.median(np.abs(miss / spread)))


def _lines(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Squared error, slope and rise of the least-squares line through points a..b, each (a, b)."""
    sums = np.vstack([np.ones_like(x), x, y, x * x, x * y, y * y]).cumsum(axis=1)
    sums = np.hstack([np.zeros((6, 1)), sums])
    n, sx, sy, sxx, sxy, syy = sums[:, None, 1:] - sums[:, :-1, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = sxx - sx * sx / n
        joint = sxy - sx * sy / n
        slope = np.where(spread > 0, joint / spread, 0.0)
        cost = np.maximum(syy - sy * sy / n - slope * joint, 0.0)
    return cost, slope, slope * (x[None, :] - x[:, None])
