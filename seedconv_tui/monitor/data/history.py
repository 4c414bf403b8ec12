"""Earlier values of expected KL: from this session, and before it from the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from store.schema import JournalEntry, ModelSnapshot, StudySnapshot

BACK_SECONDS = 3600.0
"""How far back a change is measured from."""
_COMPARED = ("compared", "reduced")  # the second in journals of version 0.1


@dataclass(frozen=True)
class Point:
    """The newest expected KL of a model from a moment on."""

    time: float  # unix time
    step: int
    value: float  # nats


@dataclass(frozen=True)
class Change:
    """The rise of the newest expected KL above the one of some time ago."""

    seconds: float  # how long ago: an hour, less where no more is known
    nats: float | None  # None: nothing was reduced since, for longer than an hour


@dataclass
class History:
    """Every model's newest expected KL over the last hour."""

    _points: dict[str, list[Point]] = field(default_factory=dict)

    def take(self, snapshot: StudySnapshot, now: float) -> None:
        """Take how the study stands at `now`, unix time."""
        for model in snapshot.models:
            reduced = np.flatnonzero(model.n_pairs)
            if not len(reduced):
                self._points.pop(model.name, None)
                continue
            at = int(reduced[-1])
            step, value = int(model.steps[at]), float(model.expected_kl[at])
            known = self._points.get(model.name)
            if known is None:
                known = self._points[model.name] = list(_as_written(model, snapshot.journal))
            if not known or (known[-1].step, known[-1].value) != (step, value):
                known.append(Point(now, step, value))
            while len(known) > 1 and known[1].time <= now - BACK_SECONDS:
                del known[0]

    def change(self, model: str, now: float) -> Change | None:
        """Return the change since an hour before `now`; None: too little is known."""
        points = self._points.get(model, [])
        if not points:
            return None
        old = [point for point in points if point.time <= now - BACK_SECONDS]
        before, last = (old or points)[-1 if old else 0], points[-1]
        if before is last:
            return Change(now - last.time, None) if old else None
        return Change(min(now - before.time, BACK_SECONDS), last.value - before.value)


def _as_written(model: ModelSnapshot, journal: Iterable[JournalEntry]) -> Iterable[Point]:
    """Yield when each step that was the newest then was reduced, as far as the journal has it."""
    starts, newest = [f"{word} {model.name}, step " for word in _COMPARED], -1
    places = {int(step): place for place, step in enumerate(model.steps)}
    for entry in journal:
        start = next(filter(entry.text.startswith, starts), None)
        if entry.event != "reduced" or start is None:
            continue
        number = entry.text.removeprefix(start).partition(":")[0].replace(",", "")
        step = int(number) if number.isdecimal() and len(number) < 19 else -1
        if step in places and step > newest and model.n_pairs[places[step]]:
            newest = step
            yield Point(entry.time, step, float(model.expected_kl[places[step]]))
