"""Curves: how far the seeds are apart over training, for every model of every study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from textual.binding import Binding
from textual.containers import Horizontal

from seedconv_tui.chart import draw as chart
from seedconv_tui.monitor.common.bars import Notice
from seedconv_tui.monitor.common.chart_widget import ChartTitle, ChartView
from seedconv_tui.monitor.common.search import SearchBar, found_in, step_in
from seedconv_tui.monitor.common.study_screen import MIN_WIDTH, Columns, StudyScreen
from seedconv_tui.monitor.curves.chart_window import ChartWindow
from seedconv_tui.monitor.curves.curve_columns import curve_columns
from seedconv_tui.monitor.curves.curve_metrics import KL_UNIGRAM, METRICS, Beside, Metric
from seedconv_tui.monitor.curves.model_choice import (
    ModelChoice,
    ModelKey,
    StudyModel,
    floors,
    lines,
    steps_of,
    study_labels,
)
from seedconv_tui.monitor.curves.readout import Readout, entries, heading
from seedconv_tui.monitor.curves.whole_summary import Whole, WholeSummary
from seedconv_tui.monitor.data.feed import ACTIVE_STATES
from store.schema.snapshot import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from textual.widget import Widget

    from seedconv_tui.monitor.data.remembered import Remembered
    from seedconv_tui.monitor.data.watched_studies import Studies, Watch
    from store.schema.snapshot import StudySnapshot


class CurvesScreen(StudyScreen):
    """The chart, its legend with exact values, and a cursor over the steps."""

    NAME = "Curves"
    AUTO_FOCUS = ""
    BINDINGS = [
        Binding("left,h", "step(-1)", "Step", key_display="arrows", tooltip="cursor: step before"),
        Binding("right,l", "step(1)", "Step on", show=False, tooltip="cursor: next step"),
        Binding("home,g", "step(-100000)", "First", show=False, tooltip="cursor: first step"),
        Binding("end,G", "step(100000)", "Last", show=False, tooltip="cursor: last step"),
        Binding("m", "metric", "Metric", tooltip=", ".join(m.title for m in METRICS)),
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

    _metric = 0
    _band: dict[str, int]  # metric -> place among its bands; after the last: none is shown
    _phases = True
    _floors = True
    _side = True  # where there is room for it

    def __init__(self, studies: Studies) -> None:
        super().__init__(studies.shown.feed)
        self._studies = studies
        self._choice = ModelChoice()
        self._window = ChartWindow()
        self._band = {}
        self._whole: dict[ModelKey, Whole] = {}  # as it was read last

    def compose_body(self) -> Iterable[Widget]:
        yield ChartTitle()
        with Horizontal(id="panes"):
            yield from (ChartView() for _ in self._studies.watches)
        yield Notice(id="nothing")
        yield Readout()
        yield SearchBar("a step, or a part of a model's name")

    def on_screen_resume(self) -> None:
        chosen = self._choice.chosen
        if chosen is not None and chosen.study != self._studies.current:
            self._choose_in(self._studies.current)
        super().on_screen_resume()

    def on_resize(self) -> None:
        self._draw()

    def show_feed(self) -> None:
        """Shows what is known now; the study is that of the chosen model."""
        if self._choice.chosen is None:
            self._choose_in(self._studies.current)
        if models := self._models():
            self._studies.current = models[self._choice.of(models)].key.study
        self.feed = self._studies.shown.feed
        super().show_feed()

    @property
    def trouble(self) -> str:
        """Why a study could not be read; empty: all could."""
        feeds = [watch.feed for watch in self._studies.watches]
        known = any(feed.snapshot is not None for feed in feeds)
        return next((feed.trouble for feed in feeds if feed.trouble), "") if known else ""

    def show_study(self, snapshot: StudySnapshot) -> None:
        self._draw()

    # What is drawn

    def _read(self) -> list[tuple[int, Watch, StudySnapshot]]:
        """The studies that have been read."""
        watches = enumerate(self._studies.watches)
        return [(n, watch, read) for n, watch in watches if (read := watch.feed.snapshot)]

    def _models(self) -> list[StudyModel]:
        """All models, hidden ones too, with their curves."""
        metric = METRICS[self._metric]
        found: list[StudyModel] = []
        read = self._read()
        labels = study_labels([snapshot for _, _, snapshot in read])
        for (number, watch, snapshot), label in zip(read, labels, strict=True):
            for query in self._queries(snapshot):
                if (whole := watch.details.get(query)) is not None:
                    self._whole[ModelKey(number, query.model)] = whole
            for model in snapshot.models:
                key = ModelKey(number, model.name)
                beside = Beside(snapshot.vocab_size, self._whole.get(key))
                color = len(found) % len(chart.MARKERS)
                curve = metric.curve(model, beside)
                found.append(StudyModel(key, label, color, snapshot, model, curve))
        return found

    @property
    def _shown_band(self) -> str | None:
        """Which of the metric's bands is shown; None: none of them."""
        metric = METRICS[self._metric]
        number = self._band.get(metric.title, 0)
        return metric.bands[number] if number < len(metric.bands) else None

    def _queries(self, snapshot: StudySnapshot) -> list[WholeSummary]:
        """What the metric needs beyond a snapshot."""
        if METRICS[self._metric] is not KL_UNIGRAM:
            return []
        return [WholeSummary(model.name, snapshot.generation) for model in snapshot.models]

    def _unread(self) -> str:
        """Why that could not be read; empty: it could."""
        reasons = (
            watch.details.failure(query)
            for _, watch, snapshot in self._read()
            for query in self._queries(snapshot)
        )
        return next(filter(None, reasons), "")

    def _series(self, models: Sequence[StudyModel]) -> list[chart.Series]:
        return lines(self._choice.from_below(models), self._shown_band)

    @property
    def _beside(self) -> bool:
        """Whether studies are side by side."""
        n = len(self._studies.watches)
        return self._side and n > 1 and self.app.size.width >= n * MIN_WIDTH

    def _draw(self) -> None:
        """Shows the data as they are now under the view and cursor that were chosen."""
        if not (models := self._models()):
            return
        steps = steps_of(self._choice.seen(models))
        series = self._series(models)
        self._window.update(series)
        metric, view = METRICS[self._metric], self._window.now(series)
        chosen = models[self._choice.of(models)]
        known = any(len(each.known) for each in models)
        self.query_one("#panes").display = known
        self.query_one("#nothing", Notice).display = not known
        self.query_one("#nothing", Notice).say(*self._nothing_yet(metric, models))
        for number, pane in enumerate(self.query(ChartView)):
            pane.display = self._beside or not number
            if self._beside:
                own = [each for each in models if each.key.study == number]
                lead = next((each for each in own if each.model.name == chosen.model.name), None)
                lead = chosen if chosen in own else lead or next(iter(own), None)
                self._draw_pane(pane, own, lead, view)
            elif not number:
                self._draw_pane(pane, models, chosen, view)
        title = self._title(metric, models)
        self.query_one(ChartTitle).show(title, *self._window.words(steps))
        self._show_numbers(models, steps)
        for _, watch, snapshot in self._read():
            watch.details.want(*self._queries(snapshot))
        self.refresh_bindings()

    def _draw_pane(
        self, pane: ChartView, models: list[StudyModel], lead: StudyModel | None, view: chart.View
    ) -> None:
        """Draws these; phases and floors are those of the lead."""
        beside = self._beside
        series = lines(self._choice.from_below(models), self._shown_band, with_study=not beside)
        marks = []
        if lead is not None and self._phases:
            marks = [chart.Mark(p.start, p.name, p.low, p.high) for p in lead.model.phases]
        if lead is not None and self._floors and lead.key not in self._choice.hidden:
            series = [*floors(lead, view), *series]
        label = ""
        if beside:
            label = models[0].label if models else "not read yet"
        pane.show(series, view, marks=marks, cursor=self._window.cursor, label=label)

    def _title(self, metric: Metric, models: list[StudyModel]) -> tuple[str, ...]:
        log = ", log" * self._window.log_y + ", linear steps" * (not self._window.log_x)
        parts = [f"{metric.title}, nats{log}"]
        chosen = models[self._choice.of(models)]
        if band := self._shown_band:
            parts.append(f"band: {band}")
        if self._phases and chosen.model.phases:
            parts.append(f"phases of {chosen.model.name}")
        if pinned := self._choice.pinned_of(models):
            parts.append(f"pinned: {pinned.name}")
        return tuple(parts)

    def _nothing_yet(self, metric: Metric, models: list[StudyModel]) -> tuple[str, ...]:
        scored = sum(
            int(np.isin(each.model.state, (State.SCORED, State.REDUCING, State.DONE)).sum())
            for each in models
        )
        text = (f"no {metric.title} yet", f"needs {metric.needs}; scored so far: {scored:,}")
        if unread := self._unread():
            return (*text, unread)
        engines = [snapshot.engine for _, _, snapshot in self._read()]
        if not any(engine and engine.state in ACTIVE_STATES for engine in engines):
            return (*text, "no engine is at work; start one with", "seedconv run STUDY.toml")
        return text

    def _show_numbers(self, models: list[StudyModel], steps: list[int]) -> None:
        readout = self.query_one(Readout)
        room = max((self.app.size.height - 8) // 3, 3)
        readout.styles.height = 1 + min(len(models), room)
        band = self._shown_band or METRICS[self._metric].bands[0]
        rows = entries(
            models, self._choice, self._window.cursor, band, readout.look.pick("±", "+-")
        )
        words = heading(models, self._choice, self._window.cursor, steps)
        readout.show(words, rows, self._choice.of(models))

    # What is kept, copied and saved

    def state(self) -> dict[str, Any]:
        chosen, pinned = (
            key.model if key else "" for key in (self._choice.chosen, self._choice.pinned)
        )
        return {
            "metric": METRICS[self._metric].title,
            "bands": self._band,
            "phases": self._phases,
            "floors": self._floors,
            "model": chosen,
            "pinned": pinned,
            "hidden": sorted(key.model for key in self._choice.hidden),
            **self._window.state(),
        }

    def restore(self, kept: Remembered) -> None:
        """Takes what a session on one study left: its number is 0."""
        self._metric = kept.choice("metric", [metric.title for metric in METRICS])
        bands = kept.part("bands")
        self._band = {name: bands.number(name) or 0 for name in bands.values}
        self._phases = kept.flag("phases", self._phases)
        self._floors = kept.flag("floors", self._floors)
        chosen, pinned = (kept.text(name) for name in ("model", "pinned"))
        self._choice.chosen = ModelKey(0, chosen) if chosen else None
        self._choice.pinned = ModelKey(0, pinned) if pinned else None
        self._choice.hidden = frozenset(ModelKey(0, name) for name in kept.texts("hidden"))
        self._window.restore(kept)

    def table(self) -> Columns | None:
        """The values of all models that are shown, at the steps in view."""
        models = self._models()
        seen = self._choice.seen(models)
        if not steps_of(seen):
            return None
        metric = METRICS[self._metric]
        ends = self._window.ends(self._series(models))
        curves = {each.name: each.curve for each in seen}
        return curve_columns(metric, self._shown_band or metric.bands[0], curves, *ends)

    def chosen_text(self) -> str:
        """The chosen model's value at the cursor."""
        text = self.query_one(Readout).text
        return f"{METRICS[self._metric].title}: {text}" if text else ""

    # What the keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offers `follow` only when something is held, and two charts only where they fit."""
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

    def _choose_in(self, study: int) -> None:
        name = self._choice.chosen.model if self._choice.chosen else ""
        own = [each.key for each in self._models() if each.key.study == study]
        if own:
            alike = ModelKey(study, name)
            self._choice.chosen = alike if alike in own else own[0]

    def action_step(self, count: int) -> None:
        """Moves the cursor; from then on the view stays as it is."""
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
        """Opens the line to type in."""
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
        """Zooms about the cursor, or about the latest step."""
        self._window.zoom(self._series(self._models()), direction, None)
        self._draw()

    def action_pan(self, direction: int) -> None:
        """Shows earlier or later steps."""
        self._window.pan(self._series(self._models()), direction)
        self._draw()

    def action_follow(self) -> None:
        """Shows all, and goes on with the data."""
        self._window.follow()
        self._draw()

    def action_tail(self) -> None:
        """Shows the newest steps, as many as are in view, and moves on with them; or holds."""
        self._window.follow_newest(self._series(self._models()))
        self._draw()

    def action_metric(self) -> None:
        """Draws the next metric."""
        self._metric = (self._metric + 1) % len(METRICS)
        self._refit()

    def action_log_y(self) -> None:
        """Changes between linear and logarithmic values."""
        self._window.log_y = not self._window.log_y
        self._refit()

    def action_log_x(self) -> None:
        """Changes between linear and logarithmic steps."""
        self._window.log_x = not self._window.log_x
        self._refit()

    def action_band(self) -> None:
        """Shows another band, or none."""
        metric = METRICS[self._metric]
        number = self._band.get(metric.title, 0) + 1
        self._band[metric.title] = number % (len(metric.bands) + 1)
        self._refit()

    def action_phases(self) -> None:
        """Shows or hides the phases."""
        self._phases = not self._phases
        self._draw()

    def action_floors(self) -> None:
        """Shows or hides the floors."""
        self._floors = not self._floors
        self._draw()

    def action_side(self) -> None:
        """Shows studies side by side, or all in one chart."""
        self._side = not self._side
        self._draw()

    def action_choose(self, count: int) -> None:
        """Chooses another model."""
        if models := self._models():
            index = min(max(self._choice.of(models) + count, 0), len(models) - 1)
            self._choice.chosen = models[index].key
            self.show_feed()

    def action_hide(self) -> None:
        """Shows or hides the chosen model."""
        if models := self._models():
            self._choice.hidden ^= {models[self._choice.of(models)].key}
            self._draw()

    def action_only(self) -> None:
        """Hides all but the chosen and the pinned model, or shows all."""
        if models := self._models():
            self._choice.only(models)
            self._draw()

    def action_pin(self) -> None:
        """Pins the chosen model, or takes the pin away from it."""
        if models := self._models():
            key = models[self._choice.of(models)].key
            self._choice.pinned = key if key != self._choice.pinned else None
            self._draw()

    def _refit(self) -> None:
        """Fits the values anew, and leaves a view's steps alone."""
        self._window.refit(self._series(self._models()))
        self._draw()
