"""KL curves by the levels of a category as text for stdout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len, set_cell_size

from seedconv_tui.chart.drawing import draw
from seedconv_tui.chart.glyphs import Glyphs
from seedconv_tui.chart.plot import LINES, key_of, painted
from seedconv_tui.chart.view import Series, fit
from seedconv_tui.text import count, counted, nats, quoted, step_label, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from store.schema import Floats


@dataclass(frozen=True, eq=False)
class LevelCurve:
    """One level over training, nats, (step,) each; NaN where it is not known."""

    label: str  # untrusted
    n: int  # tokens
    steps: NDArray[np.int64]  # ascending
    kl: Floats
    low: Floats  # 95 % interval, or band
    high: Floats


def plot_levels(
    title: str,
    curves: Sequence[LevelCurve],
    *,
    left_out: int = 0,
    band: str = "95 % interval",
    width: int,
    height: int,
    log_y: bool = False,
    log_x: bool = True,
    glyphs: Glyphs = Glyphs.BRAILLE,
    color: bool = False,
) -> str:
    """Draw expected KL by level: a title, charts of at most `LINES` lines, each with its table.

    `width` and `height` are a chart's, in cells. `left_out` levels are mentioned and not drawn.
    The band is drawn where a chart has one line alone, and the table has them all; `band` says what
    it is.
    """
    ascii_only = glyphs is Glyphs.ASCII
    lines = [visible(title, ascii_only)]
    for first in range(0, len(curves), LINES):
        of = curves[first : first + LINES]
        known = [np.isfinite(curve.kl) & ((curve.kl > 0) | (not log_y)) for curve in of]
        lines += [""] * bool(first)
        if any(there.any() for there in known):
            series = [_series(curve, at, band=len(of) == 1) for at, curve in enumerate(of)]
            view = fit(series, log_y=log_y, log_x=log_x)
            cells = draw(series, view, width, height, glyphs=glyphs, y_label="expected KL (nats)")
            lines += painted(cells, color=color)
            lines += [f"band: {band}"] * (len(of) == 1)
        else:
            lines.append("nothing to draw: no KL is finite" + ", or above 0" * log_y)
        lines += ["", *_table(of, ascii_only, color, band)]
    if left_out:
        lines.append(f"left out: {counted(left_out, 'level')} with fewer tokens; --level draws one")
    return "\n".join(line.rstrip() for line in lines)


def _series(curve: LevelCurve, at: int, *, band: bool) -> Series:
    steps = curve.steps.astype(np.float64)
    low, high = (curve.low, curve.high) if band else (None, None)
    return Series(quoted(curve.label), steps, curve.kl, low, high, color=at)


def _table(curves: Sequence[LevelCurve], ascii_only: bool, color: bool, band: str) -> list[str]:
    names = [visible(quoted(curve.label), ascii_only) for curve in curves]
    room = max(cell_len(name) for name in [*names, "level"])
    heads = f"{'tokens':>9}  {'first':18}{'minimum':18}{'latest':18}latest, {band}"
    lines = [f"   {set_cell_size('level', room)}{heads}"]
    for at, (curve, name) in enumerate(zip(curves, names, strict=True)):
        known = np.flatnonzero(np.isfinite(curve.kl))
        line = f"{key_of(at, ascii_only, color=color)} {set_cell_size(name, room)}"
        line += f"{count(curve.n):>9}  "
        if len(known):
            places = (known[0], known[curve.kl[known].argmin()], known[-1])
            values = [f"{nats(curve.kl[n])} @ {step_label(int(curve.steps[n]))}" for n in places]
            low, high = float(curve.low[known[-1]]), float(curve.high[known[-1]])
            line += "".join(f"{value:18}" for value in values)
            line += f"{nats(low)} to {nats(high)}" if np.isfinite(low) else "-"
        lines.append(line)
    return lines
