"""Every checkpoint of the study as one cell: models below each other, seeds x steps.

If all models do not fit, the one with the cursor is open and each of those that have no room is one
row, all its seeds together. If the steps do not fit, several share a cell. A cell that stands for
several checkpoints shows the one that matters most (`seedconv_tui.monitor.common.theme.RELEVANCE`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from rich.style import Style
from textual.message import Message

from seedconv_tui.monitor.common.canvas import Canvas, Line, line_width, spread
from seedconv_tui.monitor.runs.fold import Fold, FoldedRow, fold_states, lay_out
from seedconv_tui.monitor.runs.strip import count_states, progress
from seedconv_tui.text import step_label
from store.schema import ModelSnapshot, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from textual import events

    from store.schema import StudySnapshot

_REVERSE = Style(reverse=True)
_PROBLEMS = (State.FAILED, State.MISSING, State.DUPLICATE)
_MAX_LABEL = 12


@dataclass(frozen=True)
class Spot:
    """A checkpoint by name, so that it stays the same one when others arrive."""

    model: str
    seed: str
    step: int


class CursorMoved(Message):
    """The cursor is on another checkpoint."""


class Matrix(Canvas):
    """The matrix and its cursor."""

    def __init__(self, spot: Spot | None = None) -> None:
        super().__init__()
        self._models: tuple[ModelSnapshot, ...] = ()
        self._spot = spot
        self._following: Spot | None = None  # what the cursor is on until someone moves it
        self._top = 0
        self._rows: list[FoldedRow] = []
        self._names: dict[str, str] = {}  # of models, as there is room for them

    def show(self, snapshot: StudySnapshot) -> None:
        """Take the study as it is now."""
        self._models = tuple(m for m in snapshot.models if len(m.steps) and m.seeds)
        work = snapshot.engine.work if snapshot.engine else None
        if work is not None:
            seeds = {model.name: model.seeds[0] for model in self._models}
            seed = work.seed if work.seed is not None else seeds.get(work.model, "")
            self._following = Spot(work.model, seed, work.step)
        elif self._following is None:
            self._following = _last_worked_on(self._models)
        self.redraw()

    @property
    def spot(self) -> Spot | None:
        """The checkpoint under the cursor."""
        if not self._models:
            return None
        number, seed, step = self._indices()
        model = self._models[number]
        return Spot(model.name, model.seeds[seed], int(model.steps[step]))

    @property
    def follows(self) -> bool:
        """Return whether the cursor goes where the engine works."""
        return self._spot is None

    @property
    def rows_wanted(self) -> int:
        """Rows that it takes to show every model open."""
        return sum(2 + len(model.seeds) for model in self._models)

    def follow(self) -> None:
        """Let the cursor go where the engine works, again."""
        self._spot = None
        self._changed()

    def move(self, seeds: int, steps: int) -> None:
        """Move the cursor down by seeds and right by steps, from one model into the next."""
        if not self._models:
            return
        number, seed, step = self._indices()
        model = self._models[number]
        seed += seeds
        if seed < 0 and number > 0:
            number, seed = number - 1, len(self._models[number - 1].seeds) - 1
        elif seed >= len(model.seeds) and number + 1 < len(self._models):
            number, seed = number + 1, 0
        target = self._models[number]
        if target is not model:  # the same training step, or the nearest
            step = int(np.abs(target.steps - model.steps[step]).argmin())
        self._place(number, min(max(seed, 0), len(target.seeds) - 1), step + steps)

    def jump(self, *, end: bool) -> None:
        """Move the cursor to the first or the last step."""
        if self._models:
            number, seed, _ = self._indices()
            self._place(number, seed, len(self._models[number].steps) - 1 if end else 0)

    @property
    def has_problems(self) -> bool:
        """Return whether any checkpoint or probe failed, or any is missing or a duplicate."""
        return any(_problems(model).any() for model in self._models)

    def next_problem(self) -> None:
        """Move the cursor to the next such checkpoint, from the last to the first."""
        places = [
            (number, int(seed), int(step))
            for number, model in enumerate(self._models)
            for seed, step in np.argwhere(_problems(model).T)
        ]
        if places:
            here = self._indices()
            self._place(*next((place for place in places if place > here), places[0]))

    def steps_under(self, spot: Spot) -> int:
        """Return how many steps share the cell of this checkpoint."""
        number, _, step = self._indices()
        n_steps = len(self._models[number].steps)
        fold = Fold.of(n_steps, self.size.width - 1 - self._label_width())
        start = step // fold.steps_per_cell * fold.steps_per_cell
        return min(fold.steps_per_cell, n_steps - start)

    def _indices(self) -> tuple[int, int, int]:
        """Return the cursor by position: model, seed, step; the nearest if its place has gone."""
        spot = self._spot or self._following
        names = [model.name for model in self._models]
        if spot is None or spot.model not in names:
            return 0, 0, 0
        number = names.index(spot.model)
        model = self._models[number]
        seed = model.seeds.index(spot.seed) if spot.seed in model.seeds else 0
        return number, seed, int(np.abs(model.steps - spot.step).argmin())

    def _place(self, number: int, seed: int, step: int) -> None:
        model = self._models[number]
        step = min(max(step, 0), len(model.steps) - 1)
        self._spot = Spot(model.name, model.seeds[seed], int(model.steps[step]))
        self._changed()

    def _changed(self) -> None:
        self.redraw()
        self.post_message(CursorMoved())

    def on_click(self, event: events.Click) -> None:
        y = event.y + self._top
        if not 0 <= y < len(self._rows):
            return
        row = self._rows[y]
        n_steps = len(self._models[row.model].steps)
        fold = Fold.of(n_steps, self.size.width - 1 - self._label_width())
        cell = max(event.x - self._label_width(), 0) // max(fold.cell_width, 1)
        self._place(row.model, row.seed, cell * fold.steps_per_cell)

    def on_mouse_scroll_down(self) -> None:
        self.move(1, 0)

    def on_mouse_scroll_up(self) -> None:
        self.move(-1, 0)

    def _label_width(self) -> int:
        labels = [self.look.visible(seed) for model in self._models for seed in model.seeds]
        return 5 + min(max(map(cell_len, [*labels, "step"])), _MAX_LABEL)

    def paint(self, width: int, height: int) -> list[Line]:
        if not self._models:
            return []
        number, seed, _ = self._indices()
        self._rows = lay_out(self._models, number, height)
        self._keep_in_window(self._rows.index(FoldedRow(number, "seed", seed)), height)
        window = self._rows[self._top : self._top + height]
        label_width = self._label_width()
        whole = [self.look.visible(model.name) for model in self._models]
        short = self.look.shorten_apart(whole, max((width - 1) // 3, 8))
        self._names = {model.name: name for model, name in zip(self._models, short, strict=True)}
        lines = [self._paint_row(row, width - 1, label_width) for row in window]
        below = len(self._rows) - self._top - height
        for place, hidden, word in ((0, self._top, "above"), (-1, below, "below")):
            if hidden > 0:
                lines[place] = self._with_note(lines[place], hidden, word, width)
        return lines

    def _with_note(self, line: Line, hidden: int, word: str, width: int) -> Line:
        """Return a row that says how many are hidden beyond it; in one cell if there is no room."""
        note = f" {hidden} rows {word} "
        if line_width(line) + len(note) > width:
            note = self.look.pick("▴", "^") if word == "above" else self.look.pick("▾", "v")
        return spread(line, [(note, self.look.palette.accent)], width, self.look.more)

    def _keep_in_window(self, row: int, height: int) -> None:
        """Keep the cursor in the window, with the title and axis above it if they are near."""
        first = row
        while self._rows[first].kind != "title" and row - first < height - 1:
            first -= 1
        self._top = min(self._top, first)
        self._top = max(self._top, row - height + 1)
        self._top = max(0, min(self._top, len(self._rows) - height))

    def _paint_row(self, row: FoldedRow, width: int, label_width: int) -> Line:
        model = self._models[row.model]
        fold = Fold.of(len(model.steps), width - label_width)
        number, seed, step = self._indices()
        here = step // fold.steps_per_cell if row.model == number else -1
        if row.kind == "shut":
            return self._shut(model, width)
        if row.kind == "title":
            return self._title(model, fold, width, chosen=row.model == number)
        if row.kind == "axis":
            chosen_step = step if row.model == number else None
            return self._axis(model, fold, label_width, width, chosen_step)
        chosen = row.model == number and row.seed == seed
        mark = self.look.pick("▸", ">") if chosen else " "
        name = self.look.shorten(self.look.visible(model.seeds[row.seed]), _MAX_LABEL)
        style = self.look.palette.strong if chosen else self.look.palette.dim
        cells = self._cells(model.marked[:, [row.seed]], fold, here if chosen else -1)
        label = f"  {mark} {name}"
        return [(label + " " * (label_width - cell_len(label)), style), *cells]

    def _title(self, model: ModelSnapshot, fold: Fold, width: int, *, chosen: bool) -> Line:
        palette = self.look.palette
        states = count_states([model])
        done, total = progress(states)
        name = f" {self._names[model.name]}  "
        count = f" {done:,}/{total:,}"
        n_probes = len(model.probe_failures)
        notes = self._notes(states, n_probes, fold, in_words=True)
        if cell_len(name + count) + line_width(notes) > width:
            notes = self._notes(states, n_probes, fold, in_words=False)
        style = palette.accent if chosen else palette.strong
        room = width - cell_len(name + count) - line_width(notes)
        full, empty = self.look.bar(done / total if total else 0.0, max(0, min(20, room)))
        bar: Line = [(full, palette.good), (empty, palette.faint)]
        return [(name, style), *bar, (count, palette.text), *notes]

    def _notes(self, states: Counter[State], n_probes: int, fold: Fold, *, in_words: bool) -> Line:
        notes: Line = []
        for state in _PROBLEMS:
            if states[state]:
                number = f"{states[state]:,}"
                sign = f" {self.look.sign(state)}{number}"
                text = f"  {number} {state.name.lower()}" if in_words else sign
                notes.append((text, self.look.palette.states[state]))
        if n_probes:  # no state of a checkpoint, whose scores are there
            what = f"probe{'s' * (n_probes > 1)} failed" if in_words else "probes"
            notes.append((f"  {n_probes:,} {what}", self.look.palette.states[State.FAILED]))
        if fold.steps_per_cell > 1:
            said = f"  worst of {fold.steps_per_cell} steps a cell"
            notes.append((said, self.look.palette.dim))
        return notes

    def _shut(self, model: ModelSnapshot, width: int) -> Line:
        """Return a whole model in one row, all its seeds together."""
        palette = self.look.palette
        done, total = progress(count_states([model]))
        name = self._names[model.name]
        name += " " * (max(map(cell_len, self._names.values())) - cell_len(name))
        head: Line = [
            (f" {name} ", palette.strong),
            (f"{done / total if total else 0:>5.0%}  ", palette.text),
        ]
        fold = Fold.of(len(model.steps), width - line_width(head))
        return [*head, *self._cells(model.marked, fold, -1)]

    def _axis(
        self, model: ModelSnapshot, fold: Fold, label_width: int, width: int, step: int | None
    ) -> Line:
        """Return step labels for which there is room; the chosen step's comes first."""
        text = np.full(max(width - label_width, 1), " ")
        taken = np.zeros(len(text) + 1, dtype=bool)

        def write(index: int) -> slice | None:
            start = index // fold.steps_per_cell * fold.cell_width
            label = step_label(int(model.steps[index]))
            if index == step:  # it is shown, if need be further to the left
                start = max(min(start, len(text) - len(label)), 0)
            place = slice(start, start + len(label))
            if place.stop > len(text) or taken[max(start - 1, 0) : place.stop + 1].any():
                return None
            text[place] = list(label)
            taken[place] = True
            return place

        chosen = write(step) if step is not None else None
        for index in range(0, len(model.steps), fold.steps_per_cell):
            write(index)
        plain, dim = "".join(text), self.look.palette.dim
        head = (f"    {'step':<{label_width - 4}}", self.look.palette.faint)
        if chosen is None:
            return [head, (plain, dim)]
        return [
            head,
            (plain[: chosen.start], dim),
            (plain[chosen], self.look.palette.strong),
            (plain[chosen.stop :], dim),
        ]

    def _cells(self, state: NDArray[np.uint8], fold: Fold, cursor: int) -> Line:
        line: Line = []
        folded, look = fold_states(state, fold), self.look
        pad = " " * (fold.cell_width - 1)
        ends = {*(np.flatnonzero(np.diff(folded)) + 1).tolist(), len(folded)}  # of runs of a state
        if cursor >= 0:
            ends |= {cursor, cursor + 1}
        start = 0
        for end in sorted(ends - {0}):
            value = State(folded[start])
            style, glyph = look.palette.states[value], look.sign(value)
            if start == cursor:
                line += [(glyph, style + _REVERSE), (pad, style)]
            else:
                line.append(((glyph + pad) * (end - start), style))
            start = end
        return line


def _last_worked_on(models: Sequence[ModelSnapshot]) -> Spot | None:
    """Return where the work stopped: the latest step of the first model that is begun, not done."""
    begun = [model for model in models if (model.state > State.QUEUED).any()]
    undone = [model for model in begun if len(set(progress(count_states([model])))) > 1]
    if not begun:
        return None
    model = (undone or begun)[0]
    step = int(np.flatnonzero((model.state > State.QUEUED).any(axis=1))[-1])
    return Spot(model.name, model.seeds[0], int(model.steps[step]))


def _problems(model: ModelSnapshot) -> NDArray[np.bool_]:
    """Return with which checkpoints something is wrong, (step, seed)."""
    found: NDArray[np.bool_] = np.isin(model.marked, _PROBLEMS)
    rows = {int(step): row for row, step in enumerate(model.steps)}
    for _, seed, step in model.probe_failures:
        found[rows[step], model.seeds.index(seed)] = True
    return found
