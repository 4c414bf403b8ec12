"""The metrics server: no client can stop the engine."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seedconv_tui.listeners import metrics_server
from seedconv_tui.listeners.metrics_server import MOST_CONNECTIONS, WHOLE_SECONDS, MetricsServer
from seedconv_tui.listeners.prometheus import serve
from tests.support.deadline import DEADLINE


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def hello(_: dict[str, Any], start: Any) -> Iterable[bytes]:
    start("200 OK", [])
    return [b"hello"]


@contextlib.contextmanager
def serving(warn: Any = lambda text: None, clock: Any = time.monotonic) -> Iterator[MetricsServer]:
    server = MetricsServer("127.0.0.1", 0, hello, warn, clock)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=DEADLINE)


def ask(server: MetricsServer) -> str:
    url = f"http://127.0.0.1:{server.server_port}/metrics"
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        return str(answer.read().decode())


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_many_idle_connections_take_little_and_keep_nobody_out(
    capfd: pytest.CaptureFixture[str],
) -> None:
    warned: list[str] = []
    with serving(warned.append) as server, contextlib.ExitStack() as stack:
        threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        clients = [stack.enter_context(connect(server)) for _ in range(300)]
        assert all(is_closed(client) for client in clients[:-MOST_CONNECTIONS])
        assert threading.active_count() - threads <= 2 * MOST_CONNECTIONS
        files = len(os.listdir("/proc/self/fd")) - files - len(clients)  # noqa: PTH208
        assert files <= 2 * MOST_CONNECTIONS
        assert ask(server) == "hello"
        assert warned == [
            "metrics: more than 8 connections at the same time; those that ask nothing are closed"
        ]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("sent", [b"", b"GET /metrics", b"GET /metrics HTTP/1.1\r\nA: b"])
def test_a_slow_client_has_only_so_much_time(sent: bytes) -> None:
    clock = Clock()
    with serving(clock=clock) as server, connect(server) as client:
        client.sendall(sent)
        assert ask(server) == "hello"  # so the other one was accepted, too
        clock.now += WHOLE_SECONDS
        assert is_closed(client)
        assert ask(server) == "hello"


def test_a_silent_client_has_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server._Handler, "timeout", 0.05)
    with serving(clock=Clock()) as server, connect(server) as client:
        assert is_closed(client)


def test_clients_that_leave_are_nobodys_trouble(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        for sent in (b"", b"\0\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", b"x" * 70_000):
            with connect(server) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(sent)  # and reset
        assert ask(server) == "hello"
    assert capfd.readouterr().err == ""


def test_with_no_file_left_the_server_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    warned, naps, accept = list[str](), list[float](), socket.socket.accept

    def refuse(listening: socket.socket) -> Any:
        if len(naps) < 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(listening)

    monkeypatch.setattr(metrics_server.time, "sleep", naps.append)
    with serving(warned.append) as server:
        monkeypatch.setattr(socket.socket, "accept", refuse)
        assert ask(server) == "hello"
    assert naps == [0.5] * 3
    assert warned == ["metrics: too many files are open; nobody can connect"]


def test_ipv6_where_there_is_one(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serve(tmp_path / "study.zarr", "::1", 0) as port:
        url = f"http://[::1]:{port}/metrics"
        assert urllib.request.urlopen(url, timeout=DEADLINE).status == 200
