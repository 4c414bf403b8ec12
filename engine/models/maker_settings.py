"""Settings that makers of models need besides the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from engine.machine.devices import DeviceGroup


@dataclass(frozen=True)
class MakerSettings:
    """Settings with which a worker makes models."""

    dtype: torch.dtype  # of the study file
    devices: DeviceGroup
    first: Callable[[int | None], torch.Tensor]  # the text's first inputs, for a model of that many
    vocab_size: int
    masked: bool
    note: Callable[[str], None]  # called with what the user should know, in one line
