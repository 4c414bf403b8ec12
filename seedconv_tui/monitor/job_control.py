"""The monitor stopped and continued by a shell: the terminal is given back, and taken again."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.driver import Driver


def stoppable_driver(driver: type[Driver]) -> type[Driver]:
    """Return a driver class that is stopped by a shell as other programs are.

    Textual's own stops for good where no shell can continue it, and takes a terminal that it has
    already when it is continued after SIGSTOP, or was never stopped; that lost how it was before.
    """
    if not hasattr(driver, "_sigcont_application"):  # a terminal that stops nothing
        return driver

    class StoppableDriver(driver):  # type: ignore[misc, valid-type]
        _continuing = False

        def _sigtstp_application(self, *_: object) -> None:
            """Give the terminal back, and stop if there is a shell to continue it."""
            self._give_back()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTSTP)  # ignored by the kernel where there is none
            signal.signal(signal.SIGTSTP, self._sigtstp_application)
            if not self._has_terminal:
                self._take()

        def _sigcont_application(self, *_: object) -> None:
            """Take the terminal, whose modes the shell may have changed meanwhile."""
            if self._continuing:
                return
            self._continuing = True
            try:
                self._give_back()
                self._take()
            finally:
                self._continuing = False

        @property
        def _has_terminal(self) -> bool:
            return self._writer_thread is not None and self._writer_thread.is_alive()

        def _give_back(self) -> None:
            if self._has_terminal:
                self.suspend_application_mode()

        def _take(self) -> None:
            self._must_signal_resume = True
            self.resume_application_mode()

    return StoppableDriver


def stop_the_job() -> None:
    """Stop the processes that a shell started together, as Ctrl-Z in a terminal does."""
    os.kill(0, signal.SIGTSTP)
