"""The terminal monitor: polls a study and hands what it reads to the screens."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

from textual.app import App, SystemCommand
from textual.binding import Binding

from seedconv_tui.details import Answered, Details
from seedconv_tui.glyphs import Glyphs
from seedconv_tui.screens.base import StudyScreen
from seedconv_tui.screens.categories import CategoriesScreen
from seedconv_tui.screens.curves import CurvesScreen
from seedconv_tui.screens.help import help_lines
from seedconv_tui.screens.reader import ReaderScreen
from seedconv_tui.screens.runs import RunsScreen
from seedconv_tui.screens.seeds import SeedsScreen
from seedconv_tui.screens.tokens import TokensScreen
from seedconv_tui.source import Crashed, Feed
from seedconv_tui.theme import DARK, LIGHT, PALETTES, Look
from seedconv_tui.watch import Arrived, Studies, Troubled, Watch
from seedconv_tui.wire import lean_driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from threading import Thread

    from textual.driver import Driver
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

_GLYPHS = "charts of braille dots, or of half blocks"
_STUDY = "another of the studies"
_QUIT = "leave; an engine that is at work goes on"


class SeedconvApp(App[None], inherit_bindings=False):
    """Shows a study, or several, live, until told to quit.

    Each study has screens of its own, but all of them share the one that compares: Curves.
    """

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
        Binding("a", "study", "Study", tooltip=_STUDY),
        Binding("B", "glyphs", "Glyphs", show=False, tooltip=_GLYPHS),
        Binding("t", "theme", "Theme", show=False, tooltip="dark or light"),
        Binding("q,ctrl+q,ctrl+c", "quit", "Quit", key_display="q", tooltip=_QUIT),
    ]

    def __init__(
        self,
        *sources: SnapshotSource,
        clock: Callable[[], float] = time.time,
        poll_seconds: float = 1.0,
        ascii: bool = False,  # noqa: A002  the name of the command's option
        glyphs: Glyphs = Glyphs.BRAILLE,
    ) -> None:
        """Makes the app; `run` starts it.

        Args:
            sources: Where each study is read from; one or more.
            clock: The present as unix time.
            poll_seconds: Time between two readings.
            ascii: Send ASCII only.
            glyphs: What charts are drawn with, where more than ASCII may be sent.
        """
        # Without colours Textual would use greys; with the terminal's own it sends none at all.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        now = clock()
        self.studies = Studies(tuple(Watch(each, self.post_message, now) for each in sources))
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._ascii = ascii
        self._glyphs = Glyphs.ASCII if ascii else glyphs
        self.use_command_palette = not ascii  # it is drawn by Textual, and not in ASCII
        for theme in (DARK, LIGHT):
            self.register_theme(theme)
        self.theme = DARK.name
        self._look = self._look_of(DARK.name)
        self.add_mode(CurvesScreen.NAME, partial(CurvesScreen, self.studies))
        for number, watch in enumerate(self.studies.watches):
            for screen in SCREENS:
                if screen is not CurvesScreen:
                    self.add_mode(_mode(screen.NAME, number), partial(screen, watch.feed))

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

    @property
    def feed(self) -> Feed:
        """What is known of the study that is shown."""
        return self.studies.shown.feed

    @property
    def details(self) -> Details:
        """What is read beyond that."""
        return self.studies.shown.details

    @property
    def reading(self) -> Thread | None:
        """The thread that reads the study that is shown; None: it is not being read."""
        return self.studies.shown.reading

    def poll(self) -> None:
        """Asks for snapshots, unless paused or the last question is still open."""
        if self.feed.paused:
            return
        for watch in self.studies.watches:
            watch.feed.now = self._clock()
            if not watch.poll():
                self._show()

    def on_crashed(self, message: Crashed) -> None:
        """Raises in the event loop what the reading thread must not swallow."""
        raise message.error

    def on_arrived(self, message: Arrived) -> None:
        """Takes a reading; what is on screen changes only if the study did."""
        message.watch.arrived(message, self._clock())
        self._show()

    def on_troubled(self, message: Troubled) -> None:
        """Keeps what is on screen, and says that it could not be read again."""
        message.watch.troubled(message, self._clock())
        self._show()

    def on_answered(self, message: Answered) -> None:
        """Takes details that a screen has asked for."""
        message.details.take(message)
        self._show()

    def _show(self) -> None:
        screen = self.screen_stack[0]
        if isinstance(screen, StudyScreen):
            screen.show_feed()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offers another study only where there is one, and other glyphs only beside ASCII."""
        if action == "study":
            return len(self.studies.watches) > 1
        return not (action == "glyphs" and self._ascii)

    def action_show_screen(self, name: str) -> None:
        """Goes to a screen, of the study that was shown last."""
        self.switch_mode(_mode(name, self.studies.current))

    def action_study(self) -> None:
        """Shows another study on the same screen."""
        screen = self.screen_stack[0]
        self.studies.current = (self.studies.current + 1) % len(self.studies.watches)
        if isinstance(screen, CurvesScreen):
            screen.choose_study()
        elif isinstance(screen, StudyScreen):
            self.action_show_screen(screen.NAME)

    def action_glyphs(self) -> None:
        """Changes what charts are drawn with."""
        self._glyphs = Glyphs.BLOCK if self._glyphs is Glyphs.BRAILLE else Glyphs.BRAILLE
        self.watch_theme(self.theme)
        self._show()

    def on_categories_screen_opened(self, message: CategoriesScreen.Opened) -> None:
        """Goes to a token."""
        self.show_token(message.model, message.step, message.token)

    def show_token(self, model: str, step: int | None, token: int) -> None:
        """Goes to a token of the text on its own screen; step None: the latest."""
        self.action_show_screen(TokensScreen.NAME)
        screen = self.screen_stack[0]
        if isinstance(screen, TokensScreen):
            screen.show_token(model, step, token)

    def action_pause(self) -> None:
        """Stops or resumes reading the study."""
        paused = not self.feed.paused
        for watch in self.studies.watches:
            watch.feed.paused = paused
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
        return Look(palette.for_sixteen if few else palette, self._ascii, self._glyphs)

    def action_help(self) -> None:
        """Lists the keys."""
        self.push_screen(ReaderScreen("keys", help_lines(self.screen, self.look)))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """What the command palette offers."""
        for number, other in enumerate(SCREENS, start=1):
            go = partial(self.action_show_screen, other.NAME)
            yield SystemCommand(other.NAME, f"go to this screen; its key is {number}", go)
        yield SystemCommand("Pause or resume", "stop or resume updates", self.action_pause)
        yield SystemCommand("Theme", "change between dark and light", self.action_theme)
        yield SystemCommand("Glyphs", _GLYPHS, self.action_glyphs)
        if len(self.studies.watches) > 1:
            yield SystemCommand("Study", _STUDY, self.action_study)
        yield SystemCommand("Keys", "list what each key does", self.action_help)
        yield SystemCommand("Quit", _QUIT, self.exit)


def _mode(screen: str, study: int) -> str:
    """The name under which a study's screen is kept."""
    return screen if screen == CurvesScreen.NAME or not study else f"{screen} of {study}"
