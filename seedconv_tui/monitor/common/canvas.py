"""The widget that all others here are: lines of styled text; only changes are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    from seedconv_tui.monitor.common.theme import Appearance, HasLook

_AGAIN_SECONDS = 0.03

Line = list[tuple[str, Style]]
"""One row: runs of text with their style. Text is never read as markup."""


def line_width(line: Line) -> int:
    """Return cells that a line takes."""
    return Strip(Segment(text) for text, _ in line).cell_length


def cut(line: Line, width: int, more: str) -> Line:
    """Return a line of at most `width` cells; where more than blanks is cut off, `more` says so."""
    strip = Strip(Segment(text, style) for text, style in line)
    if strip.cell_length <= width:
        return line
    if width < 1:
        return []
    kept = strip.crop(0, width)
    if strip.crop(width).text.strip():
        ends_in = list(kept)[-1].style  # of what is cut: its colour goes on
        kept = Strip([*strip.crop(0, width - 1), Segment(more, ends_in)])
    return [(segment.text, segment.style or Style()) for segment in kept]


def spread(left: Line, right: Line, width: int, more: str) -> Line:
    """Return `left` and `right` at the two ends of a row.

    `left` is cut where they would meet, and ends in `more` (`Appearance.more`) if it is.
    """
    room = max(0, width - line_width(right))
    left = cut(left, room, more)
    last = left[-1][1] if left else Style()
    between = Style() if last.bgcolor else last  # its ground ends with it
    return [*left, (" " * (room - line_width(left)), between), *right]


def scrolled(first: int, chosen: int, shown: int, n: int) -> int:
    """Return the first of those shown, moved just so far that the chosen one is among them."""
    return max(0, min(max(min(first, chosen), chosen - shown + 1), n - shown))


class Canvas(Widget):
    """Draws what `paint` returns. Call `redraw` when that may have changed."""

    ALLOW_SELECT = False
    _lines: list[Strip]
    _drawn_for: object = None
    _queued = False

    @property
    def look(self) -> Appearance:
        """Return how things are drawn just now."""
        return cast("HasLook", self.app).look

    def paint(self, width: int, height: int) -> list[Line]:
        """Return the rows to show, at most `height`; longer ones are cut, which is seen."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Paint again soon: once, however often it is called until then."""
        if not self._queued and self.is_attached:
            self._queued = True
            self.call_later(self._redraw_now)

    def render_line(self, y: int) -> Strip:
        """Return one row of the widget."""
        self._ensure_drawn()
        return self._lines[y]

    def _context_key(self) -> object:
        return (self.size, self.look, self.rich_style)

    def _ensure_drawn(self) -> None:
        if self._drawn_for != (key := self._context_key()):
            self._lines = self._draw()
            self._drawn_for = key

    def _draw(self) -> list[Strip]:
        width, height = self.size
        base, more = self.rich_style, self.look.more
        lines = (cut(line, width, more) for line in self.paint(width, height)[:height])
        strips = [
            Strip(Segment(text, base + style) for text, style in line).adjust_cell_length(
                width, base
            )
            for line in lines
        ]
        return strips + [Strip.blank(width, base)] * (height - len(strips))

    def _redraw_now(self) -> None:
        if cast("HasLook", self.app).behind:  # over a slow line: the newest, not all in between
            self.set_timer(_AGAIN_SECONDS, self._redraw_now)
            return
        self._queued = False
        if not self.is_attached or not self.size:
            self._drawn_for = None  # hidden just now: what was drawn is out of date
            self.refresh()  # also what Textual keeps of it, to show it again at the same size
            return
        if self._drawn_for != self._context_key():
            self._ensure_drawn()
            self.refresh()
            return
        old, self._lines = self._lines, self._draw()
        changed = [
            Region(0, y, _changed_cells(was, now), 1)
            for y, (was, now) in enumerate(zip(old, self._lines, strict=True))
            if was != now
        ]
        if changed:
            self.refresh(*changed)


def _changed_cells(was: Strip, now: Strip) -> int:
    """Return cells up to and with the last one that differs.

    Only the end is worth knowing: Textual sends a row from the widget's left edge on.
    """
    if was.cell_length != now.cell_length:
        return max(was.cell_length, now.cell_length)
    end = now.cell_length
    for a, b in zip(reversed(list(was)), reversed(list(now)), strict=False):
        if a != b:
            break
        end -= a.cell_length
    return max(end, 1)
