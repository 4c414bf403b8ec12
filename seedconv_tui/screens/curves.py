"""Curves: how far the seeds are apart over training, for every model."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from textual.binding import Binding

from seedconv_tui import chart
from seedconv_tui.columns import Columns, curve_columns
from seedconv_tui.level_queries import Whole, WholeSummary
from seedconv_tui.screens.base import StudyScreen
from seedconv_tui.source import ACTIVE_STATES
from seedconv_tui.text import nats, phase_words, step_label
from seedconv_tui.widgets.bars import Notice
from seedconv_tui.widgets.chart import ChartTitle, ChartView
from seedconv_tui.widgets.metrics import (
    INTERVAL,
    KL_UNIGRAM,
    METRICS,
    SPREAD,
    Beside,
    Curve,
    Metric,
)
from seedconv_tui.widgets.readout import Entry, Readout
from seedconv_tui.widgets.search import SearchBar, found_in, step_in
from store.snapshot import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.widget import Widget

    from seedconv_tui.memory import Kept
    from seedconv_tui.source import Feed
    from store.snapshot import ModelSnapshot, StudySnapshot

_ZOOM = 1.5
_PAN = 0.25
_SLACK = 0.01  # steps: the ends of a view have been through a logarithm


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
        Binding("up,k", "choose(-1)", "Model up", show=False, tooltip="choose the model above"),
        Binding("down,j", "choose(1)", "Model", show=False, tooltip="choose the model below"),
        Binding("space", "hide", "Show/hide", tooltip="show or hide the chosen model"),
        Binding("b", "band", "Band", tooltip="another band, or none"),
        Binding("p", "phases", "Phases", tooltip="show or hide the phases of the chosen model"),
        Binding("slash", "find", "Find", key_display="/", tooltip="go to a step or a model"),
    ]

    _metric = 0
    _log_y = False
    _band: dict[str, int]  # metric -> place among its bands; after the last: none is shown
    _phases = True
    _chosen = ""  # the model's name
    _cursor: int | None = None  # a step; None: the latest there is
    _view: chart.View | None = None  # None: all that there is
    _hidden: frozenset[str] = frozenset()

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        self._band = {}
        self._whole: dict[str, Whole] = {}  # by model, as it was read last

    def compose_body(self) -> Iterable[Widget]:
        yield ChartTitle()
        yield ChartView()
        yield Notice(id="nothing")
        yield Readout()
        yield SearchBar("a step, or a part of a model's name")

    def on_resize(self) -> None:
        self._size_readout()

    def show_study(self, snapshot: StudySnapshot) -> None:
        self._size_readout()
        self._draw()

    def _size_readout(self) -> None:
        models = len(self.feed.snapshot.models) if self.feed.snapshot else 0
        room = max((self.app.size.height - 8) // 3, 3)
        self.query_one(Readout).styles.height = 1 + min(models, room)

    # What is drawn

    @property
    def _models(self) -> tuple[ModelSnapshot, ...]:
        return self.feed.snapshot.models if self.feed.snapshot else ()

    @property
    def _chosen_index(self) -> int:
        names = [model.name for model in self._models]
        return names.index(self._chosen) if self._chosen in names else 0

    def _curves(self) -> list[Curve]:
        snapshot, metric = self.feed.snapshot, METRICS[self._metric]
        if snapshot is None:
            return []
        for query in self._queries():
            if (found := self.details.get(query)) is not None:
                self._whole[query.model] = found
        return [
            metric.curve(model, Beside(snapshot.vocab_size, self._whole.get(model.name)))
            for model in snapshot.models
        ]

    @property
    def _shown_band(self) -> int | None:
        """Which of the metric's bands is shown; None: none of them."""
        metric = METRICS[self._metric]
        number = self._band.get(metric.title, 0)
        return number if number < len(metric.bands) else None

    def _queries(self) -> list[WholeSummary]:
        """What the metric needs beyond the snapshot."""
        snapshot = self.feed.snapshot
        if METRICS[self._metric] is not KL_UNIGRAM or snapshot is None:
            return []
        return [WholeSummary(model.name, snapshot.generation) for model in snapshot.models]

    def _trouble(self) -> str:
        """Why that could not be read; empty: it could."""
        return next(filter(None, map(self.details.failure, self._queries())), "")

    def _series(self, curves: list[Curve]) -> list[chart.Series]:
        """The curves of the models that are not hidden, the chosen one last: on top."""
        order = sorted(range(len(curves)), key=lambda number: number == self._chosen_index)
        band = self._shown_band
        return [
            chart.Series(
                self._models[number].name,
                curves[number].steps.astype(np.float64),
                curves[number].value,
                curves[number].bands[band][0] if band is not None else None,
                curves[number].bands[band][1] if band is not None else None,
                number % len(chart.MARKERS),
            )
            for number in order
            if self._models[number].name not in self._hidden
        ]

    def _steps(self, curves: list[Curve]) -> list[int]:
        """The steps at which a shown model has a value."""
        steps: set[int] = set()
        for model, curve in zip(self._models, curves, strict=True):
            if model.name not in self._hidden:
                steps.update(curve.steps[np.isfinite(curve.value)].tolist())
        return sorted(steps)

    def _fitted(self, series: list[chart.Series], view: chart.View | None = None) -> chart.View:
        """All the steps, or those of `view`; and the values that there are among them."""
        whole = chart.fit(series, log_y=self._log_y)
        if view is None:
            return whole
        part = chart.fit([_between(s, view.x_min, view.x_max) for s in series], log_y=self._log_y)
        return replace(part, x_min=view.x_min, x_max=view.x_max, limits=(whole.x_min, whole.x_max))

    def _draw(self) -> None:
        """Shows the data as they are now under the view and cursor that were chosen."""
        if self.feed.snapshot is None or not self._models:
            return
        curves = self._curves()
        steps = self._steps(curves)
        series = self._series(curves)
        metric, model = METRICS[self._metric], self._models[self._chosen_index]
        view = self._view or self._fitted(series)
        known = any(np.isfinite(curve.value).any() for curve in curves)
        self.query_one(ChartView).display = known
        self.query_one("#nothing", Notice).display = not known
        self.query_one("#nothing", Notice).say(*self._nothing_yet(metric))
        marks = [chart.Mark(phase.start, phase.name) for phase in model.phases]
        self.query_one(ChartView).show(
            series,
            view,
            marks=marks if self._phases else (),
            cursor=self._cursor,
        )
        self.query_one(ChartTitle).show(self._title(metric, model), self._held(view, steps))
        self._show_numbers(curves, steps)
        self.details.want(*self._queries())
        self.refresh_bindings()

    def _title(self, metric: Metric, model: ModelSnapshot) -> tuple[str, ...]:
        parts = [f"{metric.title}, nats{', log' if self._log_y else ''}"]
        if (band := self._shown_band) is not None:
            parts.append(f"band: {metric.bands[band]}")
        if self._phases and model.phases:
            parts.append(f"phases of {model.name}")
        return tuple(parts)

    def _held(self, view: chart.View, steps: list[int]) -> str:
        if self._view is None:
            return ""
        later = sum(step > view.x_max + _SLACK for step in steps)
        return f"held, {later} later, 0 follows" if later else "held, 0 follows"

    def _nothing_yet(self, metric: Metric) -> tuple[str, ...]:
        scored = sum(
            int(np.isin(m.state, (State.SCORED, State.REDUCING, State.DONE)).sum())
            for m in self._models
        )
        text = (f"no {metric.title} yet", f"needs {metric.needs}; scored so far: {scored:,}")
        if trouble := self._trouble():
            return (*text, trouble)
        engine = self.feed.snapshot.engine if self.feed.snapshot else None
        if engine is None or engine.state not in ACTIVE_STATES:
            return (*text, "no engine is at work; start one with", "seedconv run STUDY.toml")
        return text

    def _show_numbers(self, curves: list[Curve], steps: list[int]) -> None:
        look = self.query_one(Readout).look
        entries = []
        step = self._cursor if self._cursor is not None else (steps[-1] if steps else None)
        for number, (model, curve) in enumerate(zip(self._models, curves, strict=True)):
            known = np.flatnonzero(np.isfinite(curve.value))
            # Without a cursor, each model's own latest step; with one, that step and no other.
            at = known[-1:] if self._cursor is None else known[curve.steps[known] == step]
            entry = Entry(
                model.name,
                number % len(chart.MARKERS),
                model.name not in self._hidden,
                missing="nothing at this step" if len(known) else "nothing yet",
            )
            if len(at):
                entry = _fill(entry, model, curve, int(at[0]))
                spread = self._spread(curve, int(at[0]), look.pick("±", "+-"))
                entry = replace(entry, spread=spread)
                if curve.steps[at[0]] != step:
                    latest = step_label(int(curve.steps[at[0]]))
                    entry = replace(entry, counts=f"at {latest}, {entry.counts}")
            entries.append(entry)
        self.query_one(Readout).show(self._heading(step), entries, self._chosen_index)

    def _spread(self, curve: Curve, at: int, plus_minus: str) -> str:
        """What the band (the first one while none is shown) says at a position, in words."""
        band = self._shown_band or 0
        low, high = (float(end[at]) for end in curve.bands[band])
        name = METRICS[self._metric].bands[band]
        if name == SPREAD:
            return f"{plus_minus} {nats(high - float(curve.value[at]))} std"
        if name == INTERVAL and not math.isfinite(low):
            few = int(curve.n_seeds[at]) < 3
            return "no interval below 3 seeds" if few else "no interval yet"
        return f"{'95 % ' * (name == INTERVAL)}{nats(low)} to {nats(high)}"

    def _heading(self, step: int | None) -> tuple[str, ...]:
        if step is None or self.feed.snapshot is None:
            return ("no values yet",)
        parts = [f"step {step:,}" + ("" if self._cursor is not None else " (latest)")]
        phases = [p for p in self._models[self._chosen_index].phases if p.start <= step]
        if phases:
            parts.append(phase_words(phases[-1]))
        parts.append(f"means over {self.feed.snapshot.n_tokens:,} tokens")
        return tuple(parts)

    # What is kept, copied and saved

    def state(self) -> dict[str, Any]:
        view = self._view
        return {
            "metric": METRICS[self._metric].title,
            "log_y": self._log_y,
            "bands": self._band,
            "phases": self._phases,
            "model": self._chosen,
            "cursor": self._cursor,
            "hidden": sorted(self._hidden),
            "view": [] if view is None else [view.x_min, view.x_max, view.y_min, view.y_max],
        }

    def restore(self, kept: Kept) -> None:
        self._metric = kept.choice("metric", [metric.title for metric in METRICS])
        self._log_y = kept.flag("log_y", self._log_y)
        bands = kept.part("bands")
        self._band = {name: bands.number(name) or 0 for name in bands.values}
        self._phases = kept.flag("phases", self._phases)
        self._chosen = kept.text("model")
        self._cursor = kept.number("cursor")
        self._hidden = frozenset(kept.texts("hidden"))
        if len(view := kept.numbers("view")) == 4:
            with suppress(ValueError):  # there is nothing to be seen through it
                self._view = chart.View(view[0], view[1], view[2], view[3], self._log_y)

    def table(self) -> Columns | None:
        """The values of all models that are shown, at the steps in view."""
        curves = self._curves()
        if not self._steps(curves):
            return None
        view = self._view or self._fitted(self._series(curves))
        shown = {
            model.name: curve
            for model, curve in zip(self._models, curves, strict=True)
            if model.name not in self._hidden
        }
        metric, band = METRICS[self._metric], self._shown_band or 0
        return curve_columns(metric, band, shown, view.x_min - _SLACK, view.x_max + _SLACK)

    def chosen_text(self) -> str:
        """The chosen model's value at the cursor."""
        text = self.query_one(Readout).text
        return f"{METRICS[self._metric].title}: {text}" if text else ""

    # What the keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offers `follow` only when something is held."""
        if action == "follow":
            return self._view is not None or self._cursor is not None
        return True

    def action_step(self, count: int) -> None:
        """Moves the cursor; from then on the view stays as it is."""
        curves = self._curves()
        if not (steps := self._steps(curves)):
            return
        here = self._cursor if self._cursor is not None else steps[-1]
        index = int(np.abs(np.array(steps) - here).argmin()) + count
        self._place(steps[min(max(index, 0), len(steps) - 1)])

    def on_chart_view_pointed(self, message: ChartView.Pointed) -> None:
        self._go_near(message.step)

    def _go_near(self, step: float) -> None:
        if steps := self._steps(self._curves()):
            place = np.abs(np.log1p(steps) - math.log1p(max(step, 0.0)))
            self._place(steps[int(place.argmin())])

    def _place(self, step: int) -> None:
        self._cursor = step
        series = self._series(self._curves())
        view = self._view or self._fitted(series)
        inside = view.x_min - _SLACK <= step <= view.x_max + _SLACK
        self._view = view if inside else _reveal(view, step)
        self._draw()

    def action_find(self) -> None:
        """Opens the line to type in."""
        self.query_one(SearchBar).open()

    def on_search_bar_asked(self, message: SearchBar.Asked) -> None:
        if (step := step_in(message.text)) is not None:
            self._go_near(step)
        elif name := found_in([model.name for model in self._models], message.text):
            self._chosen = name
            self._draw()
        elif message.text:
            self.say(f"no model has {message.text!r} in its name", bad=True)

    def action_zoom(self, direction: int) -> None:
        """Zooms about the cursor, or about the latest step."""
        series = self._series(self._curves())
        view = self._view or self._fitted(series)
        at = self._cursor if self._cursor is not None else view.x_max
        self._view = self._fitted(series, view.zoom(_ZOOM**direction, at))
        self._draw()

    def action_pan(self, direction: int) -> None:
        """Shows earlier or later steps."""
        series = self._series(self._curves())
        view = self._view or self._fitted(series)
        self._view = self._fitted(series, view.pan(direction * _PAN))
        self._draw()

    def action_follow(self) -> None:
        """Shows all, and goes on with the data."""
        self._cursor = self._view = None
        self._draw()

    def action_metric(self) -> None:
        """Draws the next metric."""
        self._metric = (self._metric + 1) % len(METRICS)
        self._refit()

    def action_log_y(self) -> None:
        """Changes between linear and logarithmic values."""
        self._log_y = not self._log_y
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

    def action_choose(self, count: int) -> None:
        """Chooses another model."""
        if self._models:
            index = min(max(self._chosen_index + count, 0), len(self._models) - 1)
            self._chosen = self._models[index].name
            self._draw()

    def action_hide(self) -> None:
        """Shows or hides the chosen model."""
        if self._models:
            self._hidden = self._hidden ^ {self._models[self._chosen_index].name}
            self._draw()

    def _refit(self) -> None:
        """Fits the values anew, and leaves a view's steps alone."""
        if self._view is not None:
            self._view = self._fitted(self._series(self._curves()), self._view)
        self._draw()


def _fill(entry: Entry, model: ModelSnapshot, curve: Curve, at: int) -> Entry:
    """The entry with the numbers at a position."""
    value = float(curve.value[at])
    counts = f"{curve.n_seeds[at]}/{len(model.seeds)} seeds"
    if curve.n_pairs is not None:
        counts += f", {curve.n_pairs[at]} pairs"
    below = curve.floor is not None and value < curve.floor[at]
    caution = "below rounding floor" if below else ""
    return replace(entry, value=value, counts=counts, caution=caution)


def _between(series: chart.Series, low: float, high: float) -> chart.Series:
    """The part of a series between two steps."""
    inside = (series.x >= low - _SLACK) & (series.x <= high + _SLACK)
    part = replace(series, x=series.x[inside], y=series.y[inside], low=None, high=None)
    if series.low is None or series.high is None:
        return part
    return replace(part, low=series.low[inside], high=series.high[inside])


def _reveal(view: chart.View, step: int) -> chart.View:
    """The view, moved just so far that it shows a step."""
    low, high, at = (math.log1p(x) for x in (view.x_min, view.x_max, step))
    return view.pan(((at - low) if at < low else (at - high)) / (high - low))
