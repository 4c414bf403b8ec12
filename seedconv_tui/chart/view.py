"""The chart's input: series of numbers, and the part of them to show."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from seedconv_tui.chart.ticks import nice_step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from store.schema import Floats

_TINY = 1e-300  # smaller values cannot be told from 0 on any axis


@dataclass(frozen=True, eq=False)
class Series:
    """One line, with or without a band around it.

    `x` (n,) are training steps, ascending, not negative; `y` (n,) is in nats, NaN where the line
    has a gap. `low` and `high` (n,) bound the band, NaN where there is none. `color` is an index
    into the caller's palette. Raise ValueError where shapes or steps are not so.
    """

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    color: int = 0

    def __post_init__(self) -> None:
        given = [a for a in (self.x, self.y, self.low, self.high) if a is not None]
        if self.x.ndim != 1 or any(a.shape != self.x.shape for a in given):
            raise ValueError(f"series {self.name!r}: arrays differ in shape")
        ascending = np.diff(self.x, prepend=0.0) >= 0
        if not (ascending.all() and np.isfinite(self.x).all()):
            raise ValueError(f"series {self.name!r}: steps must be finite, >= 0 and ascending")


@dataclass(frozen=True)
class View:
    """The part of the data that is shown: steps and nats.

    The x axis is log(step + 1), or the step without `log_x`. `limits` (steps) bound `zoom` and
    `pan`; without them the view itself does. Raise ValueError for an empty or infinite range, and
    for a log axis that reaches 0.
    """

    x_min: float
    x_max: float
    y_min: float
    y_max: float
    log_y: bool = False
    limits: tuple[float, float] | None = None
    log_x: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.x_min < self.x_max < math.inf:
            raise ValueError(f"no steps between {self.x_min} and {self.x_max}")
        if not -math.inf < self.y_min < self.y_max < math.inf:
            raise ValueError(f"no values between {self.y_min} and {self.y_max}")
        if self.log_y and self.y_min <= 0:
            raise ValueError("a log axis starts above 0")

    def part_of(self, steps: Floats) -> Floats:
        """Return where steps are on the x axis: 0 is its left end, 1 its right."""
        low, high = self._on_axis(self.x_min), self._on_axis(self.x_max)
        return ((np.log10(steps + 1) if self.log_x else steps) - low) / (high - low)

    def step_at(self, part: float) -> float:
        """Return the step at a part of the x axis."""
        low, high = self._on_axis(self.x_min), self._on_axis(self.x_max)
        return self._step(low + part * (high - low))

    def zoom(self, factor: float, at_x: float) -> View:
        """Show `1 / factor` of the steps, keeping step `at_x` in place; never under 4 steps."""
        low, high = self._on_axis(self.x_min), self._on_axis(self.x_max)
        at = min(max(self._on_axis(at_x), low), high)
        least = math.log10(1 + 4 / 10**at) if self.log_x else 4.0
        span = max((high - low) / factor, least)
        return self._show(at - (at - low) / (high - low) * span, span)

    def pan(self, fraction: float) -> View:
        """Move by `fraction` of the view's width: to later steps where that is positive."""
        low, high = self._on_axis(self.x_min), self._on_axis(self.x_max)
        return self._show(low + fraction * (high - low), high - low)

    def reveal(self, step: float) -> View:
        """Move just so far that `step` is in view."""
        low, high = self._on_axis(self.x_min), self._on_axis(self.x_max)
        at = self._on_axis(step)
        return self._show(min(max(low, at - (high - low)), at), high - low)

    def _show(self, start: float, span: float) -> View:
        limits = self.limits or (self.x_min, self.x_max)
        low, high = self._on_axis(limits[0]), self._on_axis(limits[1])
        if span >= (high - low) * (1 - 1e-9):
            return replace(self, x_min=limits[0], x_max=limits[1], limits=limits)
        start = min(max(start, low), high - span)
        x_min, x_max = self._step(start), self._step(start + span)
        return replace(self, x_min=max(x_min, 0.0), x_max=x_max, limits=limits)

    def _on_axis(self, step: float) -> float:
        return math.log10(step + 1) if self.log_x else step

    def _step(self, place: float) -> float:
        return float(10**place - 1) if self.log_x else place


def nothing_above_zero(series: Iterable[Series]) -> bool:
    """Return whether there are values, but none that has a place on a logarithmic axis.

    Lines of a negative `color` do not count: they are what others are compared with.
    """
    values = _joined(s.y[np.isfinite(s.y)] for s in series if s.color >= 0)
    return len(values) > 0 and not (values > _TINY).any()


def fit(series: Sequence[Series], *, log_y: bool = False, log_x: bool = True) -> View:
    """Return the view that shows every finite value, bands included; its limits are its steps.

    Linear: from 0 (or the lowest line, if that is below; a band is cut there) to a round number
    above the highest value. `log_y`: values <= 0 are ignored, and a band is followed down to a
    tenth of the lowest line. Without data: steps 0 to 1000, values up to 1 nat.
    """
    least = _TINY if log_y else -math.inf
    shown = [np.isfinite(s.y) & (s.y > least) for s in series]
    steps = _joined(s.x[keep] for s, keep in zip(series, shown, strict=True))
    lines = _joined(s.y[keep] for s, keep in zip(series, shown, strict=True))
    if not len(lines):
        return View(0.0, 1000.0, 1e-3 if log_y else 0.0, 1.0, log_y, (0.0, 1000.0), log_x)

    x_min, x_max = float(steps.min()), float(steps.max())
    if x_min == x_max:
        x_min, x_max = max(0.0, (x_min + 1) / 2 - 1), (x_max + 1) * 2 - 1
    highs = _joined(
        s.high[keep] for s, keep in zip(series, shown, strict=True) if s.high is not None
    )
    lows = _joined(s.low[keep] for s, keep in zip(series, shown, strict=True) if s.low is not None)
    y_min = float(lines.min())
    y_max = float(np.concatenate([lines, highs[np.isfinite(highs)]]).max())
    if log_y:
        # The foot of a band can come arbitrarily near 0 and would take all the room.
        feet = lows[np.isfinite(lows) & (lows >= y_min / 10)]
        y_min = float(np.append(feet, y_min).min())
        decades = math.log10(y_max) - math.log10(y_min)
        margin = 10 ** (0.04 * decades) if decades > 1e-3 else 2.0
        y_min, y_max = y_min / margin, min(y_max * margin, 1e308)
    else:
        y_min = min(0.0, y_min)
        span = y_max - y_min
        unit = nice_step(span, 10) if span > _TINY else 1.0
        y_max = max(math.ceil((y_max + 0.01 * span) / unit), 1) * unit
    return View(x_min, x_max, y_min, y_max, log_y, (x_min, x_max), log_x)


def _joined(parts: Iterable[Floats]) -> Floats:
    return np.concatenate([np.empty(0), *parts])
