"""Fewer bytes to the terminal: over a slow line, what is sent is what takes time.

Textual ends every run of text with a reset and starts the next with all of its style. Here only the
difference is sent, which halves a refresh of the chart.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from textual.driver import Driver

_OFF = {"1": "22", "2": "22", "3": "23", "4": "24", "7": "27", "9": "29"}
_SGR = re.compile(r"((?:\x1b\[[\d;]*m)+)")


class _Style(NamedTuple):
    """The terminal's writer: codes as sent."""

    attributes: frozenset[str] = frozenset()
    foreground: str = ""
    background: str = ""


def lean(data: str) -> str:
    """Return terminal output that looks the same, with no style said twice.

    The output must begin and end without style, as every frame of Textual's does.
    """
    parts = _SGR.split(data)
    style = _Style()
    for index in range(1, len(parts), 2):
        before, style = style, _after(style, parts[index])
        parts[index] = _change(before, style)
    return "".join(parts)


@lru_cache(maxsize=4096)
def _after(style: _Style, sequences: str) -> _Style:
    """Return the style that holds after some sequences."""
    for sequence in sequences[2:-1].split("m\x1b["):
        codes = iter(sequence.split(";"))
        for code in codes:
            if code in ("", "0"):
                style = _Style()
            elif code in ("38", "48"):
                kind = next(codes)
                numbers = islice(codes, 3 if kind == "2" else 1)
                color = ";".join((code, kind, *numbers))
                foreground = color if code == "38" else style.foreground
                background = color if code == "48" else style.background
                style = _Style(style.attributes, foreground, background)
            elif code[0] in "39" and len(code) == 2:
                style = style._replace(foreground="" if code == "39" else code)
            elif (code[0] == "4" and len(code) == 2) or (code[:2] == "10" and len(code) == 3):
                style = style._replace(background="" if code == "49" else code)
            else:
                style = style._replace(attributes=style.attributes | {code})
    return style


@lru_cache(maxsize=4096)
def _change(was: _Style, now: _Style) -> str:
    """Return the shortest sequence from one style to another."""
    if now == was:
        return ""
    anew = _codes(["0"], _Style(), now)
    gone = was.attributes - now.attributes
    if not gone <= _OFF.keys():
        return anew
    off = sorted({_OFF[code] for code in gone})
    if "22" in off:  # it ends bold and dim alike
        was = was._replace(attributes=frozenset())
    return min(anew, _codes(off, was, now), key=len)


def _codes(codes: list[str], was: _Style, now: _Style) -> str:
    """Return the sequence of these codes, and of those that what differs still needs."""
    codes = codes + sorted(now.attributes - was.attributes)
    if now.foreground != was.foreground:
        codes.append(now.foreground or "39")
    if now.background != was.background:
        codes.append(now.background or "49")
    return f"\x1b[{';'.join(codes)}m"


def lean_driver(driver: type[Driver]) -> type[Driver]:
    """Return a driver class that sends what `driver` would, leaner."""

    class LeanDriver(driver):  # type: ignore[misc, valid-type]
        def write(self, data: str) -> None:
            super().write(lean(data))

        @property
        def behind(self) -> bool:
            """Return whether what was sent before is still waiting to be written."""
            writer = getattr(self, "_writer_thread", None)  # there is none without a terminal
            return writer is not None and not writer._queue.empty()

    return LeanDriver
