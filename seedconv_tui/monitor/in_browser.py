"""The monitor on a page: what it shares with a server instead of a terminal."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from textual.messages import ExitApp

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.driver import Driver


def page_driver(driver: type[Driver]) -> type[Driver]:
    """Return a driver class that leaves when its server does, and sends every packet whole.

    Textual's own stays when its input ends, and writes from several threads at once.
    """
    if not hasattr(driver, "write_meta"):  # a terminal
        return driver

    class PageDriver(driver):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            write: Callable[[bytes], int] = partial(os.write, self.fileno)
            alone = Lock()

            def write_whole(data: bytes) -> None:
                with alone, contextlib.suppress(BrokenPipeError):  # there is nobody left
                    while data:
                        data = data[write(data) :]

            self._write = write_whole

        def run_input_thread(self) -> None:
            super().run_input_thread()
            self._app.post_message(ExitApp())

    return PageDriver
