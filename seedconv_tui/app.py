"""The terminal monitor: polls a study and hands what it reads to the screens."""

from __future__ import annotations

import os
import time
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

from textual.app import App, SystemCommand
from textual.binding import Binding

from seedconv_tui.details import Answered, Details
from seedconv_tui.screens.base import StudyScreen
from seedconv_tui.screens.categories import CategoriesScreen
from seedconv_tui.screens.curves import CurvesScreen
from seedconv_tui.screens.help import help_lines
from seedconv_tui.screens.reader import ReaderScreen
from seedconv_tui.screens.runs import RunsScreen
from seedconv_tui.screens.seeds import SeedsScreen
from seedconv_tui.screens.tokens import TokensScreen
from seedconv_tui.source import Arrived, Crashed, Feed, Troubled
from seedconv_tui.theme import DARK, LIGHT, PALETTES, Look
from seedconv_tui.wire import lean_driver
from store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from textual.driver import Driver
    from textual.message import Message
    from textual.screen import Screen

    from seedconv_tui.source import SnapshotSource

SCREENS: tuple[type[StudyScreen], ...] = (
    RunsScreen,
    CurvesScreen,
    CategoriesScreen,
    TokensScreen,
    SeedsScreen,
)
"""The screens, in the order of their number keys."""

_QUIT = "leave; an engine that is at work goes on"


class SeedconvApp(App[None], inherit_bindings=False):
    """Shows one study, live, until told to quit."""

    TITLE = "seedconv"
    CSS_PATH = "app.tcss"
    DEFAULT_MODE = RunsScreen.NAME
    ENABLE_COMMAND_PALETTE = True
    BINDINGS = [
        *(
            Binding(str(number), f"show_screen('{screen.NAME}')", screen.NAME)
            for number, screen in enumerate(SCREENS, start=1)
        ),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="this help"),
        Binding("P", "pause", "Pause", show=False, tooltip="stop or resume updates"),
        Binding("t", "theme", "Theme", show=False, tooltip="dark or light"),
        Binding("q,ctrl+q,ctrl+c", "quit", "Quit", key_display="q", tooltip=_QUIT),
    ]

    def __init__(
        self,
        source: SnapshotSource,
        *,
        clock: Callable[[], float] = time.time,
        poll_seconds: float = 1.0,
        ascii: bool = False,  # noqa: A002  the name of the command's option
    ) -> None:
        """Makes the app; `run` starts it.

        Args:
            source: Where the study is read from.
            clock: The present as unix time.
            poll_seconds: Time between two readings.
            ascii: Send ASCII only.
        """
        # Without colours Textual would use greys; with the terminal's own it sends none at all.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.feed = Feed(now=clock())
        self.details = Details(source, self.post_message)
        self._source = source
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._ascii = ascii
        self.reading: Thread | None = None
        self.use_command_palette = not ascii  # it is drawn by Textual, and not in ASCII
        for theme in (DARK, LIGHT):
            self.register_theme(theme)
        self.theme = DARK.name
        self._look = self._look_of(DARK.name)
        for screen in SCREENS:
            self.add_mode(screen.NAME, partial(screen, self.feed))

    @property
    def look(self) -> Look:
        """How things are drawn just now."""
        return self._look

    def get_driver_class(self) -> type[Driver]:
        """The terminal as Textual knows it, sent fewer bytes."""
        return lean_driver(super().get_driver_class())

    def on_mount(self) -> None:
        self.set_class(self._ascii, "-ascii")
        self.poll()
        self.set_interval(self._poll_seconds, self.poll)

    def poll(self) -> None:
        """Asks the source for a snapshot, unless paused or the last question is still open."""
        if self.feed.paused:
            return
        self.feed.now = self._clock()
        if self.reading is None:
            # A daemon of our own: a store that hangs (NFS) must not keep the app from quitting.
            self.reading = Thread(target=self._read, name="snapshot", daemon=True)
            self.reading.start()
        else:
            self._show()

    def _read(self) -> None:
        """Runs in the thread; only posts what came of it."""
        try:
            message: Message = Arrived(self._source.snapshot())
        except (StoreError, OSError) as error:
            message = Troubled(str(error) or type(error).__name__)
        except Exception as error:  # a bug of ours: the app ends with its traceback
            message = Crashed(error)
        try:
            self.post_message(message)
        except RuntimeError:  # the event loop ended while the store was being read
            return

    def on_crashed(self, message: Crashed) -> None:
        """Raises in the event loop what the reading thread must not swallow."""
        self.reading = None
        raise message.error

    def on_arrived(self, message: Arrived) -> None:
        """Takes a reading; what is on screen changes only if the study did."""
        self.reading = None
        self.feed.now = self._clock()
        self.feed.accept(message.snapshot)
        self.details.retry()
        self._show()

    def on_answered(self, message: Answered) -> None:
        """Takes details that a screen has asked for."""
        self.details.take(message)
        self._show()

    def on_troubled(self, message: Troubled) -> None:
        """Keeps what is on screen, and says that it could not be read again."""
        self.reading = None
        self.feed.now = self._clock()
        self.feed.trouble = message.reason
        self._show()

    def _show(self) -> None:
        screen = self.screen_stack[0]
        if isinstance(screen, StudyScreen):
            screen.show_feed()

    def action_show_screen(self, name: str) -> None:
        """Goes to a screen."""
        self.switch_mode(name)

    def on_categories_screen_opened(self, message: CategoriesScreen.Opened) -> None:
        """Goes to a token."""
        self.show_token(message.model, message.step, message.token)

    def show_token(self, model: str, step: int | None, token: int) -> None:
        """Goes to a token of the text on its own screen; step None: the latest."""
        self.switch_mode(TokensScreen.NAME)
        screen = self.screen_stack[0]
        if isinstance(screen, TokensScreen):
            screen.show_token(model, step, token)

    def action_pause(self) -> None:
        """Stops or resumes reading the study."""
        self.feed.paused = not self.feed.paused
        self._show()
        self.poll()

    def action_theme(self) -> None:
        """Changes between dark and light."""
        self.theme = LIGHT.name if self.theme == DARK.name else DARK.name

    def watch_theme(self, name: str) -> None:
        """Chooses the palette that belongs to the theme."""
        self._look = self._look_of(name)

    def _look_of(self, theme: str) -> Look:
        palette = PALETTES.get(theme, PALETTES[DARK.name])
        few = self.console.color_system == "standard"
        return Look(palette.for_sixteen if few else palette, self._ascii)

    def action_help(self) -> None:
        """Lists the keys."""
        self.push_screen(ReaderScreen("keys", help_lines(self.screen, self.look)))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """What the command palette offers."""
        for number, other in enumerate(SCREENS, start=1):
            go = partial(self.switch_mode, other.NAME)
            yield SystemCommand(other.NAME, f"go to this screen; its key is {number}", go)
        yield SystemCommand("Pause or resume", "stop or resume updates", self.action_pause)
        yield SystemCommand("Theme", "change between dark and light", self.action_theme)

        yield SystemCommand("Keys", "list what each key does", self.action_help)
        yield SystemCommand("Quit", _QUIT, self.exit)
