"""How a checkpoint is named: within its model, and within the study."""

from __future__ import annotations

Key = tuple[str, int]  # seed, step: a checkpoint of a model that is known
CheckpointName = tuple[str, str, int]  # model, seed, step: a checkpoint of any model
