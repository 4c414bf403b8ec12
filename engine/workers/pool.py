"""Several workers that work side by side: passes are shared out among them.

What differs between processes of this machine and a cluster is how messages are carried.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Generic, Self, TypeVar

from engine.errors import EngineError
from engine.sources.base import Source
from engine.workers.executor import Board
from engine.workers.messages import Ended, Message, Outcome, Pass, Ready
from store import StoreError
from store.writing import CellWriter

_PER_WORKER = 2  # one pass in hand, one whose weights are being read
_POLL_SECONDS = 0.2  # within which a request to stop is noticed
_END_SECONDS = 7.0  # for workers to end what is under way


class WorkerHandle:
    """The coordinator's end of one worker."""

    def __init__(self, name: str, device: str) -> None:
        self.name = name  # for messages
        self.device = device  # what it is called where its progress is shown
        self.ready = False
        self.tasks: list[Pass] = []  # given to it and not answered; it works on the first


AnyHandle = TypeVar("AnyHandle", bound=WorkerHandle)


class Pool(ABC, Generic[AnyHandle]):
    """An executor of many devices. One that fails does not stop the others."""

    def __init__(self, sources: Mapping[str, Source], results: CellWriter, board: Board) -> None:
        self._sources, self._results, self._board = sources, results, board
        self._handles: list[AnyHandle] = []
        self._queue: deque[Pass] = deque()  # not given to a worker yet
        self._held: list[Pass] = []  # taken and not given back
        self._outcomes: deque[Outcome] = deque()
        self._last_trouble = ""

    # -- how messages are carried --------------------------------------------------------------

    @abstractmethod
    def _start(self) -> None:
        """Start workers; they need not be ready yet."""

    @abstractmethod
    def _receive(self, seconds: float) -> Iterable[tuple[AnyHandle, Message]]:
        """Yield messages of workers, waited for as long; `Ended` for one that is found dead."""

    @abstractmethod
    def _give(self, handle: AnyHandle, task: Pass) -> None:
        """Hand a worker a pass; if it is dead, `_receive` gives `Ended`."""

    @abstractmethod
    def _ask_to_end(self, handle: AnyHandle) -> None:
        """Ask a worker to end, without waiting for it."""

    @abstractmethod
    def _release(self, handle: AnyHandle, *, ended: bool) -> None:
        """Give back what a worker takes; it is killed unless it `ended`."""

    # -- the executor --------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Return two passes for each worker that is not gone."""
        return _PER_WORKER * len(self._handles)

    def submit(self, task: Pass) -> None:
        """Take one more pass."""
        self._queue.append(task)
        self._held.append(task)

    def next(self) -> Outcome | None:
        """Wait for what came of one of the passes; return None if there is room for more of them.

        Raise Interrupted when asked to stop, EngineError when no worker is left, and OSError or
        StoreError when a worker met one: results cannot be written, whoever does it.
        """
        capacity = self.capacity
        while not self._outcomes:
            if self.capacity > capacity:
                return None
            if not self._handles:
                raise EngineError(
                    "no device is left to work on; what was committed stays. "
                    f"The last one: {self._last_trouble}"
                )
            self._share_out()
            for handle, message in self._receive(_POLL_SECONDS):
                self._hear(handle, message)
            self._board.check_stop()
        self._share_out()
        outcome = self._outcomes.popleft()
        self._held.remove(outcome.task)
        return outcome

    def _share_out(self) -> None:
        """Give passes to the executor with least to do, counted in seeds to score."""
        while self._queue:
            free = [one for one in self._handles if one.ready and len(one.tasks) < _PER_WORKER]
            if not free:
                return
            handle = min(free, key=_load)
            task = self._queue.popleft()
            handle.tasks.append(task)
            self._give(handle, task.located(self._sources))

    def _hear(self, handle: AnyHandle, message: Message) -> None:
        match message:
            case Ready():
                handle.ready = True
            case Outcome():
                handle.tasks.remove(message.task)
                self._outcomes.append(message)
                if not handle.tasks:
                    self._board.show(handle.device, None)
            case Ended():
                self._lose(handle, message)
            case work:
                self._board.show(handle.device, work)

    def _lose(self, handle: AnyHandle, ended: Ended) -> None:
        self._handles.remove(handle)
        self._release(handle, ended=True)
        if ended.error is not None:
            raise ended.error
        self._last_trouble = f"{handle.name}: {ended.why or 'it ended without being told to'}"
        self._queue.extendleft(reversed(handle.tasks[1:]))  # those it had not begun
        if handle.tasks:
            self._outcomes.append(Outcome(handle.tasks[0], 0.0, lost=self._last_trouble))
        else:
            self._board.report("warning", f"{self._last_trouble}; going on without it")
        self._board.show(handle.device, None)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers within 10 seconds and remove what they wrote that was not committed."""
        for handle in [one for one in self._handles if not one.ready]:  # nothing is under way there
            self._handles.remove(handle)
            self._release(handle, ended=False)
        for handle in self._handles:
            self._ask_to_end(handle)
        deadline = time.monotonic() + _END_SECONDS
        while self._handles and time.monotonic() < deadline:
            for handle, message in self._receive(_POLL_SECONDS):
                if isinstance(message, Ended):
                    self._handles.remove(handle)
                    self._release(handle, ended=True)
        for handle in self._handles:
            self._release(handle, ended=False)
        self._handles = []
        for task in self._held:
            with contextlib.suppress(OSError, StoreError):
                self._results.discard(task.model, task.step, task.live, task.seeds)


def _load(handle: WorkerHandle) -> int:
    return sum(max(1, len(task.live)) for task in handle.tasks)
