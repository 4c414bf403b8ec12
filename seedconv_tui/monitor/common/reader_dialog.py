"""A window over the screen, to read something in full: an error, the journal, the help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen

from seedconv_tui.monitor.common.bars import KeyBar
from seedconv_tui.monitor.common.pager import Pager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from seedconv_tui.monitor.common.canvas import Line


class ReaderScreen(ModalScreen[None], inherit_bindings=False):
    """Lines to scroll through; Escape closes it."""

    BINDINGS = [
        Binding("down,j", "scroll(1)", "Scroll", key_display="arrows", tooltip="next line"),
        Binding("up,k", "scroll(-1)", "Up", show=False, tooltip="previous line"),
        Binding("pagedown,space", "page(1)", "Next page", show=False),
        Binding("pageup", "page(-1)", "Previous page", show=False),
        Binding("home,g", "page(-10000)", "Start", show=False),
        Binding("end,G", "page(10000)", "End", show=False),
        Binding("Y", "copy", "Copy", tooltip="copy all of it"),
        Binding("escape,q,enter,question_mark", "dismiss", "Close", key_display="esc"),
    ]

    def __init__(self, title: str, lines: Sequence[Line], *, at_end: bool = False) -> None:
        super().__init__()
        self._pager = Pager(title, lines, at_end=at_end)

    def compose(self) -> ComposeResult:
        with Vertical(id="reader"):
            yield self._pager
            yield KeyBar()

    def on_key(self) -> None:
        self.query_one(KeyBar).be_silent()

    def action_copy(self) -> None:
        """Have the terminal copy the whole text."""
        self.app.copy_to_clipboard(self._pager.text)

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines."""
        self._pager.scroll_lines(lines)

    def action_page(self, pages: int) -> None:
        """Scroll by windows."""
        self._pager.scroll_pages(pages)
