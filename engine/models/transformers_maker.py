"""Makes models of weights that transformers knows."""

from __future__ import annotations

from typing import Any

import torch

from engine.models.fitting import Fitting, refuse_not_finite, refuse_other_rotation
from engine.models.loaded_model import LoadedModel, longest_input
from engine.models.maker_settings import MakerSettings
from engine.models.modules import Modules
from engine.models.residency import Place
from engine.models.weights import CheckpointWeights


class TransformersMaker:
    """Makes models of checkpoints that were read as weights with their configuration."""

    def __init__(self, settings: MakerSettings) -> None:
        self._settings = settings
        masked, note = settings.masked, settings.note
        self._fitting = Fitting(masked=masked, note=note)
        self._modules = Modules(settings.dtype, settings.devices, masked=masked, note=note)

    def make(self, checkpoint: CheckpointWeights, place: Place) -> LoadedModel:
        """Make a model whose weights are where `place` says.

        Raise CheckpointError when the weights do not fit the architecture, and whatever the model
        raises on its first tokens.
        """
        self._fitting.fit(checkpoint)
        model = self._modules.load(checkpoint, self._first_logits, place)
        try:
            if checkpoint.not_finite:
                refuse_not_finite(checkpoint, model.activate())
            refuse_other_rotation(checkpoint, model.activate())
            settings = self._settings
            model.find_head(settings.first(model.longest), settings.vocab_size)
        except BaseException:
            model.close()
            raise
        return model

    @torch.inference_mode()
    def _first_logits(self, module: Any) -> torch.Tensor:
        """Return what a module says of the first tokens, (1, token, vocab)."""
        ids = self._settings.first(longest_input(module))
        inputs = {} if self._settings.masked else {"use_cache": False}
        logits: torch.Tensor = module(input_ids=ids, **inputs).logits
        return logits
