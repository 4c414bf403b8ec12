"""Each seed's predictions at one token, side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len

from seedconv_tui.monitor.common.canvas import Canvas, Line, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.style import Style

_NARROWEST, _WIDEST = 15, 26  # cells of a column
_RANK = 4


@dataclass(frozen=True, eq=False)
class Prediction:
    """The predictions of every seed at a token. NaN and -1: not scored."""

    seeds: tuple[str, ...]
    top_id: NDArray[np.int32]  # (seed, rank)
    probability: NDArray[np.float64]  # (seed, rank)
    target: int  # its id
    target_probability: NDArray[np.float64]  # (seed,)
    texts: dict[int, str]


class PredictionTable(Canvas):
    """A column a seed: the target's probability, then the most probable tokens."""

    def __init__(self) -> None:
        super().__init__()
        self._prediction: Prediction | None = None
        self._words = ""
        self._seed = 0
        self._left = 0

    def show(self, prediction: Prediction | None, seed: int, words: str = "") -> None:
        """Take the predictions and which seed is chosen; `words` if there are none."""
        self._prediction, self._seed, self._words = prediction, seed, words
        self.redraw()

    def paint(self, width: int, height: int) -> list[Line]:
        look, palette, shown = self.look, self.look.palette, self._prediction
        if shown is None:
            return [[(f" {look.visible(self._words)}", palette.dim)]]
        n = len(shown.seeds)
        cell = min(max((width - _RANK - 2) // n, _NARROWEST), _WIDEST)
        columns = min(max((width - _RANK - 2) // cell, 1), n)
        self._left = min(max(min(self._left, self._seed), self._seed - columns + 1), n - columns)
        window = range(self._left, self._left + columns)
        head: Line = [(" top ", palette.dim)]
        for seed in window:
            name = look.shorten(f"seed {look.visible(shown.seeds[seed])}", cell - 1)
            style = palette.strong if seed == self._seed else palette.dim
            head.append((name + " " * (cell - cell_len(name)), style))
        more = "" if columns == n else f"{self._left + 1}-{self._left + columns}/{n}"
        lines = [spread(head, [(more, palette.accent)], width, self.look.more) if more else head]
        right = look.pick("▸", ">")
        lines.append([(f"   {right} ", palette.good)])
        for seed in window:
            probability = float(shown.target_probability[seed])
            lines[1] += self._cell(shown.target, probability, cell, palette.good)
        for rank in range(min(height - 2, shown.top_id.shape[1])):
            line: Line = [(f" {rank + 1:>2}  ", palette.dim)]
            for seed in window:
                number = int(shown.top_id[seed, rank])
                is_target = number == shown.target
                style = palette.good if is_target else palette.text
                line += self._cell(number, float(shown.probability[seed, rank]), cell, style)
            lines.append(line)
        return lines

    def _cell(self, number: int, probability: float, cell: int, style: Style) -> Line:
        look, shown = self.look, self._prediction
        if math.isnan(probability) or shown is None:
            return [("-".ljust(cell), look.palette.faint)]
        mark = look.pick("▸", ">") if number == shown.target else " "
        name = look.shorten(word(shown.texts.get(number, ""), look.ascii), cell - 8)
        name += " " * (cell - 8 - cell_len(name))
        return [(mark + name, style), (f" {probability:.3f} ", look.palette.dim)]


def word(text: str, ascii: bool) -> str:  # noqa: A002  said the same everywhere
    """Return a token's text by itself, its blanks seen."""
    from seedconv_tui.monitor.common.reflow import shown

    return shown(text, ascii).replace(" ", "_" if ascii else "␣")
