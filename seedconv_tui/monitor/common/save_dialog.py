"""A small window that asks what the view is to be saved as."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen

from seedconv_tui.monitor.common.bars import KeyBar
from seedconv_tui.monitor.common.canvas import Canvas, Line

if TYPE_CHECKING:
    from textual.app import ComposeResult

_KINDS = (
    ("SVG", "s", "the screen as a picture"),
    ("CSV", "c", "the data behind it"),
    ("text", "t", "the screen as plain characters"),
)


class Kinds(Canvas):
    """A row for each of them."""

    chosen = 0

    def paint(self, width: int, height: int) -> list[Line]:
        look, palette = self.look, self.look.palette
        lines: list[Line] = [[(" save this view as", palette.strong)]]
        for number, (name, key, words) in enumerate(_KINDS):
            here = number == self.chosen
            mark = look.pick("▸", ">") if here else " "
            style = palette.strong if here else palette.text
            head: Line = [(f" {mark} {key} ", palette.accent), (f"{name:<5}", style)]
            lines.append([*head, (f" {words}", palette.dim)])
        return lines


class ExportScreen(ModalScreen[str | None], inherit_bindings=False):
    """Gives one of `seedconv_tui.monitor.common.saving.SUFFIXES`; None: it was left."""

    BINDINGS = [
        Binding("down,j", "move(1)", "Choose", key_display="arrows", tooltip="next"),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("enter", "take", "Save"),
        *(Binding(key, f"save('{name}')", name, show=False) for name, key, _ in _KINDS),
        Binding("escape,q,e", "leave", "Close", key_display="esc"),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(id="export"):
            yield Kinds()
            yield KeyBar()

    def action_move(self, count: int) -> None:
        """Choose another."""
        kinds = self.query_one(Kinds)
        kinds.chosen = (kinds.chosen + count) % len(_KINDS)
        kinds.redraw()

    def action_take(self) -> None:
        """Take the one that is chosen."""
        self.dismiss(_KINDS[self.query_one(Kinds).chosen][0])

    def action_save(self, kind: str) -> None:
        """Take one by its key."""
        self.dismiss(kind)

    def action_leave(self) -> None:
        """Save nothing."""
        self.dismiss(None)
