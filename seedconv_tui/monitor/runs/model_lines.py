"""Each model in one row: how far its seeds are apart, since when, and which of them is odd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len

from seedconv_tui.monitor.common.bars import coarse
from seedconv_tui.monitor.common.canvas import Canvas, Line, scrolled, spread
from seedconv_tui.monitor.common.spark import spark
from seedconv_tui.text import nats, signed

if TYPE_CHECKING:
    from rich.style import Style

    from seedconv_tui.monitor.data.feed import Feed
    from seedconv_tui.monitor.data.history import Change
    from store.schema import ModelSnapshot

_GAP = 2  # cells between two columns
_SPARK, _LONGEST_SPARK = 6, 40  # cells of a sparkline
_COLUMNS = ("value", "phase", "odd", "change", "interval")
"""From what matters most: those that do not fit are left out."""
_SHOWN = ("value", "interval", "phase", "change", "odd")  # from the left


class ModelLines(Canvas):
    """A row a model; where not all have room, those about the one under the cursor."""

    def __init__(self) -> None:
        super().__init__()
        self._feed: Feed | None = None
        self._chosen = ""
        self._top = 0

    def show(self, feed: Feed) -> None:
        """Take what is known now."""
        self._feed = feed
        self.redraw()

    def choose(self, model: str) -> None:
        """Take which model is to be among those shown."""
        if model != self._chosen:
            self._chosen = model
            self.redraw()

    def rows_wanted(self, most: int) -> int:
        """Return how many rows it takes, of those there are."""
        return min(len(self._models()), most)

    def _models(self) -> tuple[ModelSnapshot, ...]:
        """Return the models as they were read last; at first without their results."""
        feed = self._feed
        snapshot = (feed.snapshot or feed.progress) if feed else None
        return snapshot.models if snapshot else ()

    def paint(self, width: int, height: int) -> list[Line]:
        models = self._models()
        names = [model.name for model in models]
        if not models:
            return []
        at = names.index(self._chosen) if self._chosen in names else 0
        self._top = scrolled(self._top, at, height, len(models))
        window = models[self._top : self._top + height]
        rows = [self._cells(model) for model in window]
        most = max(width // 5, 8)
        whole = [self.look.visible(name) for name in names]
        heads = self.look.shorten_apart(whole, most)[self._top : self._top + height]
        room = max(map(cell_len, heads))
        more = f" {self._top + 1}-{self._top + len(window)}/{len(models)} "
        left = width - 1 - room - len(more) * (len(window) < len(models))
        sizes = {name: max(cell_len(row[name][0]) for row in rows) for name in _COLUMNS}
        kept: list[str] = []
        for name in _COLUMNS:
            if sizes[name] and left - _GAP - sizes[name] >= (_GAP + _SPARK) * (name != "value"):
                kept.append(name)
                left -= _GAP + sizes[name]
        lines = []
        for model, head, row in zip(window, heads, rows, strict=True):
            style = (
                self.look.palette.strong if model.name == self._chosen else self.look.palette.text
            )
            line: Line = [(f" {head}{' ' * (room - cell_len(head))}", style)]
            line += self._spark(model, min(left - _GAP, _LONGEST_SPARK))
            for name in _SHOWN:
                if name in kept:
                    text, text_style = row[name]
                    pad = " " * (sizes[name] - cell_len(text))
                    line.append((" " * _GAP + text + pad, text_style))
            lines.append(line)
        if len(window) < len(models):
            last = lines[-1]
            lines[-1] = spread(last, [(more, self.look.palette.accent)], width, self.look.more)
        return lines

    def _spark(self, model: ModelSnapshot, width: int) -> Line:
        if width < _SPARK:
            return []
        known = np.flatnonzero(model.n_pairs)
        bars = spark(model.steps[known], model.expected_kl[known], width, self.look.ascii)
        return [(" " * _GAP + bars, self.look.palette.accent)]

    def _cells(self, model: ModelSnapshot) -> dict[str, tuple[str, Style]]:
        """Return the words of each column, with their style."""
        palette, feed = self.look.palette, self._feed
        cells = dict.fromkeys(_COLUMNS, ("", palette.dim))
        known = np.flatnonzero(model.n_pairs)
        if not len(known):
            cells["value"] = ("no step compared yet", palette.dim)
            return cells
        at = int(known[-1])
        cells["value"] = (f"KL {nats(float(model.expected_kl[at]))}", palette.strong)
        if model.kl_interval is not None and np.isfinite(model.kl_interval[at]).all():
            ends = [nats(float(end)) for end in model.kl_interval[at]]
            cells["interval"] = ((" to " if "e" in "".join(ends) else "-").join(ends), palette.dim)
        step = int(model.steps[at])
        phase = next((p.name for p in reversed(model.phases) if p.start <= step), "")
        cells["phase"] = (self.look.shorten(self.look.visible(phase), 20), palette.text)
        if odd := self._far_off(model, at):
            cells["odd"] = (self.look.shorten(f"odd: {odd}", 20), palette.warn)
        if feed is not None and (change := feed.history.change(model.name, feed.now)) is not None:
            cells["change"] = (_words(change), palette.text if change.nats else palette.dim)
        return cells

    def _far_off(self, model: ModelSnapshot, at: int) -> str:
        from store.statistics import outliers  # late: it is not needed for the first paint

        return self.look.visible(
            ", ".join(
                seed for seed, far in zip(model.seeds, outliers(model.kl[at]), strict=True) if far
            )
        )


def _words(change: Change) -> str:
    if change.nats is None:
        return f"same for {coarse(change.seconds)}"
    return f"{signed(change.nats)} in {coarse(change.seconds)}"
