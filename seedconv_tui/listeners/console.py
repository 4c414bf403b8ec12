"""Progress of a scoring command, on stderr, so that stdout stays for results."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from seedconv_tui.text import count, duration, json_line, summarising_words, visible
from store.schema import EngineStatus, State

if TYPE_CHECKING:
    from engine.events import Event, Listener

EVENTS_SCHEMA = 1  # of the lines of --json; docs/status.md describes them

_STYLES = {"warning": "yellow", "error": "bold red"}


class _Plain:
    """One line per event, as a file wants it. How it ended is for the command to say."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def on_event(self, event: Event) -> None:
        if event.event == "end":
            return
        clock = time.strftime("%H:%M:%S", time.localtime(event.time))
        print(f"{clock} {event.level:7} {visible(event.text)}", file=self._stream, flush=True)

    def on_status(self, status: EngineStatus) -> None:
        """Progress is not worth a line of a log."""


class _Json(_Plain):
    """One JSON object per event, as programs want it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lock = threading.Lock()  # lines of two threads must not mix

    def on_event(self, event: Event) -> None:
        line = {"schema": EVENTS_SCHEMA, **asdict(event)}
        with self._lock:
            print(json_line(line), file=self._stream, flush=True)


class _Live(_Plain):
    """Events as lines above a progress bar, as people at a terminal want it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._console = Console(file=stream, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rest]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None, rest="")
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_event(self, event: Event) -> None:
        if event.event == "end":
            return
        line = Text(
            f"{event.level}: " if event.level != "info" else "", _STYLES.get(event.level, "")
        )
        self._console.print(line.append(visible(event.text)), soft_wrap=True)

    def on_status(self, status: EngineStatus) -> None:
        work = status.work
        if work is None:
            fields: dict[str, Any] = {"description": status.state, "total": None, "completed": 0}
        else:
            seed = "all seeds" if work.seed is None else f"seed {work.seed}"
            doing = State(work.state).name.lower()
            others = f" (and {len(status.works) - 1} more)" if len(status.works) > 1 else ""
            fields = {
                "description": visible(f"{doing} {work.model}, {seed}, step {work.step:,}{others}"),
                "total": work.tokens_total,
                "completed": work.tokens_done,
            }
        rest = [f"{count(status.queued)} to go"] if status.queued else []
        if status.message:  # what it waits for
            rest.insert(0, visible(status.message))
        if status.to_summarise:
            rest.append(summarising_words(status.summarised, status.to_summarise))
        if status.eta_seconds:
            rest.append(f"about {duration(status.eta_seconds)}")
        with self._lock:
            self._progress.update(self._task, rest=", ".join(rest), **fields)


def listener(*, as_json: bool) -> _Plain:
    """Return the listener that suits where stderr goes; a context manager."""
    stream = sys.stderr
    if as_json:
        return _Json(stream)
    return _Live(stream) if stream.isatty() else _Plain(stream)


def _conforms(plain: _Plain) -> Listener:
    """Have mypy check that what is shown is what the engine speaks to."""
    return plain
