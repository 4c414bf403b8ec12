"""The command line with a gate in it, so that what a test interrupts waits for the test.

gate = Gate(tmp_path, store, after=2)
engine = subprocess.Popen([*gate.command, "run", str(file)], env={**os.environ, **gate.environ})
with gate.reached(engine):
    engine.terminate()  # two checkpoints are committed, and no more can be
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.deadline import DEADLINE, until
from tests.support.forked_engine import changed_path

STARTING = 0  # instead of a number of checkpoints: while worker processes start


def records(store: Path, kind: str) -> int:
    """How many commits of a kind a store has, in all sessions."""
    logs = (store / "commits").glob("*.log")
    return sum(log.read_bytes().count(b'"kind":"%s"' % kind.encode()) for log in logs)


class Gate:
    """The test's side: a pipe whose other end an engine reads, at the gate, until it is closed."""

    command = (sys.executable, "-m", "tests.support.gated_engine")

    def __init__(self, folder: Path, store: Path, *, after: int) -> None:
        self._pipe = folder / "gate.fifo"
        os.mkfifo(self._pipe)
        self.environ = {
            "SEEDCONV_TEST_GATE": str(self._pipe),
            "SEEDCONV_TEST_GATE_AFTER": str(after),
            "SEEDCONV_TEST_GATE_STORE": str(store),
        }

    @contextlib.contextmanager
    def reached(
        self, engine: subprocess.Popen[Any], meanwhile: Callable[[], object] = lambda: None
    ) -> Iterator[None]:
        """Wait until an engine is at the gate; it goes on when the block is left."""
        ours: list[int] = []

        def there() -> bool:
            assert engine.poll() is None, "it ended before it came to the gate"
            meanwhile()
            try:
                ours.append(os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK))
            except OSError as error:
                if error.errno != errno.ENXIO:  # nobody reads yet
                    raise
            return bool(ours)

        until(there)
        try:
            yield
        finally:
            os.close(ours[0])


class _Gate:
    """The engine's side: no thread changes a file of the study before the gate opens."""

    def __init__(self, store: Path, pipe: str, after: int) -> None:
        self._store, self._pipe, self._after = store, pipe, after
        self._lock, self._passed = threading.RLock(), False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        changed = None if self._passed else changed_path(event, arguments)
        if changed is None or not os.path.abspath(changed).startswith(str(self._store)):  # noqa: PTH100
            return
        with self._lock:
            if not self._passed and records(self._store, "scored") >= self._after:
                wait_at(self._pipe)
                self._passed = True


def wait_at(pipe: str) -> None:
    """Wait until the other end of a pipe is opened and closed."""
    with open(pipe, "rb") as stream:  # noqa: PTH123
        stream.read()


def be_patient() -> None:
    """What ends in good order may take its time on a machine that is busy."""
    import engine.coordination.session
    import engine.workers.pool
    from seedconv_tui.cli import stopping

    stopping._SECONDS = DEADLINE
    engine.coordination.session._LAST_BEAT_SECONDS = DEADLINE
    engine.workers.pool._END_SECONDS = DEADLINE


_pipe, _after = (os.environ.get(f"SEEDCONV_TEST_GATE{name}", "0") for name in ("", "_AFTER"))
if __name__ == "__mp_main__" and int(_after) == STARTING:  # a worker, at its very beginning
    wait_at(_pipe)
if __name__ == "__main__":
    if int(_after) != STARTING:
        _store = Path(os.environ["SEEDCONV_TEST_GATE_STORE"])
        sys.addaudithook(_Gate(_store, _pipe, int(_after)))
    from seedconv_tui.cli.main import main

    be_patient()
    main()
