"""A study's KL curves as text for stdout, and its numbers step by step."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len, set_cell_size

from seedconv_tui.chart.drawing import Cells, Mark, draw
from seedconv_tui.chart.glyphs import AXIS, MARK, MARKERS, Glyphs
from seedconv_tui.chart.view import Series, fit
from seedconv_tui.text import count, counted, nats, phase_words, step_label, visible, without
from store.schema import ModelSnapshot, State, StudySnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from store.schema import Floats, Phase

LINES = 7
"""Lines in a chart at most: no two have one colour. More models, or levels, have more charts."""

_SGR = (36, 33, 35, 32, 31, 34, 95, 96)  # readable on light and on dark backgrounds
_SCORED = (State.SCORED, State.REDUCING, State.DONE, State.PRUNED)


@dataclass(frozen=True)
class Band:
    """What is drawn around a line."""

    words: str
    ends: Callable[[ModelSnapshot], tuple[Floats, Floats]]  # low and high, (step,), nats


def _one_std(model: ModelSnapshot) -> tuple[Floats, Floats]:
    return model.expected_kl - model.pair_std, model.expected_kl + model.pair_std


OVER_PAIRS = Band("standard deviation over ordered pairs of seeds", _one_std)


def plot_text(
    snapshot: StudySnapshot,
    *,
    width: int,
    height: int,
    log_y: bool = False,
    log_x: bool = True,
    glyphs: Glyphs = Glyphs.BRAILLE,
    color: bool = False,
    models: Sequence[str] | None = None,
    band: Band | None = None,
) -> str:
    """Draw expected KL over training: a title, the chart and a table of what it shows.

    `width` and `height` are the chart's, in cells; the title and the table come on top of that.
    Phases are marked in the chart where all models shown have the same. `models` restricts it to
    some models; ValueError where the study has no such model. `band` is drawn, by default the
    standard deviation over pairs. With ASCII glyphs only ASCII comes out, and escape sequences only
    with `color`. Without results: one line that says so.
    """
    shown = _selected(snapshot.models, models)
    ascii_only = glyphs is Glyphs.ASCII
    name = visible(snapshot.name, ascii_only)
    if not any(model.n_pairs.any() for model in shown):
        if n := sum(int(model.n_left_out.sum()) for model in shown):
            return f"{name}: nothing to draw: the KL is not finite for any of {count(n)} pairs"
        states = [model.state for model in shown]
        planned = sum(int((state != State.ABSENT).sum()) for state in states)
        scored = sum(int(np.isin(state, _SCORED).sum()) for state in states)
        return (
            f"{name}: no divergences yet, {count(scored)} of {count(planned)} checkpoints scored; "
            "a step needs two seeds"
        )

    if log_y and not any((model.expected_kl > 0).any() for model in shown):
        return f"{name}: nothing to draw on a logarithmic axis: no expected KL is above 0"
    lines = [
        f"{name}: mean KL over {counted(snapshot.n_tokens, 'token')} and ordered pairs of seeds"
    ]
    for first in range(0, len(shown), LINES):
        panel = shown[first : first + LINES]
        lines += [""] * bool(first)
        lines += _panel(panel, width, height, log_y, log_x, glyphs, band or OVER_PAIRS, color=color)
    return "\n".join(line.rstrip() for line in lines)


def _panel(
    shown: Sequence[ModelSnapshot],
    width: int,
    height: int,
    log_y: bool,
    log_x: bool,
    glyphs: Glyphs,
    band: Band,
    *,
    color: bool,
) -> list[str]:
    """Return one chart, and the table of what it shows."""
    ascii_only = glyphs is Glyphs.ASCII
    series = [_series(model, number, band) for number, model in enumerate(shown)]
    log_y = log_y and any((each.y > 0).any() for each in series)
    phases = {model.phases for model in shown if model.phases}
    marks = {tuple(Mark(phase.start, phase.name) for phase in of) for of in phases}
    common = next(iter(phases)) if len(phases) == 1 else ()  # with their intervals, that is
    cells = draw(
        series,
        fit(series, log_y=log_y, log_x=log_x),
        width,
        height,
        marks=_marks(common) or (marks.pop() if len(marks) == 1 else ()),
        glyphs=glyphs,
        y_label="expected KL (nats)",
    )
    lines = painted(cells, color=color)
    lines += [f"band: {band.words}"]
    lines += _wrapped(_phase_names(common, ascii_only), width) if common else []
    return [*lines, "", *_legend(shown, ascii_only, color, width, say_phases=not common)]


def _marks(phases: Sequence[Phase]) -> tuple[Mark, ...]:
    return tuple(Mark(phase.start, phase.name, phase.low, phase.high) for phase in phases)


def _selected(
    models: Sequence[ModelSnapshot], names: Sequence[str] | None
) -> tuple[ModelSnapshot, ...]:
    known = [model.name for model in models]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(
            f"no model {unknown[0]!r} in this study, only {', '.join(known) or 'none'}"
        )
    return tuple(model for model in models if names is None or model.name in names)


def _series(model: ModelSnapshot, color: int, band: Band) -> Series:
    steps, ends = model.steps.astype(np.float64), band.ends(model)
    return Series(model.name, steps, model.expected_kl, *ends, color)


def painted(cells: Cells, *, color: bool) -> list[str]:
    """Return the lines of a chart, in colour or without."""
    return [_painted(cells, row) for row in range(len(cells.text))] if color else cells.lines()


def _painted(cells: Cells, row: int) -> str:
    """One row of the chart with ANSI colours."""
    styled = zip(
        cells.text[row].tolist(), cells.color[row].tolist(), cells.dim[row].tolist(), strict=True
    )
    runs = groupby(styled, key=lambda cell: cell[1:])
    return "".join(_sgr("".join(cell[0] for cell in run), *style) for style, run in runs)


def _sgr(text: str, color: int, dim: bool) -> str:
    codes = ["2"] if dim or color in (AXIS, MARK) else []
    codes += [str(_SGR[color % len(_SGR)])] if color >= 0 else []
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes else text


def _wrapped(note: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        note, max(width, 60), initial_indent=indent, subsequent_indent=indent + "  "
    )


def _phase_names(phases: Sequence[Phase], ascii_only: bool) -> str:
    return "phases: " + ", ".join(phase_words(phase, ascii_only) for phase in phases)


def _legend(
    models: Sequence[ModelSnapshot], ascii_only: bool, color: bool, width: int, *, say_phases: bool
) -> list[str]:
    """Return a row per model: its key in the chart, n, and the values that matter."""
    names = [visible(model.name, ascii_only) for model in models]
    room = max(cell_len(name) for name in [*names, "model"])
    head = f"   {set_cell_size('model', room)}  seeds  steps  "
    lines = [head + "".join(f"{part:18}" for part in ("first", "minimum", "latest"))]
    for number, (model, name) in enumerate(zip(models, names, strict=True)):
        key = key_of(number, ascii_only, color=color)
        start = f"{key} {set_cell_size(name, room)}"
        reduced = np.flatnonzero(model.n_pairs)
        if not len(reduced):
            none = model.n_left_out.any()
            lines.append(
                f"{start}  {'no pair has a finite KL' if none else 'no step compared yet'}"
            )
            continue
        kl, n = model.expected_kl, model.n_seeds[reduced]
        seeds = f"{n.min()}" if n.min() == n.max() else f"{n.min()}-{n.max()}"
        places = (reduced[0], reduced[np.argmin(kl[reduced])], reduced[-1])
        values = [f"{nats(kl[at])} @ {step_label(int(model.steps[at]))}" for at in places]
        lines.append(
            f"{start}  {seeds:>5}  {len(reduced):>5}  " + "".join(f"{value:18}" for value in values)
        )
        if model.n_left_out.any():
            note = f"{without(int(model.n_left_out.sum()))}, at {_steps(model.n_left_out)}"
            lines += _wrapped(note, width, "   ")
        if model.phases and say_phases:
            lines += _wrapped(_phase_names(model.phases, ascii_only), width, "   ")
        low = reduced[kl[reduced] < model.floor[reduced]]
        if len(low):
            note = (
                f"{len(low)} of {len(reduced)} steps are below the rounding floor (up to "
                f"{nats(model.floor[low].max())} nats): not distinguishable from rounding"
            )
            lines += _wrapped(note, width, "   ")
    return lines


def key_of(number: int, ascii_only: bool, *, color: bool) -> str:
    """Return what stands for a line of the chart next to its name, two cells."""
    key = MARKERS[number % len(MARKERS)] * 2 if ascii_only else "━━"
    return _sgr(key, number, dim=False) if color else key


def _steps(n_left_out: NDArray[np.int64]) -> str:
    n = int(np.count_nonzero(n_left_out))
    return counted(n, "step")


@dataclass(frozen=True)
class StepRow:
    """One step of one model. NaN: not reduced (KL) or not scored (cross-entropy)."""

    step: int
    n_seeds: int  # that take part in a reduced pair
    n_pairs: int  # ordered
    expected_kl: float  # nats
    pair_std: float  # over ordered pairs, nats
    cross_entropy: float  # mean over seeds, nats
    phase: str  # untrusted; empty before the first phase


def table_rows(model: ModelSnapshot, *, limit: int = 20) -> tuple[list[StepRow], str]:
    """Return the steps with any data, ascending, and what was left out.

    At most `limit` (>= 4) rows: beyond that every n-th step, always with the first, lowest, highest
    and last expected KL; the second value then says so in words and is empty otherwise.
    """
    known = np.flatnonzero((model.n_pairs > 0) | np.isfinite(model.cross_entropy).any(axis=1))
    places, every = _thinned(model, known, max(limit, 4))
    note = ""
    if every > 1:
        note = f"every {_ordinal(every)} of {len(known)} steps, and first, lowest, highest, last"
    return [_row(model, int(at)) for at in places], note


def table_text(model: ModelSnapshot, *, limit: int = 20, ascii: bool = False) -> str:  # noqa: A002
    """Align `table_rows` as a table with a heading; one line where nothing is known yet."""
    rows, note = table_rows(model, limit=limit)
    name = visible(model.name, ascii)
    if not rows:
        return f"{name}: nothing scored yet"
    lines = [
        f"{name}: KL and cross-entropy in nats",
        *([note] if note else []),
        "   step seeds pairs  expected KL  std (pairs)  cross-entropy  phase",
    ]
    lines += [
        f"{row.step:>7} {row.n_seeds:>5} {row.n_pairs:>5}  {nats(row.expected_kl):>11}  "
        f"{nats(row.pair_std):>11}  {nats(row.cross_entropy):>13}  {visible(row.phase, ascii)}"
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _thinned(
    model: ModelSnapshot, known: NDArray[np.int64], limit: int
) -> tuple[NDArray[np.int64], int]:
    """Return positions of the steps to show, and the n of "every n-th"."""
    if len(known) <= limit:
        return known, 1
    reduced = known[model.n_pairs[known] > 0]
    kl = model.expected_kl[reduced]
    kept = known[[0, -1]]
    if len(reduced):
        kept = np.append(kept, reduced[[0, int(kl.argmin()), int(kl.argmax()), -1]])
    every = 2
    while len(places := np.union1d(known[::every], kept)) > limit and every < len(known):
        every += 1
    return places, every


def _row(model: ModelSnapshot, at: int) -> StepRow:
    step = int(model.steps[at])
    entropy = model.cross_entropy[at][np.isfinite(model.cross_entropy[at])]
    return StepRow(
        step=step,
        n_seeds=int(model.n_seeds[at]),
        n_pairs=int(model.n_pairs[at]),
        expected_kl=float(model.expected_kl[at]),
        pair_std=float(model.pair_std[at]),
        cross_entropy=float(entropy.mean()) if len(entropy) else float("nan"),
        phase=next((p.name for p in reversed(model.phases) if p.start <= step), ""),
    )


def _ordinal(n: int) -> str:
    return (
        f"{n}{'th' if n % 100 in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"
    )
