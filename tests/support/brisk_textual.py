"""Textual in tests without what it spends most of their time on.

It sleeps at least a fiftieth of a second wherever it waits for an app to be idle, and until the
process uses little CPU for so long. What that waits for is known better: that the event loop has
nothing more to run, and no timer that ends within that fiftieth. Only what threads read is waited
for as Textual does; a test that needs it waits for the threads (`Terminal.settle`).

And it reads the same style sheets again for every app, and for every screen of it.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from time import process_time

import textual.app
import textual.pilot
from textual._wait import SLEEP_GRANULARITY, SLEEP_IDLE
from textual.css.model import RuleSet
from textual.css.stylesheet import CSSLocation, Stylesheet

_READERS = {"snapshot", "details", "save"}  # names of the monitor's threads
_TASKS = Path("/proc/self/task")  # where the system says what each thread does

_read: dict[object, list[RuleSet]] = {}
_read_rules = Stylesheet._parse_rules


async def nothing_to_run(min_sleep: float = 0, max_sleep: float = 1) -> None:
    """Wait until the event loop waits, for files, a held thread or what is due later."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    at_once = began + SLEEP_GRANULARITY
    while loop.time() < began + max_sleep:
        await asyncio.sleep(0)
        if loop._ready or await _something_is_read():
            continue
        timers = (timer.when() for timer in loop._scheduled if not timer.cancelled())
        first = min(timers, default=at_once + 1)
        if first > at_once:
            return
        await asyncio.sleep(max(0, first - loop.time()))


async def _something_is_read() -> bool:
    """Return whether a thread reads, and is not held."""
    if _READERS.isdisjoint(thread.name for thread in threading.enumerate()):
        return False
    spent = process_time()
    await asyncio.sleep(SLEEP_GRANULARITY)
    return process_time() - spent > SLEEP_IDLE or _others_run()


def _others_run() -> bool:
    """Return whether another thread has work and merely waits for a processor or the disk."""
    if not _TASKS.exists():
        return False
    ours = str(threading.get_native_id())
    return any(_runs(task) for task in _TASKS.iterdir() if task.name != ours)


def _runs(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] in "RD"
    except OSError:  # it ended meanwhile
        return True


def read_once(
    sheet: Stylesheet,
    css: str,
    read_from: CSSLocation,
    is_default_rules: bool = False,
    tie_breaker: int = 0,
    scope: str = "",
) -> list[RuleSet]:
    """Return the rules of a text with the variables of this sheet, which never change."""
    arguments = css, read_from, is_default_rules, tie_breaker, scope
    key = arguments, frozenset(sheet._variables.items())
    if key not in _read:
        _read[key] = _read_rules(sheet, *arguments)
    return _read[key]


def make_textual_brisk() -> None:
    """Let Textual wait and read style sheets as above, in this process."""
    textual.app.wait_for_idle = textual.pilot.wait_for_idle = nothing_to_run
    Stylesheet._parse_rules = read_once
