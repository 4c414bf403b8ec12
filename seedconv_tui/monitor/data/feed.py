"""The source of the terminal's data, and how fresh they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from textual.message import Message

from seedconv_tui.monitor.data.alerts import Alerts
from seedconv_tui.monitor.data.history import History
from store import STALE_SECONDS
from store.schema import ACTIVE_STATES

if TYPE_CHECKING:
    from store import Study
    from store.schema import EngineStatus, StudySnapshot

UNREAD_AFTER = 10.0
"""Seconds without an answer from the store, before it is said."""


class SnapshotSource(Protocol):
    """Anything that reports the state of a study."""

    def progress(self) -> StudySnapshot:
        """Read how far the study is, without results: called once, before `snapshot`, there.

        Raises:
            StoreError: The store cannot be read now; `snapshot` is asked at the next poll.
        """
        ...

    def snapshot(self) -> StudySnapshot:
        """Read the study; called in a thread, never twice at once.

        Raises:
            StoreError: The store cannot be read now; it is asked again at the next poll.
        """
        ...

    def study(self) -> Study:
        """Return the study as it is committed now, for what a snapshot does not hold.

        Called in another thread than `snapshot`, never twice at once.

        Raises:
            StoreError: The store cannot be read now.
        """
        ...


class Crashed(Message):
    """A reading that ended in an error which is nobody's but ours."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__()


@dataclass
class Feed:
    """What the app knows of the study. The app owns it; only its message handlers change it."""

    now: float
    progress: StudySnapshot | None = None  # the newest reading; the first of all has no results
    snapshot: StudySnapshot | None = None  # the newest reading with results
    read_at: float = 0.0  # when the store last answered
    trouble: str = ""  # why the last reading failed; empty: it did not
    absent: bool = False  # it failed because there is no study
    paused: bool = False
    history: History = field(default_factory=History)
    alerts: Alerts = field(default_factory=Alerts)
    _beat: float = 0.0
    _beat_seen: float = 0.0  # when it was seen to change, or when it beat if its clock is believed

    def accept(self, snapshot: StudySnapshot, *, results: bool = True) -> bool:
        """Take a reading; return whether it says anything that the last one did not."""
        last, self.progress = self.progress, snapshot
        if results:
            last, self.snapshot = self.snapshot, snapshot
            if last is not None and last.replaced != snapshot.replaced:
                self.history = History()
            if last is None or last.generation != snapshot.generation:
                self.history.take(snapshot, self.now)
        recovered, self.trouble = bool(self.trouble), ""
        self.read_at = self.now
        if snapshot.engine and snapshot.engine.heartbeat != self._beat:
            beat = snapshot.engine.heartbeat if snapshot.seen is None else snapshot.seen
            changed = bool(self._beat) or beat > self.now  # none beats in the future
            self._beat, self._beat_seen = snapshot.engine.heartbeat, self.now if changed else beat
        engine = snapshot.engine
        silent = engine is not None and self.is_silent(engine)
        silence = (
            f"the engine is silent: {engine.host} pid {engine.pid}" if engine and silent else ""
        )
        self.alerts.take(snapshot.journal, silence)
        return (
            last is None
            or recovered
            or (last.generation, last.path, last.engine)
            != (snapshot.generation, snapshot.path, snapshot.engine)
            or last.journal != snapshot.journal
        )

    def silence(self) -> float:
        """Return seconds since the engine's last sign of life, as of the last reading.

        A heartbeat that was seen to change counts from that moment. So where the clocks of two
        machines disagree, a living engine does not look dead, nor a dead one alive.
        """
        return max(0.0, self.read_at - self._beat_seen)

    def unread(self) -> float:
        """Return seconds since the store last answered."""
        return max(0.0, self.now - self.read_at) if self.progress else 0.0

    @property
    def is_silent_now(self) -> bool:
        """Return whether there is an engine, and its heartbeat is overdue."""
        engine = self.progress.engine if self.progress else None
        return engine is not None and self.is_silent(engine)

    def is_silent(self, engine: EngineStatus) -> bool:
        """Return whether a heartbeat is overdue."""
        return engine.state in ACTIVE_STATES and self.silence() >= STALE_SECONDS
