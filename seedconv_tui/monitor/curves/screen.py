"""Curves: how far the seeds are apart over training, for every model of every study."""

from __future__ import annotations

from textual.binding import Binding

from seedconv_tui.monitor.common.chart_widget import ChartView
from seedconv_tui.monitor.common.search import SearchBar, found_in, step_in
from seedconv_tui.monitor.common.study_screen import MIN_WIDTH
from seedconv_tui.monitor.curves.curve_metrics import METRICS, OF_PAIRS, OF_SOME_STUDIES
from seedconv_tui.monitor.curves.curves_view import CurvesView
from seedconv_tui.monitor.curves.model_choice import steps_of


class CurvesScreen(CurvesView):
    """The chart, its legend with exact values, and a cursor over the steps."""

    NAME = "Curves"
    AUTO_FOCUS = ""
    BINDINGS = [
        Binding("left,h", "step(-1)", "Step", key_display="arrows", tooltip="cursor: step before"),
        Binding("right,l", "step(1)", "Step on", show=False, tooltip="cursor: next step"),
        Binding("home,g", "step(-100000)", "First", show=False, tooltip="cursor: first step"),
        Binding("end,G", "step(100000)", "Last", show=False, tooltip="cursor: last step"),
        Binding(
            "m",
            "metric",
            "Metric",
            tooltip=", ".join(m.title for m in METRICS if m not in OF_SOME_STUDIES),
        ),
        Binding("y", "log_y", "Log", tooltip="logarithmic or linear values"),
        Binding("x", "log_x", "Log steps", show=False, tooltip="logarithmic or linear steps"),
        Binding("plus,equals_sign", "zoom(1)", "Zoom", key_display="+ -", tooltip="zoom in"),
        Binding("minus,underscore", "zoom(-1)", "Out", show=False, tooltip="zoom out"),
        Binding("shift+left,H", "pan(-1)", "Pan", show=False, tooltip="earlier steps"),
        Binding("shift+right,L", "pan(1)", "Pan on", show=False, tooltip="later steps"),
        Binding(
            "0,escape",
            "follow",
            "Follow",
            key_display="0",
            tooltip="all steps, and new ones as they come",
        ),
        Binding("f", "tail", "Newest", tooltip="the newest steps, moving on as they come"),
        Binding("up,k", "choose(-1)", "Model up", show=False, tooltip="choose the model above"),
        Binding("down,j", "choose(1)", "Model", show=False, tooltip="choose the model below"),
        Binding("space", "hide", "Show/hide", tooltip="show or hide the chosen model"),
        Binding("o", "only", "Only", tooltip="the chosen and the pinned model only, or all"),
        Binding("c", "pin", "Pin", tooltip="pin the chosen model: on top, the others against it"),
        Binding("b", "band", "Band", tooltip="another band, or none"),
        Binding("p", "phases", "Phases", tooltip="show or hide the phases of the chosen model"),
        Binding("n", "floors", "Floors", tooltip="show or hide what rounding alone makes"),
        Binding("slash", "find", "Find", key_display="/", tooltip="go to a step or a model"),
        Binding("v", "side", "Side by side", tooltip="studies side by side, or in one chart"),
    ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer `follow` only when something is held, and two charts only where they fit."""
        if action == "follow":
            return self._window.is_held
        if action == "side":
            n = len(self._studies.watches)
            return n > 1 and self.app.size.width >= n * MIN_WIDTH
        return True

    def show_current_study(self) -> bool:
        """Choose a model of that study, of the same name if there is one."""
        self._choose_in(self._studies.current)
        self.show_feed()
        return True

    def action_step(self, count: int) -> None:
        """Move the cursor; from then on the view stays unchanged."""
        models = self._models()
        if steps := steps_of(self._choice.seen(models)):
            self._window.step(steps, self._series(models), count)
            self._draw()

    def on_chart_view_pointed(self, message: ChartView.Pointed) -> None:
        self._go_near(message.step)

    def _go_near(self, step: float) -> None:
        models = self._models()
        if steps := steps_of(self._choice.seen(models)):
            self._window.point(steps, self._series(models), step)
            self._draw()

    def action_find(self) -> None:
        """Open the line to type in."""
        self.query_one(SearchBar).open()

    def on_search_bar_asked(self, message: SearchBar.Asked) -> None:
        models = self._models()
        if (step := step_in(message.text)) is not None:
            self._go_near(step)
        elif name := found_in([each.name for each in models], message.text):
            self._choice.chosen = next(each.key for each in models if each.name == name)
            self.show_feed()
        elif message.text:
            self.say(f"no model has {message.text!r} in its name", bad=True)

    def on_chart_view_rolled(self, message: ChartView.Rolled) -> None:
        self._window.zoom(self._series(self._models()), message.direction, message.step)
        self._draw()

    def action_zoom(self, direction: int) -> None:
        """Zoom about the cursor, or about the latest step."""
        self._window.zoom(self._series(self._models()), direction, None)
        self._draw()

    def action_pan(self, direction: int) -> None:
        """Show earlier or later steps."""
        self._window.pan(self._series(self._models()), direction)
        self._draw()

    def action_follow(self) -> None:
        """Show all, and go on with the data."""
        self._window.follow()
        self._draw()

    def action_tail(self) -> None:
        """Show the newest steps, as many as are in view, and move on with them; or hold."""
        self._window.follow_newest(self._series(self._models()))
        self._draw()

    def action_metric(self) -> None:
        """Draw the next metric that the studies can have; each probe of minimal pairs is one."""
        if METRICS[self._metric] in OF_PAIRS and self._go_to_next_probe():
            self._refit()
            return
        self._metric = (self._metric + 1) % len(METRICS)
        while not self._offers(METRICS[self._metric]):
            self._metric = (self._metric + 1) % len(METRICS)
        self._refit()

    def action_log_y(self) -> None:
        """Change between linear and logarithmic values."""
        self._window.log_y = not self._window.log_y
        self._refit()

    def action_log_x(self) -> None:
        """Change between linear and logarithmic steps."""
        self._window.log_x = not self._window.log_x
        self._refit()

    def action_band(self) -> None:
        """Show another band, or none."""
        metric = METRICS[self._metric]
        number = self._band.get(metric.title, 0) + 1
        self._band[metric.title] = number % (len(metric.bands) + 1)
        self._refit()

    def action_phases(self) -> None:
        """Show or hide the phases."""
        self._phases = not self._phases
        self._draw()

    def action_floors(self) -> None:
        """Show or hide the floors."""
        self._floors = not self._floors
        self._draw()

    def action_side(self) -> None:
        """Show studies side by side, or all in one chart."""
        self._side = not self._side
        self._draw()

    def action_choose(self, count: int) -> None:
        """Choose another model."""
        if models := self._models():
            index = min(max(self._choice.of(models) + count, 0), len(models) - 1)
            self._choice.chosen = models[index].key
            self.show_feed()

    def action_hide(self) -> None:
        """Show or hide the chosen model."""
        if models := self._models():
            self._choice.hidden ^= {models[self._choice.of(models)].key}
            self._draw()

    def action_only(self) -> None:
        """Hide all but the chosen and the pinned model, or show all."""
        if models := self._models():
            self._choice.only(models)
            self._draw()

    def action_pin(self) -> None:
        """Pin the chosen model, or take the pin away from it."""
        if models := self._models():
            key = models[self._choice.of(models)].key
            self._choice.pinned = key if key != self._choice.pinned else None
            self._draw()

    def _refit(self) -> None:
        """Fit the values again, and leave a view's steps alone."""
        self._window.refit(self._series(self._models()))
        self._draw()
