"""Makes models of checkpoints, whichever way they were read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.models.language_model import LanguageModel, ReadCheckpoint
from engine.models.maker_settings import MakerSettings
from engine.models.residency import Place
from engine.models.transformers_maker import TransformersMaker
from engine.models.user_maker import LoaderCheckpoint, UserMaker
from engine.models.weights import CheckpointWeights


class Makers:
    """A maker for each way to read checkpoints, on the devices of one worker."""

    def __init__(self, settings: MakerSettings) -> None:
        # By what was read; each takes only that.
        self._makers: Mapping[type, Any] = {
            CheckpointWeights: TransformersMaker(settings),
            LoaderCheckpoint: UserMaker(settings),
        }

    def make(self, checkpoint: ReadCheckpoint, place: Place) -> LanguageModel:
        """Make a model whose weights are where `place` says, as far as its kind can.

        Raise CheckpointError, and whatever the model raises on its first tokens.
        """
        model: LanguageModel = self._makers[type(checkpoint)].make(checkpoint, place)
        return model
