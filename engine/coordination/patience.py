"""Waiting, before work begins, for what training writes and is not there yet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from engine.coordination.blocked import WRITTEN_AGAIN, room_left, waits
from engine.coordination.retries import FIRST_SECONDS
from engine.errors import NOT_BEGUN, ConfigError, Interrupted, NotThereError, blocks_writing
from engine.events import Event, Level, Listener
from engine.study_file.file import StudyFile

_Read = TypeVar("_Read")


class Patience:
    """Waits for what the study file points to and is not there yet; `run` waits for nothing."""

    def __init__(
        self,
        study: StudyFile,
        listener: Listener,
        stop: threading.Event,
        clock: Callable[[], float] = time.time,
        *,
        waiting: bool,
    ) -> None:
        self._watch, self._listener, self._stop = study.watch, listener, stop
        self.clock, self.waiting = clock, waiting
        self._reported: str | None = None

    def until_there(
        self,
        read: Callable[[], _Read],
        files: Callable[[], Iterable[Path]] = tuple,
        likely: Callable[[], bool] = lambda: True,
    ) -> _Read:
        """Return what `read` returns, once it raises no NotThereError.

        What was waited for may still be written: then it is read once `files` rest. While it is
        not `likely` to be there, the hub is not asked too often. Raise what `read` raises, and
        Interrupted.
        """
        waited = False
        while True:
            before = _signature(files) if waited else ()
            try:
                result = read()
            except NotThereError as error:
                if not self.waiting:
                    raise
                self.report(f"waiting: {error}")
                self._wait(self._watch.poll_seconds)
                until = self.clock() + self._watch.hub_poll_seconds
                while not likely() and self.clock() < until:
                    self._wait(self._watch.poll_seconds)
                waited = True
                continue
            if waited and before:
                self._wait(self._watch.settle_seconds)
                if _signature(files) != before:
                    continue
            return result

    def until_written(self, write: Callable[[], _Read], store: Path) -> _Read:
        """Return what `write` returns, once there is room for what it writes to the store.

        Raise what `write` raises, and Interrupted.
        """
        blocked = False
        while True:
            try:
                result = write()
            except OSError as error:
                if not self.waiting or not blocks_writing(error):
                    raise
                if not blocked:
                    blocked = True
                    self._say("error", "blocked", waits(error, store), free=room_left(store))
                self._wait(FIRST_SECONDS)
                continue
            if blocked:
                self._say("info", "unblocked", WRITTEN_AGAIN)
            return result

    def look_again(self) -> None:
        """Let the time between two looks into folders pass. Raise Interrupted."""
        self._wait(self._watch.poll_seconds)

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Interrupted(NOT_BEGUN)

    def report(self, text: str) -> None:
        """Report what is waited for, unless that was the last thing reported."""
        if text != self._reported:
            self._reported = text
            self._say("info", "waiting", text)

    def _say(self, level: Level, event: str, text: str, **fields: object) -> None:
        with contextlib.suppress(OSError):  # a closed terminal must not end the wait
            self._listener.on_event(Event(self.clock(), level, event, text, fields))


def _signature(files: Callable[[], Iterable[Path]]) -> tuple[object, ...]:
    try:
        stats = [(str(file), file.stat()) for file in files()]
    except (OSError, ConfigError):
        return ()
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
