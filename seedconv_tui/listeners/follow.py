"""Passes on what a study shows to tools that chart it, while an engine works on the study.

What to pass on is read from the store, not from what the engine says: whatever was stopped, started
again, or came in another order, the store has it once and right.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from seedconv_tui.listeners.scalars import StepScalars, read_rows
from store import NotAStudyError, StoreError, Study, open_study

if TYPE_CHECKING:
    from engine.events import Event
    from store.schema import EngineStatus

_SECONDS = 5.0  # between two looks
_REST_SECONDS = 60.0  # before a tool that failed is tried again
_LAST_SECONDS = 60.0  # for what is left when the work is done
_HURRIED_SECONDS = 2.0  # and when it was stopped


class Sink(Protocol):
    """A tool that charts scalars."""

    name: str

    def take(self, model: str, rows: Sequence[StepScalars]) -> None:
        """Show a model's rows, all of them each time, steps ascending. May raise anything."""

    def close(self) -> None:
        """No more will come. May raise anything."""


class Follower:
    """A listener: from the engine's first sign on, looks into the store every few seconds."""

    def __init__(
        self,
        store: Path,
        categories: Sequence[str],
        sinks: Sequence[Sink],
        warn: Callable[[str], None],
        *,
        seconds: float = _SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._categories, self._sinks = store, categories, sinks
        self._warn, self._seconds, self._clock = warn, seconds, clock
        self._warned = set[str]()
        self._study: Study | None = None
        self._shown: dict[tuple[Sink, str], int] = {}  # by model: its changes when it was taken
        self._rests: dict[Sink, float] = {}  # failed: when it is asked again
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="scalars", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Pass on what is left, if it can be done in a while."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_SECONDS if kind is None else _HURRIED_SECONDS)
            if self._thread.is_alive():
                self._warn("not all scalars could be passed on in time; the next run does it")

    def on_event(self, event: Event) -> None:
        """Do nothing at once: what happened is in the store."""

    def on_status(self, status: EngineStatus) -> None:
        """Begin, now that the store is known to be the study's."""
        if self._thread.ident is None:
            self._thread.start()

    def _follow(self) -> None:
        while not self._over.wait(self._seconds):
            self._look()
        self._look(last=True)
        self._close()

    def _look(self, *, last: bool = False) -> None:
        try:
            if self._study is None:
                self._study = open_study(self._store)
            replaced = self._study.replaced
            self._study.refresh()
            if self._study.replaced != replaced:
                self._shown.clear()
                self._warn("another study, or an older copy, is in the place of the store now")
            for model in self._study.models:
                changes = self._study.ledger(model).changes
                behind = [sink for sink in self._sinks if self._shown.get((sink, model)) != changes]
                if not behind:
                    continue
                rows = read_rows(self._study, model, self._categories)
                for sink in behind:
                    if last or self._clock() >= self._rests.get(sink, -math.inf):
                        self._give(sink, model, rows, changes)
        except NotAStudyError:
            return  # not yet
        except (StoreError, OSError) as error:  # the engine reports damage as well
            self._warn_once("scalars", error)

    def _give(self, sink: Sink, model: str, rows: Sequence[StepScalars], changes: int) -> None:
        try:
            if rows:
                sink.take(model, rows)
        except Exception as error:  # whatever a library raises is its own affair
            self._rests[sink] = self._clock() + _REST_SECONDS
            self._warn_once(sink.name, error)
        else:
            self._shown[sink, model] = changes

    def _close(self) -> None:
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:  # as above
                self._warn_once(sink.name, error)

    def _warn_once(self, name: str, error: Exception) -> None:
        if name not in self._warned:
            self._warned.add(name)
            self._warn(f"{name}: {type(error).__name__}: {error}; the work continues")
