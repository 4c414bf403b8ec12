"""Exact numbers at one step, a row a model: the chart's legend and its table at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.style import Style

from seedconv_tui.chart import MARKERS
from seedconv_tui.monitor.common.canvas import Canvas, Line, line_width, spread
from seedconv_tui.monitor.curves.curve_metrics import ALL_STEPS, INTERVAL, SPREAD
from seedconv_tui.text import counted, nats, phase_words, step_label, without

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedconv_tui.monitor.curves.curve_metrics import Curve
    from seedconv_tui.monitor.curves.model_choice import ModelChoice, StudyModel


@dataclass(frozen=True)
class Entry:
    """One model's numbers."""

    name: str
    color: int
    visible: bool
    value: float | None = None  # None: see `missing`
    against: str = ""  # the difference to the pinned one, or that this is it; empty: none is pinned
    spread: str = ""  # what the band says, in words
    counts: str = ""  # what the value stands on
    caution: str = ""  # why the value should not be trusted; empty: no reason
    missing: str = ""  # why there is no value
    units: str = ""


def entries(
    models: Sequence[StudyModel], choice: ModelChoice, step: int | None, band: str, plus_minus: str
) -> list[Entry]:
    """Return the models' values at a step; None: at each one's latest.

    `band` is what the band is that the words are to tell.
    """
    pinned = choice.pinned_of(models)
    latest = max((each.known[-1] for each in choice.seen(models) if len(each.known)), default=None)
    tokens = len({each.study.n_tokens for each in models}) > 1
    found = []
    for each in models:
        known = each.known
        entry = Entry(
            each.name,
            each.color,
            each.key not in choice.hidden,
            missing="nothing at this step" if len(known) else "nothing yet",
            units=each.curve.units,
        )
        # Without a cursor, each model's own latest step; with one, that step and no other.
        own = step if step is not None else int(known[-1]) if len(known) else None
        at = None if own is None else each.at(own)
        if at is not None and own is not None:
            entry = _filled(entry, each, at, tokens=tokens)
            entry = replace(entry, spread=_spread(each.curve, at, band, plus_minus))
            if step is None and own != latest:
                entry = replace(entry, counts=f"at {step_label(own)}, {entry.counts}")
            if pinned is not None:
                entry = replace(entry, against=_against(pinned, each, own))
        found.append(entry)
    return found


def heading(
    models: Sequence[StudyModel], choice: ModelChoice, cursor: int | None, steps: Sequence[int]
) -> tuple[str, ...]:
    """Return which step the values are of, its phase, and what the means are over."""
    step = cursor if cursor is not None else (steps[-1] if steps else None)
    if step is None:
        return ("no values yet",)
    parts = [f"step {step:,}" + ("" if cursor is not None else " (latest)")]
    phases = [p for p in models[choice.of(models)].model.phases if p.start <= step]
    if phases:
        parts.append(phase_words(phases[-1]))
    if len({each.study.vocab_size for each in models}) > 1:
        parts.append("the vocabularies differ")
    tokens = {each.study.n_tokens for each in models}
    parts.append("the texts differ" if len(tokens) > 1 else f"means over {tokens.pop():,} tokens")
    return tuple(parts)


def _filled(entry: Entry, of: StudyModel, at: int, *, tokens: bool) -> Entry:
    """Return the entry with the numbers at a position."""
    curve, value = of.curve, float(of.curve.value[at])
    counts = f"{curve.n_seeds[at]}/{counted(len(of.model.seeds), 'seed')}"
    if curve.n_pairs is not None:
        counts += f", {counted(int(curve.n_pairs[at]), 'pair')}"
    if tokens:
        counts += f", {counted(of.study.n_tokens, 'token')}"
    below = curve.floor is not None and value < curve.floor[at]
    caution = "below rounding floor" if below else ""
    if curve.n_left_out is not None and curve.n_left_out[at]:
        caution = ", ".join(filter(None, [caution, without(int(curve.n_left_out[at]))]))
    return replace(entry, value=value, counts=counts, caution=caution)


def _spread(curve: Curve, at: int, band: str, plus_minus: str) -> str:
    """Return what a band says at a position, in words."""
    low, high = (float(end[at]) for end in curve.bands[band])
    if band == SPREAD:
        return f"{plus_minus} {nats(high - float(curve.value[at]))} std"
    if band in (INTERVAL, ALL_STEPS) and not math.isfinite(low):
        few = int(curve.n_seeds[at]) < 3
        without_some = curve.n_left_out is not None and curve.n_left_out[at]
        why = "below 3 seeds" if few else "without all pairs" if without_some else "yet"
        return f"no {'interval' if band == INTERVAL else 'band'} {why}"
    what = {INTERVAL: "95 % ", ALL_STEPS: "all steps "}.get(band, "")
    return f"{what}{nats(low)} to {nats(high)}"


