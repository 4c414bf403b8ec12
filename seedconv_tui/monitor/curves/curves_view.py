"""The view of Curves: the chart of all shown models, and their exact values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from textual.containers import Horizontal

from seedconv_tui import chart
from seedconv_tui.monitor.common.bars import Notice
from seedconv_tui.monitor.common.chart_widget import ChartTitle, ChartView
from seedconv_tui.monitor.common.search import SearchBar
from seedconv_tui.monitor.common.study_screen import MIN_WIDTH, Columns, StudyScreen
from seedconv_tui.monitor.curves.chart_window import ChartWindow
from seedconv_tui.monitor.curves.curve_columns import curve_columns
from seedconv_tui.monitor.curves.curve_metrics import (
    ALL_STEPS,
    METRICS,
    OF_PAIRS,
    STATES,
    TO_REFERENCE,
    TOGETHER,
    Beside,
    Metric,
)
from seedconv_tui.monitor.curves.minimal_pairs import PairsCurve, pairs_curve, probes_of, questions
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
from seedconv_tui.monitor.curves.step_bands import BandOverSteps, StepBand
from seedconv_tui.monitor.curves.whole_summary import Whole, WholeSummary
from store.schema import ACTIVE_STATES, State, has_ensemble, metrics_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from textual.widget import Widget

    from seedconv_tui.monitor.data.details import Query
    from seedconv_tui.monitor.data.remembered import Remembered
    from seedconv_tui.monitor.data.watched_studies import Studies, Watch
    from store.schema import StudySnapshot


class CurvesView(StudyScreen):
    """The screen without its keys: what is drawn, kept, copied and saved."""

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
        self._pairs: dict[tuple[ModelKey, str], PairsCurve] = {}  # and probe
        self._probes: dict[ModelKey, tuple[str, ...]] = {}  # of minimal pairs, as read last
        self._chosen_probe = ""  # empty: the first
        self._over_steps: dict[ModelKey, StepBand] = {}

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
        """Show what is known now; the study is that of the chosen model."""
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

    def _choose_in(self, study: int) -> None:
        name = self._choice.chosen.model if self._choice.chosen else ""
        own = [each.key for each in self._models() if each.key.study == study]
        if own:
            alike = ModelKey(study, name)
            self._choice.chosen = alike if alike in own else own[0]

    # What is drawn

    def _read(self) -> list[tuple[int, Watch, StudySnapshot]]:
        """Return the studies that have been read."""
        watches = enumerate(self._studies.watches)
        return [(n, watch, read) for n, watch in watches if (read := watch.feed.snapshot)]

    def _models(self) -> list[StudyModel]:
        """Return all models, hidden ones too, with their curves."""
        metric = METRICS[self._metric]
        found: list[StudyModel] = []
        read = self._read()
        self._keep_probes(read)
        probe = self._probe
        labels = study_labels([snapshot for _, _, snapshot in read])
        for (number, watch, snapshot), label in zip(read, labels, strict=True):
            for model in snapshot.models:
                key = ModelKey(number, model.name)
                whole = watch.details.get(WholeSummary(model.name, snapshot.generation))
                pairs = pairs_curve(watch.details, model.name, snapshot.generation, probe)
                if whole is not None:
                    self._whole[key] = whole
                if pairs is not None:
                    self._pairs[key, probe] = pairs
                band = watch.details.get(BandOverSteps(model.name, snapshot.generation))
                if band is not None:
                    self._over_steps[key] = band
                of_pairs, over_steps = self._pairs.get((key, probe)), self._over_steps.get(key)
                beside = Beside(snapshot.vocab_size, self._whole.get(key), of_pairs, over_steps)
                color = len(found) % len(chart.MARKERS)
                curve = metric.curve(model, beside)
                found.append(StudyModel(key, label, color, snapshot, model, curve))
        return found

    def _keep_probes(self, read: Sequence[tuple[int, Watch, StudySnapshot]]) -> None:
        for number, watch, snapshot in read:
            for model in snapshot.models:
                if names := probes_of(watch.details, model.name, snapshot.generation):
                    self._probes[ModelKey(number, model.name)] = names

    @property
    def _probe_names(self) -> list[str]:
        """All probes of minimal pairs, in the order in which the key goes through them."""
        return list(dict.fromkeys(name for names in self._probes.values() for name in names))

    @property
    def _probe(self) -> str:
        """The probe of minimal pairs that is shown; empty: none is known."""
        names = self._probe_names
        return self._chosen_probe if self._chosen_probe in names else next(iter(names), "")

    def _go_to_next_probe(self) -> bool:
        """Choose the next probe of minimal pairs; False: there is none, so the first is chosen."""
        names = self._probe_names
        at = names.index(self._probe) + 1 if names else 0
        self._chosen_probe = names[at] if at < len(names) else ""
        return at < len(names)

    def _named(self, metric: Metric) -> str:
        """Return a metric's title, with the probe where there are several."""
        of_one = metric in OF_PAIRS and len(self._probe_names) > 1
        return f"{metric.title} of {self._probe}" if of_one else metric.title

    def _offers(self, metric: Metric) -> bool:
        """Return whether one of the studies can have it."""
        read = [snapshot for _, _, snapshot in self._read()]
        if metric in OF_PAIRS:
            return any(model.probed for snapshot in read for model in snapshot.models)
        if metric in STATES.values():
            return any(
                metric is STATES.get(of.array)
                for each in read
                for of in metrics_of(each.divergences)
            )
        if metric in TO_REFERENCE.values():
            return any(
                metric is TO_REFERENCE.get(name) for each in read for name in each.divergences
            )
        return metric not in TOGETHER or any(has_ensemble(each.divergences) for each in read)

    @property
    def _shown_band(self) -> str | None:
        """Return which of the metric's bands is shown; None: none of them."""
        metric = METRICS[self._metric]
        number = self._band.get(metric.title, 0)
        return metric.bands[number] if number < len(metric.bands) else None

    def _queries(self, watch: Watch, snapshot: StudySnapshot) -> list[Query[object]]:
        """Return what the metric needs beyond a snapshot."""
        names, generation = [model.name for model in snapshot.models], snapshot.generation
        if METRICS[self._metric].summarised:
            return [WholeSummary(name, generation) for name in names]
        if METRICS[self._metric] in OF_PAIRS:
            asked = watch.details, generation, self._probe
            return [each for name in names for each in questions(asked[0], name, *asked[1:])]
        if self._shown_band == ALL_STEPS:
            return [BandOverSteps(name, generation) for name in names]
        return []

    def _unread(self) -> str:
        """Return why that could not be read; empty: it could."""
        reasons = (
            watch.details.failure(query)
            for _, watch, snapshot in self._read()
            for query in self._queries(watch, snapshot)
        )
        return next(filter(None, reasons), "")

    def _series(self, models: Sequence[StudyModel]) -> list[chart.Series]:
        return lines(self._choice.from_below(models), self._shown_band)

    @property
    def _beside(self) -> bool:
        """Return whether studies are side by side."""
        n = len(self._studies.watches)
        return self._side and n > 1 and self.app.size.width >= n * MIN_WIDTH

    def _draw(self) -> None:
        """Show the data as they are now under the view and cursor that were chosen."""
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
        self.query_one(ChartTitle).show(title, *self._window.words(steps), measure=title[0])
        self._show_numbers(models, steps)
        for _, watch, snapshot in self._read():
            watch.details.want(*self._queries(watch, snapshot))
        self.refresh_bindings()

    def _draw_pane(
        self, pane: ChartView, models: list[StudyModel], lead: StudyModel | None, view: chart.View
    ) -> None:
        """Draw these; phases and floors are those of the lead."""
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
        chosen = models[self._choice.of(models)]
        units = f", {chosen.curve.units}" if chosen.curve.units else ""
        parts = [f"{self._named(metric)}{units}{log}"]
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
            "probe": self._chosen_probe,
            "bands": self._band,
            "phases": self._phases,
            "floors": self._floors,
            "model": chosen,
            "pinned": pinned,
            "hidden": sorted(key.model for key in self._choice.hidden),
            **self._window.state(),
        }

    def restore(self, kept: Remembered) -> None:
        """Take what a session on one study left: its number is 0."""
        self._metric = kept.choice("metric", [metric.title for metric in METRICS])
        self._chosen_probe = kept.text("probe")
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
        """Return the values of all models that are shown, at the steps in view."""
        models = self._models()
        seen = self._choice.seen(models)
        if not steps_of(seen):
            return None
        metric = METRICS[self._metric]
        ends = self._window.ends(self._series(models))
        curves = {each.name: each.curve for each in seen}
        band = self._shown_band or metric.bands[0]
        return curve_columns(self._named(metric), band, curves, *ends)

    def chosen_text(self) -> str:
        """Return the chosen model's value at the cursor."""
        text = self.query_one(Readout).text
        return f"{self._named(METRICS[self._metric])}: {text}" if text else ""
