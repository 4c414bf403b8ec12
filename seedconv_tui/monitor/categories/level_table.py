"""The levels of a category as a table; its swatches are the chart's legend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from textual.message import Message

from seedconv_tui.chart import MARKERS, QUIET
from seedconv_tui.monitor.common.canvas import Canvas, Line, scrolled
from seedconv_tui.monitor.common.spark import spark, spark_column
from seedconv_tui.text import nats, quoted, signed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.style import Style
    from textual import events

    from seedconv_tui.monitor.categories.levels_at_step import StepOfLevels

FEW = 30
"""Tokens below which a level's mean says little."""

_HEAD = 6  # cells of mark and swatch
_LABEL, _LABEL_MOST = 8, 28
_SPARK, _SPARK_MOST = 8, 60
_WIDTHS = {"n": 8, "KL": 9, "95 % interval": 19, "change": 10, "cross-entropy": 10}
_ROOMY = 90  # cells from which nothing in the header is cut
_GIVEN_UP = ("training", "cross-entropy", "change", "95 % interval")  # first to go


@dataclass(frozen=True, eq=False)
class ListedLevels:
    """The shown levels by number, in order."""

    levels: StepOfLevels
    order: Sequence[int]
    chosen: int  # place in `order`
    colors: Mapping[int, int]  # of the levels in the chart: level -> palette index or QUIET
    steps: NDArray[np.int64]  # (step,)
    curves: NDArray[np.float64]  # (step, level), for the small pictures
    step: int | None
    sorted_by: str
    downwards: bool
    nothing: str = ""  # said where there are no rows


class RowPicked(Message):
    """A row was clicked, or the wheel turned: its place in the order."""

    def __init__(self, place: int) -> None:
        self.place = place
        super().__init__()


class LevelTable(Canvas):
    """A row a level; scrolls with the chosen one. Columns go where there is no room for them."""

    def __init__(self) -> None:
        super().__init__()
        self._table: ListedLevels | None = None
        self._top = 0
        self._sparks: dict[tuple[int, int], str] = {}  # by level and width

    def show(self, table: ListedLevels) -> None:
        """Take the rows."""
        if self._table is None or self._table.curves is not table.curves:
            self._sparks = {}
        self._table = table
        self.redraw()

    @property
    def page(self) -> int:
        """Rows that are seen at once."""
        return max(self.size.height - 1, 1)

    def paint(self, width: int, height: int) -> list[Line]:
        table = self._table
        if table is None:
            return []
        self._top = scrolled(self._top, table.chosen, self.page, len(table.order))
        shown = table.order[self._top : self._top + self.page]
        names = {n: self.look.visible(quoted(table.levels.labels[n])) for n in shown}
        columns, room = _share(width, max(map(cell_len, names.values()), default=_LABEL))
        lines = [self._header(table, columns, room)]
        if not table.order:
            return [*lines, [(f"   {self.look.visible(table.nothing)}", self.look.palette.dim)]]
        return [*lines, *(self._row(table, n, names[n], columns, room) for n in shown)]

    def _header(self, table: ListedLevels, columns: Mapping[str, int], room: int) -> Line:
        palette = self.look.palette
        arrow = self.look.pick("▾", "v") if table.downwards else self.look.pick("▴", "^")
        rows, label = len(table.order), "level"
        if rows > self.page:
            part = f"{self._top + 1}-{self._top + self.page}/{rows}"
            label = f"level {part}" if room > len(part) + 6 else part
        line: Line = []
        for name, cells in {"level": _HEAD + room, **columns}.items():
            here = name == table.sorted_by
            text = f"{arrow}{name}"[: cells - 1] if here else name[: cells - 1]
            if name == "level":
                text = " " * _HEAD + (f"{label}{arrow}" if here else label)
                text = text[:cells].ljust(cells)
            elif name == "training":
                text = f"  {text}".ljust(cells)[:cells]
            line.append((text.rjust(cells), palette.strong if here else palette.dim))
        return line

    def _row(
        self, table: ListedLevels, n: int, name: str, columns: Mapping[str, int], room: int
    ) -> Line:
        look, palette, levels = self.look, self.look.palette, table.levels
        chosen = n == table.order[table.chosen]
        count = int(levels.counts[n])
        style = palette.faint if not count else palette.strong if chosen else palette.text
        short = look.shorten(name, room)
        line: Line = [
            (f" {look.pick('▸', '>') if chosen else ' '} ", palette.accent),
            self._swatch(table.colors.get(n)),
            (short + " " * (room - cell_len(short)), style),
        ]
        low, high = float(levels.low[n]), float(levels.high[n])
        interval = f"{nats(low)} to {nats(high)}" if np.isfinite(low) else "-"
        cells = {
            "n": f"{count:,}",
            "KL": nats(float(levels.kl[n])),
            "95 % interval": interval,
            "change": signed(float(levels.change[n])),
            "cross-entropy": nats(float(levels.cross_entropy[n])),
        }
        for column, width in columns.items():
            if column == "training":
                line += self._spark(table, n, width, palette.dim if chosen else palette.faint)
                continue
            text = f"{cells[column]:>{width}}"
            if column == "n" and 0 < count < FEW:
                line.append((text, palette.warn))
            elif line[-1][1] is style:
                line[-1] = (line[-1][0] + text, style)
            else:
                line.append((text, style))
        return line

    def _swatch(self, color: int | None) -> tuple[str, Style]:
        palette = self.look.palette
        if color is None:
            return "   ", palette.faint
        if color == QUIET:
            return self.look.pick("── ", "-- "), palette.faint
        marker = MARKERS[color % len(MARKERS)] * 2 if self.look.ascii else "━━"
        return f"{marker} ", palette.series[color % len(palette.series)]

    def _spark(self, table: ListedLevels, n: int, width: int, style: Style) -> Line:
        """Return the level's curve; the step that is shown stands out."""
        key = n, width
        if key not in self._sparks:
            curve = table.curves[:, n]
            self._sparks[key] = spark(table.steps, curve, width - 2, self.look.ascii)
        bars = self._sparks[key]
        if table.step is None or not bars:
            return [("  " + bars, style)]
        at = spark_column(table.steps, table.step, width - 2)
        return [
            ("  " + bars[:at], style),
            (bars[at], self.look.palette.accent),
            (bars[at + 1 :], style),
        ]

    def on_click(self, event: events.Click) -> None:
        if self._table is not None and 1 <= event.y <= len(self._table.order) - self._top:
            self.post_message(RowPicked(self._top + event.y - 1))

    def on_mouse_scroll_down(self) -> None:
        if self._table is not None:
            self.post_message(RowPicked(self._table.chosen + 3))

    def on_mouse_scroll_up(self) -> None:
        if self._table is not None:
            self.post_message(RowPicked(self._table.chosen - 3))


def _share(width: int, longest: int) -> tuple[dict[str, int], int]:
    """Return columns with their cells, and the cells of a label: what has no room is given up."""
    columns = {**_WIDTHS, "training": _SPARK + 2}
    columns["cross-entropy"] += 5 if width >= _ROOMY else 0
    for name in ("", *_GIVEN_UP):
        columns.pop(name, None)
        room = width - _HEAD - sum(columns.values())
        if room >= min(max(longest, _LABEL), _LABEL + 4):
            break
    label = min(max(longest, _LABEL), max(room, 1), _LABEL_MOST)
    if "training" in columns:
        columns["training"] += min(room - label, _SPARK_MOST - _SPARK)
    return columns, label
