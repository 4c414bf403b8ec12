"""The head of the Runs screen: the study in numbers and the engine's health."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len

from seedconv_tui.source import ACTIVE_STATES
from seedconv_tui.text import count, duration, size, step_label
from seedconv_tui.theme import RELEVANCE
from seedconv_tui.widgets.bars import coarse, engine_words
from seedconv_tui.widgets.canvas import Canvas, Line, line_width, spread
from store.snapshot import State

if TYPE_CHECKING:
    from seedconv_tui.source import Feed
    from store.snapshot import EngineStatus, StudySnapshot, Work

_ROOMY = 80

LEGEND_ORDER = (
    State.DONE,
    State.FAILED,
    State.MISSING,
    State.SCORING,
    State.READING,
    State.REDUCING,
    State.SCORED,
    State.PRUNED,
    State.QUEUED,
)
"""The signs in the legend; what does not fit is left out from the end."""


def tally(snapshot: StudySnapshot) -> Counter[State]:
    """How many checkpoints of the study are in each state."""
    total: Counter[State] = Counter()
    for model in snapshot.models:
        numbers = np.bincount(model.state.ravel(), minlength=len(RELEVANCE))
        total.update({State(state): int(n) for state, n in enumerate(numbers) if n})
    return total


def progress(states: Counter[State]) -> tuple[int, int]:
    """Checkpoints that are done, and all that can be: missing ones cannot."""
    done = states[State.DONE] + states[State.PRUNED]
    return done, sum(states.values()) - states[State.ABSENT] - states[State.MISSING]


class StudyStrip(Canvas):
    """Three rows on the study and its engine, and one that explains the signs and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self._feed: Feed | None = None
        self._tally: Counter[State] = Counter()
        self._tallied: StudySnapshot | None = None

    def show(self, feed: Feed) -> None:
        """Takes what is known now."""
        self._feed = feed
        if feed.snapshot is not self._tallied and feed.snapshot is not None:
            self._tallied, self._tally = feed.snapshot, tally(feed.snapshot)
        self.redraw()

    def paint(self, width: int, height: int) -> list[Line]:
        feed = self._feed
        if feed is None or feed.snapshot is None:
            return []
        snapshot, engine = feed.snapshot, feed.snapshot.engine
        return [
            self._study_row(snapshot, width),
            self._engine_row(feed, engine, width) if engine else self._no_engine_row(),
            self._work_row(feed, engine, width) if engine else [],
            self._legend_row(width),
        ]

    def _facts(self, facts: list[str], width: int, start: str = " ") -> str:
        """As many facts as fit, in order."""
        line = ""
        for fact in facts:
            longer = line + (self.look.dot if line else start) + fact
            if cell_len(longer) > width:
                break
            line = longer
        return line

    def _study_row(self, snapshot: StudySnapshot, width: int) -> Line:
        done, total = progress(self._tally)
        facts = [
            f"{done:,}/{total:,} done",
            f"{snapshot.n_tokens:,} tokens",
            f"vocabulary {snapshot.vocab_size:,}",
            f"{len(snapshot.models)} model{'s' * (len(snapshot.models) != 1)}",
        ]
        return [(self._facts(facts, width), self.look.palette.text)]

    def _no_engine_row(self) -> Line:
        return [
            (" no engine has run yet; start one with ", self.look.palette.dim),
            ("seedconv run STUDY.toml", self.look.palette.accent),
        ]

    def _engine_row(self, feed: Feed, engine: EngineStatus, width: int) -> Line:
        palette = self.look.palette
        words, style = engine_words(feed, engine, self.look)
        facts = []
        if engine.state in ACTIVE_STATES:
            if engine.tokens_per_second is not None:
                facts.append(f"{count(engine.tokens_per_second)} tokens/s")
            if engine.eta_seconds is not None:
                facts.append(f"ETA {duration(engine.eta_seconds)}")
            facts.append(f"{engine.queued:,} queued")
        else:
            facts.append(f"{coarse(feed.silence())} ago")
            facts.append(self.look.visible(engine.message))
        facts.append(self.look.visible(engine.device))
        facts.append(f"{self.look.visible(engine.host)} pid {engine.pid}")
        head: Line = [(f" {words}", style)]
        known = [fact for fact in facts if fact]
        rest = self._facts(known, width - line_width(head), self.look.dot)
        return [*head, (rest, palette.text)]

    def _work_row(self, feed: Feed, engine: EngineStatus, width: int) -> Line:
        palette = self.look.palette
        disk = "" if engine.disk_free is None else f"{size(engine.disk_free)} free "
        if width >= _ROOMY or engine.work is None:
            disk = f"{size(engine.bytes_written)} written{self.look.dot if disk else ' '}{disk}"
        right: Line = [(disk, palette.dim)]
        if engine.work is None or engine.state not in ACTIVE_STATES:
            idle = "nothing in hand" if engine.state in ACTIVE_STATES else ""
            return spread([(f" {idle}", palette.dim)], right, width)
        return spread(self._work(engine.works, width - line_width(right)), right, width)

    def _work(self, works: tuple[Work, ...], width: int) -> Line:
        palette, work = self.look.palette, works[0]
        seed = "all seeds" if work.seed is None else f"seed {self.look.visible(work.seed)}"
        what = f" {work.state.name.lower()} {self.look.visible(work.model)} {seed}"
        what += f" step {step_label(work.step)} "
        if len(works) > 1:
            what += f"(and {len(works) - 1} more) "
        fraction = work.tokens_done / work.tokens_total if work.tokens_total else 0.0
        percent = f" {fraction:.0%}  "
        room = width - len(percent)
        what = self.look.shorten(what, room)
        full, empty = self.look.bar(fraction, min(max(room - len(what), 0), 30))
        return [
            (what, palette.text),
            (full, palette.accent),
            (empty, palette.faint),
            (percent, palette.text),
        ]

    def _legend_row(self, width: int) -> Line:
        palette = self.look.palette
        present = [state for state in LEGEND_ORDER if self._tally[state]]
        gap = "   " if width > _ROOMY else " "
        line: Line = [(" ", palette.dim)]
        for state in present:
            item: Line = [
                (self.look.sign(state), palette.states[state]),
                (f" {state.name.lower()} {self._tally[state]:,}{gap}", palette.dim),
            ]
            if line_width(line + item) > width + len(gap):
                break
            line += item
        return line
