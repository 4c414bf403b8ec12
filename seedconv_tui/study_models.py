"""The models that Curves draws, of one study or of several: which there are, and their lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seedconv_tui import chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedconv_tui.view import Floats
    from seedconv_tui.widgets.metrics import Curve
    from store.snapshot import ModelSnapshot, StudySnapshot


class Key(NamedTuple):
    """Which model it is, whatever else joins the studies."""

    study: int
    model: str


@dataclass(frozen=True, eq=False)
class StudyModel:
    """A model of a study, with its curve of the metric that is shown."""

    key: Key
    name: str  # with the study's where there are several; untrusted
    color: int
    study: StudySnapshot
    model: ModelSnapshot
    curve: Curve

    @property
    def known(self) -> Floats:
        """The steps at which there is a value."""
        return self.curve.steps[np.isfinite(self.curve.value)].astype(np.float64)

    def at(self, step: int) -> int | None:
        """The position of a step at which there is a value."""
        found = np.flatnonzero((self.curve.steps == step) & np.isfinite(self.curve.value))
        return int(found[0]) if len(found) else None


@dataclass
class Choice:
    """What the reader has chosen among the models."""

    chosen: Key | None = None  # None: the first
    pinned: Key | None = None  # the others are compared with it
    hidden: frozenset[Key] = field(default_factory=frozenset)

    def of(self, models: Sequence[StudyModel]) -> int:
        """The place of the chosen one."""
        return next((n for n, each in enumerate(models) if each.key == self.chosen), 0)

    def pinned_of(self, models: Sequence[StudyModel]) -> StudyModel | None:
        """The pinned one, if it is there."""
        return next((each for each in models if each.key == self.pinned), None)

    def seen(self, models: Sequence[StudyModel]) -> list[StudyModel]:
        """Those that are not hidden."""
        return [each for each in models if each.key not in self.hidden]

    def from_below(self, models: Sequence[StudyModel]) -> list[StudyModel]:
        """Those that are not hidden as they are drawn: the chosen one over all but the pinned."""
        chosen = models[self.of(models)].key if models else None
        ranks = {chosen: 1, self.pinned: 2}
        return sorted(self.seen(models), key=lambda each: ranks.get(each.key, 0))

    def only(self, models: Sequence[StudyModel]) -> None:
        """Hides all but the chosen and the pinned one; if that is so already, none."""
        kept = {models[self.of(models)].key, self.pinned}
        others = frozenset(each.key for each in models if each.key not in kept)
        self.hidden = others if self.hidden != others else frozenset()


def study_labels(studies: Sequence[StudySnapshot]) -> list[str]:
    """What tells studies apart: their names, with the store's where those are the same.

    Empty for one study, which needs none.
    """
    if len(studies) < 2:
        return [""] * len(studies)
    names = [study.name for study in studies]
    places = [str(study.path).rstrip("/").rpartition("/")[2] for study in studies]
    if len(set(names)) < len(names):
        names = [f"{name} ({place})" for name, place in zip(names, places, strict=True)]
    counts = Counter(names)
    numbered = enumerate(names, start=1)
    return [f"{name} {number}" if counts[name] > 1 else name for number, name in numbered]


def lines(
    models: Sequence[StudyModel], band: str | None, *, with_study: bool = True
) -> list[chart.Series]:
    """One line a model in this order, with this one of its metric's bands."""
    return [
        chart.Series(
            each.name if with_study else each.model.name,
            each.curve.steps.astype(np.float64),
            each.curve.value,
            None if band is None else each.curve.bands[band][0],
            None if band is None else each.curve.bands[band][1],
            each.color,
        )
        for each in models
    ]


def floors(of: StudyModel) -> list[chart.Series]:
    """What rounding alone makes: below, a value says nothing. None where it is not known, or 0."""
    steps = of.curve.steps.astype(np.float64)
    known = [(name, np.where(kl > 0, kl, np.nan)) for name, kl in of.curve.floors]
    return [
        chart.Series(name, steps, kl, color=chart.QUIET)
        for name, kl in known
        if np.isfinite(kl).any()
    ]


def steps_of(models: Sequence[StudyModel]) -> list[int]:
    """The steps at which one of these has a value."""
    known = [each.known for each in models]
    steps: list[int] = np.unique(np.concatenate([np.empty(0), *known])).astype(int).tolist()
    return steps
