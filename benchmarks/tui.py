"""What the terminal costs, as its users have it: `python -m benchmarks.tui`.

`seedconv tui` runs in a process of its own, on a pty that counts. The study has 5 models x 154
steps x 10 seeds x 5,000 tokens (`benchmarks.tui_store`), and another process commits one step after
the other to it. Measures, at two sizes and for each screen: the start, the time from a key to the
bytes that answer it, from a commit to the screen, what is sent, memory; then once more, how long
the event loop is held up. Prints JSON, the goals with the figures. A busy machine shows in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.run import SEEDCONV, add_save, machine, save
from benchmarks.tui_store import made
from seedconv_tui.monitor.screens import SCREENS
from tests.support.pty_terminal import Terminal

SIZES = {"80x24": ((80, 24), 10_000), "200x50": ((200, 50), 30_000)}  # and bytes of a refresh
GOALS = {
    "start_to_useful_paint_s": 0.5,
    "key_ms_p95": 50,
    "commit_to_screen_s": 1.5,
    "resident_mb": 150,
    "longest_on_loop_ms": 16,
}
STARTS, ARRIVALS = 5, 4
LEFT, RIGHT, UP, DOWN = b"\x1b[D", b"\x1b[C", b"\x1b[A", b"\x1b[B"
_ARROWS = [DOWN, RIGHT, UP, LEFT] * 5 + [LEFT] * 15 + [RIGHT] * 15
KEYS = {  # on screens where users often press other keys than arrows
    "Curves": [*_ARROWS, b"+", b"+", b"H", b"L", b"-", b"-", b"y", b"y", b"m", b"0"],
    "Categories": [*_ARROWS, *[b"["] * 8, *[b"]"] * 8],
    "Tokens": [*_ARROWS, *[b"x"] * 8, *[b"["] * 8, *[b"]"] * 8],
    "Seeds": [*_ARROWS, *[b"["] * 8, *[b"]"] * 8],
}
_DONE = "done"  # on the first screen, once it knows the study


def main() -> None:
    """Measure all and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dir", type=Path, help="folder for the study, kept and used again")
    add_save(parser)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = made(folder)
        result: dict[str, Any] = {"starts": starts(store)}
        for name in SIZES:
            result[name] = session(store, name)
        result["event_loop"] = loop(store, folder / "loop.jsonl")
    versions = {
        "python": platform.python_version(),
        **{name: version(name) for name in ("textual", "zarr", "numpy")},
    }
    found = {"tui": result, "machine": machine("cpu"), "versions": versions}
    print(json.dumps(found, indent=2))
    if options.save:
        save("tui", found)


def against(figure: float, goal: float) -> dict[str, float]:
    """A figure with its goal."""
    return {"figure": figure, "goal": goal}


def starts(store: Path) -> dict[str, Any]:
    """From the command to the first bytes, and to the progress of the study."""
    first, useful, busy, memory = [], [], [], []
    for _ in range(STARTS):
        terminal = Terminal([*SEEDCONV, "tui", "--fresh", str(store)], (80, 24))
        first.append(terminal.until(str.strip))
        useful.append(terminal.until(lambda text: _DONE in text))
        busy.append(terminal.busy_seconds())
        memory.append(terminal.resident_mb())
        terminal.quiet(0.3)
        terminal.close()
    return {
        "first_words_s": round(median(first), 3),
        "useful_paint_s": against(round(median(useful), 3), GOALS["start_to_useful_paint_s"]),
        "useful_paint_s_best": round(min(useful), 3),
        "processor_s": round(median(busy), 3),
        "resident_mb": round(median(memory), 1),
    }


