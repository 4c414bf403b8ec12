"""Rows of facts: the first of each row in bold, then as many of the others as fit."""

from __future__ import annotations

from seedconv_tui.monitor.common.canvas import Canvas, Line, line_width


class Facts(Canvas):
    """A row for each list of facts, in the order in which they matter."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[list[str]] = []

    def show(self, *rows: list[str]) -> None:
        """Take the facts; they may hold text from outside."""
        self._rows = list(rows)
        self.redraw()

    @property
    def text(self) -> str:
        """All of the facts; a row of them to a line."""
        return "\n".join(", ".join(filter(None, row)) for row in self._rows)

    def paint(self, width: int, height: int) -> list[Line]:
        look, palette = self.look, self.look.palette
        lines = []
        for first, *facts in self._rows:
            line: Line = [(" " + look.shorten(look.visible(first), width - 1), palette.strong)]
            for fact in map(look.visible, facts):
                if line_width([*line, (look.dot + fact, palette.text)]) <= width:
                    line.append((look.dot + fact, palette.text))
            lines.append(line)
        return lines
