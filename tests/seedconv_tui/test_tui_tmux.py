"""The monitor in a real terminal: tmux, with keys sent and the pane read, while an engine writes.

Nothing is waited for but what must come to be seen; every wait has an end.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seedconv_tui.monitor.screens import SCREENS
from tests.support.deadline import DEADLINE
from tests.support.made_store import open_writer
from tests.support.tmux import Tmux

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

SEEDS, STEPS = ("1", "2", "3"), (0, 8, 64, 512, 4096)
ROOT = Path(__file__).parents[2]

ENGINE = f"""
import sys
from pathlib import Path
from tests.support.made_store import fill, open_writer

writer = open_writer(Path(sys.argv[1]))
for step, line in zip({STEPS}, sys.stdin):
    fill(writer, "m", {SEEDS}, [step])
    print(step, flush=True)
writer.close("finished")
"""


class Engine:
    """Another process that commits one step whenever it is asked to."""

    def __init__(self, store: Path) -> None:
        command = [sys.executable, "-c", ENGINE, str(store)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def commit(self) -> int:
        """Has the next step committed, and waits until it is."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=DEADLINE)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one: the name of a socket may have 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="seedconv-") as folder:
        yield Path(folder)


@pytest.fixture
def tmux(folder: Path, request: pytest.FixtureRequest) -> Iterator[Tmux]:
    made = Tmux(folder, getattr(request, "param", "screen"))
    yield made
    made.close()


@pytest.fixture
def store(folder: Path) -> Path:
    """A study in which everything is planned."""
    path = folder / "study.zarr"
    writer = open_writer(path)
    writer.plan("m", [(seed, step) for step in STEPS for seed in SEEDS], {})
    writer.close("finished")
    return path


@pytest.fixture
def engine(store: Path) -> Iterator[Engine]:
    made = Engine(store)
    yield made
    made.close()


def filled(width: int, height: int) -> Callable[[str], bool]:
    """Whether the pane is full: its last row has the keys, and something reaches the right edge."""

    def seen(text: str) -> bool:
        rows = text.rstrip("\n").splitlines()
        return len(rows) == height and "Help" in rows[-1] and max(map(len, rows)) > width - 12

    return seen


def test_it_follows_an_engine_takes_keys_and_sizes_and_ends_well(
    tmux: Tmux, store: Path, engine: Engine
) -> None:
    engine.commit()
    tmux.start("tui", str(store))
    tmux.until("3/15 done")
    engine.commit()
    tmux.until("6/15 done")  # nobody touched a key

    tmux.keys("2")
    tmux.until("> Curves")
    engine.commit()
    tmux.until("step 64 (latest)")
    tmux.keys("?")
    tmux.until(lambda pane: "esc Close" in pane)
    tmux.keys("Escape")
    tmux.until(lambda pane: "esc Close" not in pane)
    tmux.resize(120, 40)
    tmux.until(filled(120, 40))
    tmux.resize(50, 12)
    tmux.until("too small")
    tmux.resize(80, 24)
    tmux.until(filled(80, 24))
    engine.commit()
    tmux.keys("1")
    tmux.until("12/15 done")
    tmux.keys("q")
    assert tmux.exit_status() == 0


@pytest.mark.parametrize(
    "tmux",
    [
        "vt100",
        *(pytest.param(kind, marks=pytest.mark.long) for kind in ("screen", "tmux-256color")),
    ],
    indirect=True,
)
def test_every_screen_is_there_where_the_locale_is_c(
    tmux: Tmux, store: Path, engine: Engine
) -> None:
    engine.commit()
    engine.commit()
    tmux.start("tui", "--ascii", str(store), LANG="C", LC_ALL="C")
    assert tmux.until("6/15 done").isascii()
    for number, screen in enumerate(SCREENS, start=1):
        tmux.keys(str(number))
        assert tmux.until(re.compile(rf"> {screen}\b").search).isascii()
    tmux.keys("C-c")
    assert tmux.exit_status() == 0
