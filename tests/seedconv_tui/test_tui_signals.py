"""The monitor ended, stopped and continued by signals: what becomes of the terminal."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bare_terminal import bare_terminal
from tests.support.made_store import open_writer
from tests.support.tmux import COMMAND, Tmux

SHOWN = b"Help"  # in the last row
TAKEN = b"\x1b[?1049h"  # the screen beside that of the shell


def times_taken(received: bytes) -> int:
    """How often the terminal was taken; 0 while it does not show the whole screen since then.

    The screen may be drawn more than once each time.
    """
    *before, last = received.split(TAKEN)
    return len(before) if SHOWN in last else 0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "study.zarr"
    open_writer(path).close("finished")
    return path


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_fatal_signal_ends_it_with_the_terminal_as_it_was(store: Path, name: str) -> None:
    number = signal.Signals[name]
    with bare_terminal("tui", "--fresh", str(store)) as terminal:
        terminal.until(SHOWN)
        assert {"1049", "1003", "25", "attributes"} <= terminal.changed()
        terminal.process.send_signal(number)
        assert terminal.process.wait() == 128 + number
        terminal.until(lambda _: not terminal.changed())


def test_a_terminal_that_takes_nothing_does_not_keep_it(store: Path) -> None:
    with bare_terminal("tui", "--fresh", str(store)) as terminal:
        terminal.until(SHOWN)
        terminal.hold()
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait() == 128 + signal.SIGTERM


def test_without_a_shell_that_could_continue_it_nothing_stops_it(store: Path) -> None:
    with bare_terminal("tui", "--fresh", str(store)) as terminal:
        terminal.until(lambda data: times_taken(data) == 1)
        terminal.type(b"\x1a")
        terminal.until(lambda data: times_taken(data) == 2)
        terminal.process.send_signal(signal.SIGCONT)  # it was not stopped
        terminal.until(lambda data: times_taken(data) == 3)
        terminal.type(b"q")
        assert terminal.process.wait() == 0
        terminal.until(lambda _: not terminal.changed())


@pytest.fixture
def tmux() -> Iterator[Tmux]:
    with tempfile.TemporaryDirectory(prefix="seedconv-") as folder:
        made = Tmux(Path(folder), "screen")
        yield made
        made.close()


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_a_shell_stops_and_continues_it(store: Path, tmux: Tmux) -> None:
    tmux.open("bash --norc --noprofile -i")
    tmux.keys(f"PS1='ready '; stty -a > {store.parent}/before", "Enter")
    tmux.keys(" ".join([*COMMAND, "tui", "--fresh", str(store)]), "Enter")
    tmux.until("Help")
    process = tmux.in_front()
    for stop in (None, signal.SIGTSTP, signal.SIGSTOP):
        if stop is None:
            tmux.keys("C-z")
        else:
            os.kill(process, stop)
        tmux.until("Stopped")
        if stop != signal.SIGSTOP:  # which nobody hears
            tmux.until(lambda _: not tmux.taken)
        tmux.keys("clear; fg", "Enter")
        tmux.until(lambda pane: "Help" in pane and "Stopped" not in pane)
        tmux.until(lambda _: tmux.taken == "screen mouse cursor")
    tmux.keys("q")
    tmux.until(lambda _: not tmux.taken)
    tmux.keys(f"clear; stty -a > {store.parent}/after; echo do''ne", "Enter")
    tmux.until("done\n")
    assert (store.parent / "after").read_text() == (store.parent / "before").read_text()
