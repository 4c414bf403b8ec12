"""Readers of checkpoints: one for each model of a study, of the kind that its section asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from engine.machine.host_memory import weights_bytes
from engine.models.language_model import ReadCheckpoint
from engine.models.weights import CheckpointWeights, read_checkpoint
from engine.sources.checkpoint_files import checkpoint_files
from engine.study_file.models_section import ModelSection
from engine.text.tokenizer import Tokenizer


class CheckpointReader(Protocol):
    """Reads checkpoints of one model from local folders."""

    def bytes_needed(self, folder: Path) -> int:
        """Return the bytes of the host's memory that reading takes. Raise CheckpointError."""

    def read(self, folder: Path, where: str) -> ReadCheckpoint:
        """Read and check a checkpoint; `where` names it. Raise CheckpointError, in one line."""


class TransformersReader:
    """Reads weights that lie beside their configuration, as transformers does."""

    def __init__(self, model: ModelSection, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer

    def bytes_needed(self, folder: Path) -> int:
        """Return what reading takes at its height."""
        files = checkpoint_files(folder, allow_pickle=self._model.allow_pickle)
        return weights_bytes(files.weights)

    def read(self, folder: Path, where: str) -> CheckpointWeights:
        """Read configuration and weights. Raise CheckpointError."""
        return read_checkpoint(
            folder,
            self._tokenizer,
            where=where,
            allow_pickle=self._model.allow_pickle,
            trust_remote_code=self._model.trust_remote_code,
        )


def choose_reader(model: ModelSection, tokenizer: Tokenizer) -> CheckpointReader:
    """Return the reader that the section of a model asks for."""
    return TransformersReader(model, tokenizer)
