"""The app in the benchmark's own process, in a terminal that counts and can be told everything.

For what a pty cannot measure; `benchmarks.tui` measures what users have.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seedconv_tui.monitor.app import SeedconvApp
    from seedconv_tui.monitor.data.feed import SnapshotSource


class Meter:
    """The app in a terminal of a size, and what was sent to that."""

    def __init__(self, size: tuple[int, int], source: SnapshotSource) -> None:
        from textual.drivers.headless_driver import HeadlessDriver

        from seedconv_tui.monitor.app import SeedconvApp
        from seedconv_tui.monitor.lean_output import lean_driver

        meter = self

        class Terminal(HeadlessDriver):
            is_headless = False  # type: ignore[assignment]  # Textual paints for this one

            def write(self, data: str) -> None:
                meter.sent += len(data.encode())
                meter.text += data
                meter.painted.set()

        self.sent, self.text, self.painted = 0, "", asyncio.Event()
        self.app: SeedconvApp = SeedconvApp(source, poll_seconds=86_400)
        self.app.driver_class = lean_driver(Terminal)
        self.size = size

    async def quiet(self) -> None:
        """Waits until nothing more is sent, and forgets what was."""
        before = -1
        while self.sent != before:
            before = self.sent
            await asyncio.sleep(0.1)
        self.sent, self.text = 0, ""
        self.painted.clear()

    async def shows(self, words: str) -> None:
        """Waits until some words have been sent."""
        while words not in self.text:
            self.painted.clear()
            await self.painted.wait()

    async def key(self, key: str) -> float:
        """Milliseconds from a key to the end of the first write after it."""
        from textual.events import Key

        self.painted.clear()
        start = time.perf_counter()
        self.app.post_message(Key(key, None))
        await asyncio.wait_for(self.painted.wait(), 5)
        taken = 1e3 * (time.perf_counter() - start)
        await self.quiet_soon()
        return taken

    async def quiet_soon(self) -> None:
        """Lets the app finish with one key before the next."""
        await asyncio.sleep(0.03)

    async def arrival(self) -> int:
        """Bytes sent for one more step of every model."""
        await self.quiet()
        self.app.poll()
        await self.painted.wait()
        await asyncio.sleep(0.1)
        return self.sent


def resident_mb() -> float:
    """Memory of this process that is in use now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
