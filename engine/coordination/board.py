"""The state of the devices, for the user; and the user's wish to stop, for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from engine.coordination.session import Session
from engine.errors import Interrupted
from engine.events import Level
from store.schema import Work

_ASK_SECONDS = 0.2


class ProgressBoard:
    """One line of work for each device that is busy."""

    def __init__(self, session: Session, stop: threading.Event) -> None:
        self._session, self._stop = session, stop
        self._works: dict[str, Work] = {}

    def show(self, device: str, work: Work | None) -> None:
        """Show what a device is doing; None: nothing. Raise Interrupted when asked to stop."""
        if work is not None:
            before = self._works.get(device)
            if bool(work.paused) != bool(before and before.paused):
                what = f"waits: {work.paused}" if work.paused else "continues"
                self._session.say(
                    "info", "paused" if work.paused else "resumed", f"{device}: {what}"
                )
            self._works[device] = replace(work, device=device)
        elif self._works.pop(device, None) is None:
            return
        works = tuple(self._works.values())
        paused = [one for one in works if one.paused]
        if all_wait := len(paused) == len(works) > 0:
            message = "; ".join(dict.fromkeys(one.paused for one in paused))
        else:
            message = "; ".join(f"{one.device} waits: {one.paused}" for one in paused)
        state = "waiting" if all_wait else "working"
        self._session.show(state=state, works=works, message=message)
        self.check_stop()

    def rest(self, state: str, message: str = "") -> None:
        """Show that no device has anything in hand."""
        self._works.clear()
        self._session.show(state=state, works=(), message=message)

    def wait(
        self, seconds: float, message: str = "", enough: Callable[[], bool] | None = None
    ) -> None:
        """Let time pass with no work to do, for what `message` says, if anything.

        Ends before when it is `enough`, which is asked now and then. Raise Interrupted when asked
        to stop.
        """
        self.rest("waiting", message)
        while enough is not None and seconds > _ASK_SECONDS:
            self._stop.wait(_ASK_SECONDS)
            self.check_stop()
            if enough():
                return
            seconds -= _ASK_SECONDS
        self._stop.wait(seconds)
        self.check_stop()

    def report(self, level: Level, text: str) -> None:
        """Report that a device came or went."""
        self._session.say(level, "device", text)

    def check_stop(self) -> None:
        """Raise Interrupted when asked to stop."""
        if self._stop.is_set():
            raise Interrupted("stopped; what was committed stays, run it again to continue")
