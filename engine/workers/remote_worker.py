"""One device at work for a coordinator in another process, perhaps on another machine.

It is given passes and sends messages, plain data both, so it does not matter what carries them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from engine.errors import EngineError, Interrupted
from engine.machine.devices import DeviceGroup
from engine.machine.gate import gated
from engine.machine.limits import limit_gpus, limit_process
from engine.sources.hub_client import HubClient
from engine.sources.open import open_source
from engine.sources.reference_source import all_sources
from engine.workers.messages import Ended, Job, Message, Pass, Ready
from engine.workers.worker import Worker
from store import StoreError
from store.schema import COMMITS, Work
from store.writing import CellWriter, log_file

_REPORT_SECONDS = 0.1  # more would only keep the coordinator busy


class RemoteWorker:
    """Does passes one after the other; the weights of the next are read meanwhile."""

    def __init__(
        self, job: Job, device: str, threads: int | None, send: Callable[[Message], None]
    ) -> None:
        """Prepare nothing yet. `threads` is for a CPU; `run` calls `send` in its own thread.

        `device` is the name of a DeviceGroup.
        """
        self._job, self._device, self._threads, self._send = job, device, threads, send
        self._stop = threading.Event()
        self._tasks: queue.SimpleQueue[Pass | None] = queue.SimpleQueue()
        self._worker: Worker | None = None
        self._reported: Work | None = None  # without the tokens done
        self._next_report = 0.0

    # -- called from other threads -------------------------------------------------------------

    def take(self, task: Pass) -> None:
        """Take one more pass, once ready; it carries where its checkpoints were found."""
        assert self._worker is not None
        self._worker.prefetch(task)
        self._tasks.put(task)

    def stop(self) -> None:
        """End soon: what is under way is abandoned."""
        self._stop.set()
        self._tasks.put(None)

    # -- the thread that works -----------------------------------------------------------------

    def run(self) -> None:
        """Work until asked to stop, or until an error that is not a checkpoint's fault."""
        try:
            self._send(self._work())
        finally:
            if self._worker is not None:
                self._worker.close()
                self._results.close()

    def _work(self) -> Ended:
        try:
            self._prepare()
            self._send(Ready())
            while (task := self._tasks.get()) is not None:
                assert self._worker is not None
                self._send(self._worker.run(task))
        except Interrupted:
            return Ended()
        except (OSError, StoreError) as error:
            return Ended(error=error)
        except EngineError as error:
            return Ended(str(error))
        except Exception as error:
            lines = str(error).strip().splitlines()
            return Ended(f"{type(error).__name__}: {lines[0] if lines else 'no message'}")
        return Ended()

    def _prepare(self) -> None:
        job, devices = self._job, DeviceGroup.parse(self._device)
        commits = job.study.store / COMMITS
        if not log_file(commits, job.session).exists():
            raise EngineError(
                f"{log_file(commits, job.session).absolute()} is not there; the store and the "
                "checkpoints must lie on a file system that all machines see under the same path"
            )
        if devices.has_gpus:  # or pinned memory would take some of the first GPU's
            torch.cuda.set_device(devices.output)
        elif self._threads is not None:
            torch.set_num_threads(self._threads)
        limit_process(job.study.limits)
        limit_gpus(job.study.limits, devices)
        hub = HubClient(self._stop)
        self._sources = all_sources(
            job.study,
            {m.name: open_source(m, job.study.folder, hub) for m in job.study.models},
            hub,
        )
        self._results = CellWriter(job.study.store, job.session)
        report = gated(job.study.limits, devices, self._report)
        self._worker = Worker(
            job.study, job.text, job.tokenizer, self._sources, devices, self._results, report,
            job.probes, shares_cache=job.shares_cache,
        )  # fmt: skip

    def _report(self, work: Work) -> None:
        if self._stop.is_set():
            raise Interrupted("told to stop")
        now, doing = time.monotonic(), replace(work, tokens_done=0)
        if doing != self._reported or now >= self._next_report:
            self._reported, self._next_report = doing, now + _REPORT_SECONDS
            self._send(work)
