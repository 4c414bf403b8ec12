"""The rows at the edges of each screen: where one is, what is wrong, which keys work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

from seedconv_tui.monitor.common.canvas import Canvas, Line, line_width, spread
from seedconv_tui.monitor.data.feed import UNREAD_AFTER
from seedconv_tui.text import duration
from store.schema import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.style import Style
    from textual.screen import Screen
    from textual.timer import Timer

    from seedconv_tui.monitor.common.theme import Appearance
    from seedconv_tui.monitor.data.alerts import Alert
    from seedconv_tui.monitor.data.feed import Feed
    from store.schema import EngineStatus

SAID_FOR = 6.0
"""Seconds for which the bottom row says what was done."""


_CRUMB = 24  # cells of a name in the path
_ROOMY = 140  # cells of a terminal in which every screen is named


def coarse(seconds: float) -> str:
    """Return a span of time in words that change seldom: whole minutes beyond the first."""
    return duration(seconds - seconds % (60 if seconds >= 60 else 10 if seconds >= 10 else 1))


def engine_words(feed: Feed, engine: EngineStatus | None, look: Appearance) -> tuple[str, Style]:
    """Return what the engine does, in a word or two, and how good that is."""
    palette = look.palette
    if engine is None:
        return "no engine has run yet", palette.dim
    if feed.is_silent(engine):
        return f"silent for {coarse(feed.silence())}", palette.warn
    style = {"failed": palette.bad, "stopped": palette.warn, "finished": palette.good}
    return look.visible(engine.state), style.get(engine.state, palette.accent)


class TopBar(Canvas):
    """Study, screen and where one is in it on the left, how live this is on the right."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place
        self._feed: Feed | None = None
        self._crumbs: tuple[str, ...] = ()

    def show(self, feed: Feed, crumbs: tuple[str, ...] = ()) -> None:
        """Take what is known now, and what is open on the screen, from the outside in."""
        self._feed, self._crumbs = feed, crumbs
        self.redraw()

    def paint(self, width: int, height: int) -> list[Line]:
        palette = self.look.palette
        right = self._status()
        crumbs = [self.look.shorten(self.look.visible(crumb), _CRUMB) for crumb in self._crumbs]
        place = " > ".join([self._place, *crumbs])
        room = width - line_width(right) - cell_len(place) - 6
        name = "seedconv"
        if self._feed and self._feed.progress:
            name = self.look.visible(self._feed.progress.name)
        left: Line = [
            (" " + self.look.shorten(name, max(room, 4)), palette.strong),
            (" > ", palette.dim),
            (place, palette.accent),
        ]
        return [spread(left, right, width, self.look.more)]

    def _status(self) -> Line:
        feed, palette = self._feed, self.look.palette
        if feed is None:
            return []
        if feed.paused:
            return [("paused, P resumes ", palette.warn)]
        if feed.progress is None:
            return []
        if feed.trouble or feed.unread() > UNREAD_AFTER:
            return [(f"last read {coarse(feed.unread())} ago ", palette.warn)]
        words, style = engine_words(feed, feed.progress.engine, self.look)
        if feed.progress.asked_every:
            words = f"{words}, read every {duration(feed.progress.asked_every)}"
        return [(("engine " if feed.is_silent_now else "") + words + " ", style)]


class Banner(Canvas):
    """One row that says what is wrong; not there while nothing is."""

    _text = ""

    def show(self, text: str) -> None:
        """Take what is wrong; empty: nothing is."""
        self._text = text
        self.display = bool(text)
        self.redraw()

    def paint(self, width: int, height: int) -> list[Line]:
        text = f" {self.look.sign(State.FAILED)} {self.look.visible(self._text)}"
        return [[(self.look.shorten(text, width), self.look.palette.bad)]]


class KeyBar(Canvas):
    """The keys that work now: the screen's as far as they fit, then those that always work.

    What was done that cannot be seen is said instead, for some seconds or until the next key, and
    the newest alert until it was seen: a row of its own would move, and send, all others.
    """

    _alerts: Sequence[Alert] = ()
    _said: Line | None = None
    _until: Timer | None = None

    def say(self, words: str, *, bad: bool = False) -> None:
        """Show these words for a while."""
        if self._until is not None:
            self._until.stop()
        palette = self.look.palette
        self._said = [(" " + self.look.visible(words), palette.bad if bad else palette.good)]
        self._until = self.set_timer(SAID_FOR, self.be_silent)
        self.redraw()

    def warn(self, alerts: Sequence[Alert]) -> None:
        """Take alerts that were not seen yet, the newest last."""
        if tuple(alerts) != self._alerts:
            self._alerts = tuple(alerts)
            self.redraw()

    def be_silent(self) -> None:
        """Show the keys again."""
        if self._said is not None:
            self._said = None
            self.redraw()

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, _screen: Screen[object]) -> None:
        self.redraw()

    def paint(self, width: int, height: int) -> list[Line]:
        if self._said is not None:
            return [[(self.look.shorten(text, width), style) for text, style in self._said]]
        if self._alerts:
            return [self._alert_row(self._alerts[-1], width)]
        own: list[Line] = []
        common: list[Line] = []
        screens: list[str] = []
        seen: set[str] = set()
        palette = self.look.palette
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if not binding.show or binding.action in seen:
                continue
            seen.add(binding.action)
            if width < _ROOMY and binding.action.startswith("show_screen"):
                screens.append(binding.key)
                continue
            item = [
                (" " + (binding.key_display or binding.key), palette.accent),
                (" " + binding.description + " ", palette.dim),
            ]
            (common if active.node is self.app else own).append(item)
        if len(screens) > 1:
            keys = f" {screens[0]}-{screens[-1]}"
            common.insert(0, [(keys, palette.accent), (" Screens ", palette.dim)])
        right = [run for item in common for run in item]
        room = width - line_width(right)
        left: Line = []
        for item in own:
            if line_width(left) + line_width(item) > room:
                break
            left += item
        return [spread(left, right, width, self.look.more)]

    def _alert_row(self, newest: Alert, width: int) -> Line:
        palette, look, n = self.look.palette, self.look, len(self._alerts) - 1
        more = f" (and {n} more)" if n else ""
        keys: Line = [(" A", palette.accent), (" Seen ", palette.dim)]
        room = max(width - cell_len(more) - line_width(keys), 1)
        style = palette.bad if newest.level == "error" else palette.warn
        text = look.shorten(f" ! {look.visible(newest.text)}", room)
        return spread([(text, style), (more, style)], keys, width, look.more)


class Notice(Canvas):
    """A few rows in the middle of an otherwise empty place: what is, and what to do."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002  Textual's name
        super().__init__(id=id)
        self._text: tuple[str, ...] = ()

    def say(self, *text: str) -> None:
        """Show these rows, the first of them as the heading."""
        self._text = text
        self.redraw()

    def paint(self, width: int, height: int) -> list[Line]:
        palette = self.look.palette
        rows = [self.look.visible(row) for row in self._text]
        lines: list[Line] = [[] for _ in range(max(0, (height - len(rows)) // 2))]
        for number, row in enumerate(rows):
            line = [(self.look.shorten(row, width), palette.dim if number else palette.strong)]
            lines.append([(" " * ((width - line_width(line)) // 2), palette.dim), *line])
        return lines
