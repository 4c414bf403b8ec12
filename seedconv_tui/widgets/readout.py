"""Exact numbers at one step, a row a model: the chart's legend and its table at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.style import Style

from seedconv_tui.chart import MARKERS
from seedconv_tui.text import nats
from seedconv_tui.widgets.canvas import Canvas, Line, line_width, spread

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Entry:
    """One model's numbers."""

    name: str
    color: int
    visible: bool
    value: float | None = None  # None: see `missing`
    spread: str = ""  # what the band says, in words
    counts: str = ""  # what the value stands on
    caution: str = ""  # why the value should not be trusted; empty: no reason
    missing: str = ""  # why there is no value


class Readout(Canvas):
    """A row for the step, then the models; the chosen one is always among those shown."""

    def __init__(self) -> None:
        super().__init__()
        self._heading: Sequence[str] = ()
        self._entries: Sequence[Entry] = ()
        self._chosen = 0
        self._top = 0

    def show(self, heading: Sequence[str], entries: Sequence[Entry], chosen: int) -> None:
        """Takes the numbers, and which model is chosen; of the heading what fits."""
        self._heading, self._entries, self._chosen = heading, entries, chosen
        self.redraw()

    @property
    def text(self) -> str:
        """The chosen model's row in words, with the step that heads it; empty: there is none."""
        if not self._entries or self._chosen >= len(self._entries):
            return ""
        entry, heading = self._entries[self._chosen], ", ".join(self._heading[:1])
        value = entry.missing if entry.value is None else f"{entry.value:.6g} nats"
        facts = [entry.name, heading, value, entry.spread, entry.counts, entry.caution]
        return ", ".join(filter(None, facts))

    def paint(self, width: int, height: int) -> list[Line]:
        rows = height - 1
        self._top = max(min(self._top, self._chosen), self._chosen - rows + 1)
        self._top = max(0, min(self._top, len(self._entries) - rows))
        hidden = len(self._entries) - rows
        more: Line = []
        if hidden > 0:
            more = [(f"{hidden} more, up/down ", self.look.palette.dim)]
        names = [self.look.visible(entry.name) for entry in self._entries]
        room = min(max(map(cell_len, names), default=0), max(width // 4, 12))
        heading = ""
        for part in map(self.look.visible, self._heading):
            longer = heading + (self.look.dot if heading else " ") + part
            heading = longer if cell_len(longer) + line_width(more) <= width else heading
        head = spread([(heading, self.look.palette.strong)], more, width)
        window = range(self._top, min(self._top + rows, len(self._entries)))
        spread_width = max((len(entry.spread) for entry in self._entries), default=0)
        return [head, *(self._row(n, names[n], room, spread_width) for n in window)]

    def _row(self, number: int, name: str, room: int, spread_width: int) -> Line:
        entry, look, palette = self._entries[number], self.look, self.look.palette
        chosen = number == self._chosen
        mark = look.pick("▸", ">") if chosen else " "
        short = look.shorten(name, room)
        short += " " * (room - cell_len(short))
        line: Line = [(f" {mark} ", palette.accent)]
        if not entry.visible:
            return [*line, (f"   {short}  hidden", palette.faint)]
        style = palette.series[entry.color]
        line += [
            (self._swatch(entry.color) + " ", style),
            (short, palette.strong if chosen else palette.text),
        ]
        if entry.value is None:
            return [*line, (f"  {nats(math.nan):>9}  {entry.missing}", palette.dim)]
        line.append((f"  {nats(entry.value):>9} ", _bold(style)))
        line.append((f"{entry.spread:<{spread_width}}", palette.text))
        if entry.caution:
            line.append((f"  {entry.caution}", palette.warn))
        line.append((f"  {entry.counts}", palette.dim))
        return line

    def _swatch(self, color: int) -> str:
        return MARKERS[color % len(MARKERS)] * 2 if self.look.ascii else "━━"


def _bold(style: Style) -> Style:
    return style + Style(bold=True)
