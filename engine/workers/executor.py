"""Who does the passes. Whoever does them, they are the same passes with the same results."""

from __future__ import annotations

from collections import deque
from typing import Protocol, Self

from engine.events import Level
from engine.workers.messages import Outcome, Pass
from engine.workers.worker import Worker
from store.schema.snapshot import Work


class Board(Protocol):
    """Where workers report what they are doing, and learn that the user wants them to stop."""

    def show(self, device: str, work: Work | None) -> None:
        """Show what a device is doing; None: nothing. Raise Interrupted when asked to stop."""

    def report(self, level: Level, text: str) -> None:
        """Report that a device came or went."""

    def check_stop(self) -> None:
        """Raise Interrupted when asked to stop."""


class Executor(Protocol):
    """Takes passes and gives back what came of them, in any order."""

    @property
    def capacity(self) -> int:
        """Passes that it can hold, those that are only being prepared included; 0: it is broken."""

    def submit(self, task: Pass) -> None:
        """Take one more pass."""

    def next(self) -> Outcome | None:
        """What came of one of the passes; waits for it. None: its capacity has grown meanwhile.

        Raises Interrupted when asked to stop.
        """

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """End what is under way, without its results, and give everything back."""


class InlineExecutor:
    """Does the passes one after the other, in this process, on one device."""

    capacity = 2  # one in hand, one whose weights are being read

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._queue: deque[Pass] = deque()

    def submit(self, task: Pass) -> None:
        """Take one more pass."""
        self._queue.append(task)
        self._worker.prefetch(task)

    def next(self) -> Outcome:
        """Do the next pass."""
        return self._worker.run(self._queue.popleft())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
