"""`SeedconvCallback`: one line in a training script that uses `transformers.Trainer`.

    trainer = Trainer(..., callbacks=[SeedconvCallback("study.toml", model="my-model")])

Nothing is imported but the standard library and transformers. It takes no GPU memory and does not
wait: what it does after a save is to write one small file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from seedconv_tui.training.announcing import (
    HOLD_AT_MOST,
    announce,
    announcements_folder,
    check_names,
)


class SeedconvCallback(TrainerCallback):
    """Announces every checkpoint that Trainer saves to a study. Only rank zero does."""

    def __init__(
        self,
        study: str | os.PathLike[str],
        model: str,
        seed: str | int | None = None,
        *,
        hold: bool = False,
        hold_at_most: int = HOLD_AT_MOST,
    ) -> None:
        """See `announce`; `seed` is that of TrainingArguments if left out.

        With `hold`, `save_total_limit` deletes checkpoints as ever; what scoring needs of them
        stays until it is done. Raises ValueError when the study cannot be read: before training.
        """
        self._folder = announcements_folder(study)
        check_names(model, "0" if seed is None else str(seed), 0, str(self._folder))
        if hold_at_most < 1:
            raise ValueError(f"hold_at_most must be at least 1, found {hold_at_most}")
        self._model, self._seed = model, seed
        self._hold, self._hold_at_most = hold, hold_at_most

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Announce what was just saved; Trainer has rotated before, and kept this one."""
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
