"""The phases of training in a curve of expected KL: piecewise-linear fits over log(step + 1).

How sure the fit is comes from fitting again with seeds drawn again. All draws are fitted at once.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.schema.array_types import Bools, Floats, Ints
from store.schema.seed_pairs import ordered_pairs
from store.schema.snapshot import UNDECIDED, Phase

# In the order in which training goes through them, with the sign of the slope that marks each and
# the phases it may follow (Fehlauer, Mahowald and Pimentel 2025, section 5). A curve may begin in
# any of them and may skip one, but what fell and goes on falling has not reconverged.
_PHASES = (
    ("uniform", 0, ()),
    ("sharp convergence", -1, (0,)),
    ("sharp divergence", 1, (0, 1)),
    ("slow reconvergence", -1, (2,)),
)
_FEWEST = 6  # points below which nothing is said
_LEAST_POINTS = 3  # of the current phase, the break included: one point may be an accident
_CHANGE = 0.06  # a slope must carry the curve this share of its range to be more than a wiggle
_DRAWS = 200
_SUPPORTED = 0.8  # share of draws that must end in the same phase
_INTERVAL = (0.05, 0.95)  # quantiles of where a phase starts
_MOST = 100  # points; longer curves are thinned evenly in log(step + 1)


def find_phases(steps: Ints, mean_kl: Floats) -> tuple[Phase, ...]:
    """Name the phases that the results support so far, each with the step at which it starts.

    Args:
        steps: (n,) ascending training steps.
        mean_kl: (n, seed, other_seed) mean KL over tokens, nats; NaN where not reduced. Steps
            without any are left out.

    Returns:
        The least-squares split of the expected KL into at most one straight piece per phase, in
        order. The last is `UNDECIDED` while fewer than 80 % of the draws of seeds have it, or has
        but one point beyond its start, or the curve fewer than 6; and where more than 20 % of the
        draws have another phase after the last that is sure. Empty without results. With fewer
        than 3 seeds nothing can be drawn: no intervals, no support. Equal input gives equal phases.
    """
    known = np.isfinite(mean_kl) & ordered_pairs(mean_kl.shape[1])
    some = known.any(axis=(1, 2))
    steps, known, mean_kl = steps[some], known[some], mean_kl[some]
    if not len(steps):
        return ()
    points = _thin(steps)
    if len(points.first) < _FEWEST:
        return (Phase(UNDECIDED, int(steps[0])),)
    curves = _expected(mean_kl, known, _draws(mean_kl.shape[1]))
    start = _fit(points.x, points.mean(curves))
    return _phases(points, start[0], start[1:])


def _phases(points: _Points, start: Ints, drawn: Ints) -> tuple[Phase, ...]:
    """Name the phases of a fit, (phase,) indices of points or -1; its draws are (draw, phase)."""
    found = []
    for p in np.flatnonzero(start >= 0):
        found.append(_phase(points, _PHASES[p][0], start[p], drawn[:, p]))
    latest = len(points.first) - _LEAST_POINTS  # where a phase can start and have enough of them
    if start[p] > latest or (len(drawn) and np.mean(drawn[:, p] >= 0) < _SUPPORTED):
        found[-1] = replace(found[-1], name=UNDECIDED)
    elif len(drawn):  # has it ended already?
        after = drawn[:, p + 1 :]
        next_phase = np.where(after <= latest, after, -1).max(axis=1, initial=-1)
        if np.mean(next_phase >= 0) > 1 - _SUPPORTED:
            middle = np.median(next_phase[next_phase >= 0])
            found.append(_phase(points, UNDECIDED, max(int(middle), start[p] + 1), next_phase))
    return tuple(found)


def _phase(points: _Points, name: str, at: int, drawn: Ints) -> Phase:
    """Return a phase from point `at` on; `drawn` is where it starts in each draw, or -1."""
    first = int(points.first[at])
    if not len(drawn):
        return Phase(name, first)
    if at == 0:
        return Phase(name, first, first, first, round(float(np.mean(drawn >= 0)), 2))
    # Between the points before and after, the curve may turn anywhere.
    early, late = np.quantile(np.append(drawn[drawn >= 0], at), _INTERVAL)
    low = int(points.first[max(math.floor(early) - 1, 0)])
    high = int(points.last[min(math.ceil(late) + 1, len(points.last) - 1)])
    return Phase(name, first, low, high, round(float(np.mean(drawn >= 0)), 2))


# -- the points ----------------------------------------------------------------------------------


class _Points(NamedTuple):
    """Steps near to each other taken together."""

    x: Floats  # (point,) mean of log(step + 1)
    first: Ints  # (point,) the first step of each
    last: Ints  # (point,) and the last
    begin: Ints  # (point,) index of the first

    def mean(self, y: Floats) -> Floats:
        """Return means over each point's steps, (..., point), of (..., step)."""
        n = np.diff(np.append(self.begin, y.shape[-1]))
        return np.asarray(np.add.reduceat(y, self.begin, axis=-1) / n)


def _thin(steps: Ints) -> _Points:
    """Take steps together that fall into one cell of a grid over log(step + 1), if there are many.

    Cells are as wide as leaves no more than 100 points, in powers of two: points hardly move as
    steps are added, and a late part with many steps does not outweigh an early one with few.
    """
    x = np.log(steps + 1.0)
    cell, width = np.arange(len(x)), 2.0**-20
    while cell[-1] >= _MOST:
        width *= 2
        at = np.floor(x / width)
        cell = np.append(0, (at[1:] != at[:-1]).cumsum())
    begin = np.flatnonzero(np.append(True, cell[1:] != cell[:-1]))
    n = np.diff(np.append(begin, len(steps)))
    mean_x = np.add.reduceat(x, begin) / n
    return _Points(mean_x, steps[begin], steps[begin + n - 1], begin)


