"""A terminal that counts: a command on a pty, and when which bytes of it came."""

from __future__ import annotations

import atexit
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyte

_ENVIRONMENT = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
_PRIVATE = re.compile(rb"\x1b\[[<>=][\d;]*[a-zA-Z]|\x1b\[[?\d;]*\$p")  # pyte knows them not
_BURST = 0.012  # seconds of silence that end what is sent at once


class Terminal:
    """A command in a terminal of `size` (columns, rows). `sent` counts its bytes."""

    def __init__(self, command: Sequence[str], size: tuple[int, int]) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.sent = 0
        self._chunks: list[tuple[float, bytes]] = []  # time.monotonic() of arrival
        self._drawn = 0  # chunks that `text` shows
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, **_ENVIRONMENT},
        )
        os.close(theirs)
        atexit.register(self._process.kill)  # it would not notice that its terminal has ended
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 1 << 16)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            self._chunks.append((time.monotonic(), data))
            self.sent += len(data)

    @property
    def alive(self) -> bool:
        """Whether the command still runs."""
        return self._process.poll() is None

    def received(self) -> bytes:
        """All that was sent so far."""
        return b"".join(data for _, data in self._chunks)

    def type(self, key: bytes) -> None:
        """Presses a key, and does not wait for what comes of it."""
        os.write(self._ours, key)

    @property
    def text(self) -> str:
        """What is seen."""
        return "\n".join(self._screen.display)

    def until(self, seen: Callable[[str], object], seconds: float = 60.0) -> float:
        """When the first bytes had come after which the screen is so; since the start, seconds.

        Ends the benchmark when it does not get so.
        """
        now = time.monotonic()
        end = now + seconds
        if seen(self.text):
            return now - self.started
        while True:
            while self._drawn < len(self._chunks):
                came, data = self._chunks[self._drawn]
                self._drawn += 1
                self._stream.feed(_PRIVATE.sub(b"", data))
                if seen(self.text):
                    return came - self.started
            if self._process.poll() is not None or time.monotonic() > end:
                sys.exit(f"the monitor does not get there; it shows\n{self.text}")
            time.sleep(0.002)

    def quiet(self, seconds: float) -> None:
        """Waits until nothing has been sent for so long, and draws it all."""
        before = -1
        while self.sent != before:
            before = self.sent
            time.sleep(seconds)
        for _, data in self._chunks[self._drawn :]:
            self._stream.feed(_PRIVATE.sub(b"", data))
        self._drawn = len(self._chunks)

    def key(self, key: bytes, patience: float = 0.5) -> float | None:
        """Seconds from a key to the end of what answers it at once; None: nothing does."""
        before, typed = len(self._chunks), time.monotonic()
        os.write(self._ours, key)
        while len(self._chunks) == before:
            if time.monotonic() > typed + patience:
                return None
            time.sleep(0.0005)
        while (last := self._chunks[-1][0]) > time.monotonic() - _BURST:
            time.sleep(0.001)
        return last - typed

    def busy_seconds(self) -> float:
        """Time that the command has had a processor for, all threads together."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Memory of the command that is in use now, MB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)

    def close(self) -> None:
        """Quits the monitor."""
        os.write(self._ours, b"q")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        os.close(self._ours)
