"""Categories: which kinds of tokens the seeds disagree on, over training and at a step."""

from __future__ import annotations

from textual.binding import Binding

from seedconv_tui.monitor.categories.categories_view import CategoriesView
from seedconv_tui.monitor.categories.level_queries import counterpart, neighbour
from seedconv_tui.monitor.categories.level_table import LevelTable, RowPicked
from seedconv_tui.monitor.categories.levels_at_step import ALL_METRICS, COMPARED, METRICS, offers
from seedconv_tui.monitor.categories.lists import TokenRows
from seedconv_tui.monitor.categories.ranking import Ranking
from seedconv_tui.monitor.common.chart_widget import ChartView
from seedconv_tui.monitor.common.search import SearchBar
from seedconv_tui.monitor.common.step_picker import STEP_KEYS
from seedconv_tui.monitor.common.study_screen import GoTo

_FAR = 10**9


class CategoriesScreen(CategoriesView):
    """The levels of a category as curves and as a table; a level's tokens once it is entered."""

    NAME = "Categories"
    AUTO_FOCUS = ""
    BINDINGS = [
        Binding("up,k", "choose(-1)", "Row", key_display="arrows", tooltip="row above"),
        Binding("down,j", "choose(1)", "Row down", show=False, tooltip="row below"),
        Binding("left,h", "step(-1)", "Step", show=False, tooltip="step before"),
        Binding("right,l", "step(1)", "Step on", show=False, tooltip="next step"),
        Binding("enter", "open", "In", key_display="enter", tooltip="into the level; its token"),
        Binding("escape", "back", "Back", key_display="esc", tooltip="out; no filter; follow"),
        Binding("c", "category(1)", "Category", tooltip="next category"),
        Binding("C", "category(-1)", "Before", show=False, tooltip="category before"),
        Binding("x", "context", "Context", tooltip="by the target, or by the token before it"),
        Binding("s", "sort", "Sort", tooltip="sort by the next column"),
        Binding("S", "reverse", "Reverse", show=False, tooltip="sort the other way round"),
        Binding("slash", "filter", "Filter", key_display="/", tooltip="only what has a text in it"),
        Binding("space", "compare", "Compare", tooltip="keep the level in the chart, in a colour"),
        Binding("m", "metric", "Metric", tooltip=", ".join(METRICS)),
        Binding("b", "band", "Band", show=False, tooltip="show or hide the 95 % interval"),
        Binding("y", "log_y", "Log", show=False, tooltip="logarithmic or linear values"),
        Binding("pageup", "page(-1)", "Page up", show=False, tooltip="a page up"),
        Binding("pagedown", "page(1)", "Page down", show=False, tooltip="a page down"),
        Binding("home,g", f"choose({-_FAR})", "Top", show=False, tooltip="first row"),
        Binding("end,G", f"choose({_FAR})", "Bottom", show=False, tooltip="last row"),
        *STEP_KEYS[:-1],
        Binding("0", "follow", "Follow", tooltip="the latest step, and new ones as they come"),
    ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only the keys that would do something now."""
        levels = self._known()
        if action == "back":
            return bool(self._inside or self._outside.pattern or self._held is not None)
        if action in ("follow", "model"):
            return super().check_action(action, parameters)
        if levels is None:
            return False
        if action == "open":
            return self._rows.chosen is not None
        if action in ("category", "compare"):
            return self._inside is None
        if action == "context" and levels is not None:
            return self._inside is None and bool(counterpart(levels.category, levels.categories))
        return True

    def _choose(self, place: int) -> None:
        self._rows.go_to(place)
        self.draw()

    def action_choose(self, count: int) -> None:
        """Choose a row above or below."""
        self._choose(self._rows.place + count)

    def action_page(self, count: int) -> None:
        """Go up or down by what is seen at once."""
        kind: type[LevelTable | Ranking] = Ranking if self._inside else LevelTable
        self.action_choose(count * max(self.query_one(kind).page - 1, 1))

    def on_row_picked(self, message: RowPicked) -> None:
        self._choose(message.place)

    def on_chart_view_pointed(self, message: ChartView.Pointed) -> None:
        self.hold_nearest(message.step)

    def action_open(self) -> None:
        """Enter the chosen level; from within one, go to the chosen token."""
        model, levels, chosen = self.model, self._known(), self._rows.chosen
        if model is None or levels is None or chosen is None or self.step_of(model) is None:
            return
        if self._inside is not None:
            state = {"model": model.name, "step": self._held, "token": chosen}
            self.post_message(GoTo("Tokens", state))
            return
        self._outside.label = levels.labels[chosen]
        self._inside = TokenRows(self._outside.label)
        self.draw()

    def action_back(self) -> None:
        """Undo the innermost of: a filter, the level that is open, the step that is held."""
        if self._rows.pattern:
            self._rows.pattern = ""
        elif self._inside is not None:
            self._inside = None
        else:
            self._held = None
        self.draw()

    def action_category(self, count: int) -> None:
        """Show the levels of another category."""
        if (levels := self._known()) is not None:
            here = self._category if self._category in levels.categories else levels.category
            self._show_category(neighbour(here, levels.categories, count))

    def action_context(self) -> None:
        """Change between the target and the token before it."""
        if (levels := self._known()) is not None:
            self._show_category(counterpart(levels.category, levels.categories))

    def _show_category(self, name: str) -> None:
        self._category, self._outside.pattern = name, ""
        self.draw()

    def action_sort(self) -> None:
        """Sort by the next column; within a level, by the next rank."""
        self._rows.sort()
        self.draw()

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._rows.reverse()
        self.draw()

    def action_filter(self) -> None:
        """Open the line to type in."""
        bar = self.query_one(SearchBar)
        bar.value = self._rows.pattern
        bar.open()

    def on_search_bar_asked(self, message: SearchBar.Asked) -> None:
        self._rows.pattern = message.text
        self.draw()

    def action_compare(self) -> None:
        """Keep the chosen level in the chart, or no longer; of too many, the first goes."""
        levels, chosen = self._known(), self._outside.chosen
        if levels is not None and chosen is not None:
            label = levels.labels[chosen]
            others = tuple(other for other in self._compared if other != label)
            here = label in self._compared
            self._compared = others if here else (*others, label)[-COMPARED:]
            self.draw()

    def action_metric(self) -> None:
        """Draw the next metric."""
        levels = self._known()
        self._metric = (self._metric + 1) % len(ALL_METRICS)
        while not offers(levels, self._metric):
            self._metric = (self._metric + 1) % len(ALL_METRICS)
        self.draw()

    def action_band(self) -> None:
        """Show or hide the interval of the chosen level."""
        self._band = not self._band
        self.draw()

    def action_log_y(self) -> None:
        """Change between linear and logarithmic values."""
        self._log_y = not self._log_y
        self.draw()
