"""Signals that end a program: what it changed of the terminal is put back before it ends by one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from seedconv_tui.monitor.app import SeedconvApp

# What ends a process unless it is heard, and can be heard. Not what a fault of the process itself
# sends: such a handler would return to the fault.
_NAMES = "HUP INT QUIT ABRT USR1 USR2 ALRM TERM STKFLT XCPU VTALRM PROF IO PWR"
FATAL = [getattr(signal, f"SIG{n}") for n in _NAMES.split() if hasattr(signal, f"SIG{n}")]

_PATIENCE = 5.0  # seconds that the monitor has to end by itself
_RESTORE = (
    b"\x1b[?2004l\x1b[?7h\x1b[?2048l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l"
    b"\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l\x1b[0m"
)
"""Paste marks, line wrap, reports of size, mouse, keys and focus, other screen, cursor, style."""


def code(number: int) -> int:
    """Return the exit code of a program that ended by a signal."""
    return 128 + number


def end_in_order() -> None:
    """Have fatal signals end this process as an exit does, so that what is open is closed.

    The second of a kind ends it at once. Signals that are ignored, or heard already, stay so; and
    Ctrl-C is an exception of its own in Python.
    """
    for number in FATAL:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(code(number))


@contextlib.contextmanager
def ending(app: SeedconvApp) -> Iterator[None]:
    """End the monitor by the first fatal signal, with the terminal as it was before.

    Without the monitor's help after the second, or where it does not end in a few seconds: it may
    wait for a disk, or for a terminal that takes nothing.
    """
    attributes, timers = _attributes(), list[threading.Timer]()

    def leave(number: int) -> NoReturn:
        _restore(attributes)
        os._exit(code(number))

    def hear(number: int, _frame: FrameType | None) -> None:
        if app.ended_by:
            leave(number)
        late = threading.Timer(_PATIENCE, leave, (number,))
        late.daemon = True
        late.start()
        timers.append(late)
        app.end_by(number, code(number))

    numbers = [number for number in FATAL if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, hear) for number in numbers}
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _attributes() -> list[Any] | None:
    with contextlib.suppress(termios.error, OSError):
        return termios.tcgetattr(0)
    return None


def _restore(attributes: list[Any] | None) -> None:
    """Put the terminal back, as far as it takes anything."""
    with contextlib.suppress(termios.error, OSError):
        if attributes is not None:
            termios.tcsetattr(0, termios.TCSANOW, attributes)
    with contextlib.suppress(OSError, ValueError):
        error = sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
        if select.select([], [error], [], 0)[1]:
            os.write(error, _RESTORE)
