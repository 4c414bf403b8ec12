"""The chart on the screen: `chart.draw` draws it, this sends the cells that changed."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from rich.style import Style
from textual.message import Message

from seedconv_tui import chart
from seedconv_tui.monitor.common.canvas import Canvas, Line, line_width, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from textual import events

    from seedconv_tui.monitor.common.theme import Palette


_DIM = Style(dim=True)
_FEWEST = 8  # cells to which the last part next to the measure is shortened


class ChartTitle(Canvas):
    """Left: the drawn metric. Right: whether the view follows the data."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: tuple[str, ...] = ()
        self._held = ""
        self._follows = "follows"
        self._measure = ""

    def show(
        self, parts: tuple[str, ...], held: str, follows: str = "follows", *, measure: str = ""
    ) -> None:
        """Take the words, those that matter least last; `measure` is the one that always stays.

        `held` is empty while the view follows, and `follows` says what.
        """
        self._parts, self._held, self._follows = parts, held, follows
        self._measure = measure
        self.redraw()

    def paint(self, width: int, height: int) -> list[Line]:
        look, palette = self.look, self.look.palette
        right = (f"  {self._held or self._follows} ", palette.warn if self._held else palette.dim)
        room = width - line_width([right]) - 1
        if self._measure and room < cell_len(look.visible(self._measure)):
            right, room = ("", palette.dim), width - 1
        texts = self._fitting(room)
        line: Line = [(" ", palette.strong)]
        for number, text in enumerate(texts):
            line.append((look.dot * bool(number) + text, palette.dim if number else palette.strong))
        return [spread(line, [right], width, self.look.more)]

    def _fitting(self, room: int) -> list[str]:
        """Return the parts for which there is room; a sign stands for those that are left out."""
        look = self.look
        kept = [look.visible(part) for part in self._parts]
        measure = look.visible(self._measure)
        more: list[str] = []
        while cell_len(look.dot.join(kept) + "".join(more)) > room:
            least = next((n for n in reversed(range(len(kept))) if kept[n] != measure), None)
            if least is None:
                return [look.shorten(part, room) for part in kept]
            if not least or (least == 1 and kept[0] == measure):
                rest = cell_len(look.dot.join(part for n, part in enumerate(kept) if n != least))
                if (left := room - rest - len(look.dot) * (len(kept) > 1)) >= _FEWEST:
                    kept[least] = look.shorten(kept[least], left)
                    return kept
            del kept[least]
            more = [f" {look.more}"]
        return [*kept[:-1], kept[-1] + "".join(more)] if kept else []


class ChartView(Canvas):
    """Series over steps, seen through a view."""

    class Pointed(Message):
        """A step was clicked."""

        def __init__(self, step: float) -> None:
            self.step = step
            super().__init__()

    class Rolled(Message):
        """The wheel was turned at a step: 1 away from the user, -1 towards."""

        def __init__(self, step: float, direction: int) -> None:
            self.step, self.direction = step, direction
            super().__init__()

    def __init__(self) -> None:
        super().__init__()
        self._series: Sequence[chart.Series] = ()
        self._marks: Sequence[chart.Mark] = ()
        self._view = chart.fit(())
        self._cursor: float | None = None
        self._label = ""
        self._plot: chart.Plot | None = None

    def show(
        self,
        series: Sequence[chart.Series],
        view: chart.View,
        *,
        marks: Sequence[chart.Mark],
        cursor: float | None,
        label: str = "",
    ) -> None:
        """Take what to draw; the series that is to lie on top comes last.

        `label` says what the values are, where nothing else on the screen does.
        """
        self._series, self._view = series, view
        self._marks, self._cursor, self._label = marks, cursor, label
        self.redraw()

    def paint(self, width: int, height: int) -> list[Line]:
        cells = chart.draw(
            self._series,
            self._view,
            width,
            height,
            marks=self._marks,
            cursor=self._cursor,
            y_label=self._label,
            glyphs=self.look.glyphs,
        )
        self._plot = cells.plot
        styles = _styles(self.look.palette, self.app.no_color)
        return [_runs(*row, styles) for row in zip(cells.text, cells.color, cells.dim, strict=True)]

    def on_click(self, event: events.Click) -> None:
        if self._plot is not None:
            self.post_message(self.Pointed(self._plot.x_at(event.x)))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._rolled(event, 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._rolled(event, -1)

    def _rolled(self, event: events.MouseEvent, direction: int) -> None:
        if self._plot is not None:
            self.post_message(self.Rolled(self._plot.x_at(event.x), direction))


def _styles(palette: Palette, plain: bool) -> dict[int, Style]:
    """Return the style of each colour; `plain`: without colours, so what is quiet is dimmed."""
    return {
        chart.BLANK: Style(),
        chart.AXIS: palette.faint,
        chart.LABEL: palette.dim,
        chart.MARK: palette.dim,
        chart.CURSOR: palette.strong,
        chart.QUIET: palette.faint + _DIM if plain else palette.faint,
        **dict(enumerate(palette.series)),
    }


def _runs(
    text: NDArray[np.str_],
    color: NDArray[np.int16],
    dim: NDArray[np.bool_],
    styles: dict[int, Style],
) -> Line:
    """Return a row of cells as runs of one style; blanks go with what is to the left of them."""
    last = np.maximum.accumulate(np.where(color != chart.BLANK, np.arange(len(color)), 0))
    color, dim = color[last], dim[last]
    change = (np.diff(color) != 0) | (np.diff(dim) != 0)
    starts = [0, *(np.flatnonzero(change) + 1).tolist(), len(color)]
    return [
        ("".join(text[a:b].tolist()), styles[int(color[a])] + _DIM if dim[a] else styles[color[a]])
        for a, b in pairwise(starts)
    ]