@contextlib.contextmanager
def engine(store: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which commits a step for each line that it is sent."""
    command = [sys.executable, "-m", "benchmarks.tui_store", "--engine", "--dir", str(store.parent)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # it is ready
    try:
        yield process
    finally:
        process.communicate()


def arrival(terminal: Terminal, process: subprocess.Popen[str]) -> tuple[int, float]:
    """Bytes that one more step of the first model sends, and seconds until it is seen."""
    terminal.quiet(1.3)
    before, sent = results(terminal.text), terminal.sent
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    committed = json.loads(process.stdout.readline())["committed"]
    seen = terminal.until(lambda text: results(text) != before) + terminal.started
    terminal.quiet(1.3)  # its summary comes a moment later
    return terminal.sent - sent, max(seen - committed, 0.0)


def results(text: str) -> list[str]:
    """What is seen of results, and not of the engine that is about to commit them."""
    counted = re.findall(r"[\d,]+/[\d,]+ done", text)
    return counted or text.splitlines()[1:-1]


def session(store: Path, name: str) -> dict[str, Any]:
    """All screens in a terminal of one size, one after the other."""
    size, goal = SIZES[name]
    terminal = Terminal([*SEEDCONV, "tui", "--fresh", str(store)], size)
    screens: dict[str, Any] = {}
    with engine(store) as process:
        terminal.until(lambda text: _DONE in text)
        for number, screen in enumerate(SCREENS, start=1):
            screens[screen] = visit(terminal, process, number, screen, goal)
    memory = terminal.resident_mb()
    terminal.close()
    return {"screens": screens, "resident_mb": against(memory, GOALS["resident_mb"])}


def visit(
    terminal: Terminal, process: subprocess.Popen[str], number: int, name: str, goal: int
) -> dict[str, Any]:
    """One screen: going there, steps that arrive, keys."""
    terminal.quiet(0.3)
    sent, asked = terminal.sent, time.monotonic() - terminal.started
    terminal.key(str(number).encode())
    there = terminal.until(lambda text: f"> {name}" in text.splitlines()[0]) - asked
    terminal.quiet(1.0)
    whole = terminal.sent - sent
    arrivals = [arrival(terminal, process) for _ in range(ARRIVALS)]
    sent, taken = terminal.sent, []
    keys = KEYS.get(name, _ARROWS)
    for key in keys:
        taken.append(terminal.key(key))
        time.sleep(0.03)
    answered = [1e3 * seconds for seconds in taken if seconds is not None]
    terminal.quiet(0.3)
    return {
        "going_there_ms": round(1e3 * there, 1),
        "going_there_bytes": whole,
        "arrival_bytes": against(max(sent for sent, _ in arrivals), goal),
        "commit_to_screen_s": against(
            round(max(seconds for _, seconds in arrivals), 2), GOALS["commit_to_screen_s"]
        ),
        "key_ms_p95": against(
            round(float(np.percentile(answered, 95)), 1) if answered else -1.0, GOALS["key_ms_p95"]
        ),
        "key_ms_median": round(median(answered), 1) if answered else -1.0,
        "key_bytes": round((terminal.sent - sent) / len(keys)),
        "keys": len(keys),
        "keys_unanswered": len(keys) - len(answered),
    }


def loop(store: Path, log: Path) -> dict[str, Any]:
    """The same once more at 200x50, with every callback of the event loop timed."""
    command = [sys.executable, "-m", "benchmarks.tui_loop", str(store), str(log)]
    terminal = Terminal(command, SIZES["200x50"][0])
    found, began = {}, time.monotonic()
    with engine(store) as process:
        terminal.until(lambda text: _DONE in text)
        terminal.quiet(0.5)
        for number, name in enumerate(["start", *SCREENS]):
            if number:
                visit(terminal, process, number, name, 0)
            found[name] = _longest(log, began, time.monotonic())
            began = time.monotonic()
    terminal.close()
    log.unlink()
    return found


def _longest(log: Path, began: float, ended: float) -> dict[str, Any]:
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    worst = sorted((line[1:] for line in lines if began <= line[0] < ended), reverse=True)[:4]
    own = sorted((line[2] for line in lines if began <= line[0] < ended), reverse=True)
    goal = GOALS["longest_on_loop_ms"]
    return {
        "longest_ms": against(worst[0][0] if worst else 0.0, goal),
        "longest_of_its_own_ms": own[0] if own else 0.0,
        "over_goal": sum(ms > goal for ms in own),
        "worst": [{"ms": ms, "own_ms": mine, "in": whose} for ms, mine, whose in worst],
    }


if __name__ == "__main__":
    main()
