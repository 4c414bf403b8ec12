"""Runs: how far the work is, checkpoint by checkpoint, and how the engine fares."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.cells import cell_len
from textual.binding import Binding

from seedconv_tui.monitor.common.canvas import Canvas, Line, line_width
from seedconv_tui.monitor.common.reader_dialog import ReaderScreen
from seedconv_tui.monitor.common.search import SearchBar
from seedconv_tui.monitor.common.study_screen import Columns, StudyScreen
from seedconv_tui.monitor.data.remembered import Remembered
from seedconv_tui.monitor.runs.checkpoint_columns import checkpoint_columns
from seedconv_tui.monitor.runs.journal import FILTERS, JournalPanel, journal_line
from seedconv_tui.monitor.runs.matrix import Matrix, Spot
from seedconv_tui.monitor.runs.model_lines import ModelLines
from seedconv_tui.monitor.runs.strip import StudyStrip
from seedconv_tui.text import nats, same_as, step_label
from store.schema import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.widget import Widget

    from seedconv_tui.monitor.common.theme import Appearance
    from store.schema import ModelSnapshot, StudySnapshot


_OTHER_ROWS = 4  # the two bars, the detail, and a blank one
_ROOMY = 20  # rows of a terminal with some to spare
_FOLDERS = re.compile(r"^/?([^\s:/]+/)+")  # that a message begins with
_CAPTURED = "captured in training"
_ON_DUPLICATES = (
    "It was scored and compared like any other. If both are of one step, the KL between them is "
    "zero but for rounding and the expected KL there is too low; if not, one of them is not what "
    "its name says. See what its source holds."
)


class Detail(Canvas):
    """One row on the checkpoint under the cursor."""

    def __init__(self) -> None:
        super().__init__()
        self._model: ModelSnapshot | None = None
        self._spot: Spot | None = None
        self._sharing = 1
        self._follows = True

    def show(self, model: ModelSnapshot, spot: Spot, sharing: int, *, follows: bool) -> None:
        """Take a checkpoint, and how many steps share its cell."""
        self._model, self._spot, self._sharing, self._follows = model, spot, sharing, follows
        self.redraw()

    @property
    def text(self) -> str:
        """Everything that is known of the checkpoint."""
        model, spot = self._model, self._spot
        if model is None or spot is None:
            return ""
        step, seed = _position(model, spot)
        facts = [spot.model, f"seed {spot.seed}", f"step {spot.step:,}"]
        facts.append(State(model.marked[step, seed]).name.lower())
        if np.isfinite(model.cross_entropy[step, seed]):
            facts.append(f"cross-entropy {model.cross_entropy[step, seed]:.6g}")
        if (spot.seed, spot.step) in model.captured:
            facts.append(_CAPTURED)
        return "\n".join(filter(None, (", ".join(facts), trouble_with(model, spot, self.look))))

    def paint(self, width: int, height: int) -> list[Line]:
        model, spot, look = self._model, self._spot, self.look
        if model is None or spot is None:
            return []
        step, seed = _position(model, spot)
        state = State(model.marked[step, seed])
        palette = look.palette
        where = f"{look.visible(spot.model)}{look.dot}seed {look.visible(spot.seed)}"
        head: Line = [
            (" " + look.shorten(where, max(width // 2, 20)), palette.strong),
            (f"{look.dot}step {spot.step:,}{look.dot}", palette.strong),
            (f"{look.sign(state)} {state.name.lower()}".strip(), palette.states[state]),
        ]
        if trouble := trouble_with(model, spot, look):
            room = max(width - line_width(head) - len(look.dot), 1)
            if cell_len(trouble) > room:  # what is wrong with a file matters more than its folder
                trouble = _FOLDERS.sub(look.pick("…/", "~/"), trouble)
            failed = state == State.FAILED or model.probe_trouble((spot.seed, spot.step))
            style = palette.bad if failed else palette.warn
            return [[*head, (look.dot + look.shorten(trouble, room), style)]]
        facts = []
        if np.isfinite(model.cross_entropy[step, seed]):
            facts.append(f"cross-entropy {nats(float(model.cross_entropy[step, seed]))}")
        if (spot.seed, spot.step) in model.captured:
            facts.append(_CAPTURED)
        if self._sharing > 1:
            facts.append(f"1 of {self._sharing} steps in this cell")
        if self._follows:
            facts.append("following")
        for fact in facts:
            if line_width(head) + len(look.dot + fact) <= width:
                head.append((look.dot + fact, palette.text))
        return [head]


class RunsScreen(StudyScreen):
    """The progress matrix with its engine and its journal."""

    NAME = "Runs"
    AUTO_FOCUS = ""
    _start = Remembered({})  # what was chosen in the last session
    BINDINGS = [
        Binding("left,h", "move(0, -1)", "Step", key_display="arrows", tooltip="previous step"),
        Binding("right,l", "move(0, 1)", "Step right", show=False, tooltip="next step"),
        Binding("up,k", "move(-1, 0)", "Seed up", show=False, tooltip="seed above"),
        Binding("down,j", "move(1, 0)", "Seed down", show=False, tooltip="seed below"),
        Binding("shift+left,H", "move(0, -10)", "Back", show=False, tooltip="10 steps back"),
        Binding("shift+right,L", "move(0, 10)", "On", show=False, tooltip="10 steps on"),
        Binding("home,g", "jump(False)", "First", show=False, tooltip="first step"),
        Binding("end,G", "jump(True)", "Last", show=False, tooltip="last step"),
        Binding(
            "enter",
            "error",
            "Error",
            tooltip="the whole error of a failed checkpoint or probe, or a duplicate",
        ),
        Binding(
            "n",
            "problem",
            "Next problem",
            tooltip="next failed, missing, duplicate or failed probe",
        ),
        Binding("escape", "all", "All", key_display="esc", tooltip="journal: any text again"),
        Binding(
            "escape",
            "follow",
            "Follow",
            key_display="esc",
            tooltip="let the cursor follow the work again",
        ),
        Binding("f", "filter", "Filter", tooltip="journal: all, warnings, errors, alerts"),
        Binding("slash", "search", "Find", key_display="/", tooltip="journal: entries with a text"),
        Binding("pageup", "journal(-1)", "Older", show=False, tooltip="journal: older entries"),
        Binding("pagedown", "journal(1)", "Newer", show=False, tooltip="journal: newer entries"),
        Binding("J", "read_journal", "Journal", tooltip="the journal in full, lines wrapped"),
    ]

    @property
    def snapshot(self) -> StudySnapshot | None:
        """The study's progress, which is known before its results."""
        return self.feed.progress

    def compose_body(self) -> Iterable[Widget]:
        yield StudyStrip()
        yield ModelLines()
        yield Matrix(_spot(self._start))
        yield Detail()
        journal = JournalPanel(self._start.choice("journal", [name for name, _ in FILTERS]))
        journal.text = self._start.text("filter")
        yield journal
        yield SearchBar("journal entries with")

    def on_resize(self) -> None:
        self._share_rows()
        self.call_after_refresh(self._show_detail)  # how steps share cells may have changed

    def show_study(self, snapshot: StudySnapshot) -> None:
        self.query_one(StudyStrip).show(self.feed)
        self.query_one(ModelLines).show(self.feed)
        self.query_one(Matrix).show(snapshot)
        self.query_one(JournalPanel).show(snapshot.journal)
        self._share_rows()
        self._show_detail()

    def _share_rows(self) -> None:
        """Give the journal what strip and matrix leave, and never less than a few rows."""
        if not self.query(Matrix):  # not there yet, or being taken away
            return
        height, strip = self.app.size.height, self.query_one(StudyStrip)
        rows = strip.rows_wanted(most=max((height - 16) // 4, 1))
        strip.styles.height = rows
        lines = self.query_one(ModelLines)
        rows += (own := lines.rows_wanted(most=height // 6 - (height < _ROOMY)))
        lines.styles.height = own
        left = height - _OTHER_ROWS - rows - self.query_one(Matrix).rows_wanted
        self.query_one(JournalPanel).styles.height = max(min(height // 4 - 2, 12), 3, left)

    def on_cursor_moved(self) -> None:
        self._show_detail()

    def _show_detail(self) -> None:
        if not (found := self.query(Matrix)):  # as above
            return
        matrix = found.first()
        self.refresh_bindings()
        if (chosen := self._chosen()) is not None:
            model, spot = chosen
            self.query_one(ModelLines).choose(model.name)
            sharing = matrix.steps_under(spot)
            engine = self.snapshot.engine if self.snapshot else None
            follows = matrix.follows and engine is not None and engine.work is not None
            self.query_one(Detail).show(model, spot, sharing, follows=follows)

    def _chosen(self) -> tuple[ModelSnapshot, Spot] | None:
        spot, snapshot = self.query_one(Matrix).spot, self.snapshot
        if spot is None or snapshot is None:
            return None
        return next(((m, spot) for m in snapshot.models if m.name == spot.model), None)

    # What is kept, copied and saved

    def state(self) -> dict[str, Any]:
        if not self.is_mounted:
            return self._start.values
        matrix, spot = self.query_one(Matrix), self.query_one(Matrix).spot
        place = {} if matrix.follows or spot is None else vars(spot)
        journal = self.query_one(JournalPanel)
        return {**place, "journal": journal.filter_name, "filter": journal.text}

    def restore(self, kept: Remembered) -> None:
        self._start = kept

    def table(self) -> Columns | None:
        """Return every checkpoint that is planned or there."""
        columns = checkpoint_columns(self.snapshot.models if self.snapshot else ())
        return columns if columns["model"] else None

    def chosen_text(self) -> str:
        """Return the checkpoint under the cursor, with the whole of its error."""
        return "" if self._chosen() is None else self.query_one(Detail).text

    # What the keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only the keys that would do something now."""
        if not self.is_mounted:
            return True
        if action == "search":
            return not self.query_one(SearchBar).display
        if action == "follow":
            return not self.query_one(Matrix).follows
        if action == "all":
            return bool(self.query_one(JournalPanel).text)
        if action == "error":
            chosen = self._chosen()
            return chosen is not None and bool(trouble_with(*chosen, self.query_one(Matrix).look))
        if action == "problem":
            return self.query_one(Matrix).has_problems
        return True

    def action_move(self, seeds: int, steps: int) -> None:
        """Move the cursor."""
        self.query_one(Matrix).move(seeds, steps)

    def action_jump(self, end: bool) -> None:
        """Move the cursor to the first or last step."""
        self.query_one(Matrix).jump(end=end)

    def action_problem(self) -> None:
        """Move the cursor to the next checkpoint with which something is wrong."""
        self.query_one(Matrix).next_problem()

    def action_follow(self) -> None:
        """Let the cursor follow the engine."""
        self.query_one(Matrix).follow()

    def action_filter(self) -> None:
        """Show other levels of the journal."""
        self.query_one(JournalPanel).cycle_filter()

    def action_search(self) -> None:
        """Open the line in which one types what journal entries must hold."""
        self.query_one(SearchBar).open()

    def on_search_bar_asked(self, message: SearchBar.Asked) -> None:
        self.query_one(JournalPanel).look_for(message.text)
        self.refresh_bindings()

    def action_all(self) -> None:
        """Show journal entries whatever they hold."""
        self.query_one(JournalPanel).look_for("")
        self.refresh_bindings()

    def action_journal(self, pages: int) -> None:
        """Scroll the journal."""
        self.query_one(JournalPanel).scroll_pages(pages)

    def action_read_journal(self) -> None:
        """Open the journal in full."""
        journal, look = self.query_one(JournalPanel), self.query_one(JournalPanel).look
        lines = [journal_line(entry, look) for entry in journal.shown]
        self.app.push_screen(ReaderScreen("journal", lines, at_end=True))

    def action_error(self) -> None:
        """Open what is wrong with the checkpoint under the cursor."""
        if (chosen := self._chosen()) is None:
            return
        model, spot = chosen
        look = self.query_one(Matrix).look
        lines: list[Line] = [[(trouble_with(model, spot, look), look.palette.text)]]
        if (spot.seed, spot.step) in model.duplicates:
            lines += [[], [(_ON_DUPLICATES, look.palette.dim)]]
        where = f"{model.name}, seed {spot.seed}, step {step_label(spot.step)}"
        self.app.push_screen(ReaderScreen(f" {look.visible(where)}", lines))


def trouble_with(model: ModelSnapshot, spot: Spot, look: Appearance) -> str:
    """Return what is wrong with a checkpoint, safe to draw; empty: nothing."""
    key = spot.seed, spot.step
    if key in model.errors:
        return look.visible(model.errors[key])
    told = [look.visible(model.probe_trouble(key))]
    if key in model.duplicates:
        captured = key in model.captured
        told.append(same_as(model.duplicates[key], captured=captured, ascii=look.ascii))
    return "; ".join(filter(None, told))


def _position(model: ModelSnapshot, spot: Spot) -> tuple[int, int]:
    return int(abs(model.steps - spot.step).argmin()), model.seeds.index(spot.seed)


def _spot(kept: Remembered) -> Spot | None:
    """Return the checkpoint that the cursor was left on."""
    step = kept.number("step")
    return None if step is None else Spot(kept.text("model"), kept.text("seed"), step)
