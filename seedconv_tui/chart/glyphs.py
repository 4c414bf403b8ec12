"""The glyphs of the chart: lines, bands, frame, and marks that belong to no series."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLANK, AXIS, LABEL, MARK, CURSOR = -1, -2, -3, -4, -5
"""Values of `Cells.color` for what belongs to no series."""

QUIET = -6
"""A `Series.color` for lines that are there to compare with, all drawn alike."""

MARKERS = "*o+x#@%&"
"""The signs of lines in ASCII, by `Series.color` (modulo their number)."""


class Glyphs(StrEnum):
    """The signs with which the chart is drawn."""

    BRAILLE = "braille"  # 2 x 4 dots per cell, Unicode
    BLOCK = "block"  # 1 x 2 dots per cell, Unicode: half blocks, which most fonts have
    ASCII = "ascii"  # one sign per cell


@dataclass(frozen=True)
class Signs:
    """The signs of one kind of glyphs."""

    kx: int  # dots per cell, across and down
    ky: int
    lines: tuple[NDArray[np.str_], ...]  # by colour, by code
    quiet: NDArray[np.str_]  # the same for lines that are `QUIET`
    band: NDArray[np.str_]  # by code
    frame: str  # y axis, its tick, corner, x axis, its labelled tick, its minor tick
    span: str  # the last three where the x axis is within a mark's interval
    mark: str
    cursor: str
    pointer: str  # where the cursor meets the x axis
    more: str  # ends a name that was cut

    def line(self, color: int) -> NDArray[np.str_]:
        """Return what a line of this colour is drawn with, by code."""
        return self.quiet if color == QUIET else self.lines[color % len(self.lines)]


_PATTERNS = np.array([chr(0x2800 + code) for code in range(256)])
_BLOCKS = np.array(list(" ▀▄█"))

_BRAILLE = Signs(
    kx=2,
    ky=4,
    lines=(_PATTERNS,),
    quiet=_PATTERNS,
    band=_PATTERNS,
    frame="│┤└─┼┬",
    span="═╪╤",
    mark="┊",
    cursor="│",
    pointer="▲",
    more="…",
)

SIGNS = {
    Glyphs.BRAILLE: _BRAILLE,
    Glyphs.BLOCK: replace(
        _BRAILLE,
        kx=1,
        ky=2,
        lines=(_BLOCKS,),
        quiet=np.array(list(" ───")),
        band=np.array(list(" ░")),
    ),
    Glyphs.ASCII: Signs(
        kx=1,
        ky=1,
        lines=tuple(np.array([" ", marker]) for marker in MARKERS),
        quiet=np.array([" ", "-"]),
        band=np.array([" ", "."]),
        frame="|++-+-",
        span="===",
        mark=":",
        cursor="|",
        pointer="^",
        more="~",
    ),
}
