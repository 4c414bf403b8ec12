"""The terminal monitor: polls a study and hands what it reads to the screens."""

from __future__ import annotations

import os
import time
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import App
from textual.binding import Binding
from textual.driver import Driver

from seedconv_tui.chart import Glyphs
from seedconv_tui.monitor.clipboard import osc52
from seedconv_tui.monitor.common import saving
from seedconv_tui.monitor.common.bars import KeyBar
from seedconv_tui.monitor.common.help import commands, help_lines
from seedconv_tui.monitor.common.reader_dialog import ReaderScreen
from seedconv_tui.monitor.common.save_dialog import ExportScreen
from seedconv_tui.monitor.common.study_screen import GoTo, StudyScreen
from seedconv_tui.monitor.common.theme import DARK, LIGHT, PALETTES, Appearance
from seedconv_tui.monitor.common.tour import lead
from seedconv_tui.monitor.data.details import Answered, Details
from seedconv_tui.monitor.data.feed import Crashed, Feed
from seedconv_tui.monitor.data.remembered import Memory, Remembered
from seedconv_tui.monitor.data.watched_studies import Arrived, Studies, Troubled, Watch
from seedconv_tui.monitor.in_browser import page_driver
from seedconv_tui.monitor.job_control import stop_the_job, stoppable_driver
from seedconv_tui.monitor.lean_output import lean_driver
from seedconv_tui.monitor.screens import SCREENS, SHARED, import_all, mode_of, screen_class
from seedconv_tui.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from textual.app import SystemCommand
    from textual.screen import Screen

    from seedconv_tui.monitor.data.feed import SnapshotSource

_REMEMBER_SECONDS = 3.0
_GLYPHS = "charts of braille dots, or of half blocks"
_SEEN = "alerts were seen: show the keys again"
_STUDY = "another of the studies"
_STOP = "back to the shell; `fg` returns"
_QUIT = "leave; a working engine continues"


