"""The style of all figures: sizes for a two-column paper, colours, lines, axes.

Series differ in colour, in dashes and in markers, so that a figure can be read in grey. Nothing of
this depends on a display, on the time or on the reader's own matplotlib settings.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray
from rich.cells import cell_len

from seedconv_tui.text import shorten, step_label, visible
from store.schema import Floats

ONE_COLUMN, TWO_COLUMNS = 3.03, 6.3  # inches: of ACL's style, the narrowest of the usual ones
FONT = 7.5  # points; nothing is smaller than 7

_SETTINGS: dict[str, Any] = {
    "axes.grid": True,
    "axes.labelsize": FONT,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": FONT,
    "figure.dpi": 300,
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": FONT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.4,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "pdf.fonttype": 42,  # letters stay text
    "savefig.dpi": 300,
    "text.parse_math": False,  # names may hold dollar signs
    "text.usetex": False,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}
# Okabe and Ito's colours, which differ for all kinds of colour vision; their yellow, which is
# faint on paper, is left out.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.4)), (0, (1, 1)), (0, (5, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_QUIET = "0.45"
_ROOM = 1.5  # times the highest line is what an axis shows of bands
# Fills of several bands mix to grey, so they are faint; the edges keep the colour of their line.
_FILL, _EDGE = 0.08, 0.4  # opacity of a band and of its edges
_APART, _LEFT = 0.17, 0.4  # inches: ticks at least, and what is left of the axes
_GAP = 0.05  # inches between labels of ticks
_MARKS = 7  # markers on a line
_LABEL = 34  # characters of a label
_LINE, _HANDLE, _CHARACTER = 0.135, 0.42, 0.062  # inches of a legend: a line, a handle, a letter
_BELOW = 0.42  # inches from axes to their legend, for ticks and label
_FREE, _FREE_BELOW = 2, 5  # lines of a legend that figures, and single axes, have room for
_FIRST_OF_MAP, _LAST_OF_MAP = 0.0, 0.82  # of viridis: its yellow end is faint on paper


@dataclass(frozen=True)
class Look:
    """The look of one series."""

    color: Any
    dashes: Any
    marker: str


def nominal(n: int) -> list[Look]:
    """Return looks of series without an order."""
    return [Look(_COLORS[i % len(_COLORS)], *_strokes(i)) for i in range(n)]


def ordinal(n: int) -> list[Look]:
    """Return looks of series with an order, from dark to bright."""
    colors = mpl.colormaps["viridis"](np.linspace(_FIRST_OF_MAP, _LAST_OF_MAP, max(n, 2)))
    return [Look(tuple(colors[i]), *_strokes(i)) for i in range(n)]


def _strokes(i: int) -> tuple[Any, str]:
    turn = i // len(_MARKERS)  # dashes move on against the markers when these begin again
    return _DASHES[(i + turn) % len(_DASHES)], _MARKERS[i % len(_MARKERS)]


@contextmanager
def styled() -> Iterator[None]:
    """Have figures that are made, and drawn, in here look as they should."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, _SETTINGS))
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def grid(
    rows: int, columns: int, *, width: float, height: float, **settings: Any
) -> tuple[Figure, list[list[Axes]]]:
    """Make an empty figure, inches, and its axes by row and column."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **settings)
    return figure, [list(row) for row in axes]


def laid_out(figure: Figure) -> Figure:
    """Return the figure with everything in its place, once for all files of it."""
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # with "none", each file would be drawn once more in advance
    return figure


def encoded(figure: Figure, kind: str) -> bytes:
    """Return the figure as a PDF or PNG file: the same bytes for the same figure."""
    none = {"CreationDate": None} if kind == "pdf" else {"Software": None}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=none)
    return buffer.getvalue()


# -- what is drawn -------------------------------------------------------------------------------


def label(text: str, width: int = _LABEL) -> str:
    """Return untrusted text for a figure, cut in its middle: names mostly differ at an end.

    One that begins with `_` would be left out of legends.
    """
    # Its font has no pictures of control characters, so these are named: `\\n`.
    named = (c if c >= " " else c.encode("unicode_escape").decode() for c in text)
    shown = visible("".join(named))
    if cell_len(shown) > width:
        end = shown[-(width // 2) :]
        while cell_len(end) > width // 2:
            end = end[1:]
        shown = shorten(shown, width - cell_len(end)) + end
    return f" {shown}" if shown.startswith("_") else shown


def curve(
    axes: Axes,
    steps: NDArray[np.int64],
    values: Floats,
    look: Look,
    *,
    low: Floats | None = None,
    high: Floats | None = None,
    at: int = 0,
    name: str = "",
) -> Line2D:
    """Draw a line over training, with its band; `at`, its place among others, moves its markers."""
    known = np.isfinite(values)
    x, y = steps[known].astype(np.float64), values[known]
    if low is not None and high is not None:
        sure = np.isfinite(low) & np.isfinite(high)
        band = steps[sure].astype(np.float64), low[sure], high[sure]
        axes.fill_between(*band, color=look.color, alpha=_FILL, linewidth=0)
        for edge in band[1:]:
            axes.plot(band[0], edge, color=look.color, alpha=_EDGE, linewidth=0.4, zorder=1.5)
    (line,) = axes.plot(
        x,
        y,
        color=look.color,
        linestyle=look.dashes,
        marker=look.marker,
        markevery=_marked(x, at),
        markeredgewidth=0,
        label=label(name),
    )
    return line


def end_interval(
    axes: Axes, steps: Sequence[int], low: float, high: float, look: Look, *, at: int
) -> None:
    """Draw an interval as a bar at the last step; `at`, its place among others, moves it left."""
    first, last = np.log1p(min(steps)), np.log1p(max(steps))
    x = float(np.expm1(last - 0.015 * at * (last - first)))
    if np.isfinite(low) and np.isfinite(high):
        axes.plot([x, x], [low, high], color=look.color, linewidth=0.9, alpha=0.7, zorder=1.5)


def _marked(x: Floats, at: int) -> list[int]:
    """Choose a few points that are evenly spaced as drawn, other ones for each line."""
    if len(x) <= _MARKS:
        return list(range(len(x)))
    place = np.log1p(x)
    aims = np.linspace(place[0], place[-1], _MARKS) + (at % 4) / 4 * np.ptp(place) / _MARKS
    return sorted({int(np.abs(place - aim).argmin()) for aim in aims})


def step_axis(axes: Axes, steps: Sequence[int]) -> None:
    """Scale training steps by log(step + 1), so that step 0 has a place.

    Step 0, where it is one of them, and the last one are labelled, and decades that fit between.
    """
    first, last = np.log1p(min(steps)), np.log1p(max(steps))
    pad = max(0.03 * (last - first), 0.05)
    axes.set_xscale("function", functions=(_log1p, np.expm1))
    axes.set_xlim(float(np.expm1(first - pad)), float(np.expm1(last + pad)))
    scale = _panel_width(axes) / (last - first + 2 * pad)  # inches for each unit of log(step + 1)
    ticks = sorted({0, max(steps)} & set(steps))
    for step in [10**k for k in range(9, -1, -1)]:
        if min(steps) <= step < max(steps) and all(_apart(step, by, scale) for by in ticks):
            ticks.append(step)
    if len(ticks) < 2:
        ticks = sorted({min(steps), max(steps)})
    ticks.sort()
    axes.set_xticks(ticks, [step_label(step) for step in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training step")


def _apart(step: int, other: int, scale: float) -> bool:
    """Return whether the labels of two steps have room next to each other."""
    room = (len(step_label(step)) + len(step_label(other))) / 2 * _CHARACTER + _GAP
    return bool(abs(np.log1p(step) - np.log1p(other)) * scale >= max(room, _APART))


def _log1p(steps: Floats) -> Floats:
    """Return log(step + 1), and something below it left of -1, which margins may reach."""
    return np.asarray(np.log1p(np.maximum(steps, -0.99)))


def _panel_width(axes: Axes) -> float:
    """Return about how wide the axes are, inches."""
    spec = axes.get_subplotspec()
    columns = spec.get_gridspec().ncols if spec else 1
    figure = axes.get_figure(root=True)
    return (figure.get_figwidth() if figure else ONE_COLUMN) / columns - _LEFT


def level_line(axes: Axes, value: float) -> None:
    """Draw a dotted line across the axes, to hold curves against."""
    axes.axhline(value, color=_QUIET, linestyle=(0, (1, 2)), linewidth=0.7, zorder=0)


def phase_lines(axes: Axes, starts: Sequence[tuple[int, str]]) -> None:
    """Mark where phases begin, and their numerals over their middles."""
    left, right = axes.get_xlim()
    across = axes.get_xaxis_transform()
    for start, _ in starts[1:]:
        axes.axvline(start, color=_QUIET, linestyle=(0, (1, 2)), linewidth=0.7, zorder=0)
    ends = [*(start for start, _ in starts[1:]), right]
    for (start, numeral), end in zip(starts, ends, strict=True):
        middle = np.expm1((np.log1p(max(start, left)) + np.log1p(end)) / 2)
        axes.text(
            float(middle), 1.01, numeral, transform=across, ha="center", va="bottom", fontsize=7,
            color=_QUIET,
        )  # fmt: skip


def phase_starts(axes: Axes, steps: Sequence[int], values: Sequence[float], look: Look) -> None:
    """Open diamonds on a curve, where its phases begin."""
    axes.plot(
        steps,
        values,
        linestyle="none",
        marker="D",
        markersize=4.4,
        markerfacecolor="white",
        markeredgecolor=look.color,
        markeredgewidth=0.9,
        zorder=5,
    )


def legend(where: Figure | Axes, lines: Sequence[Line2D], *, width: float) -> None:
    """Put names below the axes, or the figure, in as many columns as fit into `width` inches.

    A figure grows by the lines that it has no room for.
    """
    if not lines:
        return
    most = int((width - _HANDLE) / _CHARACTER)
    names = [label(str(line.get_label()), most) for line in lines]
    each = _HANDLE + _CHARACTER * max(map(cell_len, names))
    columns = max(1, min(len(names), int(width / each)))
    n_lines = -(-len(names) // columns)
    by_row = [at for first in range(columns) for at in range(first, len(names), columns)]
    lines, names = [lines[at] for at in by_row], [names[at] for at in by_row]
    if isinstance(where, Figure):
        where.legend(lines, names, loc="outside lower center", ncols=columns)
        _make_room(where, n_lines - _FREE)
    else:
        figure = cast(Figure, where.get_figure(root=True))
        below = ScaledTranslation(0, -_BELOW, figure.dpi_scale_trans)
        where.legend(
            lines,
            names,
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            bbox_transform=where.transAxes + below,
            ncols=columns,
            borderaxespad=0,
            columnspacing=1.0,
        )
        _make_room(figure, n_lines - _FREE_BELOW)


def _make_room(figure: Figure, n_lines: int) -> None:
    figure.set_figheight(figure.get_figheight() + _LINE * max(0, n_lines))


def letter(axes: Axes, index: int, title: str, *, of: int) -> None:
    """Write (a), (b), ... where there are several panels, and what the panel shows."""
    axes.set_title(f"({chr(ord('a') + index)}) {title}" if of > 1 else title, loc="left")


def difference_axis(axes: Axes, values: Sequence[Floats]) -> None:
    """Show zero, everything that the lines reach and 1.5 times as much of bands on either side."""
    known = [0.0, *(float(x) for of in values for x in of if np.isfinite(x))]
    low, high = axes.get_ylim()
    room = (max(known) - min(known)) * _ROOM
    if room:
        axes.set_ylim(max(low, min(known) - room), min(high, max(known) + room))


def kl_axis(axes: Axes, highest: float) -> None:
    """Show from zero to everything that the lines reach, `highest`; bands do not make them flat."""
    top = min(axes.get_ylim()[1], _ROOM * highest)
    axes.set_ylim(bottom=0, top=top if top > 0 else None)
