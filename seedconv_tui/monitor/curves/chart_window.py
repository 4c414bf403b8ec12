"""The part of the data in view, and the cursor: both stay where the reader put them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.chart import Series, View, fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedconv_tui.monitor.data.remembered import Remembered

_SLACK = 0.01  # steps: the ends of a view have been through a logarithm
_ZOOM = 1.5
_PAN = 0.25  # of the view
_TAIL = 4.0  # the newest steps are this part of the axis at first


@dataclass
class ChartWindow:
    """A view that follows all data, is held, or moves on with the newest step."""

    log_x: bool = True
    log_y: bool = False
    cursor: int | None = None  # a step; None: the latest there is
    tail: bool = False  # whether the view moves on with the newest step
    view: View | None = None  # None: everything that there is

    @property
    def is_held(self) -> bool:
        """Return whether anything does not follow all data."""
        return self.view is not None or self.cursor is not None

    def now(self, series: Sequence[Series]) -> View:
        """Return what is in view of these."""
        return self.view or self._fitted(series)

    def update(self, series: Sequence[Series]) -> None:
        """Move on with the newest step, if that is wanted."""
        if self.view is not None and self.tail:
            whole = self._fitted(series)
            moved = replace(self.view, limits=whole.limits).reveal(whole.x_max)
            self.view = self._fitted(series, moved)

    def refit(self, series: Sequence[Series]) -> None:
        """Fit the values again, and leave the steps in view alone."""
        if self.view is not None:
            self.view = self._fitted(series, self.view)

    def step(self, steps: Sequence[int], series: Sequence[Series], count: int) -> None:
        """Move the cursor that many of `steps` (ascending, not empty) on, or back."""
        here = self.cursor if self.cursor is not None else steps[-1]
        index = int(np.abs(np.array(steps) - here).argmin()) + count
        self._place(steps[min(max(index, 0), len(steps) - 1)], series)

    def point(self, steps: Sequence[int], series: Sequence[Series], at: float) -> None:
        """Put the cursor on the one of `steps` that is seen nearest to `at`."""
        places = self.now(series).part_of(np.array([*steps, at], np.float64))
        self._place(steps[int(np.abs(places[:-1] - places[-1]).argmin())], series)

    def zoom(self, series: Sequence[Series], direction: int, at: float | None) -> None:
        """Zoom in (1) or out (-1) about a step; None: about the cursor, or the latest."""
        view = self.now(series)
        if at is None:
            at = view.x_max if self.cursor is None else self.cursor
        self.view = self._fitted(series, view.zoom(_ZOOM**direction, at))

    def pan(self, series: Sequence[Series], direction: int) -> None:
        """Show earlier or later steps."""
        self.tail = False
        self.view = self._fitted(series, self.now(series).pan(direction * _PAN))

    def follow(self) -> None:
        """Show all, and go on with the data."""
        self.cursor = self.view = None
        self.tail = False

    def follow_newest(self, series: Sequence[Series]) -> None:
        """Show the newest steps, as many as are in view, and move on with them; or hold."""
        self.tail = not self.tail
        if self.tail:
            self.cursor = None
            whole = self._fitted(series)
            self.view = self.view or whole.zoom(_TAIL, whole.x_max)

    def words(self, steps: Sequence[int]) -> tuple[str, str]:
        """Return what is held, and how to go on; and what is followed. Empty: nothing is."""
        if self.tail:
            return "", "follows the newest"
        if self.view is None:
            return "", "follows"
        later = sum(step > self.view.x_max + _SLACK for step in steps)
        return f"held, {later} later, 0 follows" if later else "held, 0 follows", ""

    def ends(self, series: Sequence[Series]) -> tuple[float, float]:
        """Return the first and the last step in view."""
        view = self.now(series)
        return view.x_min - _SLACK, view.x_max + _SLACK

    def state(self) -> dict[str, Any]:
        """Return all of it, as JSON can hold it."""
        view = self.view
        return {
            "log_x": self.log_x,
            "log_y": self.log_y,
            "cursor": self.cursor,
            "tail": self.tail,
            "view": [] if view is None else [view.x_min, view.x_max, view.y_min, view.y_max],
        }

    def restore(self, kept: Remembered) -> None:
        """Take what `state` gave in another session."""
        self.log_x = kept.flag("log_x", self.log_x)
        self.log_y = kept.flag("log_y", self.log_y)
        self.cursor = kept.number("cursor")
        if len(view := kept.numbers("view")) == 4:
            with suppress(ValueError):  # there is nothing to be seen through it
                self.view = View(
                    view[0], view[1], view[2], view[3], log_y=self.log_y, log_x=self.log_x
                )
        self.tail = self.view is not None and kept.flag("tail", self.tail)

    def _place(self, step: int, series: Sequence[Series]) -> None:
        self.cursor, self.tail = step, False
        view = self.now(series)
        inside = view.x_min - _SLACK <= step <= view.x_max + _SLACK
        self.view = view if inside else view.reveal(step)

    def _fitted(self, series: Sequence[Series], view: View | None = None) -> View:
        """Return all the steps, or those of `view`; and the values that there are among them."""
        whole = fit(series, log_y=self.log_y, log_x=self.log_x)
        if view is None:
            return whole
        near = [_between(s, view.x_min, view.x_max) for s in series]
        part = fit(near, log_y=self.log_y, log_x=self.log_x)
        return replace(part, x_min=view.x_min, x_max=view.x_max, limits=whole.limits)


def _between(series: Series, low: float, high: float) -> Series:
    """Return the part of a series between two steps."""
    inside = (series.x >= low - _SLACK) & (series.x <= high + _SLACK)
    part = replace(series, x=series.x[inside], y=series.y[inside], low=None, high=None)
    if series.low is None or series.high is None:
        return part
    return replace(part, low=series.low[inside], high=series.high[inside])
