"""Numbers and names in words, the same in what an engine says and what a terminal shows."""

from __future__ import annotations

import json
import math


def counted(n: int, noun: str) -> str:
    """Write how many there are of something: `1 seed`, `1,200 seeds`."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def nats(x: float) -> str:
    """Write a divergence or entropy in 8 cells: `0.3412`, `12.341`, `1.2e-05`; NaN is `-`."""
    size = abs(x)
    if math.isnan(x):
        return "-"
    if math.isinf(x):
        return "inf" if x > 0 else "-inf"
    if size == 0:
        return "0.0000"
    if size < 0.001 or size >= 1000:
        return f"{x:.1e}"
    return f"{x:.{4 if size < 10 else 3 if size < 100 else 2}f}"


def quoted(label: str) -> str:
    """Write the label of a level as it can stand in a sentence or a list: `NOUN`, `","`, `"a, b"`.

    In quotes are marks alone, what has white space at an end, and what holds a mark that parts a
    list. Characters that cannot be shown are the business of who shows them.
    """
    plain = any(map(str.isalnum, label)) and label == label.strip() and not set(label) & _PARTS
    return label if plain else json.dumps(label, ensure_ascii=False)


_PARTS = set(',;"')  # marks that part a list, or begin and end a quotation
