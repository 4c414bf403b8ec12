"""The head of the Runs screen: the study in numbers and the engine's health."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len

from seedconv_tui.monitor.common.bars import coarse, engine_words
from seedconv_tui.monitor.common.canvas import Canvas, Line, line_width, spread
from seedconv_tui.monitor.common.theme import RELEVANCE
from seedconv_tui.monitor.runs.device_rows import device_rows, devices_of
from seedconv_tui.text import count, counted, duration, size, summarising_words
from store.schema import ACTIVE_STATES, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seedconv_tui.monitor.data.feed import Feed
    from store.schema import EngineStatus, ModelSnapshot, StudySnapshot

_ROOMY = 80

LEGEND_ORDER = (
    State.DONE,
    State.FAILED,
    State.MISSING,
    State.DUPLICATE,
    State.SCORING,
    State.READING,
    State.REDUCING,
    State.SCORED,
    State.PRUNED,
    State.QUEUED,
)
"""The signs in the legend; what does not fit is left out from the end."""


def count_states(models: Iterable[ModelSnapshot]) -> Counter[State]:
    """Return how many checkpoints of the models are in each state."""
    total: Counter[State] = Counter()
    for model in models:
        numbers = np.bincount(model.marked.ravel(), minlength=len(RELEVANCE))
        total.update({State(state): int(n) for state, n in enumerate(numbers) if n})
    return total


def progress(states: Counter[State]) -> tuple[int, int]:
    """Return checkpoints that are done, and everything that can be: missing ones cannot."""
    done = states[State.DONE] + states[State.PRUNED] + states[State.DUPLICATE]
    return done, sum(states.values()) - states[State.ABSENT] - states[State.MISSING]


class StudyStrip(Canvas):
    """Two rows on the study and its engine, one for each device, and one that counts the signs.

    Before that, a row on what the engine found wrong, if it did.
    """

    def __init__(self) -> None:
        super().__init__()
        self._feed: Feed | None = None
        self._counts: Counter[State] = Counter()
        self._counted: StudySnapshot | None = None

    def show(self, feed: Feed) -> None:
        """Take what is known now."""
        self._feed = feed
        if feed.progress is not self._counted and feed.progress is not None:
            self._counted, self._counts = feed.progress, count_states(feed.progress.models)
        self.redraw()

    def rows_wanted(self, most: int) -> int:
        """Return how many rows it takes, with at most that many for devices."""
        engine = self._feed.progress.engine if self._feed and self._feed.progress else None
        amiss = bool(engine and engine.amiss)
        return 3 + amiss + min(max(len(devices_of(engine)) if engine else 0, 1), most)

    def paint(self, width: int, height: int) -> list[Line]:
        feed = self._feed
        if feed is None or feed.progress is None:
            return []
        snapshot, engine = feed.progress, feed.progress.engine
        amiss = self._amiss_rows(engine, width)
        return [
            self._study_row(snapshot, width),
            self._engine_row(feed, engine, width) if engine else self._no_engine_row(),
            *(self._device_rows(feed, engine, width, height - 3 - len(amiss)) if engine else [[]]),
            *amiss,
            self._legend_row(width),
        ]

    def _amiss_rows(self, engine: EngineStatus | None, width: int) -> list[Line]:
        """Return a row on what is wrong as of the engine's last look; none if nothing is."""
        if engine is None or not engine.amiss:
            return []
        first, *others = map(self.look.visible, engine.amiss)
        more = f" (and {len(others)} more)" if others else ""
        room = max(width - cell_len(more) - 1, 1)
        style = self.look.palette.warn
        return [[(f" {self.look.shorten(first, room)}{more}", style)]]

    def _facts(self, facts: list[str], width: int, start: str = " ") -> str:
        """Return as many facts as fit, in order."""
        line = ""
        for fact in facts:
            longer = line + (self.look.dot if line else start) + fact
            if cell_len(longer) > width:
                break
            line = longer
        return line

    def _study_row(self, snapshot: StudySnapshot, width: int) -> Line:
        done, total = progress(self._counts)
        first = [f"{done:,}/{total:,} done", counted(snapshot.n_tokens, "token")]
        more = [
            counted(len(snapshot.models), "model"),
            f"vocabulary {snapshot.vocab_size:,}",
        ]
        room = width - cell_len(self._facts(first, width)) - 1
        disk = self._disk(snapshot, room)
        facts = self._facts([*first, *more], width - cell_len(disk) - 1)
        return spread(
            [(facts, self.look.palette.text)],
            [(disk, self.look.palette.dim)],
            width,
            self.look.more,
        )

    def _disk(self, snapshot: StudySnapshot, room: int) -> str:
        """Return what the study takes of the disk and what is free, in as many words as fit."""
        free, projected = [], None
        if (engine := snapshot.engine) is not None:
            free = [] if engine.disk_free is None else [f"{size(engine.disk_free)} free"]
            projected = engine.bytes_projected if engine.state in ACTIVE_STATES else None
        if snapshot.bytes_stored or projected:
            used = size(snapshot.bytes_stored)
            if projected is not None and projected > snapshot.bytes_stored:
                used += f" of {size(projected)}"
            ways = [[f"log-probs {used}", *free], [used, *free], [used], free]
        else:
            ways = [["no log-probs stored", *free], free]
        lines = (self.look.dot.join(way) + " " for way in ways)
        return next((line for line in lines if cell_len(line) <= room), "")

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
            alive = not feed.is_silent(engine)
            if engine.tokens_per_second is not None and alive:
                facts.append(f"{count(engine.tokens_per_second)} tokens/s")
            if engine.eta_seconds and engine.queued and alive:
                facts.append(f"ETA {duration(engine.eta_seconds)}")
            facts.append(f"{engine.queued:,} queued")
            if alive:
                facts.append(summarising_words(engine.summarised, engine.to_summarise))
            if engine.message and alive:  # what it waits for
                facts.insert(0, self.look.visible(engine.message))
        else:
            facts.append(f"{coarse(feed.silence())} ago")
            facts.append(self.look.visible(engine.message))
        facts.append(self.look.visible(engine.device))
        facts.append(f"{self.look.visible(engine.host)} pid {engine.pid}")
        head: Line = [(f" {words}", style)]
        known = [fact for fact in facts if fact]
        rest = self._facts(known, width - line_width(head), self.look.dot)
        return [*head, (rest, palette.text)]

    def _device_rows(self, feed: Feed, engine: EngineStatus, width: int, limit: int) -> list[Line]:
        rows: list[Line] = []
        if engine.state in ACTIVE_STATES:
            stale = feed.is_silent(engine)
            rows = device_rows(engine, self.look, width, limit, stale=stale)
            rows = rows or [[(" nothing in hand", self.look.palette.dim)]]
        return rows or [[]]

    def _legend_row(self, width: int) -> Line:
        palette = self.look.palette
        present = [state for state in LEGEND_ORDER if self._counts[state]]
        gap = "   " if width > _ROOMY else " "
        line: Line = [(" ", palette.dim)]
        for state in present:
            item: Line = [
                (self.look.sign(state), palette.states[state]),
                (f" {state.name.lower()} {self._counts[state]:,}{gap}", palette.dim),
            ]
            if line_width(line + item) > width + len(gap):
                break
            line += item
        return line
