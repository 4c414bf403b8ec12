"""Standard streams as commands need them: there, naming themselves where they fail."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

from seedconv_tui.cli.fatal_signals import code
from seedconv_tui.exit_codes import FAILED

_WHY = {
    errno.EBADF: "is closed. Open it, or send it to /dev/null",
    errno.ENOSPC: "no space left on the device. Free some, or send it elsewhere",
    errno.EDQUOT: "the quota is used up. Free some, or send it elsewhere",
}


class StreamError(OSError):
    """A command's output could not be written to stdout."""

    @property
    def reader_left(self) -> bool:
        """Return whether it was a pipe whose reader has seen enough."""
        return self.errno == errno.EPIPE


class _Stdout(io.FileIO):
    """Standard output that says so when it fails, once."""

    _failed = False

    def write(self, data: Any, /) -> int:
        if self._failed:
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self._failed = True
            raise StreamError(error.errno, error.strerror) from error


class _Stderr(io.FileIO):
    """Standard error that loses what it cannot write: there is nowhere left to say so."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def prepare() -> None:
    """Make streams that were closed, so that no file gets their number, and have errors named.

    What an encoding lacks is escaped. Streams that something else has put in place stay.
    """
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115  stays open
    if sys.stdout is sys.__stdout__:  # reading only: to write is an error, as where it is closed
        sys.stdout = _text(_Stdout, sys.stdout, os.O_RDONLY)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Stderr, sys.stderr, os.O_WRONLY)


def _text(raw: type[io.FileIO], old: TextIO | None, otherwise: int) -> TextIO:
    if old is None:
        number = os.open(os.devnull, otherwise)
        encoding, at_once = "utf-8", False
    else:
        number, encoding, at_once = old.fileno(), old.encoding, old.isatty() or raw is _Stderr
    return io.TextIOWrapper(
        io.BufferedWriter(raw(number, "w", closefd=False)),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=at_once or getattr(old, "line_buffering", False),
        write_through=getattr(old, "write_through", False),
    )


def ended(exit_code: Any) -> Any:
    """Write what stdout still holds, and return the exit code: the given one, unless that fails."""
    try:
        sys.stdout.flush()
    except StreamError as error:
        return exit_code if error.reader_left else explained(error)
    return exit_code


def explained(error: StreamError) -> int:
    """Say what is wrong with stdout, in a line; nothing where its reader left. Return the code."""
    if error.reader_left:
        return code(signal.SIGPIPE)
    why = _WHY.get(error.errno or 0, f"{error.strerror}. Send it elsewhere")
    print(f"seedconv: stdout: {why}.", file=sys.stderr)
    return FAILED
