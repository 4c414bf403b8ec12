"""The view of Tokens: the text as a heat map, and the panel of the chosen token."""

from __future__ import annotations

from operator import is_not
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui import chart
from seedconv_tui.monitor.common.bars import Notice
from seedconv_tui.monitor.common.chart_widget import ChartTitle
from seedconv_tui.monitor.common.facts import Facts
from seedconv_tui.monitor.common.search import SearchBar
from seedconv_tui.monitor.common.step_picker import StepScreen, n_scored
from seedconv_tui.monitor.common.study_screen import Columns
from seedconv_tui.monitor.tokens.heat import BY_ENTRY, CHANGE, SCALES, SURPRISAL
from seedconv_tui.monitor.tokens.heat_text import HeatLegend, HeatText
from seedconv_tui.monitor.tokens.panel import PANELS, TokenPanel
from seedconv_tui.monitor.tokens.predictions import Prediction, word
from seedconv_tui.monitor.tokens.text_columns import text_columns
from seedconv_tui.monitor.tokens.token_queries import (
    Course,
    EntryValues,
    PatternMatches,
    Reflowed,
    TokenPairs,
    TokenPredictions,
    TokenValues,
)
from seedconv_tui.text import nats

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from textual.widget import Widget

    from seedconv_tui.monitor.common.reflow import TextRows
    from seedconv_tui.monitor.data.details import Query
    from seedconv_tui.monitor.data.remembered import Remembered
    from seedconv_tui.monitor.tokens.heat import Scale
    from seedconv_tui.monitor.tokens.token_queries import Spans
    from store.schema import ModelSnapshot

    Values = NDArray[np.floating[Any]]


