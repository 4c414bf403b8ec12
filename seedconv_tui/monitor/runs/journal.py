"""The end of the journal, filtered by level and text; it keeps its place when more arrives."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from seedconv_tui.monitor.common.canvas import Canvas, Line, line_width, spread
from seedconv_tui.monitor.data.alerts import is_alert
from store.schema import JournalEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedconv_tui.monitor.common.theme import Appearance

FILTERS: tuple[tuple[str, Callable[[JournalEntry], bool]], ...] = (
    ("all", lambda entry: True),
    ("warnings and errors", lambda entry: entry.level in ("warning", "error")),
    ("errors", lambda entry: entry.level == "error"),
    ("alerts", is_alert),
)
"""What can be chosen: its name, and which entries it lets through."""


def journal_line(entry: JournalEntry, look: Appearance) -> Line:
    """Return one entry as a row: time, level, text."""
    palette = look.palette
    level = look.visible(entry.level)
    return [
        (time.strftime(" %m-%d %H:%M:%S ", time.localtime(entry.time)), palette.faint),
        (f"{level:<7.7} ", palette.level(entry.level)),
        (look.visible(entry.text), palette.text),
    ]


class JournalPanel(Canvas):
    """A title, then as many of the latest entries as fit."""

    def __init__(self, chosen: int = 0) -> None:
        super().__init__()
        self._entries: tuple[JournalEntry, ...] = ()
        self._filter = chosen
        self.text = ""  # what entries must hold, in whatever case
        self._back = 0  # entries between the last one shown and the latest

    @property
    def filter_name(self) -> str:
        """Return which of `FILTERS` is chosen."""
        return FILTERS[self._filter][0]

    @property
    def shown(self) -> Sequence[JournalEntry]:
        """The entries that pass the filters."""
        passes, text = FILTERS[self._filter][1], self.text.casefold()
        return [entry for entry in self._entries if passes(entry) and text in entry.text.casefold()]

    def show(self, entries: tuple[JournalEntry, ...]) -> None:
        """Take the journal as it is now; what is being read stays where it is."""
        if entries is self._entries:
            return
        reading = self.shown[-1 - self._back] if self._back else None
        self._entries = entries
        if reading is not None:
            self._back = next(
                (back for back, entry in enumerate(reversed(self.shown)) if entry == reading),
                max(0, len(self.shown) - 1),  # gone from the journal: the oldest that is left
            )
        self.redraw()

    def cycle_filter(self) -> None:
        """Go on to the next level filter."""
        self._filter = (self._filter + 1) % len(FILTERS)
        self._back = 0
        self.redraw()

    def look_for(self, text: str) -> None:
        """Let through only entries that hold `text`; all of them if it is empty."""
        self.text, self._back = text, 0
        self.redraw()

    def scroll_pages(self, count: int) -> None:
        """Move by that many windows, backward when negative."""
        page = max(1, self.size.height - 1)
        furthest = max(0, len(self.shown) - page)
        self._back = min(max(self._back - count * page, 0), furthest)
        self.redraw()

    def paint(self, width: int, height: int) -> list[Line]:
        palette, look = self.look.palette, self.look
        shown = self.shown
        title = f"{look.rule * 2} journal: {FILTERS[self._filter][0]} "
        if self.text:
            title += f'with "{look.shorten(look.visible(self.text), max(width // 3, 8))}" '
        place = f" {self._back:,} newer below, PgDn " if self._back else ""
        rule = look.rule * max(0, width - len(title) - len(place))
        lines: list[Line] = [[(title, palette.dim), (rule, palette.faint), (place, palette.accent)]]
        end = len(shown) - self._back
        for entry in shown[max(0, end - height + 1) : end]:
            *head, (text, style) = journal_line(entry, look)
            room = width - line_width(head)
            lines.append([*head, (look.shorten(text, max(room, 1)), style)])
        if not shown:
            nothing = " no such entry" if self._entries else " nothing yet"
            lines.append([(nothing, palette.dim)])
        return [spread(line, [], width, self.look.more) for line in lines]
