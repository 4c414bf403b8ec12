"""The chosen step of one model, shared by the screens that show a single step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from textual.binding import Binding

from seedconv_tui.monitor.common.study_screen import StudyScreen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from seedconv_tui.monitor.data.remembered import Remembered
    from store.schema import ModelSnapshot, StudySnapshot

STEP_KEYS = (
    Binding("left_square_bracket", "step(-1)", "Step", key_display="[ ]", tooltip="step before"),
    Binding("right_square_bracket", "step(1)", "Step on", show=False, tooltip="next step"),
    Binding("left_curly_bracket", "step(-100000)", "First", show=False, tooltip="first step"),
    Binding("right_curly_bracket", "step(100000)", "Last", show=False, tooltip="last step"),
    Binding("M", "model", "Model", tooltip="next model"),
    Binding(
        "0,escape",
        "follow",
        "Follow",
        key_display="0",
        tooltip="the latest step, and new ones as they come",
    ),
)


def n_scored(model: ModelSnapshot) -> NDArray[np.int64]:
    """Return seeds scored at each step, (step,)."""
    count: NDArray[np.int64] = np.isfinite(model.cross_entropy).sum(axis=1)
    return count


class StepScreen(StudyScreen):
    """A screen that follows the latest step until another is chosen. A new one needs `draw`."""

    _model_name = ""  # empty: the first
    _held: int | None = None  # a step; None: the latest there is

    def draw(self) -> None:
        """Show the data as they are now."""
        raise NotImplementedError

    def show_study(self, snapshot: StudySnapshot) -> None:
        self.draw()

    @property
    def model(self) -> ModelSnapshot | None:
        """The chosen model."""
        models = self.feed.snapshot.models if self.feed.snapshot else ()
        chosen = [model for model in models if model.name == self._model_name]
        return next(iter((*chosen, *models)), None)

    def steps_of(self, model: ModelSnapshot) -> list[int]:
        """Return the steps that there is something to show of: those with a reduced pair."""
        return [int(step) for step in model.steps[model.n_pairs > 0]]

    def step_of(self, model: ModelSnapshot) -> int | None:
        """Return the step that is shown: the one chosen, or of a model without it the nearest."""
        steps = self.steps_of(model)
        if not steps or self._held is None:
            return steps[-1] if steps else None
        return steps[int(np.abs(np.log1p(steps) - np.log1p(self._held)).argmin())]

    def where(self, model: ModelSnapshot, step: int) -> tuple[str, str]:
        """Return model and step, in words."""
        latest = " (latest)" if self._held is None else ""
        phases = [phase.name for phase in model.phases if phase.start <= step]
        return f"step {step:,}{latest}{', ' + phases[-1] if phases else ''}", model.name

    def held(self, model: ModelSnapshot) -> str:
        """Return what is said of a step that was chosen; empty while the screen follows."""
        if self._held is None:
            return ""
        later = sum(step > self._held for step in self.steps_of(model))
        return f"held, {later} later, 0 follows" if later else "held, 0 follows"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only the keys that would do something now."""
        if action == "follow":
            return self._held is not None
        if action == "model":
            return self.feed.snapshot is not None and len(self.feed.snapshot.models) > 1
        return True

    def state(self) -> dict[str, Any]:
        return {"model": self._model_name, "step": self._held}

    def restore(self, kept: Remembered) -> None:
        self._model_name, self._held = kept.text("model"), kept.number("step")

    def action_step(self, count: int) -> None:
        """Go to an earlier or later step, and stay there."""
        if (model := self.model) is None or (step := self.step_of(model)) is None:
            return
        steps = self.steps_of(model)
        self._held = steps[min(max(steps.index(step) + count, 0), len(steps) - 1)]
        self.draw()

    def hold_nearest(self, step: float) -> None:
        """Show the step that is nearest to a place on the axis, and stay there."""
        if (model := self.model) is not None:
            self._held = round(max(step, 0))
            self._held = self.step_of(model)
            self.draw()

    def action_follow(self) -> None:
        """Show the latest step, and each that comes."""
        self._held = None
        self.draw()

    def action_model(self) -> None:
        """Go to the next model, from the last to the first."""
        if (model := self.model) is None or self.feed.snapshot is None:
            return
        names = [other.name for other in self.feed.snapshot.models]
        self._model_name = names[(names.index(model.name) + 1) % len(names)]
        self.draw()
