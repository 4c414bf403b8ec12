"""Several stations that work side by side: passes are shared out among them.

What differs between processes of this machine and a cluster is how messages are carried.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Generic, Self, TypeVar

from engine.coordination.planner import Pass
from engine.coordination.progress import Progress
from engine.errors import EngineError
from engine.sources.base import Source
from engine.workers.station import Ended, Message, Ready
from engine.workers.worker import Outcome
from store import StoreError
from store.writing.cells import ResultWriter

_PER_SLOT = 2  # one pass in hand, one whose weights are being read
_POLL_SECONDS = 0.2  # within which a request to stop is noticed
_END_SECONDS = 7.0  # for stations to end what is under way


class Slot:
    """The coordinator's end of one station."""

    def __init__(self, name: str, device: str) -> None:
        self.name = name  # for messages
        self.device = device  # what it is called where its progress is shown
        self.ready = False
        self.tasks: list[Pass] = []  # given to it and not answered; it works on the first


AnySlot = TypeVar("AnySlot", bound=Slot)


class Pool(ABC, Generic[AnySlot]):
    """An executor of many devices. One that fails does not stop the others."""

    def __init__(
        self, sources: Mapping[str, Source], results: ResultWriter, progress: Progress
    ) -> None:
        self._sources, self._results, self._progress = sources, results, progress
        self._slots: list[AnySlot] = []
        self._queue: deque[Pass] = deque()  # not given to a station yet
        self._held: list[Pass] = []  # taken and not given back
        self._outcomes: deque[Outcome] = deque()
        self._last_trouble = ""

    # -- how messages are carried --------------------------------------------------------------

    @abstractmethod
    def _start(self) -> None:
        """Start stations; they need not be ready yet."""

    @abstractmethod
    def _receive(self, seconds: float) -> Iterable[tuple[AnySlot, Message]]:
        """Messages of stations, waited for as long; `Ended` for one that is found dead."""

    @abstractmethod
    def _give(self, slot: AnySlot, task: Pass, places: tuple[object, ...]) -> None:
        """Hand a station a pass; if it is dead, `_receive` tells so."""

    @abstractmethod
    def _ask_to_end(self, slot: AnySlot) -> None:
        """Ask a station to end, without waiting for it."""

    @abstractmethod
    def _release(self, slot: AnySlot, *, ended: bool) -> None:
        """Give back what a station takes; it is killed unless it `ended`."""

    # -- the executor --------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Two passes for each station that is not gone."""
        return _PER_SLOT * len(self._slots)

    def submit(self, task: Pass) -> None:
        """Take one more pass."""
        self._queue.append(task)
        self._held.append(task)

    def next(self) -> Outcome | None:
        """What came of one of the passes; waits for it. None: there is room for more of them.

        Raises Interrupted when asked to stop, EngineError when no station is left, and OSError or
        StoreError when a station met one: results cannot be written, whoever does it.
        """
        capacity = self.capacity
        while not self._outcomes:
            if self.capacity > capacity:
                return None
            if not self._slots:
                raise EngineError(
                    "no device is left to work on; what was committed stays. "
                    f"The last one: {self._last_trouble}"
                )
            self._share_out()
            for slot, message in self._receive(_POLL_SECONDS):
                self._hear(slot, message)
            self._progress.check_stop()
        self._share_out()
        outcome = self._outcomes.popleft()
        self._held.remove(outcome.task)
        return outcome

    def _share_out(self) -> None:
        """Give passes to whoever has least to do; seeds that are scored are what takes time."""
        while self._queue:
            free = [slot for slot in self._slots if slot.ready and len(slot.tasks) < _PER_SLOT]
            if not free:
                return
            slot = min(free, key=_load)
            task = self._queue.popleft()
            slot.tasks.append(task)
            source = self._sources[task.model]
            self._give(slot, task, tuple(source.place((seed, task.step)) for seed in task.live))

    def _hear(self, slot: AnySlot, message: Message) -> None:
        match message:
            case Ready():
                slot.ready = True
            case Outcome():
                slot.tasks.remove(message.task)
                self._outcomes.append(message)
                if not slot.tasks:
                    self._progress.show(slot.device, None)
            case Ended():
                self._lose(slot, message)
            case work:
                self._progress.show(slot.device, work)

    def _lose(self, slot: AnySlot, ended: Ended) -> None:
        self._slots.remove(slot)
        self._release(slot, ended=True)
        if ended.error is not None:
            raise ended.error
        self._last_trouble = f"{slot.name}: {ended.why or 'it ended without being told to'}"
        self._queue.extendleft(reversed(slot.tasks[1:]))  # those it had not begun
        if slot.tasks:
            self._outcomes.append(Outcome(slot.tasks[0], 0.0, lost=self._last_trouble))
        else:
            self._progress.tell("warning", f"{self._last_trouble}; going on without it")
        self._progress.show(slot.device, None)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        """End all stations within 10 seconds and remove what they wrote that was not committed."""
        for slot in [slot for slot in self._slots if not slot.ready]:  # nothing is under way there
            self._slots.remove(slot)
            self._release(slot, ended=False)
        for slot in self._slots:
            self._ask_to_end(slot)
        deadline = time.monotonic() + _END_SECONDS
        while self._slots and time.monotonic() < deadline:
            for slot, message in self._receive(_POLL_SECONDS):
                if isinstance(message, Ended):
                    self._slots.remove(slot)
                    self._release(slot, ended=True)
        for slot in self._slots:
            self._release(slot, ended=False)
        self._slots = []
        for task in self._held:
            with contextlib.suppress(OSError, StoreError):
                self._results.discard(task.model, task.step, task.live, task.seeds)


def _load(slot: Slot) -> int:
    return sum(max(1, len(task.live)) for task in slot.tasks)
