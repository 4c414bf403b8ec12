"""An executor that is made when the first pass comes: what works is imported and started then."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from engine.workers.executor import Executor
from engine.workers.messages import Outcome, Pass


class ExecutorOnDemand:
    """Nothing is begun while there is nothing to do."""

    def __init__(self, make: Callable[[], Executor]) -> None:
        self._make = make
        self._made: Executor | None = None
        self._stack = ExitStack()

    @property
    def capacity(self) -> int:
        """Return how many passes it can hold; asked for, it begins."""
        return self._executor().capacity

    def submit(self, task: Pass) -> None:
        """Take one more pass."""
        self._executor().submit(task)

    def next(self) -> Outcome | None:
        """Wait for what came of one of the passes, as what was made does."""
        return self._executor().next()

    def __enter__(self) -> Self:
        self._stack.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._made = None
        self._stack.__exit__(*raised)  # type: ignore[arg-type]

    def _executor(self) -> Executor:
        if self._made is None:
            self._made = self._stack.enter_context(self._make())
        return self._made
