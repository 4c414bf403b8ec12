"""The machine's memory, and the part that a study's limits allow the engine.

No wall: what counts is measured before it is taken, so that what cannot fit is refused and what
can be done in smaller parts is. A limit on address space, which the
system offers, is useless: CUDA alone reserves far more of it than there is memory.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import psutil

_POLL_SECONDS = 0.002


def resident_bytes() -> int:
    """Return the memory of this process that is in use now."""
    return int(psutil.Process().memory_info().rss)


def return_unused() -> None:
    """Give memory that was freed back to the system, where the C library can do that (glibc).

    Each thread has freed chunks of its own that others do not use: of some megabytes each, they
    come to as much as is in use.
    """
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return None


class HostMemory:
    """The rest of the memory that this process may take."""

    def __init__(self, limit_gb: float | None) -> None:
        """Take a limit in GB; None: as much memory as there is."""
        self.limit = None if limit_gb is None else int(limit_gb * 1e9)

    def left(self) -> int | None:
        """Return bytes that may still be taken; None: no limit."""
        return None if self.limit is None else self.limit - resident_bytes()

    def lacks(self, needed: int) -> str | None:
        """Return why that many more bytes are too much; None: they are not."""
        left = self.left()
        if left is None or self.limit is None or needed <= left:
            return None
        return (
            f"{needed / 1e9:.3g} GB of memory, and limits.memory_gb leaves {max(0, left) / 1e9:.3g}"
            f" of {self.limit / 1e9:.3g} GB"
        )


def peak_bytes(work: Callable[[], object]) -> int:
    """Return bytes that this process took at most during some work, beyond those before."""
    before, over, seen = resident_bytes(), threading.Event(), [0]

    def look() -> None:
        while not over.wait(_POLL_SECONDS):
            seen.append(resident_bytes())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        work()
    finally:
        over.set()
        thread.join()
    return max(0, max(seen) - before)
