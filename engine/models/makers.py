"""Makes models of checkpoints, whichever way they were read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from engine.machine.devices import DeviceGroup
from engine.models.language_model import LanguageModel, ReadCheckpoint
from engine.models.residency import Place
from engine.models.transformers_maker import TransformersMaker
from engine.models.user_maker import LoaderCheckpoint, UserMaker
from engine.models.weights import CheckpointWeights


class Makers:
    """A maker for each way to read checkpoints, on the devices of one worker."""

    def __init__(
        self,
        dtype: torch.dtype,
        devices: DeviceGroup,
        first: Callable[[int | None], torch.Tensor],
        vocab_size: int,
        *,
        masked: bool,
        note: Callable[[str], None],
    ) -> None:
        """`first` returns the first inputs of the text, for a model that takes so many."""
        # By what was read; each takes only that.
        self._makers: Mapping[type, Any] = {
            CheckpointWeights: TransformersMaker(
                dtype, devices, first, vocab_size, masked=masked, note=note
            ),
            LoaderCheckpoint: UserMaker(dtype, devices, first, vocab_size, note),
        }

    def make(self, checkpoint: ReadCheckpoint, place: Place) -> LanguageModel:
        """Make a model whose weights are where `place` says, as far as its kind can.

        Raise CheckpointError, and whatever the model raises on its first tokens.
        """
        model: LanguageModel = self._makers[type(checkpoint)].make(checkpoint, place)
        return model
