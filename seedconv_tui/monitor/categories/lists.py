"""A list's order and filter, and the row that stays chosen while others move."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.monitor.categories.level_queries import RANKS, LevelTokens
from seedconv_tui.monitor.categories.levels_at_step import COLUMNS, at_step

if TYPE_CHECKING:
    from seedconv_tui.monitor.categories.level_queries import Ranked
    from seedconv_tui.monitor.data.remembered import Remembered
    from seedconv_tui.tables.level_results import Levels


@dataclass
class LevelRows:
    """The levels of a category; the chosen one is known by its label."""

    column: int = 0  # index into COLUMNS
    backwards: bool = False
    pattern: str = ""  # only levels with this in their label
    label: str = ""  # empty: whichever is first
    order: list[int] = field(default_factory=list)  # levels, as shown
    place: int = 0  # of the chosen one in `order`
    _labels: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """Return what was chosen, for the next session."""
        sort = COLUMNS[self.column]
        chosen = {"filter": self.pattern, "label": self.label}
        return {"sort": sort, "backwards": self.backwards, **chosen}

    @classmethod
    def restored(cls, kept: Remembered) -> LevelRows:
        """Return the rows that `state` described."""
        column, backwards = kept.choice("sort", COLUMNS), kept.flag("backwards", False)
        return cls(column, backwards, kept.text("filter"), kept.text("label"))

    def take(self, levels: Levels, step: int | None) -> None:
        """Sort again."""
        self._labels, at = levels.labels, at_step(levels, step)
        self.order = at.order(self.column, backwards=self.backwards, pattern=self.pattern)
        labels = [self._labels[level] for level in self.order]
        self.place = labels.index(self.label) if self.label in labels else 0

    @property
    def chosen(self) -> int | None:
        """The chosen level; None where there is none."""
        return self.order[self.place] if self.order else None

    def go_to(self, place: int) -> None:
        """Choose a row, or the nearer end."""
        if self.order:
            self.place = min(max(place, 0), len(self.order) - 1)
            self.label = self._labels[self.order[self.place]]

    def sort(self) -> None:
        """Sort by the next column."""
        self.column, self.backwards = (self.column + 1) % len(COLUMNS), False

    def reverse(self) -> None:
        """Sort the other way round."""
        self.backwards = not self.backwards

    @property
    def downwards(self) -> bool:
        """Return whether the highest is first; the category's own order goes up by itself."""
        return bool(self.column) != self.backwards


@dataclass
class TokenRows:
    """The tokens of a level that was entered."""

    level: str  # its label
    rank: int = 0  # index into RANKS
    upwards: bool = False
    pattern: str = ""  # only tokens with this in their text
    token: int | None = None  # None: whichever is first
    ranked: Ranked | None = None  # None while it is read

    def state(self) -> dict[str, Any]:
        """Return what was chosen, for the next session."""
        sort = {"rank": RANKS[self.rank], "upwards": self.upwards}
        return {"level": self.level, **sort, "filter": self.pattern, "token": self.token}

    @classmethod
    def restored(cls, kept: Remembered) -> TokenRows | None:
        """Return the rows that `state` described; None: no level was entered."""
        if "level" not in kept.values:
            return None
        rank, upwards = kept.choice("rank", RANKS), kept.flag("upwards", False)
        return cls(kept.text("level"), rank, upwards, kept.text("filter"), kept.number("token"))

    def query(self, model: str, levels: Levels, step: int) -> LevelTokens:
        """Return what to ask the store."""
        return LevelTokens(
            model=model,
            category=levels.category,
            level=self.level,
            made_at=levels.step_of_levels,
            step=step,
            n_seeds=int(levels.n_seeds[np.searchsorted(levels.steps, step)]),
            rank=self.rank,
            upwards=self.upwards,
            pattern=self.pattern,
        )

    @property
    def place(self) -> int:
        """Return where the chosen token is in the order."""
        if self.ranked is None or self.token is None:
            return 0
        places = np.flatnonzero(self.ranked.tokens == self.token)
        return int(places[0]) if len(places) else 0

    @property
    def chosen(self) -> int | None:
        """The chosen token; None where there is none."""
        if self.ranked is None or not len(self.ranked.tokens):
            return None
        return int(self.ranked.tokens[self.place])

    def go_to(self, place: int) -> None:
        """Choose a row, or the nearer end."""
        if self.ranked is not None and len(self.ranked.tokens):
            place = min(max(place, 0), len(self.ranked.tokens) - 1)
            self.token = int(self.ranked.tokens[place])

    def sort(self) -> None:
        """Sort by the next rank."""
        self.rank, self.upwards = (self.rank + 1) % len(RANKS), False

    def reverse(self) -> None:
        """Sort the other way round."""
        self.upwards = not self.upwards

    @property
    def words(self) -> str:
        """Return how the tokens are sorted and filtered."""
        words = f"{'lowest' if self.upwards else 'highest'} {RANKS[self.rank]} first"
        if self.rank == len(RANKS) - 1:
            words = "from the last in the text" if self.upwards else "as in the text"
        return words + (f", with {self.pattern!r}" if self.pattern else "")
