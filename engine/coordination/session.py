"""One engine process at work on a study: its heartbeat, its progress, its journal, its end."""

from __future__ import annotations

import contextlib
import math
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import Interrupted
from engine.events import Event, Level, Listener
from store import StoreError
from store.schema import EngineStatus, Gpu, JournalEntry
from store.writing import StudyWriter

_HEARTBEAT_SECONDS = 1.0
_GPU_SECONDS = 3.0  # between two readings of the GPUs
_LAST_BEAT_SECONDS = 2.0  # longer, the disk is unreachable, and nothing waits for that


class Session:
    """Beats the heart while work goes on, and gives the study back however it ends."""

    def __init__(
        self,
        writer: StudyWriter,
        status: EngineStatus,
        listener: Listener,
        clock: Callable[[], float],
        read_gpus: Callable[[], tuple[Gpu, ...]] = tuple,
    ) -> None:
        """`read_gpus` is called in the heart's thread, and never raises."""
        self._writer, self._listener, self._clock = writer, listener, clock
        self._read_gpus, self._gpus = read_gpus, tuple[Gpu, ...]()
        self._gpus_due = -math.inf
        self.status = status  # replaced, never changed: the heart reads it from another thread
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def show(self, **changes: Any) -> None:
        """Change what is shown of the engine: fields of `EngineStatus`."""
        self.status = replace(self.status, **changes)
        with contextlib.suppress(OSError):  # a closed terminal must not end the work
            self._listener.on_status(self.status)

    def say(self, level: Level, event: str, text: str, **fields: Any) -> None:
        """Write to the journal, and report to listeners, that something happened."""
        now = self._clock()
        with contextlib.suppress(OSError):
            self._listener.on_event(Event(now, level, event, text, fields))
        with contextlib.suppress(OSError):  # a full disk has no room for it; commits say so
            self._writer.log(JournalEntry(now, level, event, text))

    def _beat(self) -> None:
        while True:
            self._write()
            if self._over.wait(_HEARTBEAT_SECONDS):
                return

    def _write(self, *, over: bool = False) -> None:
        now = self._clock()
        if now >= self._gpus_due or over:
            self._gpus, self._gpus_due = () if over else self._read_gpus(), now + _GPU_SECONDS
        # A disk that is full or gone must not silence the engine before it can say so.
        with contextlib.suppress(OSError, StoreError):
            free = disk_free(self._writer.path)
            status = replace(self.status, heartbeat=now, disk_free=free, gpus=self._gpus)
            self._writer.beat(status)

    def _report_end(self, how: str, message: str, counts: Mapping[str, int]) -> None:
        words = {what: what.replace("_", " ") for what in counts} | {"reduced": "compared"}
        did = ", ".join(f"{n} {words[what]}" for what, n in counts.items() if n)
        text = message if message.startswith(how) else f"{how}: {message or did or 'nothing to do'}"
        level: Level = "error" if how == "failed" else "info"
        with contextlib.suppress(OSError, StoreError):  # listeners heard of it, journal or not
            amiss = list(self.status.amiss)
            self.say(level, "end", text, how=how, message=message, **counts, amiss=amiss)

    @contextlib.contextmanager
    def at_work(self, counts: Callable[[], Mapping[str, int]]) -> Iterator[None]:
        """Beat until the work ends; then report the `counts` of what was done and close the study.

        Raise OSError or StoreError when work that finished cannot be closed.
        """
        self._heart.start()
        try:
            yield
        except BaseException as error:
            how = "stopped" if isinstance(error, Interrupted) else "failed"
            with contextlib.suppress(OSError, StoreError):  # what went wrong before says more
                self._end(how, str(error), counts())
            raise
        self._end("finished", "", counts())

    def _end(self, how: str, message: str, counts: Mapping[str, int]) -> None:
        self._over.set()
        self._heart.join(_LAST_BEAT_SECONDS)
        self.show(state=how, works=(), message=message, blocked="", summarised=0, to_summarise=0)
        self._report_end(how, message, counts)
        self._write(over=True)
        self._writer.close(how)


def disk_free(path: Path) -> int:
    """Return the bytes free where a study lies or will lie."""
    return shutil.disk_usage(path if path.exists() else path.parent).free
