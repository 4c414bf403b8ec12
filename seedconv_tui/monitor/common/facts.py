"""Rows of facts: the first in bold, then as many others as fit; a sign stands for the rest."""

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
            parts = [(look.dot + look.visible(fact), palette.text) for fact in facts]
            if line_width([*line, *parts]) <= width:
                line += parts
            else:
                more = (f" {look.more}", palette.dim)
                for part in parts:
                    if line_width([*line, part, more]) <= width:
                        line.append(part)
                if line_width([*line, more]) <= width:
                    line.append(more)
            lines.append(line)
        return lines
