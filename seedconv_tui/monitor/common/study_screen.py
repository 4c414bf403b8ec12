"""The base of all screens: the bars at their edges, and the text shown without data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from textual.containers import Vertical
from textual.message import Message
from textual.screen import Screen

from seedconv_tui.monitor.common.bars import Banner, KeyBar, Notice, TopBar
from seedconv_tui.monitor.common.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from textual.app import ComposeResult
    from textual.widget import Widget

    from seedconv_tui.monitor.data.details import Details
    from seedconv_tui.monitor.data.feed import Feed
    from seedconv_tui.monitor.data.remembered import Remembered
    from seedconv_tui.monitor.data.watched_studies import Studies
    from store.schema import StudySnapshot

MIN_WIDTH, MIN_HEIGHT = 60, 16
"""The smallest terminal that the screens are laid out for."""


Columns = dict[str, Any]
"""The data behind a view: column -> list or array, (row,) each."""


class HasStudies(Protocol):
    """An app that watches studies."""

    studies: Studies


class GoTo(Message):
    """Another screen is asked for, of the same study, and what it should show there."""

    def __init__(self, screen: str, state: Mapping[str, Any]) -> None:
        """Take the screen's name, and what its `show_state` takes."""
        self.screen, self.state = screen, state
        super().__init__()


class StudyScreen(Screen[None], inherit_bindings=False):
    """A full screen on the study. A new one needs `NAME`, `compose_body` and `show_study`."""

    NAME: ClassVar[str]

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.feed = feed

    def compose(self) -> ComposeResult:
        yield TopBar(self.NAME)
        yield Banner()
        yield Notice(id="notice")
        with Vertical(id="body"):
            yield from self.compose_body()
        yield KeyBar()

    def compose_body(self) -> Iterable[Widget]:
        """Return the widgets between the bars."""
        raise NotImplementedError

    def show_study(self, snapshot: StudySnapshot) -> None:
        """Take the study as it is now."""
        raise NotImplementedError

    @property
    def snapshot(self) -> StudySnapshot | None:
        """The study as the screen shows it; None while too little is known."""
        return self.feed.snapshot

    @property
    def details(self) -> Details:
        """Return what is read beyond the snapshot."""
        return cast("HasStudies", self.app).studies.details_of(self.feed)

    @property
    def crumbs(self) -> tuple[str, ...]:
        """Return what is open on the screen, from the outside in; may be untrusted."""
        return ()

    @property
    def trouble(self) -> str:
        """Why what is shown could not be read again; empty: it could."""
        return self.feed.trouble if self.snapshot is not None else ""

    def state(self) -> dict[str, Any]:
        """Return what was chosen here, for the next session; nothing but what JSON can hold."""
        return {}

    def restore(self, kept: Remembered) -> None:
        """Take what `state` gave in another session; called before there are data, or widgets."""

    def show_state(self, state: Remembered) -> None:
        """Go to what another screen asks for by `GoTo`; called before the next drawing."""

    def show_current_study(self) -> bool:
        """Show the study that was made the current one; return False if another screen must."""
        return False

    def table(self) -> Columns | None:
        """Return the data behind the view; None: there are none."""
        return None

    def chosen_text(self) -> str:
        """Return what is under the cursor, in words; empty: nothing. It may be untrusted."""
        return "\n".join(facts.text for facts in self.query(Facts) if facts.display)

    def on_mount(self) -> None:
        self.show_feed()

    def on_screen_resume(self) -> None:
        self.show_feed()

    def say(self, words: str, *, bad: bool = False) -> None:
        """Say in the bottom row what was done, or why it was not."""
        self.query_one(KeyBar).say(words, bad=bad)

    def on_key(self) -> None:
        self.query_one(KeyBar).be_silent()

    def on_resize(self) -> None:
        self._say_what_is_missing()

    def show_feed(self) -> None:
        """Show what is known now; called whenever that, or how fresh it is, has changed."""
        if not self.is_mounted:
            return
        self.query_one(TopBar).show(self.feed, self.crumbs)
        self.query_one(Banner).show(self.trouble)
        self.query_one(KeyBar).warn(self.feed.alerts.waiting)
        self._say_what_is_missing()
        if (snapshot := self.snapshot) is not None:
            self.show_study(snapshot)

    def _say_what_is_missing(self) -> None:
        width, height = self.app.size
        tiny = width < MIN_WIDTH or height < MIN_HEIGHT
        self.set_class(tiny, "-tiny")
        text = self._missing()
        if tiny:
            need = f"needs {MIN_WIDTH}x{MIN_HEIGHT}"
            text = ("too small", f"{width}x{height}", need)
        self.query_one("#body").display = not text
        notice = self.query_one("#notice", Notice)
        notice.display = bool(text)
        notice.say(*text)

    def _missing(self) -> tuple[str, ...]:
        snapshot = self.snapshot
        if snapshot is None and self.feed.trouble:
            what = "there is no study yet" if self.feed.absent else "the study cannot be read"
            return what, self.feed.trouble, "trying again, all the time"
        if snapshot is None:
            return ("reading the study",)
        if not snapshot.models:
            if snapshot.engine is None:
                return (
                    "no engine has run yet",
                    "this study holds no checkpoints; score them with",
                    "seedconv run STUDY.toml",
                )
            return "waiting for the first checkpoint", "the engine has planned none yet"
        return ()
