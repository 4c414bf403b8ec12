"""Seeds: which pairs differ at a step, and which seed is far from the rest over training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from textual.binding import Binding
from textual.containers import Container

from seedconv_tui import chart
from seedconv_tui.monitor.common.bars import Notice
from seedconv_tui.monitor.common.chart_widget import ChartTitle, ChartView
from seedconv_tui.monitor.common.facts import Facts
from seedconv_tui.monitor.common.pairs import PairMatrix, PairPicked, PairTable
from seedconv_tui.monitor.common.search import SearchBar, found_in, step_in
from seedconv_tui.monitor.common.step_picker import STEP_KEYS, StepScreen
from seedconv_tui.monitor.common.study_screen import Columns
from seedconv_tui.monitor.seeds.pair_columns import pair_columns
from seedconv_tui.monitor.seeds.pair_queries import PairMeans
from seedconv_tui.monitor.seeds.seed_groups import SeedBlocks, block_of, order_of
from seedconv_tui.text import counted, nats, without
from store.schema import KL, PAIR_METRICS, USUAL, Floats, PairMetric, metrics_of
from store.statistics import distance, outliers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.widget import Widget

    from seedconv_tui.monitor.data.feed import Feed
    from seedconv_tui.monitor.data.remembered import Remembered
    from store.schema import ModelSnapshot

_CHART_WIDTH, _CHART_HEIGHT = 46, 6  # the least that a chart is worth
_OTHER_ROWS = 5  # bars, title, the pair
_TITLES = tuple(metric.title_with_unit for metric in PAIR_METRICS)


class SeedsScreen(StepScreen):
    """The pair matrix at a step, and each seed's distance from the rest over the steps."""

    NAME = "Seeds"
    AUTO_FOCUS = ""
    BINDINGS = [
        Binding("left,h", "step(-1)", "Step", key_display="arrows", tooltip="step before"),
        Binding("right,l", "step(1)", "Step on", show=False, tooltip="next step"),
        Binding("home,g", "step(-100000)", "First", show=False, tooltip="first step"),
        Binding("end,G", "step(100000)", "Last", show=False, tooltip="last step"),
        Binding("up,k", "seed(-1)", "Seed up", show=False, tooltip="pair: seed above"),
        Binding("down,j", "seed(1)", "Seed down", show=False, tooltip="pair: seed below"),
        Binding("shift+left,H", "other(-1)", "Pair", key_display="H L", tooltip="pair: other left"),
        Binding("shift+right,L", "other(1)", "Right", show=False, tooltip="pair: other right"),
        Binding("m", "measure", "Measure", tooltip="next measure of the pairs"),
        Binding("o", "outlier", "Outlier", tooltip="next outlier at this step"),
        Binding("y", "log_y", "Log", tooltip="logarithmic or linear distances"),
        Binding("slash", "find", "Find", key_display="/", tooltip="go to a seed, step or model"),
        *STEP_KEYS,
    ]

    _seed = _other = ""  # labels, so that they stay the same ones when others join
    _measure = KL.title_with_unit  # which this study may not have
    _log_y = False
    _known: tuple[Floats, Floats, NDArray[np.bool_]] | None = None  # kl, and what it gives

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        self._blocks = SeedBlocks()

    def compose_body(self) -> Iterable[Widget]:
        yield ChartTitle()
        with Container(id="seeds"):
            yield PairMatrix()
            yield ChartView()
        yield Notice(id="nothing")
        yield Facts()
        yield SearchBar("a seed; a step; or a part of a model's name")

    def on_resize(self) -> None:
        self._share_room()

    @property
    def model(self) -> ModelSnapshot | None:
        """The chosen model, its seeds in the order in which they are shown."""
        model = super().model
        return None if model is None else self._blocks.of(model)

    def draw(self) -> None:
        if (model := self.model) is None:
            return
        step = self.step_of(model)
        self.query_one("#seeds").display = step is not None
        self.query_one(Facts).display = step is not None
        nothing = self.query_one("#nothing", Notice)
        nothing.display = step is None
        if step is None:
            nothing.say("no pairs yet", f"{model.name} needs two seeds scored at one step")
            self.query_one(ChartTitle).show((model.name,), "")
            self.refresh_bindings()
            return
        self._share_room()
        at = int(np.flatnonzero(model.steps == step)[0])
        rest, far = self._distances(model)
        seed, other = self._pair(model)
        means = self._means(model, at)
        metric = self._metric
        values = means.get(metric.name, np.full(model.kl[at].shape, np.nan))
        away = -values if metric.larger_is_nearer else values
        self.query_one(PairMatrix).show(
            PairTable(
                model.seeds,
                values * metric.factor,
                away,
                rest[at],
                far[at],
                seed,
                other,
                block_of(model),
            )
        )
        self.query_one(ChartTitle).show(
            self._title(model, step, far[at]),
            self.held(model),
            measure=self._metric.title_with_unit,
        )
        self._show_chart(model, step, rest, seed)
        self._show_pair(model, at, means, rest, far)
        self.refresh_bindings()

    @property
    def _metrics(self) -> tuple[PairMetric, ...]:
        """Return what the study has of each pair, KL first."""
        study = self.feed.snapshot
        return metrics_of(study.divergences if study else USUAL)

    @property
    def _metric(self) -> PairMetric:
        """The one that is shown: the one that was chosen, if the study has it."""
        chosen = (metric for metric in self._metrics if metric.title_with_unit == self._measure)
        return next(chosen, KL)

    def _distances(self, model: ModelSnapshot) -> tuple[Floats, NDArray[np.bool_]]:
        """Return each seed's mean KL to and from the others, and the outliers: (step, seed)."""
        if self._known is None or self._known[0] is not model.kl:
            self._known = model.kl, distance(model.kl), outliers(model.kl)
        return self._known[1], self._known[2]

    def _pair(self, model: ModelSnapshot) -> tuple[int, int]:
        """Return the chosen pair by position; the first one there is until one is chosen."""
        seeds = model.seeds
        seed = seeds.index(self._seed) if self._seed in seeds else 0
        other = seeds.index(self._other) if self._other in seeds else -1
        if other in (-1, seed):
            other = 0 if seed else min(1, len(seeds) - 1)
        return seed, other

    def _means(self, model: ModelSnapshot, at: int) -> dict[str, Floats]:
        """Return what is known of the pairs, by metric; ask for what is not there."""

        def query(index: int) -> PairMeans:
            return PairMeans(model.name, int(model.steps[index]), int(model.n_pairs[index]))

        near = [n for n in (at, at - 1, at + 1) if 0 <= n < len(model.steps)]
        self.details.want(*(query(n) for n in near if model.n_pairs[n]))
        read = self.details.get(query(at)) or {}
        if read and model.groups and (stored := super().model) is not None:
            order = order_of(stored)
            read = {name: values[np.ix_(order, order)] for name, values in read.items()}
        return {KL.name: model.kl[at]} | read

    def _title(self, model: ModelSnapshot, step: int, far: NDArray[np.bool_]) -> tuple[str, ...]:
        names = [seed for seed, is_far in zip(model.seeds, far, strict=True) if is_far]
        said = f"outlier{'s' * (len(names) != 1)}: {', '.join(names)}" if names else "no outlier"
        where, name = self.where(model, step)
        return where, name, self._metric.title_with_unit, said

    def _show_chart(self, model: ModelSnapshot, step: int, rest: Floats, seed: int) -> None:
        """Draw the distances; the chosen seed's last, on top."""
        order = sorted(range(len(model.seeds)), key=lambda number: number == seed)
        steps = model.steps.astype(np.float64)
        series = [
            chart.Series(f"{model.seeds[n]}", steps, rest[:, n], color=n % len(chart.MARKERS))
            for n in order
        ]
        marks = [chart.Mark(phase.start, phase.name) for phase in model.phases]
        view = chart.fit(series, log_y=self._log_y)
        self.query_one(ChartView).show(
            series, view, marks=marks, cursor=float(step), label="KL to and from the rest, nats"
        )

    def _show_pair(
        self,
        model: ModelSnapshot,
        at: int,
        means: dict[str, Floats],
        rest: Floats,
        far: NDArray[np.bool_],
    ) -> None:
        look = self.query_one(Facts).look
        seed, other = self._pair(model)
        first, second = model.seeds[seed], model.seeds[other]
        to = look.pick("→", "->")
        facts = [f"seed {first} {to} {second}"]
        for metric in self._metrics:
            if (values := means.get(metric.name)) is not None:
                facts.append(f"{metric.symbol} {_shown(metric, float(values[seed, other]))}")
                if not metric.symmetric:
                    facts.append(f"back {_shown(metric, float(values[other, seed]))}")
        known = int(np.isfinite(rest[:, seed]).sum())
        history = [
            f"seed {first}",
            f"{nats(float(rest[at, seed]))} from the rest",
            f"outlier at {int(far[:, seed].sum())} of {counted(known, 'step')}",
            f"{int(model.n_seeds[at])}/{len(model.seeds)} seeds at this step",
            *filter(None, [without(int(model.n_left_out[at]))]),
            f"cross-entropy {nats(float(model.cross_entropy[at, seed]))}",
        ]
        history = [history[0], *self._blocks.facts(at), *history[1:]]
        self.query_one(Facts).show(facts, history)

    def _share_room(self) -> None:
        """Put the chart next to the matrix where both fit, else below; the matrix may scroll."""
        if (model := self.model) is None or not self.is_mounted:
            return
        width, height = self.app.size
        matrix, room = self.query_one(PairMatrix), height - _OTHER_ROWS
        wanted = matrix.wanted_width(model.seeds)
        wide = width - wanted >= _CHART_WIDTH
        self.query_one("#seeds").set_class(wide, "-wide")
        matrix.styles.width = wanted if wide else "100%"
        rows = min(len(model.seeds) + 1, max(room - _CHART_HEIGHT, room // 2))
        matrix.styles.height = "100%" if wide else rows

    # What is kept and saved

    def state(self) -> dict[str, Any]:
        own = {"seed": self._seed, "other": self._other, "log_y": self._log_y}
        return super().state() | own | {"measure": self._measure}

    def restore(self, kept: Remembered) -> None:
        super().restore(kept)
        self._seed, self._other = kept.text("seed"), kept.text("other")
        self._measure = _TITLES[kept.choice("measure", _TITLES)]
        self._log_y = kept.flag("log_y", self._log_y)

    def table(self) -> Columns | None:
        """Return the pairs at the step, with what is known of each."""
        if (model := self.model) is None or (step := self.step_of(model)) is None:
            return None
        at = int(np.flatnonzero(model.steps == step)[0])
        rest, far = self._distances(model)
        means, nothing = self._means(model, at), np.full(model.kl[at].shape, np.nan)
        more = (metric.name for metric in self._metrics if metric != KL)
        known = {name: means.get(name, nothing) for name in more}
        return pair_columns(model, at, known, rest[at], far[at])

    # What the keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only the keys that would do something now."""
        if action == "outlier":
            model = self.model
            step = self.step_of(model) if model else None
            if model is None or step is None:
                return False
            return bool(self._distances(model)[1][model.steps == step].any())
        return super().check_action(action, parameters)

    def action_seed(self, count: int) -> None:
        """Choose a pair in another row."""
        if (model := self.model) is None:
            return
        seed, other = self._pair(model)
        self._seed = model.seeds[min(max(seed + count, 0), len(model.seeds) - 1)]
        self._other = self._other or model.seeds[other]  # the column stays, past its own row too
        self.draw()

    def action_other(self, count: int) -> None:
        """Choose a pair in another column, past the seed itself."""
        if (model := self.model) is None:
            return
        seed, other = self._pair(model)
        places = [n for n in range(len(model.seeds)) if n != seed]
        if places:
            at = min(max(places.index(other) + count, 0), len(places) - 1)
            self._choose(model, seed, places[at])

    def on_pair_picked(self, message: PairPicked) -> None:
        if (model := self.model) is not None:
            self._choose(model, message.seed, message.other)

    def on_chart_view_pointed(self, message: ChartView.Pointed) -> None:
        self.hold_nearest(message.step)

    def _choose(self, model: ModelSnapshot, seed: int, other: int) -> None:
        self._seed, self._other = model.seeds[seed], model.seeds[other]
        self.draw()

    def action_find(self) -> None:
        """Open the line to type in."""
        self.query_one(SearchBar).open()

    def on_search_bar_asked(self, message: SearchBar.Asked) -> None:
        model, text = self.model, message.text
        if model is None or not text:
            return
        models = [other.name for other in self.feed.snapshot.models] if self.feed.snapshot else []
        if text in model.seeds:
            self._choose(model, model.seeds.index(text), self._pair(model)[1])
        elif (step := step_in(text)) is not None:
            self.hold_nearest(step)
        elif name := found_in(models, text):
            self._model_name = name
            self.draw()
        else:
            self.say(f"no seed is called {text!r}, and no model has it in its name", bad=True)

    def action_measure(self) -> None:
        """Show the next measure of the pairs."""
        metrics = self._metrics
        after = metrics[(metrics.index(self._metric) + 1) % len(metrics)]
        self._measure = after.title_with_unit
        self.draw()

    def action_outlier(self) -> None:
        """Go to the next seed that is an outlier at this step, from the last to the first."""
        if (model := self.model) is None or (step := self.step_of(model)) is None:
            return
        far = np.flatnonzero(self._distances(model)[1][model.steps == step][0])
        if len(far):
            seed, other = self._pair(model)
            after = far[far > seed]
            self._choose(model, int(after[0] if len(after) else far[0]), other)

    def action_log_y(self) -> None:
        """Change between linear and logarithmic distances."""
        self._log_y = not self._log_y
        self.draw()


def _shown(metric: PairMetric, value: float) -> str:
    """Return a value in words: shares in percent; what is not known is `-`."""
    if not np.isfinite(value):
        return "-"
    return f"{value * metric.factor:.1f} %" if metric.is_share else nats(value)
