"""The line in which one types what to look for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.message import Message
from textual.widgets import Input

if TYPE_CHECKING:
    from collections.abc import Sequence


class SearchBar(Input):
    """Seen only while one types; Enter searches, Escape leaves all as it was."""

    BINDINGS = [
        Binding("enter", "submit", "Search", key_display="enter"),
        Binding("escape", "leave", "Leave", key_display="esc"),
    ]

    class Asked(Message):
        """A text to look for; empty: for nothing any more."""

        def __init__(self, text: str) -> None:
            self.text = text
            super().__init__()

    def __init__(self, placeholder: str = "search the text") -> None:
        super().__init__(placeholder=placeholder, compact=True, select_on_focus=True)
        self.cursor_blink = False  # blinking is sent, byte by byte
        self.display = False

    def open(self) -> None:
        """Show the line and take the keys."""
        self.display = True
        self.focus()

    def action_leave(self) -> None:
        """Close the line."""
        self.display = False
        self.screen.set_focus(None)

    async def action_submit(self) -> None:
        """Ask for what was typed."""
        self.action_leave()
        self.post_message(self.Asked(self.value))


def step_in(text: str) -> int | None:
    """Return a step as people write it: `1000`, `1,000`, `143k`, `2M`; None: it is none."""
    found = re.fullmatch(r"(\d{1,9})([kM]?)", text.strip().replace(",", ""), re.ASCII)
    return int(found[1]) * {"": 1, "k": 1000, "M": 1_000_000}[found[2]] if found else None


def found_in(names: Sequence[str], text: str) -> str:
    """Return the name that `text` is, else the first that it is a part of; empty: none."""
    if not text:
        return ""
    sought = text.casefold()
    alike = (name for name in names if sought in name.casefold())
    return text if text in names else next(alike, "")
