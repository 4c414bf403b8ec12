"""Text that is longer than its window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text

from seedconv_tui.monitor.common.canvas import Canvas, Line, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


class Pager(Canvas):
    """A title, then lines wrapped to the width, a window of them at a time."""

    def __init__(self, title: str, lines: Sequence[Line], *, at_end: bool = False) -> None:
        super().__init__()
        self._title = title
        self._source = lines
        self._wrapped: list[Line] = []
        self._wrapped_for = 0
        self._top = 0
        self._at_end = at_end

    @property
    def text(self) -> str:
        """All of the lines."""
        return "\n".join("".join(text for text, _ in line) for line in self._source)

    def scroll_lines(self, count: int) -> None:
        """Move the window by that many rows; stop at the ends."""
        last = max(0, len(self._wrapped) - self.size.height + 2)
        self._top = min(max(self._top + count, 0), last)
        self.redraw()

    def scroll_pages(self, count: int) -> None:
        """Move the window by that many windows."""
        self.scroll_lines(count * max(1, self.size.height - 3))

    def paint(self, width: int, height: int) -> list[Line]:
        if self._wrapped_for != width:
            console = self.app.console
            self._wrapped = [row for line in self._source for row in _wrap(line, width, console)]
            self._wrapped_for = width
            if self._at_end:
                self._top, self._at_end = len(self._wrapped), False
        room = max(height - 2, 0)
        self._top = min(self._top, max(0, len(self._wrapped) - room))
        below = len(self._wrapped) - self._top - room
        palette = self.look.palette
        rest = f" {below:,} more lines" if below > 0 else ""
        title = spread(
            [(self._title, palette.accent)], [(rest, palette.dim)], width, self.look.more
        )
        rule: Line = [(self.look.rule * width, palette.faint)]
        return [title, rule, *self._wrapped[self._top : self._top + room]]


def _wrap(line: Line, width: int, console: Console) -> list[Line]:
    """Return rows of at most `width` cells; cut between words where there are any."""
    rows = Text.assemble(*line, end="").wrap(console, max(width, 1), overflow="fold")
    return [
        [(run.text, run.style or Style()) for run in row.render(console) if run.text]
        for row in rows
    ]
