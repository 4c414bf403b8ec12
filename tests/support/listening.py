"""Listeners that remember what an engine says and act on it."""

from __future__ import annotations

from collections.abc import Callable

from engine.events import Event
from store.schema import EngineStatus


class Script:
    """Hears what the engine says, and does something at the first event of a name."""

    def __init__(self, **acts: Callable[[], object]) -> None:
        self.events: list[Event] = []
        self._acts = acts

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if act := self._acts.pop(event.event, None):
            act()

    def on_status(self, status: EngineStatus) -> None:
        """Nothing is done by progress."""

    def said(self, event: str) -> list[str]:
        return [it.text for it in self.events if it.event == event]


class Heard:
    """Remembers everything that an engine says, and may act on it."""

    def __init__(self, act: Callable[[EngineStatus], None] = lambda status: None) -> None:
        self.events: list[Event] = []
        self.statuses: list[EngineStatus] = []
        self._act = act

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def on_status(self, status: EngineStatus) -> None:
        self.statuses.append(status)
        self._act(status)

    def of(self, *kinds: str) -> list[str]:
        return [event.text for event in self.events if event.event in kinds]
