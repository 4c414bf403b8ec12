"""Text and numbers as shown: untrusted text made safe, quantities made short."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import TYPE_CHECKING, Any

from store.words import counted as counted
from store.words import nats as nats
from store.words import quoted as quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from store.schema import CheckpointName, Phase


def visible(text: str, ascii: bool = False) -> str:  # noqa: A002  said the same everywhere
    r"""Return `text` with everything that a terminal would obey or hide replaced by something seen.

    C0 controls and DEL become control pictures (`\x1b` is `␛`); C1 controls, bidi overrides,
    zero-width and other format characters, line separators, lone surrogates, private and unassigned
    characters become escapes (`\u202e`). With `ascii`, whatever is not printable ASCII is escaped.
    """
    if text.isprintable() and (not ascii or text.isascii()):
        return text
    return "".join(_stand_in(char, ascii) for char in text)


def _stand_in(char: str, ascii_only: bool) -> str:
    code = ord(char)
    shown = char.isprintable() or unicodedata.category(char) == "Zs"
    if shown and (code < 0x7F or not ascii_only):
        return char
    if not ascii_only and code < 0x20:
        return chr(0x2400 + code)
    if not ascii_only and code == 0x7F:
        return "\u2421"
    return char.encode("unicode_escape").decode("ascii")


def shorten(text: str, width: int, *, ascii: bool = False) -> str:  # noqa: A002
    """Cut `text` to at most `width` terminal cells; a cut ends in `…`, or `~` with `ascii`."""
    from rich.cells import cell_len, set_cell_size  # late: the chart imports this module

    if cell_len(text) <= width:
        return text
    if width < 1:
        return ""
    return set_cell_size(text, width - 1) + ("~" if ascii else "…")


def shorten_apart(texts: Sequence[str], width: int, *, ascii: bool = False) -> list[str]:  # noqa: A002
    """Cut texts, safe to draw, to `width` cells; in the middle where else two would look alike."""
    short = [shorten(text, width, ascii=ascii) for text in texts]
    if len(set(short)) == len(set(texts)) or width < _BOTH_ENDS:
        return short
    return ["".join(_cut_middle(units_of(text, ascii), width, ascii)) for text in texts]


_BOTH_ENDS = 5  # cells from which on there is room for a beginning and an end


def _cut_middle(units: list[str], room: int, ascii_only: bool) -> list[str]:
    if len(units) <= room:
        return units
    end = units[len(units) - room // 2 :]
    if end[0] == "":  # half of a character that is two cells wide
        end[0] = " "
    return cut(units, room - len(end), "~" if ascii_only else "…") + end


def units_of(label: str, ascii_only: bool = False) -> list[str]:
    """Split `visible` text into a string per terminal cell; empty after a character two cells wide.

    Accents that have no cell of their own are left out.
    """
    units: list[str] = []
    for char in unicodedata.normalize("NFC", visible(label, ascii_only)):
        if unicodedata.category(char) not in ("Mn", "Me"):
            units += [char, ""] if unicodedata.east_asian_width(char) in "WF" else [char]
    return units


def cut(units: list[str], room: int, more: str) -> list[str]:
    """Cut units to `room` >= 1 cells; a cut ends in `more`, and never in half a character."""
    if len(units) <= room:
        return units
    kept = units[: room - 1]
    return [*(kept[:-1] if units[room - 1] == "" else kept), more]


def without(pairs: int) -> str:
    """Return what a mean over pairs is without, in words; empty: nothing."""
    return f"without {counted(pairs, 'pair')} whose KL is not finite" if pairs else ""


def signed(x: float) -> str:
    """Write a change in nats, with its sign: `+0.0120`; NaN is `-`."""
    return f"+{nats(x)}" if x >= 0 else nats(x)


def step_label(step: int) -> str:
    """Write a training step: `512`, `1k`, `143k`, `2M`, `5G`; shortened where nothing is lost."""
    for unit, letter in _STEPS:
        if step and step % unit == 0:
            return f"{step // unit}{letter}"
    return str(step)


_STEPS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def phase_words(phase: Phase, ascii: bool = False) -> str:  # noqa: A002
    """Describe a phase by its first step: `sharp divergence from 48 (32-64)`, interval if known."""
    words = f"{visible(phase.name, ascii)} from {phase.start}"
    if phase.low is not None and phase.high is not None and phase.low < phase.high:
        words += f" ({phase.low}-{phase.high})"
    return words


def restored_words(n: int) -> str:
    """Return that results of that many checkpoints were computed again; empty: of none."""
    checkpoints = counted(n, "checkpoint")
    return f"computed again from stored log-probs: results of {checkpoints}" if n else ""


def summarising_words(done: int, total: int) -> str:
    """Return which of the steps that wait for it is being summarised; empty: none waits."""
    return f"summarising {min(done + 1, total):,} of {total:,}" if total else ""


def same_as(first: CheckpointName, *, captured: bool, ascii: bool = False) -> str:  # noqa: A002
    """Describe a duplicate: which checkpoint has the same weights, or says the same.

    Of one that was captured in training the weights are not known.
    """
    model, seed, step = first
    same = "says the same, to the last digit, as" if captured else "same weights as"
    return f"{same} {visible(model, ascii)}, seed {visible(seed, ascii)}, step {step:,}"


def duration(seconds: float) -> str:
    """Write a time span by its two largest units: `42 s`, `3 min`, `1 h 12 min`; unknown is `-`."""
    if not math.isfinite(seconds) or seconds < 0:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 24:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    days = hours // 24
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def size(n_bytes: float) -> str:
    """Write a number of bytes in decimal units: `812 B`, `1.2 GB`, `35 GB`."""
    value, unit = float(n_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if value < 999.5 or unit == "PB":
            break
        value /= 1000
    return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"


def count(n: float) -> str:
    """Write a whole number with thousands separators: `1,234,567`."""
    return f"{round(n):,}"


def finite(value: object) -> object:
    """Return a value for JSON, which has no NaN and no infinity: None in their place."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any) -> str:
    """Write a value as indented JSON, null in place of what is not finite and JSON cannot hold."""
    return json.dumps(finite_within(value), indent=2, allow_nan=False)


def json_line(value: Any) -> str:
    """Write a value as JSON in one line, likewise; what JSON has no type for as text."""
    return json.dumps(finite_within(value), default=str, allow_nan=False)


def finite_within(value: Any) -> Any:
    """Return the same with None in place of each number that is not finite."""
    match value:
        case dict():
            return {key: finite_within(part) for key, part in value.items()}
        case list() | tuple():
            return [finite_within(part) for part in value]
    return finite(value)
