"""How long tests wait for what must come: far longer than it takes on a machine that is busy."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE = 600.0  # seconds after which a test gives up; nothing waits for as long that works


def until(true: Callable[[], object]) -> None:
    """Wait for what must come to be."""
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)
