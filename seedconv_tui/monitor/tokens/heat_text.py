"""The text as a heat map; only the rows that are seen are laid out and drawn."""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.cells import cell_len
from rich.style import Style
from textual.message import Message

from seedconv_tui.monitor.common.canvas import Canvas, Line, line_width, spread
from seedconv_tui.monitor.tokens.heat import KL

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from textual import events

    from seedconv_tui.monitor.common.reflow import TextRows
    from seedconv_tui.monitor.tokens.heat import Scale
    from seedconv_tui.monitor.tokens.token_queries import Spans

_CURSOR = Style(reverse=True)
_MATCH = Style(underline=True, bold=True)
_MOST_DRAWN = 1000  # rows that are kept as they were drawn
_MARGIN = 1  # rows kept in sight above and below the cursor


class TokenPicked(Message):
    """A token was clicked, or the wheel turned."""

    def __init__(self, token: int) -> None:
        self.token = token
        super().__init__()


class HeatText(Canvas):
    """TextRows of tokens, each as hot as its value; one of them is chosen."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: TextRows | None = None
        self._values: NDArray[np.floating[Any]] | None = None
        self._scale = KL
        self._token = 0
        self._found: Spans | None = None
        self._marked = False
        self._top = 0
        self._drawn: dict[int, tuple[Line, Line]] = {}  # rows, but never the cursor's
        self._drawn_with: tuple[object, ...] = ()

    def show(
        self,
        rows: TextRows,
        values: NDArray[np.floating[Any]] | None,
        scale: Scale,
        token: int,
        *,
        found: Spans | None,
        marked: bool,
    ) -> None:
        """Take the text and the value of every token; None while those are not there.

        `found` is underlined. With `marked`, a row of signs below each row says the levels again.
        """
        if self._rows is not None and self._rows is not rows:  # another width: stay in place
            self._top = rows.row_of(int(self._rows.first[min(self._top, len(self._rows) - 1)]))
        self._rows, self._values, self._scale = rows, values, scale
        self._token, self._found, self._marked = token, found, marked
        self.redraw()

    @property
    def page(self) -> int:
        """TextRows of text that are seen at once."""
        return max(self.size.height // (1 + self._marked), 1)

    def paint(self, width: int, height: int) -> list[Line]:
        rows = self._rows
        if rows is None or not len(rows):
            return []
        self._keep_in_window(rows)
        used = (rows, self._values, self._scale, self._found, self._marked, self.look)
        same = len(used) == len(self._drawn_with) and all(map(is_, used, self._drawn_with))
        if not same or len(self._drawn) > _MOST_DRAWN:
            self._drawn, self._drawn_with = {}, used
        here = rows.row_of(self._token)
        lines: list[Line] = []
        for row in range(self._top, min(self._top + self.page, len(rows))):
            drawn = self._drawn.get(row) if row != here else None
            if drawn is None:
                drawn = self._row(rows, row)
                if row != here:
                    self._drawn[row] = drawn
            lines += drawn if self._marked else drawn[:1]
        return lines

    def _keep_in_window(self, rows: TextRows) -> None:
        here, page = rows.row_of(self._token), self.page
        margin = min(_MARGIN, (page - 1) // 2)
        self._top = max(min(self._top, here - margin), here + margin - page + 1)
        self._top = max(0, min(self._top, len(rows) - page))

    def _row(self, rows: TextRows, row: int) -> tuple[Line, Line]:
        look, scale, tokens = self.look, self._scale, rows.tokens(row)
        levels = np.zeros(len(tokens), np.int64)
        if self._values is not None:
            levels = scale.levels(self._values[tokens.start : tokens.stop])
        styles = {int(level): scale.style(int(level), look) for level in np.unique(levels)}
        found = self._underlined(tokens)
        plain, text, marks = look.palette.dim, [], []
        for token, level in zip(tokens, levels.tolist(), strict=True):
            gap, own = rows.pieces(token)
            style = styles[level]
            if token in found:
                style += _MATCH
            if token == self._token:
                style += _CURSOR
            if rows.cells[token] > rows.width:
                gap, own = look.shorten(gap, rows.width // 2), look.shorten(own, rows.width)
            if gap:
                text.append((gap, plain))
            if text and text[-1][1] is style:
                text[-1] = (text[-1][0] + own, style)
            else:
                text.append((own, style))
            if self._marked:
                room = int(rows.cells[token])
                sign = scale.mark(level, look)
                own_room = min(room, cell_len(own))
                marks.append((" " * (room - own_room) + sign * own_room, look.palette.accent))
        return text, marks

    def _underlined(self, tokens: range) -> frozenset[int]:
        if self._found is None or not len(self._found.first):
            return frozenset()
        spans = self._found
        near = range(
            int(np.searchsorted(spans.last, tokens.start)),
            int(np.searchsorted(spans.first, tokens.stop)),
        )
        return frozenset(
            token for n in near for token in range(int(spans.first[n]), int(spans.last[n]) + 1)
        )

    def beside(self, token: int, rows: int) -> int:
        """Return the token that many rows further down, in the same column."""
        if self._rows is None:
            return token
        row = self._rows.row_of(token) + rows
        middle = self._rows.column_of(token) + max(int(self._rows.cells[token]) // 2, 0)
        if row < 0:
            return 0
        if row >= len(self._rows):
            return len(self._rows.corpus) - 1
        return self._rows.token_at(row, middle)

    def on_click(self, event: events.Click) -> None:
        if self._rows is not None and len(self._rows):
            row = self._top + event.y // (1 + self._marked)
            self.post_message(TokenPicked(self._rows.token_at(row, event.x)))

    def on_mouse_scroll_down(self) -> None:
        self.post_message(TokenPicked(self.beside(self._token, 3)))

    def on_mouse_scroll_up(self) -> None:
        self.post_message(TokenPicked(self.beside(self._token, -3)))


class HeatLegend(Canvas):
    """The scale: the shown value, and the bounds of its levels; then what a search found."""

    def __init__(self) -> None:
        super().__init__()
        self._scale = KL
        self._notes: tuple[str, ...] = ()

    def show(self, scale: Scale, notes: tuple[str, ...]) -> None:
        """Take the scale, and what to say next to it; of that as much as fits."""
        self._scale, self._notes = scale, notes
        self.redraw()

    def paint(self, width: int, height: int) -> list[Line]:
        look, scale = self.look, self._scale
        line: Line = [(f" {scale.title} ", look.palette.text)]
        n = len(scale.edges)
        for level in (*(range(-n, 0) if scale.signed else ()), *range(1, n + 1)):
            edge = f"{scale.edges[abs(level) - 1]:g}"
            sign = "-" if level < 0 else "+" if scale.signed else ""
            mark = scale.mark(level, look)
            line.append((f" {mark}{sign}{edge} ", scale.style(level, look)))
        right: Line = []
        for note in self._notes:
            said = (f"  {look.visible(note)} ", look.palette.accent)
            if line_width([*line, *right, said]) <= width:
                right.append(said)
        return [spread(line, right, width, self.look.more)]
