"""Requests to stop, by signal: heard at once, whatever the engine has in hand."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn, TextIO

from seedconv_tui.exit_codes import INTERRUPTED
from store import lacks_room

_SECONDS = 9.5  # to end in good order
_STARTING_SECONDS = 2.0  # the same before work begins: there is nothing to bring in order yet
_LAST_SECONDS = 1.0  # to say how it ended, and for the process to end by itself
_GO_ON = "what was committed stays, run the same command again to continue"
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


class Stop(threading.Event):
    """Set by the first signal. `begun`: results may be under way, so that an end takes care."""

    begun = False


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Hear SIGINT, SIGTERM and SIGHUP (the terminal was closed; not heard under `nohup`).

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
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
    listen = threading.Thread(target=_listen, args=(ours, stop, numbers, terminals), daemon=True)
    listen.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        theirs.close()


def _listen(
    ours: socket.socket, stop: Stop, numbers: set[signal.Signals], terminals: list[int]
) -> None:
    with ours, contextlib.suppress(TimeoutError):
        while heard := ours.recv(1):
            if heard[0] not in numbers:
                continue
            if stop.is_set():
                _leave(f"stopped at once; {_GO_ON}")
            if heard[0] == signal.SIGHUP:
                for terminal in terminals:  # which was closed: what is written there fails
                    _close(terminal)
            stop.set()
            _say("stopping; once more to stop at once")
            ours.settimeout(_SECONDS if stop.begun else _STARTING_SECONDS)
        if stop.is_set():  # all is in order, but a thread may still wait for a disk or a Hub
            time.sleep(_LAST_SECONDS)
            _leave()
        return
    if stop.begun:
        _leave(f"it did not end in time and was stopped; {_GO_ON}")
    _leave("stopped before work began; run the same command again to continue")


def _leave(text: str | None = None) -> NoReturn:
    for process in multiprocessing.active_children():
        process.kill()
    if text is not None:
        _say(text)
    with contextlib.suppress(OSError):
        if os.isatty(2):
            os.write(2, _SHOW_CURSOR.encode())
    os._exit(INTERRUPTED)


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"seedconv: {text}", file=sys.stderr, flush=True)


def _close(descriptor: int) -> None:
    """Have what is written there go nowhere from now on."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


@contextlib.contextmanager
def lasting_stderr() -> Iterator[None]:
    """Go on though nobody is left to read what is said: a pipe or a terminal that was closed."""
    with contextlib.redirect_stderr(_Lasting(sys.stderr)):
        yield


class _Lasting(io.TextIOBase):
    """A stream that falls silent where it would fail; on a full disk, until there is room."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return len(text) if self._stream.closed else self._stream.write(text)
        except OSError as error:
            self._fall_silent(error)
            return len(text)

    def flush(self) -> None:
        """Also called as this is garbage, when the stream below may be closed."""
        try:
            if not self._stream.closed:
                self._stream.flush()
        except OSError as error:
            self._fall_silent(error)

    def _fall_silent(self, error: OSError) -> None:
        if lacks_room(error):
            return
        with contextlib.suppress(OSError):
            _close(self._stream.fileno())

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding
