"""Lines and bands as dots, packed into one small integer per terminal cell.

Coordinates are in dots: column 0 is the left edge, row 0 the top; a point lights the dot it rounds
to. A cell holds `kx` x `ky` dots. Packed codes are the offsets of the Unicode braille patterns (for
1 x 2 dots: 1 above and 2 below; for 1 x 1: 1), and 0 is an empty cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from store.schema import Floats

Codes = NDArray[np.uint8]

_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint8)


@dataclass(frozen=True)
class Grid:
    """`columns` x `rows` cells of `kx` x `ky` dots each."""

    columns: int
    rows: int
    kx: int
    ky: int

    @property
    def width(self) -> int:
        """Dots from left to right."""
        return self.columns * self.kx

    @property
    def height(self) -> int:
        """Dots from top to bottom."""
        return self.rows * self.ky


def line(x: Floats, y: Floats, grid: Grid) -> Codes:
    """Draw connected segments through (x, y), clipped to the grid; codes, (row, column).

    A NaN ends the line. A point without neighbours is drawn fatter, so that it is seen.
    """
    codes = np.zeros((grid.rows, grid.columns), dtype=np.uint8)
    known = np.isfinite(x) & np.isfinite(y)
    joined = known[:-1] & known[1:]
    x0, y0, x1, y1 = _clip(x[:-1][joined], y[:-1][joined], x[1:][joined], y[1:][joined], grid)
    _light(codes, grid, *_walk(x0, y0, x1, y1))

    inside = known & (np.abs(x - (grid.width - 1) / 2) <= grid.width / 2)
    inside &= np.abs(y - (grid.height - 1) / 2) <= grid.height / 2
    column, row = _dots(x[inside], grid.width), _dots(y[inside], grid.height)
    _light(codes, grid, column, row)
    alone = ~(np.append(joined, False) | np.append(False, joined))[inside]
    column, row = column[alone], row[alone]
    beside = ((1, 0), (0, 1), (1, 1)) if grid.kx > 1 else ((0, 1),) if grid.ky > 1 else ()
    for across, down in beside:
        _light(codes, grid, column ^ across, row ^ down)  # flips the last bit: stays in the cell
    return codes


def band(x: Floats, low: Floats, high: Floats, grid: Grid) -> Codes:
    """Draw a sparse fill between rows `high` (above) and `low`; codes, (row, column).

    Dots are lit on a fixed lattice, so that a band which grows changes few cells. Where cells are
    one dot wide, there is one code, 1, for all that the band touches: of 1 x 1 dots every other.
    """
    columns = np.arange(grid.width, dtype=np.float64)
    top = np.interp(columns, x, high, left=np.nan, right=np.nan)
    bottom = np.interp(columns, x, low, left=np.nan, right=np.nan)
    # Between NaN neighbours interpolation has lost the points themselves.
    inside = np.isfinite(low) & np.isfinite(high) & (x > -0.5) & (x < grid.width - 0.5)
    at = _dots(x[inside], grid.width)
    np.fmin.at(top, at, high[inside])
    np.fmax.at(bottom, at, low[inside])
    # At least one dot of a column's lattice should be met even by a thin band: round outwards.
    top, bottom = np.floor(top), np.ceil(bottom)
    codes = np.zeros((grid.rows, grid.columns), dtype=np.uint8)
    cells = np.arange(grid.rows)[:, None] * grid.ky
    if grid.kx == 1:
        codes |= (cells + grid.ky - 1 >= top) & (cells <= bottom)
    for across, down in ((0, 0), (1, 2)) if grid.kx > 1 else ():
        lit = (cells + down >= top[across :: grid.kx]) & (cells + down <= bottom[across :: grid.kx])
        codes |= lit * _BITS[down, across]
    if grid.kx == grid.ky == 1:
        codes[(np.arange(grid.rows)[:, None] + np.arange(grid.columns)) % 2 == 1] = 0
    return codes


def _dots(value: Floats, size: int) -> NDArray[np.int64]:
    return np.clip(np.rint(value), 0, size - 1).astype(np.int64)


def _light(codes: Codes, grid: Grid, column: NDArray[np.int64], row: NDArray[np.int64]) -> None:
    bits = _BITS[row % grid.ky, column % grid.kx]
    np.bitwise_or.at(codes, (row // grid.ky, column // grid.kx), bits)


def _clip(
    x0: Floats, y0: Floats, x1: Floats, y1: Floats, grid: Grid
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the parts of segments that lie on the grid (Liang and Barsky), rounded to dots."""
    dx, dy = x1 - x0, y1 - y0
    start, end = np.zeros_like(dx), np.ones_like(dx)
    edges = (
        (-dx, x0 + 0.5),
        (dx, grid.width - 0.5 - x0),
        (-dy, y0 + 0.5),
        (dy, grid.height - 0.5 - y0),
    )
    for speed, room in edges:
        with np.errstate(divide="ignore", invalid="ignore"):
            at = room / speed
        start = np.where(speed < 0, np.maximum(start, at), start)
        end = np.where(speed > 0, np.minimum(end, at), end)
        end[(speed == 0) & (room < 0)] = -1
    met = start <= end
    start, end, x0, y0, dx, dy = (a[met] for a in (start, end, x0, y0, dx, dy))
    return (
        _dots(x0 + start * dx, grid.width),
        _dots(y0 + start * dy, grid.height),
        _dots(x0 + end * dx, grid.width),
        _dots(y0 + end * dy, grid.height),
    )


def _walk(
    x0: NDArray[np.int64], y0: NDArray[np.int64], x1: NDArray[np.int64], y1: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return every dot of every segment, one per step along the segment's longer side."""
    steps = np.maximum(np.abs(x1 - x0), np.abs(y1 - y0))
    segment = np.repeat(np.arange(len(steps)), steps + 1)
    first = np.cumsum(steps + 1) - (steps + 1)
    part = (np.arange(len(segment)) - first[segment]) / np.maximum(steps, 1)[segment]
    column = np.rint(x0[segment] + part * (x1 - x0)[segment]).astype(np.int64)
    row = np.rint(y0[segment] + part * (y1 - y0)[segment]).astype(np.int64)
    return column, row
