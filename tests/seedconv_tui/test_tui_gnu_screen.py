"""The monitor in GNU screen, which runs in tmux: what its user sees, and copies."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bare_terminal import bare_terminal
from tests.support.deadline import until
from tests.support.made_store import fill, open_writer
from tests.support.tmux import COMMAND, Tmux


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "study.zarr"
    writer = open_writer(path)
    fill(writer, "m", ["0", "1", "2"], [0, 10])
    writer.close("finished")
    return path


@pytest.fixture
def tmux() -> Iterator[Tmux]:
    with tempfile.TemporaryDirectory(prefix="seedconv-") as folder:
        made = Tmux(Path(folder), "screen-256color")
        yield made
        made.close()


def test_it_is_sent_no_true_colours(store: Path) -> None:
    """GNU screen takes the numbers of one for those of dim, blinking and bright colours."""
    here = {"STY": "1.pts-0.host", "TERM": "screen.xterm-256color", "COLORTERM": "truecolor"}
    with bare_terminal("tui", "--fresh", str(store), **here) as terminal:
        terminal.until(b"Help")
        assert b"38;5;" in terminal.received
        assert b"38;2;" not in terminal.received


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
@pytest.mark.skipif(shutil.which("screen") is None, reason="GNU screen is not installed")
def test_in_gnu_screen_in_tmux(store: Path, tmux: Tmux, tmp_path: Path) -> None:
    monitor = shlex.join(map(str, (*COMMAND, "tui", "--fresh", store)))
    settings = f"SCREENDIR={tmp_path} LANG=C.UTF-8 COLORTERM=truecolor TERM=xterm-256color"
    tmp_path.chmod(0o700)  # as GNU screen demands
    tmux.open(f"env {settings} screen -U -c /dev/null sh -c {shlex.quote(monitor)}; cat", "100")
    tmux("set", "-s", "set-clipboard", "on")
    tmux.until("Help")
    tmux.keys("Y")
    pane = tmux.until(" copied: ")
    assert any(line.startswith(" copied: m, seed 0") for line in pane.splitlines()), pane
    until(lambda: tmux("list-buffers"))
    assert tmux("show-buffer").startswith("m, seed 0")
    assert "\x1b[104m" not in tmux("capture-pane", "-p", "-e")
    tmux.resize(70, 20)
    tmux.until(lambda pane: len(pane.splitlines()) == 20 and "Help" in pane)
    tmux.keys("2")
    tmux.until("Curves")
    tmux.keys("q")
    tmux.until("screen is terminating")