def _draws(n_seeds: int) -> Floats:
    """Return how often each pair counts, (1 + draw, seed, other_seed): as measured, then as drawn.

    A seed drawn w times has w copies; pairs of a seed with itself do not count, so draws of one
    seed alone are left out. No draws with fewer than 3 seeds.
    """
    once = np.ones((1, n_seeds))
    if n_seeds >= 3:
        seed = np.random.default_rng(0).integers(n_seeds, size=(_DRAWS, n_seeds))
        times = (seed[:, :, None] == np.arange(n_seeds)).sum(axis=1)
        once = np.vstack([once, times[(times > 0).sum(axis=1) > 1]])
    return np.asarray(once[:, :, None] * once[:, None, :])


def _expected(mean_kl: Floats, known: Bools, weight: Floats) -> Floats:
    """Return weighted means over the known pairs, (weight, step), nats.

    A step at which none of the drawn seeds are known has the mean of those that are.
    """
    flat, there = weight.reshape(len(weight), -1), known.reshape(len(known), -1).astype(np.float64)
    total = flat @ np.where(known, mean_kl, 0.0).reshape(len(known), -1).T
    n = flat @ there.T
    return np.asarray(np.where(n > 0, total / np.maximum(n, 1), total[0] / n[0]))


# -- the fit -------------------------------------------------------------------------------------


def _fit(x: Floats, y: Floats) -> Ints:
    """Split each curve into straight pieces by dynamic programming.

    Args:
        x: (n,) ascending.
        y: (curve, n).

    Returns:
        The point at which each phase starts, (curve, phase); -1 where it does not occur. Pieces
        share their end points. Each costs its squared error and a charge that grows with the noise;
        a sloping one must go the way of its phase by more than a wiggle.
    """
    n_curves, n = y.shape
    span = np.ptp(y, axis=1)
    y = (y - y.mean(axis=1, keepdims=True)) / np.where(span > 0, span, 1.0)[:, None]
    noise = _noise(x, y)
    charge = 3.0 * noise**2 * math.log(n) + 1e-4 * n
    least = np.maximum(_CHANGE, 4.0 * noise)[:, None]
    error = _SquaredError(x, y)
    # before[p, :, a]: least cost of points 0..a that p may follow, and in which phase these end.
    before = np.full((len(_PHASES), n_curves, n), np.inf)
    before[:, :, 0] = 0.0
    phase_before = np.zeros((len(_PHASES), n_curves, n), np.int64)
    piece_start = np.zeros((len(_PHASES), n_curves, n), np.int64)
    best = np.empty((len(_PHASES), n_curves))  # of points 0..b with phase p last
    for b in range(1, n):
        flat, line, rise = error.of_pieces_to(b)
        for p, (_, sign, _) in enumerate(_PHASES):
            piece = np.where(sign * rise >= least, line, np.inf) if sign else flat
            cost = before[p, :, :b] + piece
            piece_start[p, :, b] = cost.argmin(axis=1)
            best[p] = cost.min(axis=1) + charge
        for p, (_, _, follows) in enumerate(_PHASES):
            if follows:
                phase_before[p, :, b] = np.take(follows, best[follows, :].argmin(axis=0))
                before[p, :, b] = best[follows, :].min(axis=0)
    start = np.full((n_curves, len(_PHASES)), -1)
    curve, phase, end = np.arange(n_curves), best.argmin(axis=0), np.full(n_curves, n - 1)
    while len(curve):
        start[curve, phase] = begin = piece_start[phase, curve, end]
        more = begin > 0
        phase = phase_before[phase, curve, begin][more]
        curve, end = curve[more], begin[more]
    return start


def _noise(x: Floats, y: Floats) -> Floats:
    """Return the robust standard deviation of a point about its neighbours' line, (curve,)."""
    weight = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    miss = y[:, 1:-1] - (y[:, :-2] + weight * (y[:, 2:] - y[:, :-2]))
    spread = np.sqrt(1.0 + weight**2 + (1.0 - weight) ** 2)
    return np.asarray(1.4826 * np.median(np.abs(miss / spread), axis=1))


class _SquaredError:
    """Errors of least-squares lines through any run of points, from running sums."""

    def __init__(self, x: Floats, y: Floats) -> None:
        self._x = x - x.mean()
        self._of_x = _running(np.vstack([self._x, self._x**2]))
        self._of_y = [_running(part) for part in (y, self._x * y, y * y)]

    def of_pieces_to(self, b: int) -> tuple[Floats, Floats, Floats]:
        """Return errors of a level and of a line, and its rise, (curve, a): points a..b, a < b."""
        n = b + 1.0 - np.arange(b)
        sum_x, sum_xx = self._of_x[:, b + 1 : b + 2] - self._of_x[:, :b]
        sum_y, sum_xy, sum_yy = (of[:, b + 1 : b + 2] - of[:, :b] for of in self._of_y)
        flat = np.maximum(sum_yy - sum_y**2 / n, 0.0)
        joint = sum_xy - sum_x * sum_y / n
        slope = joint / (sum_xx - sum_x**2 / n)
        return flat, np.maximum(flat - slope * joint, 0.0), slope * (self._x[b] - self._x[:b])


def _running(values: Floats) -> NDArray[Any]:
    return np.pad(values.cumsum(axis=1), ((0, 0), (1, 0)))
