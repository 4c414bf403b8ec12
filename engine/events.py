"""Events that an engine emits while it works. Its caller decides how to show them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from store.schema import EngineStatus

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Event:
    """Something that happened. `text` is one line for people, `fields` the same for programs.

    docs/status.md lists every kind with its fields.
    """

    time: float  # unix time
    level: Level
    event: str  # its kind
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)


class Listener(Protocol):
    """Hears of everything, in the engine's threads; it must be quick and must not raise."""

    def on_event(self, event: Event) -> None:
        """Take note of an event."""

    def on_status(self, status: EngineStatus) -> None:
        """Take note of progress, about once a second and at each change of work."""


class Listeners:
    """Several listeners as one."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = tuple(listeners)

    def on_event(self, event: Event) -> None:
        """Pass it to all of them."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # a closed terminal leaves the log
                listener.on_event(event)

    def on_status(self, status: EngineStatus) -> None:
        """Pass it to all of them."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.on_status(status)
