"""Doing several things at once that wait for the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Generic, TypeVar

_THREADS = 8  # they wait for the disk, which takes what comes at once in one go, and compute little
_LONG = 0.0005  # seconds; what takes less is done before a thread has started
_Item = TypeVar("_Item")

_slow: set[object] = set()  # what took long when it was done last: code, which closures share


def side_by_side(do: Callable[[_Item], object], items: Iterable[_Item]) -> None:
    """Do this with each item, in threads if it takes long, and return when all of it is done.

    Raise what went wrong first, in the order of the items, once no thread is at it any more; what
    had not begun by then is left.
    """
    share, kind = _Share(do, items), getattr(do, "__code__", None)
    helpers: list[Future[None]] = []
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="disk") as pool:
        try:
            while share.left:
                if kind in _slow and not helpers:
                    more = min(len(share.left), _THREADS) - 1
                    helpers = [pool.submit(share.go_on) for _ in range(more)]
                began = perf_counter()
                share.do_next()
                took = perf_counter() - began
                (_slow.add if took > _LONG else _slow.discard)(kind)
        finally:
            share.left.clear()
    for helper in helpers:
        helper.result()  # which raises what is no error of an item, and ends threads
    if share.wrong:
        raise share.wrong[min(share.wrong)]


class _Share(Generic[_Item]):
    """Items shared out among threads: each takes the next, until none is left or one fails."""

    def __init__(self, do: Callable[[_Item], object], items: Iterable[_Item]) -> None:
        self._do = do
        self.left = list(enumerate(items))[::-1]  # the next one is the last
        self.wrong: dict[int, Exception] = {}  # by the item's place

    def go_on(self) -> None:
        """Do one item after the other."""
        while self.left:
            self.do_next()

    def do_next(self) -> None:
        """Do the next item, unless another thread has taken the last one meanwhile."""
        try:
            place, item = self.left.pop()
        except IndexError:
            return
        try:
            self._do(item)
        except BaseException as error:
            self.left.clear()
            if not isinstance(error, Exception):
                raise
            self.wrong[place] = error
