"""From arrays to terminal cells, with numpy only."""

from seedconv_tui.chart.drawing import Cells, Mark, Plot, draw
from seedconv_tui.chart.glyphs import AXIS, BLANK, CURSOR, LABEL, MARK, MARKERS, QUIET, Glyphs
from seedconv_tui.chart.view import Series, View, fit

__all__ = [
    "AXIS",
    "BLANK",
    "CURSOR",
    "LABEL",
    "MARK",
    "MARKERS",
    "QUIET",
    "Cells",
    "Glyphs",
    "Mark",
    "Plot",
    "Series",
    "View",
    "draw",
    "fit",
]
