"""Several devices of this machine: one process for each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from engine.machine.devices import DeviceGroup, name_devices, threads_each
from engine.machine.host_memory import resident_bytes
from engine.sources.base import Source
from engine.workers.executor import Board
from engine.workers.messages import Ended, Job, Message, Pass
from engine.workers.pool import Pool, WorkerHandle
from engine.workers.remote_worker import RemoteWorker
from store.writing import CellWriter

_EXIT_SECONDS = 1.0  # from the last message of a process to its end
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class _ProcessHandle(WorkerHandle):
    def __init__(
        self, device: str, job: Job, process: SpawnProcess, connection: Connection
    ) -> None:
        super().__init__(f"{device} (process {process.pid})", device)
        self.job, self.process, self.connection = job, process, connection


class ProcessExecutor(Pool[_ProcessHandle]):
    """Works on several devices of this machine."""

    def __init__(
        self,
        groups: Sequence[DeviceGroup],
        job: Job,
        sources: Mapping[str, Source],
        results: CellWriter,
        board: Board,
    ) -> None:
        super().__init__(sources, results, board)
        self._groups, self._job = groups, job

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        on_cpu = any(not group.has_gpus for group in self._groups)
        threads = threads_each(self._groups) if on_cpu else None
        for group, name in zip(self._groups, name_devices(self._groups), strict=True):
            ours, theirs = context.Pipe()
            arguments = (theirs, str(group), None if group.has_gpus else threads)
            process = context.Process(target=_work, args=arguments, name=name, daemon=True)
            with _deaf():
                process.start()
            theirs.close()
            self._handles.append(_ProcessHandle(name, self._job_for(group), process, ours))

    def _job_for(self, group: DeviceGroup) -> Job:
        """Return the job with this process's share of what the study's limits allow."""
        study, n = self._job.study, len(self._groups)
        often = Counter(gpu for other in self._groups for gpu in other.gpus)
        on_one_gpu = max((often[gpu] for gpu in group.gpus), default=1)
        limits = study.limits.shared(n, on_one_gpu, resident_bytes())
        return replace(self._job, study=study.model_copy(update={"limits": limits}))

    def _receive(self, seconds: float) -> Iterator[tuple[_ProcessHandle, Message]]:
        handles = {handle.connection: handle for handle in self._handles}
        for connection in wait(list(handles), seconds):
            assert isinstance(connection, Connection)
            handle = handles[connection]
            try:
                message = connection.recv()
                if message is None:  # it has imported everything and asks what to do
                    connection.send(handle.job)
                    continue
            except (EOFError, OSError):
                handle.process.join(_EXIT_SECONDS)
                message = Ended(_how_it_ended(handle.process.exitcode))
            yield handle, message

    def _give(self, handle: _ProcessHandle, task: Pass) -> None:
        with contextlib.suppress(OSError):
            handle.connection.send(task)

    def _ask_to_end(self, handle: _ProcessHandle) -> None:
        with contextlib.suppress(OSError):
            handle.connection.send(None)

    def _release(self, handle: _ProcessHandle, *, ended: bool) -> None:
        if ended:
            handle.process.join(_EXIT_SECONDS)
        handle.process.kill()
        handle.process.join()
        handle.connection.close()


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Hold signals back from what is started meanwhile, from its first moment to its last.

    A terminal sends them to all processes, and the coordinator ends its own in good order.
    """
    resource_tracker.ensure_running()  # else it is started with the first, and lets signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connection: Connection, device: str, threads: int | None) -> None:
    """Work in a process, from its beginning to its end."""
    try:
        connection.send(None)
        job = connection.recv()
        if job is None:
            connection.send(Ended())
            return
        worker = RemoteWorker(job, device, threads, connection.send)
        threading.Thread(target=_listen, args=(connection, worker), daemon=True).start()
        worker.run()
    except (EOFError, BrokenPipeError, ConnectionResetError):  # nobody is left to work for
        os._exit(1)


def _listen(connection: Connection, worker: RemoteWorker) -> None:
    while True:
        try:
            order = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        if order is None:
            worker.stop()
        else:
            worker.take(order)
