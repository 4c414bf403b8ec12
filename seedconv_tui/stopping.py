"""Requests to stop, by signal: heard at once, whatever the engine has in hand."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

from seedconv_tui.exit_codes import INTERRUPTED

_SECONDS = 9.5  # to end in good order
_STARTING_SECONDS = 2.0  # the same before work begins: there is nothing to bring in order yet
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


class Stop(threading.Event):
    """Set by the first signal. `begun`: results may be under way, so that an end takes care."""

    begun = False


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Hear SIGINT, SIGTERM and SIGHUP (the terminal is gone; not heard under `nohup`).

    The first sets what is yielded: finish cleanly, soon. The second, or ten seconds without an end,
    leaves at once with exit code 130, and takes child processes along; commits are safe either way.
    Signals are heard in a thread, because the main one may be in a computation or wait for a disk.
    """
    numbers = {signal.SIGINT, signal.SIGTERM}
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.add(signal.SIGHUP)
    stop, (ours, theirs) = Stop(), socket.socketpair()
    theirs.setblocking(False)
    descriptor = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
    threading.Thread(target=_listen, args=(ours, stop, numbers), daemon=True).start()
    try:
        yield stop
    finally:
        if not stop.is_set():  # else listened to until the process ends, which threads may delay
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(descriptor)
            theirs.close()


def _listen(ours: socket.socket, stop: Stop, numbers: set[signal.Signals]) -> None:
    with contextlib.suppress(TimeoutError):
        while heard := ours.recv(1):
            if heard[0] not in numbers:
                continue
            if stop.is_set():
                break
            if heard[0] == signal.SIGHUP:
                _let_go_of_terminal()
            stop.set()
            _say("stopping; once more to stop at once")
            ours.settimeout(_SECONDS if stop.begun else _STARTING_SECONDS)
        else:
            return
        _leave("stopped at once; what was committed stays, run the same command again to go on")
    if stop.begun:
        _leave("it did not end in time and was stopped; what was committed stays, run it again")
    _leave("stopped before work began; run the same command again to go on")


def _leave(text: str) -> NoReturn:
    for process in multiprocessing.active_children():
        process.kill()
    _say(text)
    with contextlib.suppress(OSError):
        if os.isatty(2):
            os.write(2, _SHOW_CURSOR.encode())
    os._exit(INTERRUPTED)


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"seedconv: {text}", file=sys.stderr, flush=True)


def _let_go_of_terminal() -> None:
    """Write to nowhere: what is written to a terminal that is gone fails."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if os.isatty(descriptor):
            os.dup2(nowhere, descriptor)
