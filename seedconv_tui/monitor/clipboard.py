"""Copying by OSC 52: the terminal, on whichever machine it runs, is sent the text."""

from __future__ import annotations

import os
from base64 import b64encode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BYTES = 74_994
"""The longest text in UTF-8: as base64, with what is around it, 100,000 bytes."""

_CHUNK = 240  # bytes to a string that every version of GNU screen passes on


def osc52(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return what a terminal is sent to put `text` on its clipboard.

    Within tmux and GNU screen it is also wrapped, to be passed through to the terminal they run in;
    tmux does so with `allow-passthrough on`. With `set-clipboard on`, tmux takes
    the text itself from the bare sequence. So does tmux on the other side of an SSH connection,
    which has the same name as screen. Raise ValueError if the text is longer than
    `MOST_BYTES`.
    """
    data = text.encode("utf-8", "replace")
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data):,} bytes are too long to copy; at most {MOST_BYTES:,} are")
    bare = f"\x1b]52;c;{b64encode(data).decode('ascii')}\x07"
    terminal = environment.get("TERM", "")
    screen = terminal.startswith("screen.")  # which only GNU screen names itself; in tmux or not
    if not screen and ("TMUX" in environment or terminal.startswith("tmux")):
        doubled = bare.replace("\x1b", "\x1b\x1b")
        return f"\x1bPtmux;{doubled}\x1b\\{bare}"
    if terminal.startswith("screen"):
        parts = (bare[at : at + _CHUNK] for at in range(0, len(bare), _CHUNK))
        return "".join(f"\x1bP{part}\x1b\\" for part in parts) + bare
    return bare
