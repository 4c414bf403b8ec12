"""`SeedconvCallback`: one line in a training script that uses `transformers.Trainer`.

    trainer = Trainer(..., callbacks=[SeedconvCallback("study.toml", model="my-model")])

Nothing is imported but the standard library and transformers; with `capture=True`, also numpy and
torch. Announcing takes no GPU memory and does not wait: after a save it writes one small file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from seedconv_tui.training.announcing import (
    HOLD_AT_MOST,
    announce,
    announcements_folder,
    check_names,
)

if TYPE_CHECKING:
    from seedconv_tui.training.capture import Capture


class SeedconvCallback(TrainerCallback):
    """Announces every checkpoint that Trainer saves to a study, or captures without saving."""

    def __init__(
        self,
        study: str | os.PathLike[str],
        model: str,
        seed: str | int | None = None,
        *,
        hold: bool = False,
        hold_at_most: int = HOLD_AT_MOST,
        capture: bool = False,
        **options: Any,
    ) -> None:
        """See `announce`; `seed` is that of TrainingArguments if left out.

        With `hold`, `save_total_limit` deletes checkpoints as ever; what scoring needs of them
        stays until it is done. With `capture`, nothing has to be saved: the steps that the study
        lists are captured as they come, or, where it lists none, those at which Trainer saves;
        `options` are those of `Capture`. Raise ValueError when the study cannot be read: before
        training.
        """
        self._folder = announcements_folder(study)
        check_names(model, "0" if seed is None else str(seed), 0, str(self._folder))
        if hold_at_most < 1:
            raise ValueError(f"hold_at_most must be at least 1, found {hold_at_most}")
        if options and not capture:
            raise ValueError(f"{', '.join(sorted(options))} only go with capture=True")
        if capture and hold:
            raise ValueError("hold keeps checkpoints; with capture=True there are none")
        self._model, self._seed = model, seed
        self._hold, self._hold_at_most = hold, hold_at_most
        self._captures, self._options = capture, options
        self._capture: Capture | None = None
        if capture and seed is not None:
            self._capture = self._make(seed)

    def _make(self, seed: str | int) -> Capture:
        from seedconv_tui.training.capture import Capture

        return Capture(self._folder, model=self._model, seed=seed, **self._options)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Read the work order, if that needed the seed; capture step 0 if the study lists it."""
        if self._captures and self._capture is None:
            self._capture = self._make(args.seed)
        if state.global_step == 0:
            self._capture_listed(state, kwargs)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Capture the step if the study lists it. All ranks come here."""
        self._capture_listed(state, kwargs)

    def _capture_listed(self, state: TrainerState, kwargs: dict[str, Any]) -> None:
        if self._capture is not None and self._capture.steps is not None:
            self._capture(kwargs["model"], state.global_step)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Announce what was just saved; Trainer has rotated before, and kept this one."""
        if self._capture is not None:
            if self._capture.steps is None:
                self._capture(kwargs["model"], state.global_step)
            return
        if not state.is_world_process_zero:
            return
        announce(
            self._folder,
            model=self._model,
            seed=args.seed if self._seed is None else self._seed,
            step=state.global_step,
            path=Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}",
            hold=self._hold,
            hold_at_most=self._hold_at_most,
        )