def _against(pinned: StudyModel, other: StudyModel, step: int) -> str:
    """Return how far a value is above the pinned model's at the same step."""
    if pinned.key == other.key:
        return "pinned"
    here, there = pinned.at(step), other.at(step)
    if here is None or there is None:
        return "-"
    difference = float(other.curve.value[there] - pinned.curve.value[here])
    return nats(difference) if difference < 0 else f"+{nats(difference)}"


class Readout(Canvas):
    """A row for the step, then the models; the chosen one is always among those shown."""

    def __init__(self) -> None:
        super().__init__()
        self._heading: Sequence[str] = ()
        self._entries: Sequence[Entry] = ()
        self._chosen = 0
        self._top = 0

    def show(self, heading: Sequence[str], entries: Sequence[Entry], chosen: int) -> None:
        """Take the numbers, and which model is chosen; of the heading what fits."""
        self._heading, self._entries, self._chosen = heading, entries, chosen
        self.redraw()

    @property
    def text(self) -> str:
        """The chosen model's row in words, with the step that heads it; empty: there is none."""
        if not self._entries or self._chosen >= len(self._entries):
            return ""
        entry, heading = self._entries[self._chosen], ", ".join(self._heading[:1])
        number = "" if entry.value is None else f"{entry.value:.6g} {entry.units}".rstrip()
        value = number or entry.missing
        facts = [entry.name, heading, value, entry.spread, entry.counts, entry.caution]
        return ", ".join(filter(None, facts))

    def paint(self, width: int, height: int) -> list[Line]:
        rows = height - 1
        self._top = max(min(self._top, self._chosen), self._chosen - rows + 1)
        self._top = max(0, min(self._top, len(self._entries) - rows))
        hidden = len(self._entries) - rows
        more: Line = []
        if hidden > 0:
            more = [(f"{hidden} more, up/down ", self.look.palette.dim)]
        names = [self.look.visible(entry.name) for entry in self._entries]
        room = min(max(map(cell_len, names), default=0), max(width // 3, 12))
        names = self.look.shorten_apart(names, room)
        heading = ""
        for part in map(self.look.visible, self._heading):
            longer = heading + (self.look.dot if heading else " ") + part
            heading = longer if cell_len(longer) + line_width(more) <= width else heading
        head = spread([(heading, self.look.palette.strong)], more, width, self.look.more)
        window = range(self._top, min(self._top + rows, len(self._entries)))
        return [head, *self._rows(window, names, room, width)]

    def _rows(self, window: range, names: list[str], room: int, width: int) -> list[Line]:
        """Return an entry's words; where they do not fit a count less, else none of the band's."""
        wide = max((len(entry.spread) for entry in self._entries), default=0)
        rows: list[Line] = []
        for spread_width, less in ((wide, 0), (wide, 1), (0, 0)):
            rows = [self._row(n, names[n], room, spread_width, less) for n in window]
            if max(map(line_width, rows), default=0) <= width:
                break
        return rows

    def _row(self, number: int, name: str, room: int, spread_width: int, less: int) -> Line:
        entry, look, palette = self._entries[number], self.look, self.look.palette
        counts = entry.counts.split(", ")
        chosen = number == self._chosen
        mark = look.pick("▸", ">") if chosen else " "
        short = name + " " * (room - cell_len(name))
        line: Line = [(f" {mark} ", palette.accent)]
        if not entry.visible:
            return [*line, (f"   {short}  hidden", palette.faint)]
        style = palette.series[entry.color]
        line += [
            (self._swatch(entry.color) + " ", style),
            (short, palette.strong if chosen else palette.text),
        ]
        if entry.value is None:
            return [*line, (f"  {nats(math.nan):>9}  {entry.missing}", palette.dim)]
        line.append((f"  {nats(entry.value):>9} ", _bold(style)))
        if any(each.against for each in self._entries):
            line.append((f"{entry.against:>9}  ", palette.strong))
        if spread_width:
            line.append((f"{entry.spread:<{spread_width}}", palette.text))
        if entry.caution:
            line.append((f"  {entry.caution}", palette.warn))
        line.append((f"  {', '.join(counts[: len(counts) - less])}", palette.dim))
        return line

    def _swatch(self, color: int) -> str:
        return MARKERS[color % len(MARKERS)] * 2 if self.look.ascii else "━━"


def _bold(style: Style) -> Style:
    return style + Style(bold=True)
