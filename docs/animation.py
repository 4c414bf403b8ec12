"""Record the demo in the monitor, as an asciinema cast and an animated SVG: `make picture`.

The demo takes minutes; the recording shows it in seconds, and then each screen.
"""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from html import escape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyte

COLUMNS, ROWS = 100, 28
LIVE, EACH = 16.0, 0.5
"""Seconds for the demo itself, from its first checkpoint to its last, and for each view of it."""

KEYS = (
    ("A", 1.0),
    ("3", 0.6),
    ("c", 0.6),
    ("ssjj", 3.0),
    ("4", 0.8),
    ("xxxx", 3.0),
    ("5", 3.0),
    ("2", 2.0),
)
"""Keys that are pressed when it has finished, and for how long their effect is seen, seconds."""

_QUIET = 3.0  # seconds without output
_PRIVATE = re.compile(r"\x1b\[[<>=][\d;]*[a-zA-Z]|\x1b\[[?\d;]*\$p")  # which pyte does not know
_WIDTH, _HEIGHT, _EDGE = 8.4, 17.0, 10.0  # pixels of a cell, and around all
_GROUND, _TEXT = "0f1115", "e2e5ea"
_NAMED = {"default": _TEXT, "black": _GROUND}


class Event(NamedTuple):
    """What was sent after an action, and when, seconds."""

    time: float
    data: str


class Demo:
    """`seedconv demo` in a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        (state := folder / "state" / "seedconv").mkdir(parents=True)
        (state / "toured").touch()
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        here = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "seedconv_tui", "demo"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            cwd=folder,  # so that no path of this machine is shown
            env={**os.environ, **here, "XDG_STATE_HOME": str(state.parent)},
        )
        os.close(theirs)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self._screen)

    @property
    def text(self) -> str:
        """The screen as it is now."""
        return "\n".join(self._screen.display)

    def sent(self, seconds: float) -> str:
        """Return the output of the next moment; empty if none came for some seconds."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return ""
        data = self._decode(os.read(self._ours, 1 << 16))
        self._stream.feed(_PRIVATE.sub("", data))
        return data

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())