class SeedconvApp(App[None], inherit_bindings=False):
    """Shows a study, or several, live, until told to quit.

    Each study has screens of its own, but all of them share those that compare studies.
    """

    TITLE = "seedconv"
    CSS_PATH = "app.tcss"
    DEFAULT_MODE = SCREENS[0]
    ENABLE_COMMAND_PALETTE = True
    BINDINGS = [
        *(
            Binding(str(number), f"show_screen('{name}')", name)
            for number, name in enumerate(SCREENS, start=1)
        ),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="this help"),
        Binding("e", "export", "Export", tooltip="save the view as SVG, CSV or text"),
        Binding("Y", "copy", "Copy", show=False, tooltip="copy what is under the cursor"),
        Binding("A", "acknowledge", "Seen", show=False, tooltip=_SEEN),
        Binding("P", "pause", "Pause", show=False, tooltip="stop or resume updates"),
        Binding("a", "study", "Study", tooltip=_STUDY),
        Binding("B", "glyphs", "Glyphs", show=False, tooltip=_GLYPHS),
        Binding("t", "theme", "Theme", show=False, tooltip="dark or light"),
        Binding("ctrl+z", "suspend_process", "Stop", show=False, tooltip=_STOP),
        Binding("q,ctrl+q,ctrl+c", "quit", "Quit", key_display="q", tooltip=_QUIT),
    ]

    def __init__(
        self,
        *sources: SnapshotSource,
        clock: Callable[[], float] = time.time,
        poll_seconds: float = 1.0,
        ascii: bool = False,  # noqa: A002  the name of the command's option
        glyphs: Glyphs = Glyphs.BRAILLE,
        memory: Memory | None = None,
        tour: bool = False,
        bell: bool = False,
    ) -> None:
        """Make the app; `run` starts it.

        Args:
            sources: Where each study is read from; one or more.
            clock: The present as unix time.
            poll_seconds: Time between two readings.
            ascii: Send ASCII only.
            glyphs: What charts are drawn with, where more than ASCII may be sent.
            memory: Where it is kept what the user looks at; None: nowhere.
            tour: Begin with the tour, on the first screen.
            bell: Ring when something comes that should not be missed.
        """
        # Without colours Textual would use greys; with the terminal's own it sends none at all.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        now = clock()
        self.studies = Studies(tuple(Watch(each, self.post_message, now) for each in sources))
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._ascii = ascii
        self._glyphs = Glyphs.ASCII if ascii else glyphs
        self.saving: Thread | None = None
        self.ended_by = 0  # the number of a signal
        self.use_command_palette = not ascii  # it is drawn by Textual, and not in ASCII
        for theme in (DARK, LIGHT):
            self.register_theme(theme)
        self._memory, self._tour, self._bell = memory, tour, bell
        self._kept = Remembered({}) if memory is None else memory.load()
        self._remembered: Mapping[str, Any] = {}
        self._at_exit: Mapping[str, Any] | None = None
        self.remembering: Thread | None = None
        self._study_screens: dict[str, StudyScreen] = {}  # those that were gone to
        self.theme = LIGHT.name if self._kept.text("theme") == LIGHT.name else DARK.name
        self._look = self._look_of(self.theme)
        for number, watch in enumerate(self.studies.watches):
            for name in SCREENS:
                if name not in SHARED:
                    self._add(name, mode_of(name, number), watch.feed)
        for name in SHARED:
            self._add(name, name, self.studies)

    def _add(self, name: str, mode: str, shown: Feed | Studies) -> None:
        """Add a screen, which will be as it was left in the last session."""

        def restored() -> StudyScreen:
            make: Callable[[Any], StudyScreen] = screen_class(name)
            screen = self._study_screens[mode] = make(shown)
            screen.restore(self._kept.part("screens").part(mode))
            return screen

        self.add_mode(mode, restored)

    @property
    def look(self) -> Appearance:
        """Return how things are drawn just now."""
        return self._look

    @property
    def behind(self) -> bool:
        """Return whether the terminal has yet to take what it was sent before."""
        return bool(getattr(self._driver, "behind", False))

    def get_driver_class(self) -> type[Driver]:
        """Return the terminal as Textual knows it, sent fewer bytes, and given back to a shell."""
        return lean_driver(stoppable_driver(page_driver(super().get_driver_class())))

    def on_mount(self) -> None:
        self.set_class(self._ascii, "-ascii")
        self.poll()
        self.set_interval(self._poll_seconds, self.poll)
        if self._memory is not None:
            self.set_interval(_REMEMBER_SECONDS, self.remember)
        if self._tour:
            lead(self, self.look)
        elif (name := self._kept.text("screen")) in SCREENS:
            self.switch_mode(name)

    @property
    def feed(self) -> Feed:
        """Return what is known of the study that is shown."""
        return self.studies.shown.feed

    @property
    def details(self) -> Details:
        """Return what is read beyond that."""
        return self.studies.shown.details

    @property
    def reading(self) -> Thread | None:
        """The thread that reads the study that is shown; None: it is not being read."""
        return self.studies.shown.reading

    def poll(self) -> None:
        """Ask for snapshots, unless paused or the last question is still open."""
        if self.feed.paused:
            return
        for watch in self.studies.watches:
            watch.feed.now = self._clock()
            if not watch.poll():
                self._show()

    def on_crashed(self, message: Crashed) -> None:
        """Raise in the event loop what the reading thread must not swallow."""
        raise message.error

    def on_arrived(self, message: Arrived) -> None:
        """Take a reading; what is on screen changes only if the study did."""
        first = message.watch.feed.progress is None
        replaced = message.watch.arrived(message, self._clock())
        self._show()
        alerts = message.watch.feed.alerts
        if alerts.unheard and self._bell:
            self.bell()
        alerts.unheard = False
        if replaced:
            self.say("another study, or an older copy, is in its place now", bad=True)
        if first:  # import what the number keys will need, once the first paint is on its way
            Thread(target=import_all, daemon=True).start()

    def on_troubled(self, message: Troubled) -> None:
        """Keep what is on screen, and say that it could not be read again."""
        message.watch.troubled(message, self._clock())
        self._show()

    def on_answered(self, message: Answered) -> None:
        """Take details that a screen has asked for."""
        message.details.take(message)
        self._show()

    def _show(self) -> None:
        screen = self.screen_stack[0]
        if isinstance(screen, StudyScreen):
            screen.show_feed()

    # What is kept for the next session

    def state(self) -> dict[str, Any]:
        """Return what the user looks at, and how; of screens not visited, what was remembered."""
        kept = self._kept.part("screens")
        screens = {
            name: self._study_screens[name].state()
            if name in self._study_screens
            else kept.part(name).values
            for name in SCREENS
        }
        return {"screen": self.current_mode, "theme": self.theme, "screens": screens}

    def remember(self) -> None:
        """Keep what has changed; in a thread, because homes can be as slow as stores."""
        busy = self.remembering is not None and self.remembering.is_alive()
        if self._memory is None or busy or (state := self.state()) == self._remembered:
            return
        self._remembered = state
        self.remembering = Thread(target=self._memory.save, args=(state,), daemon=True)
        self.remembering.start()

    def exit(self, *args: Any, **kwargs: Any) -> None:
        """End the app."""
        if self._memory is not None:
            self._at_exit = self.state()
        super().exit(*args, **kwargs)

    def end_by(self, number: int, return_code: int) -> None:
        """End the app by a signal, heard at any moment in the main thread."""
        self.ended_by = number
        if self._loop is not None:
            self._loop.call_soon_threadsafe(partial(self.exit, return_code=return_code))

    def action_suspend_process(self) -> None:
        """Go back to the shell, until it continues this."""
        if self._driver is not None and self._driver.can_suspend:
            stop_the_job()

    @on(Driver.SignalResume)
    def show_again(self) -> None:
        """Draw it all: the terminal has forgotten what it showed."""
        self.refresh(layout=True)

    def remember_the_end(self) -> str:
        """Keep what was looked at last, once the app has ended; return why it could not be."""
        if self._memory is None:
            return ""
        if self.remembering is not None:
            self.remembering.join()
        if self._at_exit is not None and self._at_exit != self._remembered:
            self._memory.save(self._at_exit)
        return self._memory.trouble

    # What is done with the view

    def say(self, words: str, *, bad: bool = False) -> None:
        """Say what was done, in the bottom row."""
        for bar in self.screen.query(KeyBar):
            bar.say(words, bad=bad)

    def action_export(self) -> None:
        """Ask what to save the view as, and save it."""
        self.push_screen(ExportScreen(), self.save_view)

    def save_view(self, kind: str | None) -> None:
        """Save the view into the working directory as one of `saving.SUFFIXES`; say where."""
        screen = self.screen_stack[0]
        if kind is None or not isinstance(screen, StudyScreen):
            return
        if kind == "CSV":
            if (table := screen.table()) is None:
                self.say("there are no data behind this view yet", bad=True)
                return
            make: Callable[[], bytes] = partial(saving.csv_of, table)
        elif kind == "SVG":
            picture = self.export_screenshot(title=visible(f"{self.title}: {screen.NAME}"))
            make = picture.encode
        else:
            make = partial(saving.text_of, screen._compositor.render_strips())
        study = self.feed.snapshot.name if self.feed.snapshot else ""
        name = saving.file_name(study, screen.NAME, self._clock(), saving.SUFFIXES[kind])
        send = partial(self.deliver_binary, save_filename=name) if self.is_web else None
        arguments = name, make, self.post_message, send
        self.saving = Thread(target=saving.save, args=arguments, name="save", daemon=True)
        self.saving.start()

    def on_saved(self, message: saving.Saved) -> None:
        """Say how it went."""
        self.say(message.words, bad=message.bad)

    def action_copy(self) -> None:
        """Have the terminal copy what is under the cursor."""
        screen = self.screen_stack[0]
        if isinstance(screen, StudyScreen):
            self.copy_to_clipboard(screen.chosen_text())

    def copy_to_clipboard(self, text: str) -> None:
        """Have the terminal copy a text, made safe to paste, and say so."""
        lines = [visible(line) for line in text.splitlines()]
        if not lines or self._driver is None:
            self.say("nothing here to copy", bad=True)
            return
        self._clipboard = text = "\n".join(lines)
        try:
            self._driver.write(osc52(text))
        except ValueError as error:
            self.say(str(error), bad=True)
        else:
            self.say(f"copied: {' '.join(lines)}")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer another study only where there is one, and other glyphs only next to ASCII."""
        if action == "acknowledge":
            return bool(self.feed.alerts.waiting)
        if action == "study":
            return len(self.studies.watches) > 1
        return not (action == "glyphs" and self._ascii)

    def action_show_screen(self, name: str) -> None:
        """Go to a screen, of the study that was shown last."""
        self.switch_mode(mode_of(name, self.studies.current))

    def action_study(self) -> None:
        """Show another study on the same screen."""
        screen = self.screen_stack[0]
        self.studies.current = (self.studies.current + 1) % len(self.studies.watches)
        if isinstance(screen, StudyScreen) and not screen.show_current_study():
            self.action_show_screen(screen.NAME)

    def action_glyphs(self) -> None:
        """Change what charts are drawn with."""
        self._glyphs = Glyphs.BLOCK if self._glyphs is Glyphs.BRAILLE else Glyphs.BRAILLE
        self.watch_theme(self.theme)
        self._show()

    def on_go_to(self, message: GoTo) -> None:
        """Show another screen, with what was asked for on it."""
        self.action_show_screen(message.screen)
        screen = self.screen_stack[0]
        if isinstance(screen, StudyScreen):
            screen.show_state(Remembered(message.state))

    def action_acknowledge(self) -> None:
        """Take away what was seen."""
        self.feed.alerts.acknowledge()
        self._show()

    def action_pause(self) -> None:
        """Stop or resume reading the study."""
        paused = not self.feed.paused
        for watch in self.studies.watches:
            watch.feed.paused = paused
        self._show()
        self.poll()

    def action_theme(self) -> None:
        """Change between dark and light."""
        self.theme = LIGHT.name if self.theme == DARK.name else DARK.name

    def watch_theme(self, name: str) -> None:
        """Choose the palette that belongs to the theme."""
        self._look = self._look_of(name)

    def _look_of(self, theme: str) -> Appearance:
        palette = PALETTES.get(theme, PALETTES[DARK.name])
        few = self.console.color_system == "standard"
        return Appearance(palette.for_sixteen if few else palette, self._ascii, self._glyphs)

    def action_help(self) -> None:
        """List the keys."""
        self.push_screen(ReaderScreen("keys", help_lines(self.screen, self.look)))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Return what the command palette offers: everything that keys do just now."""
        return commands(screen)
