"""The tour of the first start: five keys, and each does what it always does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen

from seedconv_tui.monitor.common.bars import KeyBar
from seedconv_tui.monitor.common.pager import Pager

if TYPE_CHECKING:
    from textual import events
    from textual.app import App, ComposeResult

    from seedconv_tui.monitor.common.canvas import Line
    from seedconv_tui.monitor.common.theme import Appearance

STEPS = (
    ("2", "2", "Runs: is it running, and how far? For how far the seeds are apart, press"),
    ("left", "left arrow", "Curves: a model in a line. To read one step after the other, press"),
    ("4", "4", "Exact values are below the chart. For the tokens that seeds differ on, press"),
    ("5", "5", "Tokens: the darker, the farther apart. For the seed that is odd, press"),
    ("question_mark", "?", "Seeds: ! marks an outlier. Every screen lists its keys; press"),
)
"""A key, how it is written, and what leads to it."""


class TourScreen(ModalScreen[bool], inherit_bindings=False):
    """One step of the tour; ends with whether its key was pressed, and takes no other key."""

    BINDINGS = [Binding("escape,q", "dismiss(False)", "End the tour", key_display="esc")]

    def __init__(self, number: int, look: Appearance) -> None:
        super().__init__()
        self._key, shown, words = STEPS[number]
        palette = look.palette
        line: Line = [(f"{words} ", palette.text), (shown, palette.accent)]
        self._pager = Pager(f"tour, {number + 1} of {len(STEPS)}", [line])

    def compose(self) -> ComposeResult:
        with Vertical(id="tour"):
            yield self._pager
            yield KeyBar()

    def on_key(self, event: events.Key) -> None:
        if event.key == self._key:
            event.stop()
            self.dismiss(True)


def lead(app: App[None], look: Appearance, number: int = 0) -> None:
    """Show a step of the tour, and the next one when its key was pressed."""

    def go_on(pressed: bool | None) -> None:
        if pressed:
            app.simulate_key(STEPS[number][0])
            if number + 1 < len(STEPS):
                app.call_after_refresh(lead, app, look, number + 1)

    app.push_screen(TourScreen(number, look), go_on)
