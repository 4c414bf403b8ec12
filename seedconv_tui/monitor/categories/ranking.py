"""The tokens of a level in order, each in the text around it; only the rows seen are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.style import Style

from seedconv_tui.monitor.categories.level_table import RowPicked
from seedconv_tui.monitor.common.canvas import Canvas, Line, scrolled, spread
from seedconv_tui.monitor.common.reflow import shown
from seedconv_tui.text import nats, shorten

if TYPE_CHECKING:
    from textual import events

    from seedconv_tui.monitor.categories.level_queries import Ranked
    from store.schema import Corpus

_OWN_MOST = 24  # cells of a token's own text
_UNDERLINED = Style(underline=True)


def in_context(corpus: Corpus, token: int, width: int, ascii: bool) -> tuple[str, str, str]:  # noqa: A002
    """Return a token's text, that before it and that after it, safe to draw, `width` cells in all.

    The token stands in the middle, so that those below each other can be compared. Nothing of
    another document is shown.
    """
    document = int(corpus.document[token])
    starts = corpus.document_start
    first = int(starts[document])
    last = int(starts[document + 1]) if document + 1 < len(starts) else len(corpus.text)
    start, end = int(corpus.char_start[token]), int(corpus.char_end[token])
    own = shorten(shown(corpus.token_text(token), ascii), min(_OWN_MOST, width), ascii=ascii)
    left = max((width - cell_len(own)) * 2 // 5, 0)
    right = max(width - left - cell_len(own), 0)
    before = corpus.text[max(first, start - left) : start]
    after = corpus.text[end : min(last, end + right)]
    before = _end_of(shown(before, ascii), left) if before else ""
    after = shorten(shown(after, ascii), right, ascii=ascii) if after else ""
    return " " * (left - cell_len(before)) + before, own, after


def _end_of(text: str, width: int) -> str:
    """Return the last cells of a text; half of a wide character is left out."""
    while cell_len(text) > width:
        text = text[max(1, (cell_len(text) - width) // 2) :]
    return text


class Ranking(Canvas):
    """A row a token: its rank, KL, surprisal and place in the text."""

    def __init__(self) -> None:
        super().__init__()
        self._ranked: Ranked | None = None
        self._corpus: Corpus | None = None
        self._chosen = 0
        self._top = 0
        self._order = ""
        self._nothing = ""

    def show(
        self,
        ranked: Ranked | None,
        corpus: Corpus | None,
        chosen: int,
        *,
        order: str,
        nothing: str,
    ) -> None:
        """Take the tokens, the place of the chosen one, and what they are ranked by, in words.

        `nothing` is said while, or because, there are none.
        """
        self._ranked, self._corpus, self._chosen = ranked, corpus, chosen
        self._order, self._nothing = order, nothing
        self.redraw()

    @property
    def page(self) -> int:
        """Rows that are seen at once."""
        return max(self.size.height - 1, 1)

    def paint(self, width: int, height: int) -> list[Line]:
        palette, ranked, corpus = self.look.palette, self._ranked, self._corpus
        head: Line = [(f"{'rank':>10}{'KL':>10}{'surprisal':>10}", palette.dim)]
        head = spread(head, [(f"  {self._order} ", palette.dim)], width, self.look.more)
        if ranked is None or corpus is None or not len(ranked.tokens):
            return [head, [(f"   {self.look.visible(self._nothing)}", palette.dim)]]
        n = len(ranked.tokens)
        self._top = scrolled(self._top, self._chosen, self.page, n)
        places = range(self._top, min(self._top + self.page, n))
        return [head, *(self._row(ranked, corpus, place, width) for place in places)]

    def _row(self, ranked: Ranked, corpus: Corpus, place: int, width: int) -> Line:
        look, palette = self.look, self.look.palette
        chosen = place == self._chosen
        style = palette.strong if chosen else palette.text
        kl, surprisal = float(ranked.kl[place]), float(ranked.surprisal[place])
        numbers = f"{place + 1:>7,}{nats(kl):>10}{nats(surprisal):>10}  "
        bracketed = look.ascii or self.app.no_color
        room = max(width - 3 - len(numbers) - 2 * bracketed - 1, 1)
        before, own, after = in_context(corpus, int(ranked.tokens[place]), room, look.ascii)
        own = f"[{own}]" if bracketed else own
        return [
            (f" {look.pick('▸', '>') if chosen else ' '} ", palette.accent),
            (numbers, style),
            (before, palette.text if chosen else palette.dim),
            (own, palette.accent + _UNDERLINED),
            (after, palette.text if chosen else palette.dim),
        ]

    def on_click(self, event: events.Click) -> None:
        n = len(self._ranked.tokens) if self._ranked is not None else 0
        if 1 <= event.y <= n - self._top:
            self.post_message(RowPicked(self._top + event.y - 1))

    def on_mouse_scroll_down(self) -> None:
        self.post_message(RowPicked(self._chosen + 3))

    def on_mouse_scroll_up(self) -> None:
        self.post_message(RowPicked(self._chosen - 3))