class TokensView(StepScreen):
    """The screen without its keys: what is drawn, kept, copied and saved."""

    _metric = 0
    _token = 0
    _ranked = -1  # the token that was gone to as the highest; another: start again
    _pinned: int | None = None  # a step; None: changes are since the step before
    _panel = 0
    _seed = ""  # a label
    _keep_lines = False
    _marked: bool | None = None  # None: where colours alone would say it
    _pattern = ""
    _seeking = False  # the cursor is to go to a match as soon as one is known
    _change: tuple[Values, Values, Values] | None = None  # of two steps, and their difference
    _rows: TextRows | None = None  # the last that were there, until others are

    def compose_body(self) -> Iterable[Widget]:
        yield ChartTitle()
        yield HeatLegend()
        yield HeatText()
        yield Notice(id="nothing")
        yield Facts()
        yield TokenPanel()
        yield SearchBar()

    def on_resize(self) -> None:
        if self.is_mounted:
            self.draw()

    # What is drawn

    @property
    def scale(self) -> Scale:
        """Return what is shown of each token."""
        return SCALES[self._metric]

    def steps_of(self, model: ModelSnapshot) -> list[int]:
        if self.scale is not SURPRISAL:
            return super().steps_of(model)
        return [int(step) for step in model.steps[n_scored(model) > 0]]

    def draw(self) -> None:
        if (model := self.model) is None:
            return
        step = self.step_of(model)
        look = self.query_one(HeatText).look
        layout = Reflowed(max(self.app.size.width - 2, 1), look.ascii, self._keep_lines)
        if step is None:
            needs = "one scored" if self.scale is SURPRISAL else "two seeds scored at one step"
            self._say_nothing(model, "nothing to show yet", f"{model.name} needs {needs}")
            self.details.want(layout)
            return
        wanted: list[Query[Any]] = [layout]
        if (rows := self.details.get(layout)) is not None:
            self._rows = rows
        rows = self._rows
        values, trouble = self._values(model, step, wanted)
        if rows is None:
            self._say_nothing(model, "reading the text", self.details.failure(layout))
            self.details.want(*wanted)
            return
        self._say_nothing(model)
        self._token = min(self._token, len(rows.corpus) - 1)
        found = self._search(model, step, wanted)
        marked = self._marked
        if marked is None:
            marked = look.ascii or self.app.no_color
        text = self.query_one(HeatText)
        text.show(rows, values, self.scale, self._token, found=found, marked=marked)
        self.query_one(ChartTitle).show(self.where(model, step), trouble or self.held(model))
        self._show_token(model, step, rows, wanted)
        wanted += self._neighbours(model, step)
        wanted += self._course(model, step)
        self.details.want(*wanted)
        self.refresh_bindings()

    def _say_nothing(self, model: ModelSnapshot, *words: str) -> None:
        """Show the text, or these words instead of it."""
        for kind in (HeatLegend, HeatText, Facts):
            self.query_one(kind).display = not words
        notice = self.query_one("#nothing", Notice)
        notice.display = bool(words)
        if words:
            notice.say(*(word for word in words if word))
            self.query_one(ChartTitle).show((model.name,), "")
            self.query_one(TokenPanel).display = False
            self.refresh_bindings()

    def _query(self, name: str, model: ModelSnapshot, step: int) -> TokenValues:
        n = model.n_pairs if name == "kl" else n_scored(model)
        return TokenValues(name, model.name, step, int(n[model.steps == step][0]))

    def _entries(self, model: ModelSnapshot, step: int) -> EntryValues:
        return EntryValues(model.name, step, int(model.n_pairs[model.steps == step][0]))

    def _since(self, model: ModelSnapshot, step: int) -> int | None:
        """Return the step that changes are counted from."""
        steps = super().steps_of(model)
        if self._pinned is not None:
            return self._pinned if self._pinned in steps else None
        before = [other for other in steps if other < step]
        return before[-1] if before else None

    def _values(
        self, model: ModelSnapshot, step: int, wanted: list[Query[Any]]
    ) -> tuple[Values | None, str]:
        """Return what is shown of each token, and while that is not there, why."""
        if self.scale is BY_ENTRY:
            of_entries = self._entries(model, step)
            wanted.append(of_entries)
            found = self.details.get(of_entries)
            if found is None:
                return None, self.details.failure(of_entries) or "reading"
            return found.kl_of_token, ""
        name = "surprisal" if self.scale is SURPRISAL else "kl"
        queries = [self._query(name, model, step)]
        if self.scale is CHANGE:
            if (since := self._since(model, step)) is None:
                return None, "no step to compare with"
            queries.append(self._query(name, model, since))
        wanted += queries
        answers = [self.details.get(query) for query in queries]
        there = [answer for answer in answers if answer is not None]
        if len(there) < len(queries):
            reasons = [self.details.failure(query) for query in queries]
            return None, next(filter(None, reasons), "reading")
        if self.scale is not CHANGE:
            return there[0], ""
        if self._change is None or any(map(is_not, there, self._change)):
            self._change = (there[0], there[1], there[0] - there[1])
        return self._change[2], ""

    def _search(self, model: ModelSnapshot, step: int, wanted: list[Query[Any]]) -> Spans | None:
        """Return where the text that is looked for is; go there if it was just asked for."""
        notes: list[str] = []
        found: Spans | None = None
        if self._pattern:
            query = PatternMatches(self._pattern)
            wanted.append(query)
            found = self.details.get(query)
            if found is None:
                notes.append(self.details.failure(query) or "searching")
            elif self._seeking:
                self._seeking = False
                self._go_to_match(0)
            if found is not None:
                at = int(np.searchsorted(found.first, self._token, "right"))
                n = len(found.first)
                here = at and found.last[at - 1] >= self._token
                said = f"{at:,} of {n:,}" if here else f"{n:,} found"
                notes.append(f"{self._pattern}: {said}" + (", n N" if n else ""))
        if self.scale is CHANGE and (since := self._since(model, step)) is not None:
            notes.append(f"since {since:,}" + (", pinned" if self._pinned is not None else ""))
        self.query_one(HeatLegend).show(self.scale, tuple(notes))
        return found

    def _go_to_match(self, count: int) -> None:
        found = self.details.get(PatternMatches(self._pattern))
        if found is None or not len(found.first):
            return
        if count < 0:
            at = int(np.searchsorted(found.first, self._token)) - 1
        else:
            at = int(np.searchsorted(found.first, self._token, "right" if count else "left"))
        self._token = int(found.first[at % len(found.first)])

    def _show_token(
        self, model: ModelSnapshot, step: int, rows: TextRows, wanted: list[Query[Any]]
    ) -> None:
        """Show what is known of the chosen token."""
        corpus, token, at = rows.corpus, self._token, int(np.flatnonzero(model.steps == step)[0])
        panel, seed = self.query_one(TokenPanel), self._seed_of(model)
        panel.share_room(self.app.size, model.seeds, self._panel)
        block, place = divmod(token, TokenPredictions.TOKENS)
        guess = TokenPredictions(model.name, step, int(n_scored(model)[at]), block)
        pairs = TokenPairs(model.name, step, int(model.n_pairs[at]), block)
        wanted += [guess, pairs] if model.n_pairs[at] else [guess]
        guesses, kl = self.details.get(guess), self.details.get(pairs)
        prediction, surprisal = None, np.full(len(model.seeds), np.nan)
        if guesses is not None and len(guesses.surprisal) == len(model.seeds):
            surprisal = guesses.surprisal[:, place]
            prediction = Prediction(
                model.seeds,
                guesses.top_id[:, place],
                guesses.probability[:, place],
                int(corpus.token_id[token]),
                np.exp(-surprisal),
                guesses.texts,
            )
        panel.show_predictions(prediction, seed, self.details.failure(guess) or "reading")
        of_token = None if kl is None or len(kl) != len(model.seeds) else kl[:, :, place]
        panel.show_pairs(model.seeds, of_token, seed)
        self._show_facts(model, step, rows, surprisal)

    def _show_facts(
        self, model: ModelSnapshot, step: int, rows: TextRows, surprisal: NDArray[np.float64]
    ) -> None:
        corpus, token = rows.corpus, self._token
        own = word(corpus.token_text(token), rows.ascii)
        facts = [f"token {token + 1:,} of {len(corpus):,}  {own}"]
        has_kl = step in super().steps_of(model)
        kl = self.details.get(self._query("kl", model, step)) if has_kl else None
        if kl is not None:
            facts.append(f"KL {nats(float(kl[token]))}")
        since = self._since(model, step)
        if self.scale is CHANGE and kl is not None and since is not None:
            before = self.details.get(self._query("kl", model, since))
            if before is not None:
                change = float(kl[token] - before[token])
                facts.append(f"{'+' if change >= 0 else ''}{nats(change)} since step {since:,}")
        if self.scale is BY_ENTRY and has_kl:
            facts += self._entry_facts(model, step, token)
        known = surprisal[np.isfinite(surprisal)]
        if known.size:
            span = f"{nats(float(known.min()))} to {nats(float(known.max()))}"
            facts.append(f"surprisal {nats(float(known.mean()))}, {span}")
        facts.append(corpus.document_name[int(corpus.document[token])])
        self.query_one(Facts).show(facts)

    def _entry_facts(self, model: ModelSnapshot, step: int, token: int) -> list[str]:
        """Return what the token's entry comes to over all its occurrences."""
        found = self.details.get(self._entries(model, step))
        if found is None:
            return []
        at = int(found.place[token])
        value, low, high = (float(part[at]) for part in found.kl)
        of = f"entry {found.token_id[at]}: {found.n[at]:,} of it, KL {nats(value)}"
        if np.isfinite(low):
            of += f" 95 % {nats(low)} to {nats(high)}"
        return [of, f"cross-entropy {nats(float(found.cross_entropy[at]))}"]

    def _neighbours(self, model: ModelSnapshot, step: int) -> list[Query[Any]]:
        """Return the steps that one may go to next."""
        steps = self.steps_of(model)
        at = steps.index(step)
        name = "surprisal" if self.scale is SURPRISAL else "kl"
        return [self._query(name, model, s) for s in (*steps[at + 1 : at + 2], *steps[:at][-1:])]

    def _course(self, model: ModelSnapshot, step: int) -> list[Query[Any]]:
        """Show the token's KL over training as far as read, and say what is not."""
        block, place = divmod(self._token, Course.TOKENS)
        queries = [
            Course(model.name, int(s), int(n), block) if n else None
            for s, n in zip(model.steps, model.n_pairs, strict=True)
        ]
        read = [None if query is None else self.details.get(query) for query in queries]
        kl = np.array([np.nan if part is None else part[place] for part in read], np.float64)
        marks = [chart.Mark(phase.start, phase.name) for phase in model.phases]
        steps = model.steps.astype(np.float64)
        self.query_one(TokenPanel).show_course(steps, kl, marks, step)
        return [query for query in queries if query is not None]

    def _seed_of(self, model: ModelSnapshot) -> int:
        return model.seeds.index(self._seed) if self._seed in model.seeds else 0

    def show_state(self, state: Remembered) -> None:
        """Go to a token: `model`, `step` (None: the latest) and `token`."""
        self._model_name, self._held = state.text("model"), state.number("step")
        self._token = state.number("token") or 0

    # What is kept and saved

    def state(self) -> dict[str, Any]:
        return super().state() | {
            "metric": self.scale.title,
            "token": self._token,
            "pinned": self._pinned,
            "panel": PANELS[self._panel],
            "seed": self._seed,
            "marked": self._marked,
            "pattern": self._pattern,
            "keep_lines": self._keep_lines,
        }

    def restore(self, kept: Remembered) -> None:
        super().restore(kept)
        self._metric = kept.choice("metric", [scale.title for scale in SCALES])
        self._token = kept.number("token") or 0
        self._pinned = kept.number("pinned")
        self._panel = kept.choice("panel", PANELS)
        self._seed, self._pattern = kept.text("seed"), kept.text("pattern")
        self._marked = kept.flag("marked", None)
        self._keep_lines = kept.flag("keep_lines", False)

    def table(self) -> Columns | None:
        """Return every token with its value at the step."""
        model, rows = self.model, self._rows
        if model is None or rows is None or (step := self.step_of(model)) is None:
            return None
        values, _ = self._values(model, step, [])
        if values is None:
            return None
        head: Columns = {"model": model.name, "step": step}
        name = "surprisal" if self.scale is SURPRISAL else "kl"
        if self.scale is CHANGE:
            head, name = head | {"since": self._since(model, step)}, "kl_change"
        elif self.scale is BY_ENTRY:
            name = "kl_by_entry"
        return text_columns(head, rows.corpus, {name: values})
