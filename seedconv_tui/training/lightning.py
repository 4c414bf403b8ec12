"""`LightningCapture`: captures in a training script that uses Lightning.

trainer = Trainer(..., callbacks=[LightningCapture("study.toml", model="my-model", seed=1)])
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

try:
    from lightning.pytorch import Callback
except ImportError:  # by its older name
    from pytorch_lightning import Callback

from seedconv_tui.training.capture import Capture

if TYPE_CHECKING:
    from torch import nn


class LightningCapture(Callback):  # type: ignore[misc, unused-ignore]
    """Captures the steps that a study lists, or every `every` steps where it lists none."""

    def __init__(
        self,
        study: str | os.PathLike[str],
        *,
        model: str,
        seed: str | int,
        part: str | None = None,
        every: int | None = None,
        **options: Any,
    ) -> None:
        """See `Capture`, which takes the `options`; steps are the trainer's `global_step`.

        `part` names the attribute of the LightningModule that is the language model; left out, the
        LightningModule is called itself. Raise ValueError as `Capture` does, and when neither the
        study lists steps nor `every` is given.
        """
        self._capture = Capture(study, model=model, seed=seed, **options)
        if every is not None and every < 1:
            raise ValueError(f"every should be at least 1, found {every}")
        if every is None and self._capture.steps is None:
            raise ValueError(
                "the study lists no steps; list them, or give LightningCapture(..., every=N)"
            )
        self._part, self._every = part, every
        self._last: int | None = None  # batches of one step all have its number

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Capture step 0, unless training goes on from a checkpoint."""
        self._last = None
        if trainer.global_step == 0:
            self._come_to(pl_module, 0)
        self._last = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """Capture the step that was taken, if one was. All ranks come here."""
        self._come_to(pl_module, trainer.global_step)

    def _come_to(self, pl_module: Any, step: int) -> None:
        if step == self._last:
            return
        self._last = step
        if self._capture.steps is not None or self._every is None or step % self._every == 0:
            module: nn.Module = pl_module if self._part is None else getattr(pl_module, self._part)
            self._capture(module, step)
