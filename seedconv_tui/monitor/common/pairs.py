"""The matrix of seed pairs at one step: values, shaded from the least to the most of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.style import Style
from textual.message import Message

from seedconv_tui.monitor.common.canvas import Canvas, Line, scrolled, spread
from seedconv_tui.text import nats
from store.schema import Floats

if TYPE_CHECKING:
    from textual import events

_REVERSE = Style(reverse=True)
_UNDERLINE = Style(underline=True)
_MAX_LABEL = 12
_LEAST_SPAN = 0.25
_WIDE, _NARROW = 7, 5  # cells of a column, the blank before it included


@dataclass(frozen=True, eq=False)
class PairTable:
    """The values of the matrix. NaN: no such pair at this step."""

    seeds: tuple[str, ...]
    values: Floats  # (seed, other_seed)
    far: Floats  # (seed, other_seed): the same as distances, for the shade
    rest: Floats  # (seed,): distance from the rest, nats
    outlier: NDArray[np.bool_]  # (seed,)
    seed: int  # the chosen pair
    other: int
    block: tuple[int, ...] = ()  # of each seed: between seeds of two blocks there is a line

    def begins_block(self, seed: int) -> bool:
        """Return whether there is a line before this seed."""
        return bool(self.block) and seed > 0 and self.block[seed] != self.block[seed - 1]

    def ends_block(self, seed: int) -> bool:
        """Return whether there is a line below this seed."""
        return seed + 1 < len(self.seeds) and self.begins_block(seed + 1)


def short(x: float) -> str:
    """Return a value in at most 4 cells: `.342`, `1.23`, `12.3`, `123`, `2e-5`; NaN is `-`."""
    size = abs(x)
    if math.isnan(x):
        return "-"
    if size < 0.0005:
        return "0" if size == 0 else f"{x:.0e}".replace("e-0", "e-")
    if size < 0.9995:
        return f"{x:.3f}".replace("0.", ".", 1)
    if size < 99.95:
        return f"{x:.{2 if size < 9.995 else 1}f}"
    return f"{x:.0f}" if size < 9999.5 else f"{x:.0e}".replace("e+0", "e")


def shades(values: Floats, n: int) -> NDArray[np.int64]:
    """Return which of `n` shades each value has, from the least to the most; NaN has the first.

    Values that differ by less than a quarter of the largest do not reach the last shades.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape, np.int64)
    low, high = finite.min(), finite.max()
    span = max(high - low, _LEAST_SPAN * np.abs(finite).max(), 1e-300)
    part = np.where(np.isfinite(values), (values - low) / span, 0.0)
    return np.minimum((part * n).astype(np.int64), n - 1)


class PairPicked(Message):
    """A pair was clicked."""

    def __init__(self, seed: int, other: int) -> None:
        self.seed, self.other = seed, other
        super().__init__()


class PairMatrix(Canvas):
    """A row a seed: its distance from the rest, then the pairs; scrolls with the chosen pair."""

    def __init__(self) -> None:
        super().__init__()
        self._table: PairTable | None = None
        self._top = self._left = 0
        self._shown: tuple[int, int, int] = (0, 0, 1)  # columns: cells before, how many, their size

    def show(self, table: PairTable) -> None:
        """Take the pairs."""
        self._table = table
        self.redraw()

    def wanted_width(self, seeds: tuple[str, ...]) -> int:
        """Return cells that it takes to show every pair in full."""
        return self._head_width(seeds) + _WIDE * len(seeds) + 1

    def _head_width(self, seeds: tuple[str, ...]) -> int:
        labels = max((cell_len(self._label(seed)) for seed in seeds), default=0)
        return 3 + max(labels, len("1-12/20")) + len("   0.0000 !")

    def _label(self, seed: str) -> str:
        return self.look.shorten(self.look.visible(seed), _MAX_LABEL)

    def paint(self, width: int, height: int) -> list[Line]:
        table = self._table
        if table is None or height < 2:
            return []
        n = len(table.seeds)
        head = self._head_width(table.seeds)
        room = max(width - head, 1)
        cell = _WIDE if n * _WIDE <= room else _NARROW
        columns = min(max(room // cell, 1), n)
        rows = min(height - 1, n)
        self._top = scrolled(self._top, table.seed, rows, n)
        self._left = scrolled(self._left, table.other, columns, n)
        self._shown = (head, columns, cell)
        shade = shades(table.far, len(self.look.palette.heat))
        window = range(self._top, self._top + rows)
        return [
            self._header(table, head, columns, cell, rows, width),
            *(self._row(table, seed, head, columns, cell, shade) for seed in window),
        ]

    def _header(
        self, table: PairTable, head: int, columns: int, cell: int, rows: int, width: int
    ) -> Line:
        look, palette, n = self.look, self.look.palette, len(table.seeds)
        rows_shown = "from" if rows == n else f"{self._top + 1}-{self._top + rows}/{n}"
        line: Line = [(f"   {rows_shown:<{head - 12}}to rest  ", palette.dim)]
        for other in range(self._left, self._left + columns):
            name = look.shorten(look.visible(table.seeds[other]), cell - 1)
            text = " " * (cell - cell_len(name)) + name
            if table.begins_block(other):
                text = look.pick("│", "|") + text[1:]
            line.append((text, palette.strong if other == table.other else palette.dim))
        if self._left:
            line[0] = (line[0][0][:-1] + look.pick("◂", "<"), palette.dim)
        if self._left + columns < n:
            more = look.pick("▸", ">")
            return spread(line, [(more, palette.accent)], width, self.look.more)
        return line

    def _row(
        self,
        table: PairTable,
        seed: int,
        head: int,
        columns: int,
        cell: int,
        shade: NDArray[np.int64],
    ) -> Line:
        look, palette = self.look, self.look.palette
        chosen = seed == table.seed
        name = self._label(table.seeds[seed])
        mark = look.pick("▸", ">") if chosen else " "
        start = f" {mark} {name}"
        start += " " * (head - 11 - cell_len(start))
        far = table.outlier[seed]
        line: Line = [
            (start, palette.strong if chosen else palette.text),
            (f" {nats(float(table.rest[seed])):>8}", palette.text),
            (" !" if far else "  ", palette.warn),
        ]
        for other in range(self._left, self._left + columns):
            value = float(table.values[seed, other])
            text = short(value) if cell == _NARROW else nats(value)
            style = palette.heat[shade[seed, other]]
            if seed == other:
                text, style = look.pick("·", "."), palette.faint
            elif math.isnan(value):
                style = palette.faint
            here = chosen and other == table.other
            border = look.pick("│", "|") if table.begins_block(other) else " "
            line.append((border, palette.faint if border != " " else palette.text))
            line.append((text.rjust(cell - 1), style + _REVERSE if here else style))
        if table.ends_block(seed):
            line = [(text, style + _UNDERLINE) for text, style in line]
        return line

    def on_click(self, event: events.Click) -> None:
        head, columns, cell = self._shown
        if self._table is None or event.y < 1:
            return
        seed = min(self._top + event.y - 1, len(self._table.seeds) - 1)
        column = min(max(event.x - head, 0) // cell, columns - 1)
        self.post_message(PairPicked(seed, self._left + column))