def record() -> list[Event]:
    """Run the demo and return what its terminal is sent, by the time of the recording."""
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(Path(folder))
        try:
            live = _until_finished(demo)
            first = next(when for when, _, done in live if done)
            pace = LIVE / (live[-1][0] - first)
            events = [
                Event(max(number, 0) * EACH, "".join(data for _, data, _ in group))
                for number, group in groupby(live, lambda one: (one[0] - first) * pace // EACH)
            ]
            before = [each.data for each in events if each.time == 0]
            events = [Event(0.0, "".join(before)), *(each for each in events if each.time)]
            now = LIVE + 2.0
            for keys, seconds in KEYS:
                demo.type(keys)
                data = [demo.sent(60.0)]
                while data[-1]:
                    data.append(demo.sent(_QUIET))
                events.append(Event(now, "".join(data)))
                now += seconds
        finally:
            demo.process.terminate()
            demo.process.wait()
    return [*events, Event(now, "")]


def _until_finished(demo: Demo) -> list[tuple[float, str, int]]:
    """Return when what was sent, and how many checkpoints were done; half way, go to Curves."""
    live, done = list[tuple[float, str, int]](), 0
    while not demo.text.partition("\n")[0].rstrip().endswith("finished"):
        data = demo.sent(600.0)
        if counted := re.search(r"(\d+)/(\d+) done", demo.text):
            done = int(counted[1])
            if done * 2 > int(counted[2]) and "> Runs" in demo.text:
                demo.type("2")
        live.append((time.monotonic(), data, done))
    return live


def cast(events: list[Event]) -> str:
    """Return a recording as asciinema plays it (version 2)."""
    head = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "seedconv"}
    lines = [head, *([each.time, "o", each.data] for each in events)]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def animation(events: list[Event]) -> str:
    """Return a recording as an SVG that repeats; each row is drawn once for all frames with it."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream, rows = pyte.Stream(screen), dict[str, set[int]]()
    for frame, event in enumerate(events[:-1]):
        stream.feed(_PRIVATE.sub("", event.data))
        for y in range(ROWS):
            if drawn := _row(screen, y):
                rows.setdefault(drawn, set()).add(frame)
    whole, times = events[-1].time, [event.time for event in events]
    patterns = {
        frames: f"f{n}" for n, frames in enumerate(dict.fromkeys(map(frozenset, rows.values())))
    }
    styles = [_style(frames, name, times, whole) for frames, name in patterns.items()]
    groups = [f'<g class="{patterns[frozenset(shown)]}">{row}</g>' for row, shown in rows.items()]
    width, height = COLUMNS * _WIDTH + 2 * _EDGE, ROWS * _HEIGHT + 2 * _EDGE
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}">',
            "<style>",
            "text { font: 14px 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre }",
            *styles,
            "</style>",
            f'<rect width="100%" height="100%" rx="6" fill="#{_GROUND}"/>',
            f'<g transform="translate({_EDGE:g} {_EDGE:g})">',
            *groups,
            "</g>",
            "</svg>\n",
        ]
    )


def _style(frames: frozenset[int], name: str, times: list[float], whole: float) -> str:
    """Return when some rows are seen; without motion, the last frame is."""
    last = len(times) - 2
    if len(frames) == last + 1:
        return ""
    changes = [n for n in range(last + 1) if n == 0 or ((n in frames) != (n - 1 in frames))]
    points = "".join(
        f"{times[n] / whole:.2%} {{ visibility: {'visible' if n in frames else 'hidden'} }} "
        for n in changes
    )
    still = "visible" if last in frames else "hidden"
    return (
        f"@keyframes {name} {{ {points}}}\n"
        f".{name} {{ visibility: {still} }}\n"
        "@media (prefers-reduced-motion: no-preference) "
        f"{{ .{name} {{ animation: {name} {whole:g}s step-end infinite }} }}"
    )


def _row(screen: pyte.Screen, y: int) -> str:
    """Return a row of the screen: grounds, then texts, each as long as its cells."""
    grounds, texts, x = [], [], 0
    line = screen.buffer[y]
    while x < COLUMNS:
        style, begin = _look(line[x]), x
        while x < COLUMNS and _look(line[x]) == style:
            x += 1
        color, ground, bold = style
        text = "".join(line[n].data for n in range(begin, x))
        at, long = begin * _WIDTH, (x - begin) * _WIDTH
        if ground != _GROUND:
            grounds.append(
                f'<rect x="{at:g}" y="{y * _HEIGHT:g}" width="{long:g}" height="{_HEIGHT:g}" '
                f'fill="#{ground}"/>'
            )
        if shown := text.strip():
            left = begin + len(text) - len(text.lstrip())
            weight = ' font-weight="bold"' if bold else ""
            texts.append(
                f'<text x="{left * _WIDTH:g}" y="{y * _HEIGHT + 13:g}" fill="#{color}"{weight} '
                f'textLength="{len(shown) * _WIDTH:g}">{escape(shown)}</text>'
            )
    return "".join(grounds + texts)


def _look(cell: pyte.screens.Char) -> tuple[str, str, bool]:
    color, ground = (_NAMED.get(name, name) for name in (cell.fg, cell.bg))
    ground = _GROUND if cell.bg == "default" else ground
    return (ground, color, cell.bold) if cell.reverse else (color, ground, cell.bold)


def main(folder: Path) -> None:
    """Write `demo.cast` and `demo.svg` into `folder`."""
    events = [Event(round(when, 2), data) for when, data in record()]
    (folder / "demo.cast").write_text(cast(events), encoding="utf-8")
    (folder / "demo.svg").write_text(animation(events), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
