"""Names of a checkpoint: within its model, and within the study."""

from __future__ import annotations

from dataclasses import dataclass, field

Key = tuple[str, int]  # seed, step: a checkpoint of a model that is known
CheckpointName = tuple[str, str, int]  # model, seed, step: a checkpoint of any model


@dataclass(frozen=True)
class ResultPart:
    """Results per token of one checkpoint, of a pair, or without a seed of a step."""

    model: str
    name: str
    step: int
    seed: str | None = None
    other: str | None = None
    tokens: slice = field(default_factory=lambda: slice(None))
