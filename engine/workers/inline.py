"""One device, which works in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Self

from engine.machine.devices import DeviceGroup, name_devices
from engine.machine.gate import gated
from engine.machine.limits import limit_gpus, limit_process
from engine.sources.base import Source
from engine.workers.executor import Board
from engine.workers.messages import Job, Outcome, Pass
from engine.workers.worker import Worker
from store.writing import CellWriter


class InlineExecutor:
    """Does the passes one after the other."""

    capacity = 2  # one in hand, one whose weights are being read

    def __init__(
        self,
        devices: DeviceGroup,
        job: Job,
        sources: Mapping[str, Source],
        results: CellWriter,
        board: Board,
    ) -> None:
        self._sources = sources
        limits, (name,) = job.study.limits, name_devices([devices])
        limit_process(limits)  # torch's threads as well, now that it is imported
        limit_gpus(limits, devices)
        report = gated(limits, devices, lambda work: board.show(name, work))
        self._worker = Worker(
            job.study, job.text, job.tokenizer, sources, devices, results, report, job.probes
        )
        self._queue: deque[Pass] = deque()

    def submit(self, task: Pass) -> None:
        """Take one more pass."""
        task = task.located(self._sources)
        self._queue.append(task)
        self._worker.prefetch(task)

    def next(self) -> Outcome:
        """Do the next pass."""
        return self._worker.run(self._queue.popleft())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
