"""Ticks and tick labels of the chart's axes."""

from __future__ import annotations

import math
from typing import NamedTuple

from seedconv_tui.text import step_label


class Tick(NamedTuple):
    """A tick at `value` (data units). An empty label is a minor tick."""

    value: float
    label: str


def nice_step(span: float, most: int) -> float:
    """Return the least 1, 2 or 5 times a power of ten that fits `most` times or fewer in `span`."""
    raw = span / max(most, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if raw <= m * power * (1 + 1e-9))


def step_ticks(low: float, high: float, columns: int, last: float | None = None) -> list[Tick]:
    """Return ticks of an axis of log(step + 1) from step `low` to `high` over `columns` cells.

    Step 0, `last`, the data's last step, and the decades come first in the list and so have the
    first claim to a label; 2 and 5 follow where a decade is wide, and even steps where the view is
    less than a few of those.
    """
    span = math.log10(high + 1) - math.log10(low + 1)
    per_decade = columns / span
    exponents = range(math.ceil(math.log10(high + 1)) + 1)
    decades = [0, *(10**e for e in exponents)]
    labelled = list(decades)
    if per_decade >= 30:
        labelled += [m * 10**e for e in exponents for m in (2, 5)]
    labelled = [step for step in labelled if low <= step <= high]
    if len(labelled) < 3:
        return even_step_ticks(low, high, columns, last)
    multiples = range(2, 10) if per_decade >= 20 else (2, 5) if per_decade >= 8 else ()
    minor = {m * 10**e for e in exponents for m in multiples} - set(labelled)
    return [*_ends(low, high, last), *(Tick(step, step_label(step)) for step in labelled)] + [
        Tick(step, "") for step in sorted(minor) if low <= step <= high
    ]


def even_step_ticks(low: float, high: float, columns: int, last: float | None = None) -> list[Tick]:
    """Return ticks of a linear axis from step `low` to `high` over `columns` cells: whole steps.

    Step 0 and `last` have the first claim to a label, as in `step_ticks`.
    """
    even = max(1, round(nice_step(high - low, max(1, columns // 8))))
    first, final = math.ceil(low / even), math.floor(high / even)
    steps = [Tick(k * even, step_label(k * even)) for k in range(first, final + 1)]
    return [*_ends(low, high, last), *steps]


def _ends(low: float, high: float, last: float | None) -> list[Tick]:
    """Return step 0 and the last one, where they are in view."""
    steps = dict.fromkeys([0, *([] if last is None else [round(last)])])
    return [Tick(step, step_label(step)) for step in steps if low <= step <= high]


def value_ticks(low: float, high: float, rows: int) -> list[Tick]:
    """Return ticks of a linear axis at multiples of 1, 2 or 5, three rows apart or more."""
    step = nice_step(high - low, max(1, rows // 3))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    largest = max(abs(low), abs(high))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if 1e-3 <= largest < 1e6:
        return [Tick(k * step, f"{k * step:.{digits}f}") for k in range(first, last + 1)]
    exact = max(0, math.floor(math.log10(largest)) - math.floor(math.log10(step) + 1e-9))
    return [Tick(k * step, _exponent(k * step, exact)) for k in range(first, last + 1)]


def log_value_ticks(low: float, high: float, rows: int) -> list[Tick]:
    """Return ticks of a logarithmic axis: decades that fit; with 2 and 5 where those are few."""
    span = math.log10(high) - math.log10(low)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = max(1, math.ceil(2 * span / max(rows, 1)))
    decades = [e for e in exponents if low <= 10.0**e * (1 + 1e-9) and 10.0**e <= high * (1 + 1e-9)]
    ticks = [Tick(10.0**e, _plain(10.0**e)) for e in decades if e % every == 0]
    if rows / span >= 6:
        between = [m * 10.0**e for e in exponents for m in (2, 5)]
        ticks += [Tick(v, _plain(v)) for v in between if low <= v <= high]
    if len(ticks) >= 3 or span > 1:
        return ticks
    return value_ticks(low, high, rows + rows // 3)


def _plain(value: float) -> str:
    return f"{value:.10g}" if 1e-3 <= value * (1 + 1e-9) < 1e4 else _exponent(value, 0)


def _exponent(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"
