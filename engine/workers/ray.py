"""The machines of a Ray cluster. The one module that imports ray, when it is asked for.

Each GPU of the cluster, or each machine where work is done on CPUs, has an actor, which keeps one
worker for the whole run. Nothing is restarted: what an actor had in hand is done by another one,
and a machine that joins, or comes back, gets actors of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engine.errors import ConfigError
from engine.sources.base import Source
from engine.workers.executor import Board, FoundDevices
from engine.workers.messages import Ended, Job, Message, Pass
from engine.workers.pool import Pool, WorkerHandle
from engine.workers.remote_worker import RemoteWorker
from store.writing import CellWriter

_CONNECT_SECONDS = 5.0
_LOOK_SECONDS = 5.0  # how often machines that joined are looked for
_SLOW_SECONDS = 60.0  # after which it is said that an actor has not started
_MESSAGES_SECONDS = 5.0  # for which an actor keeps a question for messages open


def find_cluster(address: str, setting: str) -> FoundDevices:
    """Connect to a cluster and find its GPUs, or its machines.

    `setting` is `scoring.device`: "auto", "cuda" or "cpu". Raise ConfigError when there is no
    cluster, or it has no such devices.
    """
    if setting not in ("auto", "cuda", "cpu"):
        raise ConfigError(
            f'scoring.device: with --ray it should be "auto", "cuda" or "cpu", found '
            f'"{setting}": the cluster reports its devices'
        )
    _connect(address)
    gpus = sum(_count(node, "GPU") for node in _nodes())
    if setting == "cuda" and not gpus:
        raise ConfigError('scoring.device: found "cuda", but the Ray cluster has no GPU')
    kind = "CPU" if setting == "cpu" or not gpus else "GPU"
    nodes = [node for node in _nodes() if _count(node, kind)]
    if not nodes:
        raise ConfigError("--ray: the cluster has neither GPUs nor CPUs to offer")
    n = sum(_count(node, kind) for node in nodes)
    machines = f"{len(nodes)} machine{'s' * (len(nodes) > 1)}"
    description = f"Ray cluster: {machines}, {n} {kind}s"
    # No readings: GPUs are in other machines, whose drivers cannot be asked from here.
    return FoundDevices(lambda: description, tuple, partial(RayExecutor, kind))


class _RayHandle(WorkerHandle):
    def __init__(self, name: str, node: str, actor: Any) -> None:
        super().__init__(name, name)
        self.node, self.actor = node, actor
        self.messages = actor.messages.remote()  # what the actor says next, once it does
        self.started: float | None = time.monotonic()  # None: it is there, or was waited for


class RayExecutor(Pool[_RayHandle]):
    """Works on all devices of one kind in a cluster, also on those that join later."""

    def __init__(
        self,
        kind: str,
        job: Job,
        sources: Mapping[str, Source],
        results: CellWriter,
        board: Board,
    ) -> None:
        super().__init__(sources, results, board)
        self._kind, self._job = kind, ray.put(replace(job, shares_cache=False))
        self._known: set[str] = set()  # nodes
        self._looked = 0.0

    def _start(self) -> None:
        self._look()

    def _look(self) -> None:
        """Have actors on machines that are new."""
        self._looked, first = time.monotonic(), not self._known
        for node in _nodes():
            if node["NodeID"] in self._known:
                continue
            self._known.add(node["NodeID"])
            count = _count(node, self._kind)
            machine = f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})"
            if count and not first:
                self._board.report("info", f"{machine}: joined")
            if self._kind == "CPU":
                if count:
                    self._add(machine, node, {"num_cpus": count}, threads=count)
                continue
            for gpu in range(count):
                self._add(f"{machine} GPU {gpu}", node, {"num_cpus": 0, "num_gpus": 1}, None)

    def _add(
        self, name: str, node: Mapping[str, Any], takes: dict[str, int], threads: int | None
    ) -> None:
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        actor = _RemoteActor.options(scheduling_strategy=here, max_restarts=0, **takes)
        device = "cuda" if threads is None else "cpu"
        self._handles.append(
            _RayHandle(name, node["NodeID"], actor.remote(self._job, device, threads))
        )

    def _receive(self, seconds: float) -> Iterator[tuple[_RayHandle, Message]]:
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._look()
            self._report_slow()
        handles = {handle.messages: handle for handle in self._handles}
        found, _ = ray.wait(list(handles), timeout=seconds)
        more, _ = ray.wait(list(handles), num_returns=len(handles), timeout=0)
        for reference in {*found, *more}:
            handle = handles[reference]
            handle.started = None
            try:
                messages = ray.get(reference)
                handle.messages = handle.actor.messages.remote()
            except RayError as error:
                messages = [Ended(_how_it_ended(handle, error))]
                self._look()  # before it is found that nobody is left
            for message in messages:
                yield handle, message

    def _report_slow(self) -> None:
        for handle in self._handles:
            if handle.started is not None and time.monotonic() - handle.started > _SLOW_SECONDS:
                handle.started = None
                self._board.report(
                    "warning", f"{handle.name}: has not started; is it taken by other work of Ray?"
                )

    def _give(self, handle: _RayHandle, task: Pass) -> None:
        handle.actor.take.remote(task)

    def _ask_to_end(self, handle: _RayHandle) -> None:
        handle.actor.stop.remote()

    def _release(self, handle: _RayHandle, *, ended: bool) -> None:
        with contextlib.suppress(RayError):
            ray.kill(handle.actor)

    def __exit__(self, *error: object) -> None:
        """End all actors and leave the cluster."""
        super().__exit__(*error)
        ray.shutdown()


class _Actor:
    """A worker in the cluster. Its messages are fetched, since it cannot call the coordinator."""

    def __init__(self, job: Job, device: str, threads: int | None) -> None:
        with contextlib.suppress(OSError):  # if that matters, the worker finds no store
            os.chdir(job.folder)
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._worker = RemoteWorker(job, device, threads, self._messages.put)
        threading.Thread(target=self._worker.run, daemon=True).start()

    @ray.method(concurrency_group="messages")
    def messages(self) -> list[Message]:
        """Wait a while for messages of the worker; return those since the last call."""
        try:
            found = [self._messages.get(timeout=_MESSAGES_SECONDS)]
        except queue.Empty:
            return []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._messages.get_nowait())
        return found

    def take(self, task: Pass) -> None:
        """Take one more pass."""
        self._worker.take(task)

    def stop(self) -> None:
        """End soon."""
        self._worker.stop()


_new_actor: Any = ray.remote
_RemoteActor = _new_actor(concurrency_groups={"messages": 1})(_Actor)


def _connect(address: str) -> None:
    """Join the cluster as its client. Raise ConfigError when there is none."""
    real = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    host, _, port = real.rpartition(":")
    try:
        if real != "auto":  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(real, log_to_driver=False, logging_level=logging.ERROR)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own would end us before we are done
    except (ConnectionError, OSError, ValueError, OverflowError):
        raise ConfigError(
            f"--ray: no cluster answers at {real!r}; start one with `ray start --head` and give "
            'its host:port, or "auto" on its machines'
        ) from None
    except RuntimeError as error:  # such as another version of Ray or Python
        raise ConfigError(f"--ray: {real}: {str(error).strip().splitlines()[0]}") from None


def _nodes() -> list[dict[str, Any]]:
    """Return the machines that are there, in an order that stays."""
    list_nodes: Any = ray.nodes
    nodes = [node for node in list_nodes() if node["Alive"]]
    return sorted(nodes, key=lambda node: (node["NodeManagerHostname"], node["NodeID"]))


def _count(node: Mapping[str, Any], kind: str) -> int:
    return int(node["Resources"].get(kind, 0))


def _how_it_ended(handle: _RayHandle, error: RayError) -> str:
    if handle.node not in {node["NodeID"] for node in _nodes()}:
        return "the machine left the cluster"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"its process ended ({type(error).__name__}: {lines[-1] if lines else 'no message'})"
