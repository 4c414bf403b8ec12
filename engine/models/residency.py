"""Keep a module's weights on the device, or in the host's memory until they are used."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch


class StagedModule:
    """A module on a device; with a stage its weights are there only while it has its turn."""

    def __init__(self, module: Any, stage: Stage | None, *, changes_itself: bool) -> None:
        """Take a module that is on the device; with `changes_itself` calls change its weights."""
        self.module = module
        self._stage, self._changes_itself = stage, changes_itself
        self._away: dict[str, torch.Tensor] = {}  # weights in the host's memory
        if stage is not None:
            self._store()
            self._empty()

    def activate(self) -> Any:
        """Return the module with its weights on the device."""
        stage = self._stage
        if stage is None or stage.staged is self:
            return self.module
        stage.clear()
        for name, tensor in saved_tensors(self.module).items():
            tensor.data = self._away[name].to(tensor.device, non_blocking=True)
        stage.staged = self
        return self.module

    def leave(self) -> None:
        """Make room on the device."""
        if self._changes_itself:
            self._store()
        self._empty()

    def close(self) -> None:
        """Leave the stage for good, with nothing kept."""
        if self._stage is not None and self._stage.staged is self:
            self._stage.staged = None

    def _store(self) -> None:
        weights = saved_tensors(self.module)
        self._away = {name: tensor.data.cpu() for name, tensor in weights.items()}

    def _empty(self) -> None:
        for tensor in saved_tensors(self.module).values():
            tensor.data = nothing_like(tensor)


class Stage:
    """The room on a device for one module's weights, which several modules use in turn."""

    def __init__(self) -> None:
        self.staged: StagedModule | None = None

    def clear(self) -> None:
        """Have the weights that are there leave."""
        if self.staged is not None:
            self.staged.leave()
            self.staged = None


class Residence(Enum):
    """The places of the weights of models that are used together."""

    DEVICE = "all are on the device"
    TURN = "they are moved there in turn"
    LAYERS = "what there is no room for comes there layer by layer"


@dataclass(frozen=True)
class Place:
    """The place of one model's weights while others are used."""

    stage: Stage | None = None  # they take turns on it; None: they stay where they are
    # Bytes of them for which there is room on each device; None: any number.
    rooms: tuple[int | None, ...] = (None,)
    offload: bool = False  # those without room come from the host's memory, layer by layer


ON_DEVICE = Place()


def saved_tensors(module: Any) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers that checkpoints hold, each under one name."""
    saved = module.state_dict().keys()
    tensors = itertools.chain(module.named_parameters(), module.named_buffers())
    return {name: tensor for name, tensor in dict(tensors).items() if name in saved}


def nothing_like(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the same kind that takes no memory."""
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device)
