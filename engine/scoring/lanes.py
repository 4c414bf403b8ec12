"""Blocks computed side by side on a CPU, each by a thread of its own.

A block fits the caches of one core, and each of the hundred operations on it takes some 0.1 ms.
Shared by several threads they would wait for each other longer than they compute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from types import TracebackType
from typing import Self, TypeVar

import torch

_MOST = 16  # Python starts the operations of all of them one after another

T = TypeVar("T")
R = TypeVar("R")


class Lanes:
    """As many threads as torch would use here, which it shares out among them.

    For a GPU there is one, the caller's own.
    """

    def __init__(self, device: torch.device, most: int) -> None:
        """Have `most` at most; they run from `__enter__` on."""
        self._threads = torch.get_num_threads()  # of all
        self.n = max(1, min(self._threads, most, _MOST)) if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.n > 1:
            self._pool, ready = ThreadPoolExecutor(self.n, "lane"), Barrier(self.n)
            each = self._threads // self.n
            try:
                for started in [self._pool.submit(_prepare, each, ready) for _ in range(self.n)]:
                    started.result()
            except BaseException:  # no more threads: those that there are would wait for ever
                ready.abort()
                self._close()
                raise
            finally:  # for threads to come: they take what is set last
                torch.set_num_threads(self._threads)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield `work` of each item, in their order. Closed early, it waits for what runs."""
        if self._pool is None:
            yield from map(work, items)
            return
        futures = deque(self._pool.submit(_inferring, work, item) for item in items)
        try:
            while futures:  # held no longer: an error in one would keep models in memory
                yield futures.popleft().result()
        finally:
            _end(futures)

    def alone(self, work: Callable[[T], R], item: T) -> R:
        """Return `work` of an item, done by the caller's thread as a lane would."""
        if self._pool is None:
            return work(item)
        torch.set_num_threads(self._threads // self.n)
        try:
            return work(item)
        finally:
            torch.set_num_threads(self._threads)


def _prepare(threads: int, ready: Barrier) -> None:
    torch.set_num_threads(threads)
    torch.get_num_threads()  # the first call in a thread would otherwise set it again, later
    ready.wait()


def _inferring(work: Callable[[T], R], item: T) -> R:
    with torch.inference_mode():  # each thread has its own
        return work(item)


def _end(futures: Iterable[Future[R]]) -> None:
    for future in futures:
        if not future.cancel():
            future.exception()
