r"""The KL chart: a pure function from arrays to terminal cells, numpy only.

    view = fit(series)
    cells = draw(series, view, 80, 20, marks=marks, y_label="expected KL (nats)")
    print("\n".join(cells.lines()))

What lies on top of what, from the bottom: bands, phase marks, the cursor, lines. A cell belongs to
one of them: dots of two series never mix in a cell, and a later series hides an earlier one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from seedconv_tui.chart import raster
from seedconv_tui.chart.glyphs import (
    AXIS,
    BLANK,
    CURSOR,
    LABEL,
    MARK,
    SIGNS,
    Glyphs,
)
from seedconv_tui.chart.ticks import Tick, even_step_ticks, log_value_ticks, step_ticks, value_ticks
from seedconv_tui.chart.view import Series, View, nothing_above_zero
from seedconv_tui.text import cut, shorten_apart, units_of, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from store.schema import Floats

_NAME_MAX = 18  # cells of a line's name next to the plot
_NOTHING = "no value is above 0: nothing on a logarithmic axis"


@dataclass(frozen=True)
class Mark:
    """A vertical mark at step `x`, named at its top: the start of a phase.

    Its interval, from `low` to `high` (steps), is seen on the x axis.
    """

    x: float
    label: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Plot:
    """The place of the plot area among the cells, and the map from steps to its columns."""

    left: int
    top: int
    columns: int
    rows: int
    view: View
    kx: int  # dots per cell across

    def column_of(self, x: float) -> int | None:
        """Return the column (of the whole chart) that step `x` falls into; None out of view."""
        dot = round(float(_dot_columns(np.array([x]), self)[0]))
        return self.left + dot // self.kx if 0 <= dot < self.columns * self.kx else None

    def x_at(self, column: int) -> float:
        """Return the step at a cell column of the chart; outside the plot, that of its edge."""
        dot = (column - self.left) * self.kx + (self.kx - 1) / 2
        part = dot / max(self.columns * self.kx - 1, 1)
        return self.view.step_at(min(max(part, 0.0), 1.0))


@dataclass(frozen=True, eq=False)
class Cells:
    """A drawn chart.

    `text` (row, column) holds one character per cell; it is empty to the right of a character that
    is two cells wide. `color` (row, column) is a series' palette index or one of the negative
    constants of this module. `dim` (row, column) is true for bands.
    """

    text: NDArray[np.str_]
    color: NDArray[np.int16]
    dim: NDArray[np.bool_]
    plot: Plot

    def lines(self) -> list[str]:
        """Return the rows as strings, each as wide as the chart."""
        return ["".join(row) for row in self.text.tolist()]


def draw(
    series: Sequence[Series],
    view: View,
    width: int,
    height: int,
    *,
    marks: Sequence[Mark] = (),
    cursor: float | None = None,
    glyphs: Glyphs = Glyphs.BRAILLE,
    y_label: str = "",
    x_label: str = "step",
    names: bool = True,
) -> Cells:
    """Draw `series` as seen in `view` into `height` rows of `width` cells.

    Axes, header and names give way to the data where there is little room; any size >= 0 works.
    `cursor` is a step. With `names`, each line's name stands at its right end if there is room.
    Where a logarithmic axis has no place for any value, the first row says so.
    All labels may be untrusted text.
    """
    pen = _Pen(max(width, 0), max(height, 0), glyphs)
    has_axes = height >= 4
    ticks = _y_ticks(view, height) if has_axes else []
    left = max((len(tick.label) for tick in ticks), default=0) + 1
    if width < left + 10 or not has_axes:
        left = 0
    header = 0 if height < 7 else bool(y_label) + bool(marks) if height >= 12 else 1
    header = min(header, bool(y_label) + bool(marks))
    right = _room_for_names(series, width - left, pen.ascii) if names else 0
    plot = Plot(
        left=left,
        top=header,
        columns=max(pen.width - left - right, 0),
        rows=max(pen.height - header - 2 * has_axes, 0),
        view=view,
        kx=pen.signs.kx,
    )
    cells = Cells(pen.text, pen.color, pen.dim, plot)
    if not plot.columns or not plot.rows:
        return cells
    taken, ends = pen.data(series, plot, marks, cursor)
    if has_axes:
        pen.axes(plot, ticks, x_label, _last_step(series))
        pen.on_axis(plot, marks, cursor)
    if header:
        used = pen.put(0, 0, units_of(y_label, pen.ascii)[: pen.width], LABEL)
        pen.mark_labels(marks, plot, header - 1, used + 1 if used and header == 1 else 0)
    if names:
        pen.names(series, plot, taken, ends)
    if view.log_y and nothing_above_zero(series):
        units = cut(list(_NOTHING), plot.columns, pen.signs.more)
        pen.put(plot.top, plot.left + (plot.columns - len(units)) // 2, units, LABEL)
    return cells


class _Pen:
    """The cells while they are drawn."""

    def __init__(self, width: int, height: int, glyphs: Glyphs) -> None:
        self.width, self.height = width, height
        self.ascii = glyphs is Glyphs.ASCII
        self.signs = SIGNS[glyphs]
        self.text = np.full((height, width), " ", dtype="<U1")
        self.color = np.full((height, width), BLANK, dtype=np.int16)
        self.dim = np.zeros((height, width), dtype=np.bool_)

    def put(self, row: int, column: int, units: Sequence[str], color: int) -> int:
        """Write one cell per unit, as far as there are cells; return the column after it."""
        end = min(column + len(units), self.width)
        if end > column:
            self.text[row, column:end] = list(units[: end - column])
            self.color[row, column:end] = color
        return end

    def data(
        self, series: Sequence[Series], plot: Plot, marks: Sequence[Mark], cursor: float | None
    ) -> tuple[NDArray[np.int64], list[tuple[int, int] | None]]:
        """Draw bands, marks, cursor and lines.

        Returns whose data each cell of the chart holds: an index into `series`, -1 for nobody's,
        `len(series)` for what no name may cover (lines, cursor). And each line's last cell (row,
        column), None for a line that is out of view.
        """
        grid = raster.Grid(plot.columns, plot.rows, self.signs.kx, self.signs.ky)
        inside = np.s_[plot.top : plot.top + plot.rows, plot.left : plot.left + plot.columns]
        text, color, dim = self.text[inside], self.color[inside], self.dim[inside]
        taken = np.full(self.text.shape, -1, dtype=np.int64)
        owner = taken[inside]
        columns = [_dot_columns(s.x, plot) for s in series]
        for number, (s, x) in enumerate(zip(series, columns, strict=True)):
            if s.low is None or s.high is None or not len(s.x):
                continue
            foot = _dot_rows(np.where(np.isfinite(s.y), s.low, np.nan), plot, grid, foot=True)
            codes = raster.band(x, foot, _dot_rows(s.high, plot, grid), grid)
            lit = codes > 0
            text[lit] = self.signs.band[codes[lit]]
            color[lit], dim[lit], owner[lit] = s.color, True, number
        lines = [(x, _dot_rows(s.y, plot, grid)) for s, x in zip(series, columns, strict=True)]
        uprights = [(mark.x, self.signs.mark, MARK) for mark in marks]
        if cursor is not None:
            uprights.append((cursor, self.signs.cursor, CURSOR))
        for step, sign, role in uprights:
            at = plot.column_of(step)
            # At the plot's left edge the axis is mark enough.
            if at is not None and (role == CURSOR or at > plot.left or not plot.left):
                text[:, at - plot.left], color[:, at - plot.left] = sign, role
                dim[:, at - plot.left] = False
                if role == CURSOR:
                    owner[:, at - plot.left] = len(series)
        ends: list[tuple[int, int] | None] = []
        for s, (x, y) in zip(series, lines, strict=True):
            codes = raster.line(x, y, grid)
            lit = codes > 0
            text[lit] = self.signs.line(s.color)[codes[lit]]
            color[lit], dim[lit], owner[lit] = s.color, False, len(series)
            ends.append(_last_cell(lit, plot))
        return taken, ends

    def axes(self, plot: Plot, ticks: Sequence[Tick], x_label: str, last: float | None) -> None:
        """Draw both axes with their ticks; `last` is the data's last step."""
        upright, tick_left, corner, level, tick_down, minor_down = tuple(self.signs.frame)
        line, labels = plot.top + plot.rows, plot.top + plot.rows + 1
        self.put(line, plot.left, level * plot.columns, AXIS)
        if plot.left:
            self.text[plot.top : line, plot.left - 1] = upright
            self.color[plot.top : line, plot.left - 1] = AXIS
            self.put(line, plot.left - 1, corner, AXIS)
            grid = raster.Grid(plot.columns, plot.rows, self.signs.kx, self.signs.ky)
            values = np.array([tick.value for tick in ticks])
            rows = np.rint(_dot_rows(values, plot, grid)).astype(int) // grid.ky + plot.top
            for tick, row in zip(ticks, rows, strict=True):
                if plot.top <= row < line:
                    self.put(int(row), plot.left - 1, tick_left, AXIS)
                    self.put(int(row), 0, tick.label.rjust(plot.left - 1), LABEL)

        free = np.ones(self.width + 1, dtype=np.bool_)  # a cell more: the gap after the last label
        of_steps = step_ticks if plot.view.log_x else even_step_ticks
        for tick in of_steps(plot.view.x_min, plot.view.x_max, plot.columns, last):
            at = plot.column_of(tick.value)
            if at is None or (not tick.label and self.text[line, at] == tick_down):
                continue
            self.put(line, at, tick_down if tick.label else minor_down, AXIS)
            start = max(min(at - (len(tick.label) - 1) // 2, self.width - len(tick.label)), 0)
            if tick.label and free[max(start - 1, 0) : start + len(tick.label) + 1].all():
                self.put(labels, start, tick.label, LABEL)
                free[start : start + len(tick.label)] = False
        units = units_of(x_label, self.ascii)
        for start in (plot.left - 1 - len(units), *range(self.width - len(units), -1, -1)):
            if start >= 0 and free[max(start - 1, 0) : start + len(units) + 1].all():
                self.put(labels, start, units, LABEL)
                break

    def on_axis(self, plot: Plot, marks: Sequence[Mark], cursor: float | None) -> None:
        """Show on the x axis how sure the marks are, and where the cursor is."""
        line, edges = plot.top + plot.rows, (plot.left, plot.left + plot.columns - 1)
        doubled = dict(zip(self.signs.frame[3:], self.signs.span, strict=True))
        for mark in marks:
            if mark.low is None or mark.high is None or mark.low >= mark.high:
                continue
            seen = mark.low <= plot.view.x_max and mark.high >= plot.view.x_min
            ends = [plot.column_of(end) for end in (mark.low, mark.high)]
            first, last = (edge if at is None else at for at, edge in zip(ends, edges, strict=True))
            for column in range(first, last + 1) if seen else ():
                sign = str(self.text[line, column])
                self.put(line, column, doubled.get(sign, sign), MARK)
        if cursor is not None and (at := plot.column_of(cursor)) is not None:
            self.put(line, at, self.signs.pointer, CURSOR)

    def mark_labels(self, marks: Sequence[Mark], plot: Plot, row: int, start: int) -> None:
        """Name the marks from column `start` on, each in the room before the next mark."""
        columns = [(plot.column_of(mark.x), mark.label) for mark in marks]
        seen = sorted((at, label) for at, label in columns if at is not None)
        for (at, label), after in zip_longest(seen, seen[1:]):
            end = after[0] - 1 if after else self.width
            if at >= start:
                self.put(row, at, _short_name(label, end - at, self.ascii), MARK)

    def names(
        self,
        series: Sequence[Series],
        plot: Plot,
        taken: NDArray[np.int64],
        ends: Sequence[tuple[int, int] | None],
    ) -> None:
        """Write names at the ends of the lines, over nothing but the line's own band.

        The line on top is the first to be named.
        """
        whole = [visible(s.name, self.ascii) for s in series]
        short = shorten_apart(whole, _NAME_MAX, ascii=self.ascii)
        for number, (s, end) in reversed(list(enumerate(zip(series, ends, strict=True)))):
            units = units_of(short[number], self.ascii)
            if end is None or not units:
                continue
            row, column = end
            beside, above = column + 2, column - len(units) + 1
            places = [(row + shift, beside) for shift in (0, -1, 1, -2, 2, -3, 3)]
            places += [(row - 1, above), (row + 1, above)]
            for at, start in places:
                cells = np.s_[at, max(start - 1, 0) : start + len(units) + 1]
                fits = start >= plot.left and start + len(units) <= self.width
                inside = plot.top <= at < plot.top + plot.rows
                if fits and inside and np.isin(taken[cells], (-1, number)).all():
                    self.text[cells][self.dim[cells]] = " "
                    self.dim[cells] = False
                    self.put(at, start, units, s.color)
                    taken[cells] = len(series)
                    break


def _room_for_names(series: Sequence[Series], width: int, ascii_only: bool) -> int:
    """Return columns to keep free right of the plot: only where several lines share much room."""
    widths = [len(units_of(s.name, ascii_only)) for s in series]
    room = min(max(widths, default=0), _NAME_MAX) + 1
    return room if len(series) > 1 and room > 1 and width - room >= max(40, 2 * room) else 0


def _last_cell(lit: NDArray[np.bool_], plot: Plot) -> tuple[int, int] | None:
    columns = np.flatnonzero(lit.any(axis=0))
    if not len(columns):
        return None
    rows = np.flatnonzero(lit[:, columns[-1]])
    return plot.top + int(rows[len(rows) // 2]), plot.left + int(columns[-1])


def _dot_columns(x: Floats, plot: Plot) -> Floats:
    return plot.view.part_of(x) * (plot.columns * plot.kx - 1)


def _dot_rows(y: Floats, plot: Plot, grid: raster.Grid, *, foot: bool = False) -> Floats:
    """Return rows in dots from the top; NaN, or below for a `foot`, is off a logarithmic axis."""
    view = plot.view
    low, high = view.y_min, view.y_max
    if view.log_y:
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.where(y > 0, np.log10(y), np.where(foot & (y <= 0), -1e9, np.nan))
        low, high = np.log10(low), np.log10(high)
    # Values that are absurdly far away stay finite, so that lines towards them can be clipped.
    part = np.clip((y - low) / (high - low), -1e6, 1e6)
    rows: Floats = np.where(np.isfinite(y), (1 - part) * (grid.height - 1), np.nan)
    return rows


def _last_step(series: Sequence[Series]) -> float | None:
    """Return the last step that has a value, of what is not only there to be compared with."""
    known = (s.x[np.isfinite(s.y)] for s in series if s.color >= 0)
    return max((float(steps[-1]) for steps in known if len(steps)), default=None)


def _y_ticks(view: View, height: int) -> list[Tick]:
    return (log_value_ticks if view.log_y else value_ticks)(view.y_min, view.y_max, height - 3)


def _short_name(label: str, room: int, ascii_only: bool) -> list[str]:
    """Fit a phase's name into `room` cells: whole, its last word, that abbreviated, or nothing."""
    whole = units_of(label, ascii_only)
    if len(whole) <= room:
        return whole
    word = units_of(label.split()[-1], ascii_only) if label.split() else []
    if len(word) <= room:
        return word
    return cut(word, room, ".") if room >= 4 else []
