"""A terminal of which it is known what a program has changed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.support.deadline import until

_COMMAND = (sys.executable, "-m", "seedconv_tui")
_MODE = re.compile(rb"\x1b\[\?(\d+)([hl])")
_SHOWN = {b"7", b"25"}  # line wrap and cursor, which a terminal has on by itself


def _hear() -> None:
    """Ignore no signal, as a program from a shell: the tests may run where some are ignored."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


class BareTerminal:
    """A command of ours with a terminal, which no shell looks after."""

    def __init__(self, *command: str, before: Sequence[str] = (), **environment: str) -> None:
        self._ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._attributes = termios.tcgetattr(self._theirs)
        self._received = bytearray()
        self.process = subprocess.Popen(
            [*before, *_COMMAND, *command],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
            preexec_fn=_hear,
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._ours, 1 << 16):
                self._received += data

    @property
    def received(self) -> bytes:
        """All that was sent so far."""
        return bytes(self._received)

    def type(self, keys: bytes) -> None:
        """Presses keys."""
        os.write(self._ours, keys)

    def until(self, seen: bytes | Callable[[bytes], object]) -> None:
        """Waits for some bytes."""
        until(lambda: seen in self.received if isinstance(seen, bytes) else seen(self.received))

    def hold(self) -> None:
        """Takes nothing from now on."""
        termios.tcflow(self._theirs, termios.TCOOFF)

    def changed(self) -> set[str]:
        """What the program has changed so far and not put back."""
        modes = dict(_MODE.findall(self.received))
        on = {mode for mode, switch in modes.items() if (switch == b"l") == (mode in _SHOWN)}
        same = termios.tcgetattr(self._theirs) == self._attributes
        return {mode.decode() for mode in on} | (set() if same else {"attributes"})

    def close(self) -> None:
        """Ends it all."""
        self.process.kill()
        self.process.wait()
        for descriptor in (self._ours, self._theirs):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@contextlib.contextmanager
def bare_terminal(
    *command: str, before: Sequence[str] = (), **environment: str
) -> Iterator[BareTerminal]:
    """A command in a terminal of its own, started by another one if there are words `before`."""
    made = BareTerminal(*command, before=before, **environment)
    try:
        yield made
    finally:
        made.close()
