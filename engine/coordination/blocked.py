"""Waits, while watching, until a study that could not be written can be written again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from engine.coordination.board import ProgressBoard
from engine.coordination.retries import FIRST_SECONDS, LONGEST_SECONDS
from engine.coordination.session import Session, disk_free
from engine.errors import blocks_writing, what_is_wrong
from store.writing import StudyWriter

_POLL_SECONDS: Final = 1.0  # between two looks at what is free
_MUCH: Final = 2**20  # bytes: so much more is free, and it is worth another try at once


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
                text = f"{why}; {remedy}: watch waits, and goes on by itself"
                self._session.say("error", "blocked", text, free=self._free())
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
        free, due = self._free(), self._clock() + self._pause
        self._pause = min(2 * self._pause, LONGEST_SECONDS)
        while self._clock() < due:
            self._board.wait(_POLL_SECONDS, why)
            now = self._free()
            if free is not None and now is not None and now - free >= _MUCH:
                return

    def _free(self) -> int | None:
        with contextlib.suppress(OSError):
            return disk_free(self._writer.path)
        return None

    def regain(self) -> None:
        """Take note that the study was written since."""
        if self._session.status.blocked:
            self._pause = FIRST_SECONDS
            self._session.show(blocked="")
            self._session.say("info", "unblocked", "the study can be written again; going on")
