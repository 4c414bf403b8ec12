"""Gives up on a server that answers, but so slowly that nobody can wait for it.

The library's own limits are on silence: one byte before each of them is over, and they never are.
Here an answer has so long to begin, and must then bring a minimum of bytes every minute.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

ANSWER_SECONDS = 60.0  # until the first byte of what was asked for
WHOLE_SECONDS = 600.0  # until the last one, where it is no file
WINDOW_SECONDS = 60.0
LEAST_RATE = 1000  # bytes a second, in each window

_asking = threading.local()
_open: weakref.WeakSet[Any] = weakref.WeakSet()  # connections of this process
_answering: weakref.WeakSet[Any] = weakref.WeakSet()  # those on which an answer has begun


class TooSlowError(Exception):
    """The server takes too long."""


class Pace:
    """Counts what comes."""

    def __init__(self) -> None:
        self._since, self._n_bytes = time.monotonic(), 0

    def add(self, n_bytes: int) -> None:
        """Count what has come. Raise TooSlowError when that is too little."""
        self._n_bytes += n_bytes
        seconds = time.monotonic() - self._since
        if seconds < WINDOW_SECONDS:
            return
        rate = self._n_bytes / seconds
        if rate < LEAST_RATE:
            raise TooSlowError(f"sends {rate:.0f} bytes a second")
        self._since, self._n_bytes = time.monotonic(), 0


class Question:
    """One question to the Hub, which may take several requests, one after the other."""

    def __init__(self, check_stop: Callable[[], None], *, whole: bool) -> None:
        """`check_stop` may raise, at any part of an answer; `whole`: it is no file."""
        self._check_stop, self._whole = check_stop, whole
        self._timer: threading.Timer | None = None
        self._connection: Any = None  # of the request, if it was made for it
        self.too_slow: str | None = None  # why it was given up

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Limit the requests that this thread makes meanwhile."""
        _asking.question = self
        try:
            yield
        finally:
            _asking.question = None
            self._stop_timer()

    def begin(self, request: httpx2.Request) -> None:
        """Limit a request, which is about to be sent. Raise TooSlowError if one was before."""
        if self.too_slow is not None:  # the library tries again
            raise TooSlowError(self.too_slow)
        self._stop_timer()
        self._connection = None
        request.extensions["trace"] = self._trace
        self._timer = threading.Timer(ANSWER_SECONDS, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def answered(self, response: httpx2.Response) -> None:
        """Limit the rest of an answer that has begun."""
        self._stop_timer()
        if (connection := response.extensions.get("network_stream")) is not None:
            _answering.add(connection)
        stream = response.stream
        assert isinstance(stream, httpx2.SyncByteStream)
        response.stream = _Paced(stream, connection, self._check_part(Pace()))

    def _check_part(self, pace: Pace) -> Callable[[int], None]:
        end = time.monotonic() + WHOLE_SECONDS

        def check(n_bytes: int) -> None:
            self._check_stop()
            pace.add(n_bytes)
            if self._whole and time.monotonic() >= end:
                raise TooSlowError(f"does not end its answer within {WHOLE_SECONDS:.0f} s")

        return check

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._connection = info["return_value"]
            _open.add(self._connection)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _give_up(self) -> None:
        """Shut the connection: its reader is at the end.

        If it was there before, it is not known which: then all that wait for an answer.
        """
        self.too_slow = f"does not begin to answer within {ANSWER_SECONDS:.0f} s"
        mine = [self._connection] if self._connection is not None else list(_open - _answering)
        for connection in mine:
            with contextlib.suppress(OSError, AttributeError):
                connection.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class _Paced(httpx2.SyncByteStream):
    """A body of an answer that is checked part by part."""

    def __init__(
        self, stream: httpx2.SyncByteStream, connection: Any, check: Callable[[int], None]
    ) -> None:
        self._stream, self._connection, self._check = stream, connection, check

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            self._check(len(part))
            yield part

    def close(self) -> None:
        _answering.discard(self._connection)
        self._stream.close()


def on_request(request: httpx2.Request) -> None:
    """Limit a request of this thread's question, if it has one."""
    question: Question | None = getattr(_asking, "question", None)
    if question is not None:
        question.begin(request)


def on_response(response: httpx2.Response) -> None:
    """Limit the answer to it."""
    question: Question | None = getattr(_asking, "question", None)
    if question is not None:
        question.answered(response)
