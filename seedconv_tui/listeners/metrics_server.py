"""A small HTTP server for metrics, which no client can make large.

It takes a fixed number of connections, each for so long and no longer. A client that only holds
its connection is dropped for one that comes later.
"""

from __future__ import annotations

import contextlib
import errno
import io
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

MOST_CONNECTIONS: Final = 8
WAIT_SECONDS: Final = 5.0  # for the next part of a request
WHOLE_SECONDS: Final = 60.0  # for a request and its answer
_NO_FILES = {errno.EMFILE, errno.ENFILE}


@dataclass
class _Connection:
    since: float
    asked: bool = False  # its request is there and is being answered
    over: bool = False  # its thread has been woken to end


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Serves a WSGI application with at most twice `MOST_CONNECTIONS` threads and open files.

    As many may be served, as many may be ending.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        host: str,
        port: int,
        app: Callable[..., Any],
        warn: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Listen; `warn` is called once when there are more connections than are taken.

        Raise OSError or OverflowError when the port is taken or there is no such host.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, *_, address = found[0]
        self._connections: dict[socket.socket, _Connection] = {}  # the oldest first
        self._lock = threading.Lock()
        self._warn, self._warned, self._clock = warn, False, clock
        super().__init__((str(address[0]), port), _Handler)
        self.set_app(app)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. With no file left to open, wait: else this would be tried at once.

        Raise OSError.
        """
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _NO_FILES:
                self._warn_once("too many files are open; nobody can connect")
                time.sleep(0.5)
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return whether there is room for one more; the oldest that asked nothing yet makes it."""
        with self._lock:
            served = [one for one, it in self._connections.items() if not it.over]
            if len(served) >= MOST_CONNECTIONS:
                self._warn_once(
                    f"more than {MOST_CONNECTIONS} connections at the same time; "
                    "those that ask nothing are closed"
                )
                idle = next((one for one in served if not self._connections[one].asked), None)
                if idle is None or len(self._connections) >= 2 * MOST_CONNECTIONS:
                    return False
                self._end(idle)
            self._connections[request] = _Connection(self._clock())
        return True

    def service_actions(self) -> None:
        """End, twice a second, the connections whose time is over."""
        now = self._clock()
        with self._lock:
            for one, it in self._connections.items():
                if now - it.since >= WHOLE_SECONDS and not it.over:
                    self._end(one)

    def begin_answer(self, request: socket.socket) -> bool:
        """Take note that a connection has asked; return False when its time is over."""
        with self._lock:
            known = self._connections[request]
            known.asked = not known.over
            return known.asked

    def _end(self, request: socket.socket) -> None:
        """Wake the thread of a connection: what it reads or writes has come to its end."""
        self._connections[request].over = True
        with contextlib.suppress(OSError):  # the client was quicker
            request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def _warn_once(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(f"metrics: {text}")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: clients come and go as they like."""


class _Handler(WSGIRequestHandler):
    timeout = WAIT_SECONDS  # of each read and write

    def parse_request(self) -> bool:
        assert isinstance(self.server, MetricsServer)
        return super().parse_request() and self.server.begin_answer(self.connection)

    def get_stderr(self) -> io.StringIO:
        """Return where tracebacks go: they would be of clients that left."""
        return io.StringIO()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""
