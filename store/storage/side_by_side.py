"""Doing several things at once that wait for the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_THREADS = 8  # they wait for the disk, which takes what comes at once in one go, and compute little
_Item = TypeVar("_Item")


def side_by_side(do: Callable[[_Item], object], items: Iterable[_Item]) -> None:
    """Do this with each item, in threads, and return when all of it is done.

    Raise what went wrong first, in the order of the items, once no thread is at it any more; what
    had not begun by then is left.
    """
    every = list(items)
    if len(every) < 2:
        for item in every:
            do(item)
        return
    with ThreadPoolExecutor(min(len(every), _THREADS), thread_name_prefix="disk") as pool:
        futures = [pool.submit(do, item) for item in every]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
