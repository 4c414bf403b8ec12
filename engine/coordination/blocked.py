"""Waits, while watching, until a study that could not be written can be written again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine.coordination.board import ProgressBoard
from engine.coordination.retries import FIRST_SECONDS, LONGEST_SECONDS
from engine.coordination.session import Session, disk_free
from engine.errors import blocks_writing, what_is_wrong
from store.writing import StudyWriter

_POLL_SECONDS: Final = 1.0  # between two looks at what is free
_MUCH: Final = 2**20  # bytes: so much more is free, and it is worth another try at once

WRITTEN_AGAIN: Final = "the study can be written again; going on"


def waits(error: OSError, store: Path) -> str:
    """Return what is said of a study that cannot be written now, in one line."""
    why, remedy = what_is_wrong(error, store)
    return f"{why}; {remedy}: watch waits, and continues by itself"


def room_left(store: Path) -> int | None:
    """Return the bytes free where a study lies or will lie; None: that cannot be known."""
    with contextlib.suppress(OSError):
        return disk_free(store)
    return None


class BlockedStore:
    """Goes on with a new session of the study, as what the old one wrote last may not count.

    Tries once more is free than when writing failed. Of a quota, or of files that can be open,
    that cannot be known: so it also tries after 15 s, 30 s, 60 s, ... up to an hour.
    """

    def __init__(
        self,
        writer: StudyWriter,
        session: Session,
        board: ProgressBoard,
        clock: Callable[[], float],
    ) -> None:
        self._writer, self._session, self._board, self._clock = writer, session, board, clock
        self._pause = FIRST_SECONDS

    def wait(self, error: OSError) -> None:
        """Return once a new session has begun.

        Raise Interrupted when asked to stop, BusyError when another engine has taken over, OSError
        for what does not pass.
        """
        while True:
            why, remedy = what_is_wrong(error, self._writer.path)
            if not self._session.status.blocked:
                text = waits(error, self._writer.path)
                self._session.say("error", "blocked", text, free=room_left(self._writer.path))
            self._session.show(blocked=f"{why}; {remedy}", eta_seconds=None)
            self._sleep(why)
            try:
                self._writer.reopen()
            except OSError as again:
                if not blocks_writing(again):
                    raise
                error = again
            else:
                self._session.show(writer=self._writer.writer, state="working", message="")
                return

    def _sleep(self, why: str) -> None:
        """Wait until another try may succeed."""
        free, due = room_left(self._writer.path), self._clock() + self._pause
        self._pause = min(2 * self._pause, LONGEST_SECONDS)
        while self._clock() < due:
            self._board.wait(_POLL_SECONDS, why)
            now = room_left(self._writer.path)
            if free is not None and now is not None and now - free >= _MUCH:
                return

    def regain(self) -> None:
        """Take note that the study was written since."""
        if self._session.status.blocked:
            self._pause = FIRST_SECONDS
            self._session.show(blocked="")
            self._session.say("info", "unblocked", WRITTEN_AGAIN)
