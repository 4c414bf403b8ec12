"""Tokens: the text as a heat map at a step, and what the seeds make of the chosen token."""

from __future__ import annotations

import numpy as np
from textual.binding import Binding

from seedconv_tui.monitor.common.chart_widget import ChartView
from seedconv_tui.monitor.common.search import SearchBar
from seedconv_tui.monitor.common.step_picker import STEP_KEYS
from seedconv_tui.monitor.tokens.heat import SCALES, next_in_rank
from seedconv_tui.monitor.tokens.heat_text import HeatText, TokenPicked
from seedconv_tui.monitor.tokens.panel import PANELS, TokenPanel
from seedconv_tui.monitor.tokens.tokens_view import TokensView

_FAR = 10**9  # tokens: further than any text is long


class TokensScreen(TokensView):
    """The text, its legend, the chosen token in a row, and the panel on it."""

    NAME = "Tokens"
    AUTO_FOCUS = ""
    BINDINGS = [
        Binding("left,h", "move(-1)", "Token", key_display="arrows", tooltip="token before"),
        Binding("right,l", "move(1)", "Token on", show=False, tooltip="next token"),
        Binding("up,k", "row(-1)", "Row up", show=False, tooltip="row above"),
        Binding("down,j", "row(1)", "Row down", show=False, tooltip="row below"),
        Binding("pageup", "page(-1)", "Page up", show=False, tooltip="a page up"),
        Binding("pagedown,space", "page(1)", "Page down", show=False, tooltip="a page down"),
        Binding("home,g", f"move({-_FAR})", "Start", show=False, tooltip="first token"),
        Binding("end,G", f"move({_FAR})", "End", show=False, tooltip="last token"),
        STEP_KEYS[0],
        Binding("m", "metric", "Metric", tooltip="KL, surprisal, change, KL by entry"),
        Binding("x", "highest(True)", "Highest", tooltip="the highest, then the next highest"),
        Binding("X", "highest(False)", "Higher", show=False, tooltip="the next higher"),
        Binding("slash", "search", "Search", key_display="/", tooltip="search the text"),
        Binding("n", "match(1)", "Next match", show=False, tooltip="next match"),
        Binding("N", "match(-1)", "Match before", show=False, tooltip="match before"),
        Binding("tab", "panel", "Panel", key_display="tab", tooltip="what is shown below the text"),
        Binding("p", "pin", "Pin", tooltip="pin this step: changes are since then; again: unpin"),
        Binding("b", "marks", "Marks", tooltip="signs below the text, for those without colours"),
        Binding("w", "lines", "Lines", tooltip="the text reflowed, or with its own lines"),
        Binding("shift+left,H", "seed(-1)", "Seed", show=False, tooltip="seed to the left"),
        Binding("shift+right,L", "seed(1)", "Seed right", show=False, tooltip="seed to the right"),
        *STEP_KEYS[1:-1],
        Binding("0", "follow", "Follow", tooltip="the latest step, and new ones as they come"),
        Binding("escape", "back", "Back", show=False, tooltip="end the search; then follow"),
    ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only the keys that would do something now."""
        if action == "match":
            return bool(self._pattern)
        if action == "back":
            return bool(self._pattern) or self._held is not None
        return super().check_action(action, parameters)

    def _go_to(self, token: int) -> None:
        if self._rows is not None:
            self._token = min(max(token, 0), len(self._rows.corpus) - 1)
            self.draw()

    def action_move(self, tokens: int) -> None:
        """Go to a token before or after."""
        self._go_to(self._token + tokens)

    def action_row(self, rows: int) -> None:
        """Go up or down."""
        self._go_to(self.query_one(HeatText).beside(self._token, rows))

    def action_page(self, pages: int) -> None:
        """Go up or down by what is seen at once."""
        text = self.query_one(HeatText)
        self._go_to(text.beside(self._token, pages * max(text.page - 2, 1)))

    def on_token_picked(self, message: TokenPicked) -> None:
        self._go_to(message.token)

    def on_chart_view_pointed(self, message: ChartView.Pointed) -> None:
        self.hold_nearest(message.step)

    def action_metric(self) -> None:
        """Show the next of the scales."""
        self._metric = (self._metric + 1) % len(SCALES)
        self._ranked = -1
        self.draw()

    def action_pin(self) -> None:
        """Count changes from this step on, or from the step before again."""
        model = self.model
        step = self.step_of(model) if model else None
        self._pinned = None if self._pinned is not None else step
        self.draw()

    def action_marks(self) -> None:
        """Show or hide the signs below the text."""
        look = self.query_one(HeatText).look
        shown = self._marked if self._marked is not None else look.ascii or self.app.no_color
        self._marked = not shown
        self.draw()

    def action_lines(self) -> None:
        """Break rows at every line break of the text, or not."""
        self._keep_lines = not self._keep_lines
        self.draw()

    def action_panel(self) -> None:
        """Show something else of the token; where all of it is seen, that or the text alone."""
        wide = self.query_one(TokenPanel).has_class("-wide")
        last = len(PANELS) - 1
        self._panel = (
            (0 if self._panel == last else last) if wide else (self._panel + 1) % (last + 1)
        )
        self.draw()

    def action_seed(self, count: int) -> None:
        """Choose a seed of the panel."""
        if (model := self.model) is not None and model.seeds:
            at = min(max(self._seed_of(model) + count, 0), len(model.seeds) - 1)
            self._seed = model.seeds[at]
            self.draw()

    def action_highest(self, down: bool) -> None:
        """Go to the highest value (of a change, the largest), then to the next one down."""
        model = self.model
        step = self.step_of(model) if model else None
        if model is None or step is None:
            return
        values, _ = self._values(model, step, [])
        if values is None:
            return
        size = np.abs(np.nan_to_num(values))
        here = int(np.argmax(size))
        if self._ranked == self._token:
            here = next_in_rank(size, self._token, down=down)
        self._ranked = here
        self._go_to(here)

    def action_back(self) -> None:
        """End the search, or hold the step no longer."""
        if self._pattern:
            self._pattern = ""
            self.draw()
        else:
            self.action_follow()

    def action_search(self) -> None:
        """Open the line to type in."""
        self.query_one(SearchBar).open()

    def on_search_bar_asked(self, message: SearchBar.Asked) -> None:
        self._pattern, self._seeking = message.text, bool(message.text)
        self.draw()

    def action_match(self, count: int) -> None:
        """Go to the next or the last match, from one end of the text to the other."""
        self._go_to_match(count)
        self.draw()
