"""The monitor, its event loop timed: `python -m benchmarks.tui_loop STORE LOG`.

For `benchmarks.tui`. Writes a line of JSON to LOG for every callback of more than a few ms: when it
began (`time.monotonic`), how long it took by the clock and by this thread's own time, and whose it
was. Other threads, which read the store, hold up the loop by the clock alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from seedconv_tui.cli.main import main

_WORTH_TELLING = 0.004  # seconds


def _whose(handle: Any) -> str:
    task = getattr(handle._callback, "__self__", None)
    name = task.get_name() if isinstance(task, asyncio.Task) else str(handle._callback)
    return name.removeprefix("message pump ")[:80]


def _watch(log: Path) -> None:
    file, run = log.open("w", buffering=1, encoding="utf-8"), asyncio.Handle._run

    def timed(handle: Any) -> None:
        began, own = time.monotonic(), time.thread_time()
        run(handle)
        seconds = time.monotonic() - began
        if seconds > _WORTH_TELLING:
            took = [round(1e3 * value, 1) for value in (seconds, time.thread_time() - own)]
            file.write(json.dumps([began, *took, _whose(handle)]) + "\n")

    asyncio.Handle._run = timed  # type: ignore[method-assign]


_watch(Path(sys.argv[2]))
main(["tui", "--fresh", sys.argv[1]])
