"""Messages to a command or a URL when something happens that a researcher wants to know of."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

from seedconv_tui.text import json_line, visible

if TYPE_CHECKING:
    from engine.events import Event
    from store.schema import EngineStatus

SCHEMA = 1  # of the JSON object
_MOST_WAITING = 100  # messages; beyond them the oldest go
_QUIET_SECONDS = 60.0  # after a failure, until more of them go into one message
_WAITS = (2.0, 10.0, 60.0, 300.0)  # seconds before it is tried again
_SENDING_SECONDS = 20.0  # that one attempt may take
_CLOSING_SECONDS = 3.0  # for what is left when the engine ends


@dataclass(frozen=True)
class Message:
    """A message to deliver."""

    kind: str  # "phase", "outlier", "failure" or "end"
    event: str
    level: str
    time: float  # unix time
    study: str
    store: str
    text: str  # one line, safe to show
    fields: Mapping[str, Any]

    @property
    def payload(self) -> bytes:
        """The message as one JSON object; docs/status.md describes it."""
        told = {"schema": SCHEMA, **vars(self), "host": socket.gethostname()}
        return json_line(told).encode()


class Target(Protocol):
    """A program or service that is notified."""

    name: str

    def send(self, message: Message, seconds: float) -> None:
        """Deliver within that many seconds. Raise OSError that says why it could not."""


class Notifier:
    """A listener that passes on what happens to its targets, from a thread of its own.

    Nothing waits for a target. One that fails is tried again a few times, with growing waits, and
    is warned of once until it answers again. Failures of checkpoints that follow each other are
    told as one message a minute.
    """

    def __init__(
        self,
        targets: Sequence[tuple[Target, Sequence[str]]],
        study: str,
        store: str,
        warn: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        waits: Sequence[float] = _WAITS,
    ) -> None:
        """`targets` are those to notify, each with its kinds of events."""
        self._about, self._clock = (study, store), clock
        self._lines = [_Line(target, kinds, warn, clock, waits) for target, kinds in targets]

    def __enter__(self) -> Self:
        for line in self._lines:
            line.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Deliver what waits, if it can be done within a few seconds."""
        deadline = self._clock() + _CLOSING_SECONDS
        for line in self._lines:
            line.end(deadline)
        for line in self._lines:
            line.join(max(0.0, deadline - self._clock()))

    def on_event(self, event: Event) -> None:
        """Pass on what is worth a message."""
        kind = kind_of(event)
        if kind is not None:
            study, store = self._about
            text = visible(f"{study}: {event.text}")
            message = Message(
                kind, event.event, event.level, event.time, study, store, text, event.fields
            )
            for line in self._lines:
                line.put(message)

    def on_status(self, status: EngineStatus) -> None:
        """Progress is no message."""


def kind_of(event: Event) -> str | None:
    """Return what an event is to those who are notified; None: nothing."""
    if event.event in {"phase", "outlier", "end"}:
        return event.event
    return "failure" if event.level == "error" else None


class _Line(threading.Thread):
    """The messages on their way to one target."""

    def __init__(
        self,
        target: Target,
        kinds: Sequence[str],
        warn: Callable[[str], None],
        clock: Callable[[], float],
        waits: Sequence[float],
    ) -> None:
        super().__init__(name=f"notify {target.name}", daemon=True)
        self._target, self._kinds, self._warn, self._clock = target, kinds, warn, clock
        self._waits = waits
        self._change = threading.Condition()
        self._waiting = deque[Message](maxlen=_MOST_WAITING)
        self._held: Message | None = None  # the last of the failures that will be told as one
        self._n_held = 0
        self._quiet_until = -math.inf
        self._deadline: float | None = None  # nothing is sent after it; None: no end in sight
        self._warned = False

    def put(self, message: Message) -> None:
        """Have a message delivered some time."""
        if message.kind not in self._kinds:
            return
        with self._change:
            quiet = self._held is not None or self._clock() < self._quiet_until
            if message.kind == "failure" and quiet:
                self._held, self._n_held = message, self._n_held + 1
            else:
                if message.kind == "failure":
                    self._quiet_until = self._clock() + _QUIET_SECONDS
                elif message.kind == "end":
                    self._release()
                self._waiting.append(message)
            self._change.notify()

    def end(self, deadline: float) -> None:
        """Nothing more will come; by `deadline`, on the clock, it must be over."""
        with self._change:
            self._deadline = deadline
            self._change.notify()

    def run(self) -> None:
        """Deliver until the end."""
        while (message := self._next()) is not None:
            self._deliver(message)

    def _next(self) -> Message | None:
        """Wait for the next message; None when no more will come."""
        with self._change:
            while True:
                quiet = self._quiet_until - self._clock()
                if self._deadline is not None or quiet <= 0:
                    self._release()
                if self._waiting:
                    return self._waiting.popleft()
                if self._deadline is not None:
                    return None
                self._change.wait(quiet if self._held else None)

    def _release(self) -> None:
        """Make one message of the failures that were held back."""
        if self._held is None:
            return
        last, more = self._held, self._n_held - 1
        text = f"{last.text} (and {more} more since the last message)" if more else last.text
        fields = {**last.fields, "more": more}
        self._waiting.append(replace(last, text=text, fields=fields))
        self._held, self._n_held = None, 0
        self._quiet_until = self._clock() + _QUIET_SECONDS

    def _deliver(self, message: Message) -> None:
        for wait in (*self._waits, None):
            left = math.inf if self._deadline is None else self._deadline - self._clock()
            if left <= 0:
                return
            try:
                self._target.send(message, min(left, _SENDING_SECONDS))
            except OSError as error:
                if not self._warned:
                    self._warned = True
                    self._warn(f"{self._target.name} was not told: {error}")
            else:
                self._warned = False
                return
            with self._change:
                if wait is None or self._deadline is not None:
                    return
                self._change.wait_for(lambda: self._deadline is not None, wait)
