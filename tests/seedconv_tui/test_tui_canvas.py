"""What a canvas shows is what it was given last."""

from __future__ import annotations

from rich.style import Style
from textual.app import App, ComposeResult
from textual.containers import Container

from seedconv_tui.monitor.common.canvas import Canvas, Line
from seedconv_tui.monitor.common.theme import PALETTES, Appearance


class Words(Canvas):
    """Shows some words."""

    words = "before"

    def paint(self, width: int, height: int) -> list[Line]:
        return [[(self.words, Style())]]


class Hiding(App[None]):
    """A canvas in a box that can be hidden."""

    look, behind = Appearance(next(iter(PALETTES.values())), ascii=True), False

    def compose(self) -> ComposeResult:
        with Container():
            yield Words()

    @property
    def text(self) -> str:
        """The first row as it is shown."""
        return self.screen._compositor.render_strips()[0].text.strip()


async def test_what_changes_while_it_is_hidden_is_shown_afterwards() -> None:
    app = Hiding()
    async with app.run_test(size=(20, 4)) as pilot:
        box, words = app.query_one(Container), app.query_one(Words)
        assert app.text == "before"
        for hidden in (box, words):
            hidden.display = False
            await pilot.pause()
            assert not app.text
            words.words = f"after {type(hidden).__name__}"
            words.redraw()
            await pilot.pause()
            hidden.display = True
            await pilot.pause()
            assert app.text == words.words
