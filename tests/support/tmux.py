"""A real terminal that programs run in: tmux, with keys sent and the pane read."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.deadline import DEADLINE

ROOT = Path(__file__).parents[2]
POLL = 0.1  # seconds between two looks
COMMAND = (sys.executable, "-m", "seedconv_tui")


class Tmux:
    """A tmux server of our own with one pane, in which the monitor runs."""

    def __init__(self, folder: Path, term: str) -> None:
        # As shells and readline leave them: a size that is true until the first change.
        self._environment = {**os.environ, "COLUMNS": "80", "LINES": "24"}
        config = folder / "tmux.conf"
        config.write_text(
            f"set -g default-terminal {term}\nset -g remain-on-exit on\nset -g status off\n"
            "set -s escape-time 0\n"
        )
        self._tmux = ("tmux", "-u", "-S", str(folder / "socket"), "-f", str(config))

    def start(self, *command: str, size: tuple[int, int] = (80, 24), **environment: str) -> None:
        """Runs the monitor with these options."""
        width, height = map(str, size)
        settings = [f"{name}={value}" for name, value in environment.items()]
        program = shlex.join(["env", *settings, *COMMAND, *command])
        self.open(f"{program}; echo exit status $?; cat", width, height)

    def open(self, program: str, width: str = "80", height: str = "24") -> None:
        """Runs a line of a shell in the pane."""
        self(
            "new-session",
            "-d",
            "-x",
            width,
            "-y",
            height,
            "-c",
            str(ROOT),
            program,
        )

    def __call__(self, *command: str) -> str:
        done = subprocess.run(
            [*self._tmux, *command],
            capture_output=True,
            text=True,
            check=True,
            env=self._environment,
        )
        return done.stdout

    def keys(self, *keys: str) -> None:
        """Types."""
        self("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        """Gives the pane another size."""
        self("resize-window", "-x", str(width), "-y", str(height))

    @property
    def text(self) -> str:
        """The pane as it is seen."""
        return self("capture-pane", "-p")

    def until(self, seen: str | Callable[[str], bool]) -> str:
        """The pane, once some words are in it or it is as it should be."""
        end = time.monotonic() + DEADLINE
        while True:
            text = self.text
            if seen in text if isinstance(seen, str) else seen(text):
                return text
            assert time.monotonic() < end, f"never seen: {seen}; the pane is\n{text}"
            time.sleep(POLL)

    def exit_status(self) -> int:
        """How the monitor ended, once it has."""
        return int(self.until("exit status ").partition("exit status ")[2].split()[0])

    @property
    def taken(self) -> str:
        """What a program has taken of the terminal: other screen, mouse, cursor; empty: nothing."""
        taken = "#{?alternate_on,screen ,}#{?mouse_any_flag,mouse ,}#{?cursor_flag,,cursor}"
        return self("display-message", "-p", taken).strip()

    def in_front(self) -> int:
        """The process that the shell in the pane has started."""
        shell = self("display-message", "-p", "#{pane_pid}").strip()
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0])

    def close(self) -> None:
        """Ends it with everything that runs in it."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)
