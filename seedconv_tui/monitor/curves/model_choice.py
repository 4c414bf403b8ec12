"""The models that Curves draws, of one study or of several: which there are, and their lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seedconv_tui import chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedconv_tui.monitor.curves.curve_metrics import Curve
    from store.schema import Floats, ModelSnapshot, StudySnapshot

_BARELY = 0.02  # of a linear axis: lower lines are the axis itself


class ModelKey(NamedTuple):
    """Identifies a model, whatever else joins the studies."""

    study: int
    model: str


@dataclass(frozen=True, eq=False)
class StudyModel:
    """A model of a study, with its curve of the metric that is shown."""

    key: ModelKey
    label: str  # of the study, where there are several; untrusted
    color: int
    study: StudySnapshot
    model: ModelSnapshot
    curve: Curve

    @property
    def name(self) -> str:
        """The model's, with the study's where there are several; untrusted."""
        return f"{self.model.name} @ {self.label}" if self.label else self.model.name

    @property
    def known(self) -> Floats:
        """The steps at which there is a value."""
        return self.curve.steps[np.isfinite(self.curve.value)].astype(np.float64)

    def at(self, step: int) -> int | None:
        """Return the position of a step at which there is a value."""
        found = np.flatnonzero((self.curve.steps == step) & np.isfinite(self.curve.value))
        return int(found[0]) if len(found) else None


@dataclass
class ModelChoice:
    """The reader's choices among the models."""

    chosen: ModelKey | None = None  # None: the first
    pinned: ModelKey | None = None  # the others are compared with it
    hidden: frozenset[ModelKey] = field(default_factory=frozenset)

    def of(self, models: Sequence[StudyModel]) -> int:
        """Return the place of the chosen one."""
        return next((n for n, each in enumerate(models) if each.key == self.chosen), 0)

    def pinned_of(self, models: Sequence[StudyModel]) -> StudyModel | None:
        """Return the pinned one, if it is there."""
        return next((each for each in models if each.key == self.pinned), None)

    def seen(self, models: Sequence[StudyModel]) -> list[StudyModel]:
        """Return those that are not hidden."""
        return [each for each in models if each.key not in self.hidden]

    def from_below(self, models: Sequence[StudyModel]) -> list[StudyModel]:
        """Return those not hidden, as drawn: the chosen one over all but the pinned."""
        chosen = models[self.of(models)].key if models else None
        ranks = {chosen: 1, self.pinned: 2}
        return sorted(self.seen(models), key=lambda each: ranks.get(each.key, 0))

    def only(self, models: Sequence[StudyModel]) -> None:
        """Hide all but the chosen and the pinned one; if that is so already, none."""
        kept = {models[self.of(models)].key, self.pinned}
        others = frozenset(each.key for each in models if each.key not in kept)
        self.hidden = others if self.hidden != others else frozenset()


def study_labels(studies: Sequence[StudySnapshot]) -> list[str]:
    """Return labels that differ: the studies' names; where those are equal, ends of their paths.

    Empty for one study, which needs none.
    """
    if len(studies) < 2:
        return [""] * len(studies)
    names = [study.name for study in studies]
    parts = [str(study.path).rstrip("/").split("/") for study in studies]
    for depth in range(max(map(len, parts)) + 1):
        ends = [
            "/".join(part[-depth:]) if depth else name
            for part, name in zip(parts, names, strict=True)
        ]
        if len(set(ends)) == len(ends):
            return ends
    return [f"{name} {number}" for number, name in enumerate(names, start=1)]


def lines(
    models: Sequence[StudyModel], band: str | None, *, with_study: bool = True
) -> list[chart.Series]:
    """Return one line a model in this order, with this one of its metric's bands."""
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


def floors(of: StudyModel, view: chart.View) -> list[chart.Series]:
    """Return what rounding alone makes, as far as seen above the axis.

    A value below it does not say anything.
    """
    steps = of.curve.steps.astype(np.float64)
    least = view.y_min if view.log_y else view.y_min + _BARELY * (view.y_max - view.y_min)
    return [
        chart.Series(name, steps, np.where(kl > 0, kl, np.nan), color=chart.QUIET)
        for name, kl in of.curve.floors
        if (kl > least).any()
    ]


def steps_of(models: Sequence[StudyModel]) -> list[int]:
    """Return the steps at which one of these has a value."""
    known = [each.known for each in models]
    steps: list[int] = np.unique(np.concatenate([np.empty(0), *known])).astype(int).tolist()
    return steps
