"""Alerts: phases, outliers, failures, a silent engine; kept until the user has seen them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.schema import JournalEntry

_EVENTS = frozenset({"phase", "outlier", "failed", "probe_failed", "damaged", "gone"})

_MOST = 1000  # that wait; older ones are in the journal, if anywhere


def is_alert(entry: JournalEntry) -> bool:
    """Return whether a line of the journal should not be missed."""
    return entry.event in _EVENTS or entry.level == "error"


@dataclass(frozen=True)
class Alert:
    """One of them."""

    text: str  # untrusted
    level: str  # of the journal


@dataclass
class Alerts:
    """Those of a study since the session began, or since they were seen."""

    waiting: list[Alert] = field(default_factory=list)
    unheard: bool = False  # one came since the bell was last rung, or was not to be
    _begun: bool = False
    _last: JournalEntry | None = None
    _silent: Alert | None = None

    def take(self, journal: Sequence[JournalEntry], silence: str) -> None:
        """Take the journal, and why the engine counts as silent; empty: it does not.

        What the journal held at first is no alert: that was there to be read.
        """
        new = _after(journal, self._last) if self._begun else ()
        self._begun, self._last = True, journal[-1] if journal else self._last
        found = [Alert(entry.text, entry.level) for entry in new if is_alert(entry)]
        if silence and self._silent is None:
            self._silent = Alert(silence, "warning")
            found.append(self._silent)
        elif not silence and self._silent is not None:  # it is back
            self.waiting = [alert for alert in self.waiting if alert is not self._silent]
            self._silent = None
        self.waiting = [*self.waiting, *found][-_MOST:]
        self.unheard = self.unheard or bool(found)

    def acknowledge(self) -> None:
        """Take note that they were seen."""
        self.waiting = []


def _after(journal: Sequence[JournalEntry], last: JournalEntry | None) -> Sequence[JournalEntry]:
    if last is None:
        return journal
    for place in reversed(range(len(journal))):
        if journal[place] == last:
            return journal[place + 1 :]
    return [entry for entry in journal if entry.time > last.time]
