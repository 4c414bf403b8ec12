"""The log file of an engine: what happened, with the tracebacks and warnings that explain it."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import traceback
from importlib.metadata import version
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from seedconv_tui.text import visible

if TYPE_CHECKING:
    from engine.events import Event
    from store.schema import EngineStatus

_MOST_BYTES = 5_000_000  # then it becomes `<name>.1`, and so on
_OLDER = 3  # such files are kept
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def log_file(store: Path) -> Path:
    """Return the default place of an engine's log: `study.log` next to `study.zarr`."""
    return store.with_name(f"{store.name.removesuffix('.zarr')}.log")


class LogFile:
    """Appends to a file, from the engine's first sign on: a study that is refused is not touched.

    A context manager. What libraries warn of meanwhile goes in too. The journal in the store has
    the same events in short, for the monitor; the log is for people, and outlives the store.
    """

    def __init__(self, path: Path, most_bytes: int = _MOST_BYTES) -> None:
        self._begun = False
        self._handler = _Handler(
            path,
            maxBytes=most_bytes,
            backupCount=_OLDER,
            encoding="utf-8",
            errors="replace",
            delay=True,
        )
        self._handler.setFormatter(_Lines())
        self._handler.setLevel(logging.WARNING)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._begun:
            return
        if error is not None and kind is not None and kind.__name__ != "Interrupted":
            self._write(logging.ERROR, f"ended by {type(error).__name__}: {error}", error)
        logging.captureWarnings(capture=False)
        logging.getLogger().removeHandler(self._handler)
        self._handler.close()

    def on_event(self, event: Event) -> None:
        """Write a line; below it, indented, the traceback of what failed."""
        self._begin()
        text = visible(event.text)
        if trace := event.fields.get("trace"):
            text = "\n".join([text, *map(visible, str(trace).splitlines())])
        self._write(_LEVELS[event.level], text, at=event.time)

    def on_status(self, status: EngineStatus) -> None:
        """Begin; progress is not worth a line."""
        self._begin()

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        logging.getLogger().addHandler(self._handler)
        logging.captureWarnings(capture=True)
        who = f"seedconv {version('seedconv-tui')}, process {os.getpid()} on {socket.gethostname()}"
        self._write(logging.INFO, who)

    def _write(
        self, level: int, text: str, error: BaseException | None = None, at: float | None = None
    ) -> None:
        record = logging.LogRecord("seedconv", level, "", 0, "%s", (text,), None)
        record.created = time.time() if at is None else at
        if error is not None:
            record.exc_info = (type(error), error, error.__traceback__)
        self._handler.handle(record)


class _Lines(logging.Formatter):
    """`2026-01-31 12:00:00 warning  text`, with everything after the first line indented."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        lines = record.getMessage().splitlines() or [""]
        if record.exc_info:
            lines += "".join(traceback.format_exception(*record.exc_info)).splitlines()
        first, *rest = map(visible, lines)
        if record.name != "seedconv":
            first = f"{record.name}: {first}"
        head = f"{clock} {record.levelname.lower():7} {first}"
        return "\n".join([head, *(f"    {line}" for line in rest)])


class _Handler(RotatingFileHandler):
    """Says once that it cannot write, as on a full disk, and goes on."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        if not self._told:
            self._told = True
            text = f"{self.baseFilename}: cannot be written: {sys.exc_info()[1]}"
            print(f"seedconv: {visible(text)}; the work continues without a log", file=sys.stderr)
