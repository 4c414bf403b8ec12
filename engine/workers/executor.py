"""The protocol of executors. All do the same passes with the same results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from engine.events import Level
from engine.sources.base import Source
from engine.workers.messages import Job, Outcome, Pass
from store.schema import Gpu, Work
from store.writing import CellWriter


class Board(Protocol):
    """The channel on which workers report their state, and learn that they should stop."""

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
        """Return how many passes it can hold, also those only being prepared; 0: it is broken."""

    def submit(self, task: Pass) -> None:
        """Take one more pass."""

    def next(self) -> Outcome | None:
        """Wait for what came of one of the passes; return None if capacity has grown meanwhile.

        Raise Interrupted when asked to stop.
        """

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """End what is under way, without its results, and give everything back."""


@dataclass(frozen=True)
class FoundDevices:
    """Devices that were found. Nothing works yet."""

    describe: Callable[[], str]  # all of them, in one line, for people
    read_gpus: Callable[[], tuple[Gpu, ...]]  # how its GPUs are doing now; never raises
    # Sources are those that look for what is there.
    executor: Callable[[Job, Mapping[str, Source], CellWriter, Board], Executor]
