"""The view of Categories: curves and table of the levels, or the tokens of one level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.containers import Container

from seedconv_tui import chart
from seedconv_tui.monitor.categories.level_columns import level_columns, token_columns
from seedconv_tui.monitor.categories.level_queries import (
    CorpusText,
    LevelSummary,
    counterpart,
    neighbour,
)
from seedconv_tui.monitor.categories.level_table import LevelTable, ListedLevels
from seedconv_tui.monitor.categories.levels_at_step import (
    ALL_METRICS,
    COLUMNS,
    COMPARED,
    at_step,
    category_facts,
    category_words,
    curves,
    drawn,
    interval,
    level_facts,
    series,
)
from seedconv_tui.monitor.categories.lists import LevelRows, TokenRows
from seedconv_tui.monitor.categories.ranking import Ranking
from seedconv_tui.monitor.common.bars import Notice, TopBar
from seedconv_tui.monitor.common.chart_widget import ChartTitle, ChartView
from seedconv_tui.monitor.common.facts import Facts
from seedconv_tui.monitor.common.search import SearchBar
from seedconv_tui.monitor.common.step_picker import StepScreen
from seedconv_tui.monitor.common.study_screen import Columns
from seedconv_tui.text import nats, quoted
from store.schema import ACTIVE_STATES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.widget import Widget

    from seedconv_tui.monitor.data.details import Query
    from seedconv_tui.monitor.data.feed import Feed
    from seedconv_tui.monitor.data.remembered import Remembered
    from seedconv_tui.tables.level_results import Levels
    from store.schema import ModelSnapshot

_OTHER_ROWS = 5  # bars, title, facts
_WIDE, _TABLE = 150, 92  # cells: of a terminal in which they stand side by side, of the table


class CategoriesView(StepScreen):
    """The screen without its keys: what is drawn, kept, copied and saved."""

    _category = ""  # empty: the model's first
    _levels: Levels | None = None  # what was read last
    _levels_of = ""  # of this model
    _compared: tuple[str, ...] = ()  # labels
    _inside: TokenRows | None = None  # None: the table is shown
    _metric, _log_y, _band = 0, False, True

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed)
        self._outside = LevelRows()

    @property
    def _rows(self) -> LevelRows | TokenRows:
        """The list that the keys are for now."""
        return self._inside or self._outside

    def compose_body(self) -> Iterable[Widget]:
        yield ChartTitle()
        with Container(id="levels"):
            yield ChartView()
            yield LevelTable()
            yield Ranking()
        yield Notice(id="nothing")
        yield Facts()
        yield SearchBar("what to show: a part of its text")

    def on_resize(self) -> None:
        if self.is_mounted:
            self.draw()

    @property
    def crumbs(self) -> tuple[str, ...]:
        if (levels := self._known()) is None:
            return ()
        return (levels.category, *([quoted(self._inside.level)] if self._inside else []))

    def _known(self) -> Levels | None:
        """Return what is known of the chosen model, if there is anything to show of it."""
        model = self.model
        same = model is not None and model.name == self._levels_of
        return self._levels if same and self._levels and self._levels.categories else None

    def steps_of(self, model: ModelSnapshot) -> list[int]:
        """Return the steps that are summarised."""
        levels = self._known()
        return [] if levels is None else levels.steps.tolist()

    # What is drawn

    def draw(self) -> None:
        if (model := self.model) is None or (snapshot := self.feed.snapshot) is None:
            return

        def query(category: str) -> LevelSummary:
            return LevelSummary(model.name, category, snapshot.generation)

        asked = query(self._category)
        if (found := self.details.get(asked)) is not None:
            self._levels, self._levels_of = found, model.name
        trouble = self.details.failure(asked)
        wanted: list[Query[Any]] = [asked]
        levels = self._known()
        self._make_room(levels)
        if levels is None:
            self._say_nothing(model, trouble)
        else:
            if not trouble and self._category not in ("", levels.category) and found is None:
                trouble = f"reading {self._category}"
            self._draw_levels(model, levels, wanted, trouble)
            names = levels.categories
            next_ones = counterpart(levels.category, names), neighbour(levels.category, names, 1)
            wanted += [query(name) for name in next_ones if name and not self._inside]
        self.details.want(*wanted)
        self.query_one(TopBar).show(self.feed, self.crumbs)
        self.refresh_bindings()

    def _make_room(self, levels: Levels | None) -> None:
        """Show what is needed now; chart and list are side by side where both fit."""
        for kind, needed in (
            ("#levels", levels is not None),
            ("#nothing", levels is None),
            ("Facts", levels is not None),
            ("LevelTable", self._inside is None),
            ("Ranking", self._inside is not None),
        ):
            self.query_one(kind).display = needed
        width, height = self.app.size
        wide, room = width >= _WIDE, height - _OTHER_ROWS
        n = len(levels.labels) + 1 if levels is not None and not self._inside else room
        self.query_one("#levels").set_class(wide, "-wide")
        self.query_one(ChartView).styles.height = (
            "100%" if wide else max(room * 9 // 20, room - n, 5)
        )
        for kind in ("LevelTable", "Ranking"):
            self.query_one(kind).styles.width = max(_TABLE, width // 2) if wide else "100%"

    def _say_nothing(self, model: ModelSnapshot, trouble: str) -> None:
        words = (
            ["the categories cannot be read", trouble] if trouble else ["reading the categories"]
        )
        if not trouble and self._levels is not None and self._levels_of == model.name:
            words = ["no categories yet", f"{model.name} needs two seeds scored at one step"]
            engine = self.feed.snapshot.engine if self.feed.snapshot else None
            if engine is None or engine.state not in ACTIVE_STATES:
                words += ["no engine is at work; start one with", "seedconv run STUDY.toml"]
        self.query_one("#nothing", Notice).say(*words)
        self.query_one(ChartTitle).show((model.name,), "")

    def _draw_levels(
        self, model: ModelSnapshot, levels: Levels, wanted: list[Query[Any]], trouble: str
    ) -> None:
        step, outside = self.step_of(model), self._outside
        if self._inside and (step is None or self._inside.level not in levels.labels):
            self._inside = None  # another category, or made again without the level
        outside.take(levels, step)
        level = levels.labels.index(self._inside.level) if self._inside else outside.chosen
        colors = drawn(levels, outside.order, self._compared, level)
        lines = series(levels, self._metric, colors, band=self._band)
        self.query_one(ChartView).show(
            lines,
            chart.fit(lines, log_y=self._log_y),
            marks=[chart.Mark(phase.start, phase.name) for phase in model.phases],
            cursor=None if step is None else float(step),
        )
        table = ListedLevels(
            levels=at_step(levels, step),
            order=outside.order,
            chosen=outside.place,
            colors=colors,
            steps=levels.steps,
            curves=curves(levels, self._metric),
            step=step,
            sorted_by=COLUMNS[outside.column],
            downwards=outside.downwards,
            nothing=f"no level has {outside.pattern!r} in it; Esc shows all",
        )
        self.query_one(LevelTable).show(table)
        latest = " (latest)" if self._held is None else ""
        title = [f"step {step:,}{latest}"] if step is not None else []
        title += [category_words(levels)]
        measure = f"{ALL_METRICS[self._metric]}, nats{', log' if self._log_y else ''}"
        title += [measure, model.name]
        title += [phase.name for phase in model.phases if step is not None and phase.start <= step][
            -1:
        ]
        title += ["band: 95 % interval"] if self._band and interval(levels, self._metric) else []
        held = trouble or self.held(model)
        self.query_one(ChartTitle).show(tuple(title), held, measure=measure)
        about = category_facts(levels, step)
        if outside.pattern:
            about.insert(0, f"with {outside.pattern!r}")
        of_level = [""] if level is None else level_facts(table.levels, level)
        if self._inside is None or step is None:
            self.query_one(Facts).show(of_level, about)
        else:
            of_token = self._draw_tokens(model, levels, step, wanted)
            self.query_one(Facts).show(of_token or about, of_level)

    def _draw_tokens(
        self, model: ModelSnapshot, levels: Levels, step: int, wanted: list[Query[Any]]
    ) -> list[str]:
        """Show the tokens of the level that is open; return what is to be said of the chosen."""
        inside = self._inside
        if inside is None:
            return []
        query, text = inside.query(model.name, levels, step), CorpusText()
        steps = self.steps_of(model)
        at = steps.index(step)
        wanted += [text, query]
        wanted += [
            inside.query(model.name, levels, s) for s in (*steps[at + 1 : at + 2], *steps[:at][-1:])
        ]
        inside.ranked, corpus = self.details.get(query), self.details.get(text)
        nothing = self.details.failure(query) or self.details.failure(text) or "reading"
        if inside.ranked is not None and corpus is not None:
            nothing = "this level has no tokens"
            if inside.pattern:
                nothing = f"no token of it has {inside.pattern!r} in its text; Esc shows all"
        ranking = self.query_one(Ranking)
        ranking.show(inside.ranked, corpus, inside.place, order=inside.words, nothing=nothing)
        token = inside.chosen
        if token is None or corpus is None or inside.ranked is None:
            return []
        at = inside.place
        return [
            f"token {token + 1:,} of {len(corpus):,}",
            f"KL {nats(float(inside.ranked.kl[at]))}",
            f"surprisal {nats(float(inside.ranked.surprisal[at]))}",
            f"{at + 1:,} of {len(inside.ranked.tokens):,} in {quoted(inside.level)}",
            corpus.document_name[int(corpus.document[token])],
        ]

    # What is kept and saved

    def state(self) -> dict[str, Any]:
        return super().state() | {
            "category": self._category,
            "compared": list(self._compared),
            "metric": ALL_METRICS[self._metric],
            "log_y": self._log_y,
            "band": self._band,
            "levels": self._outside.state(),
            "tokens": self._inside.state() if self._inside else None,
        }

    def restore(self, kept: Remembered) -> None:
        super().restore(kept)
        self._category, self._compared = kept.text("category"), kept.texts("compared")[-COMPARED:]
        self._metric = kept.choice("metric", ALL_METRICS)
        self._log_y, self._band = kept.flag("log_y", False), kept.flag("band", True)
        self._outside = LevelRows.restored(kept.part("levels"))
        self._inside = TokenRows.restored(kept.part("tokens"))

    def table(self) -> Columns | None:
        """Return the levels as they are listed, or within one the tokens."""
        model, levels = self.model, self._known()
        step = self.step_of(model) if model else None
        if model is None or levels is None or step is None:
            return None
        head = {"model": model.name, "step": step, "category": levels.category}
        if self._inside is None:
            return level_columns(head, at_step(levels, step), self._outside.order)
        ranked, corpus = self._inside.ranked, self.details.get(CorpusText())
        if ranked is None or corpus is None:
            return None
        return token_columns(head | {"label": self._inside.level}, ranked, corpus)

    def chosen_text(self) -> str:
        """Return the chosen level; within one, the chosen token with its text."""
        token = self._inside.chosen if self._inside else None
        corpus = self.details.get(CorpusText())
        if token is None or corpus is None:
            return super().chosen_text()
        return f"{corpus.token_text(token)!r}, {super().chosen_text()}"
