"""How the C library hands out memory to the engine's threads."""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8  # glibc, malloc.h
_ARENAS = 2


def share_heaps() -> None:
    """Have all threads allocate from two heaps; does nothing where the C library is not glibc.

    By default each thread gets a heap of its own, which keeps what was freed. A dozen threads that
    compress and write chunks of several MB then hold hundreds of MB of nothing (a third of the
    engine's peak, measured by `benchmarks.memory`).
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
