"""From a token's value to how hot it is: fixed edges, so that steps can be compared by eye."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rich.style import Style

    from seedconv_tui.monitor.common.theme import Appearance


@dataclass(frozen=True)
class Scale:
    """The shown value of each token, and where one level ends and the next begins."""

    title: str
    edges: tuple[float, ...]  # ascending, nats; of a change, the edges of its size
    signed: bool = False  # whether values fall and rise
    marks: str = " ▁▂▄▆█"  # a level without its colour; of a change, first those that rise
    ascii_marks: str = " .:+*#"
    falling: str = " ▿▾▼"
    ascii_falling: str = " ,vV"

    def levels(self, values: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Return each value's level: 0 below all edges and for NaN, negative where it falls."""
        size = np.where(np.isfinite(values), np.abs(values), 0.0)
        level = np.searchsorted(np.array(self.edges), size, "right")
        return level * np.where(values < 0, -1, 1) if self.signed else level

    def style(self, level: int, look: Appearance) -> Style:
        """Return how a token of a level is drawn."""
        if level < 0:
            return look.palette.cool[-level]
        heat = look.palette.heat
        # What rises has the hottest colours, so that it is not taken for what falls.
        return heat[level + len(heat) - 1 - len(self.edges)] if level else heat[0]

    def mark(self, level: int, look: Appearance) -> str:
        """Return the sign of a level, one cell wide."""
        if level < 0:
            return look.pick(self.falling, self.ascii_falling)[-level]
        return look.pick(self.marks, self.ascii_marks)[level]


KL = Scale("KL, nats", (0.1, 0.3, 1, 2, 4))
SURPRISAL = Scale("surprisal, nats", (1, 2, 4, 8, 12))
CHANGE = Scale("KL change, nats", (0.03, 0.3, 1), signed=True, marks=" ▵▴▲", ascii_marks=" '^A")
BY_ENTRY = Scale("KL by entry, nats", KL.edges)
SCALES = (KL, SURPRISAL, CHANGE, BY_ENTRY)
"""What can be shown, in the order in which the key goes through it."""


def next_in_rank(size: NDArray[np.floating[Any]], token: int, *, down: bool) -> int:
    """Return the token that follows in descending order of size, equal ones as in the text."""
    places = np.arange(len(size))
    same = size == size[token]
    if down:
        after = (size < size[token]) | (same & (places > token))
        best = np.where(after, size, -1.0)
        return int(np.argmax(best)) if after.any() else token
    before = (size > size[token]) | (same & (places < token))
    if not before.any():
        return token
    worst = np.where(before, size, np.inf)
    return int(len(size) - 1 - np.argmin(worst[::-1]))
