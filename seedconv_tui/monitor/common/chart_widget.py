"""The chart on the screen: `chart.draw` draws it, this sends the cells that changed."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
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


class ChartTitle(Canvas):
    """What is drawn, on the left; whether it follows the data, on the right."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: tuple[str, ...] = ()
        self._held = ""
        self._follows = "follows"

    def show(self, parts: tuple[str, ...], held: str, follows: str = "follows") -> None:
        """Take the words; `held` is empty while the view follows, and `follows` says what."""
        self._parts, self._held, self._follows = parts, held, follows
        self.redraw()

    def paint(self, width: int, height: int) -> list[Line]:
        look, palette = self.look, self.look.palette
        first, *rest = (look.visible(part) for part in self._parts)
        right = (f"  {self._held or self._follows} ", palette.warn if self._held else palette.dim)
        line: Line = [(f" {first}", palette.strong)]
        for part in rest:
            if line_width([*line, (look.dot + part, palette.dim), right]) <= width:
                line.append((look.dot + part, palette.dim))
        return [spread(line, [right], width)]


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
