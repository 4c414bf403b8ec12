"""Readers of checkpoints: one for each model of a study, of the kind that its section asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from engine.models.file_digest import digest_files, files_of
from engine.models.language_model import ReadCheckpoint
from engine.models.user_code import UserLoader, import_loader
from engine.models.user_maker import LoaderCheckpoint
from engine.models.weights import CheckpointWeights, read_checkpoint
from engine.sources.checkpoint_files import CheckpointFiles, checkpoint_files
from engine.study_file.models_section import ModelSection
from engine.text.tokenizer import Tokenizer
from store.schema import Key


class CheckpointReader(Protocol):
    """Reads checkpoints of one model from local folders, or files."""

    def bytes_needed(self, folder: Path) -> int:
        """Return the bytes of the host's memory that reading takes. Raise CheckpointError."""

    def read(self, folder: Path, where: str, key: Key) -> ReadCheckpoint:
        """Read and check a checkpoint; `where` names it. Raise CheckpointError, in one line."""


class TransformersReader:
    """Reads weights that lie next to their configuration, as transformers does."""

    def __init__(self, model: ModelSection, study_folder: Path, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._config = model.config_file(study_folder)

    def _files(self, folder: Path) -> CheckpointFiles:
        allow_pickle = self._model.allow_pickle
        return checkpoint_files(folder, allow_pickle=allow_pickle, config=self._config)

    def bytes_needed(self, folder: Path) -> int:
        """Return what reading takes at its height."""
        return self._files(folder).reading_bytes()

    def read(self, folder: Path, where: str, key: Key) -> CheckpointWeights:
        """Read configuration and weights. Raise CheckpointError."""
        return read_checkpoint(
            folder,
            self._tokenizer,
            where=where,
            config=self._config,
            allow_pickle=self._model.allow_pickle,
            trust_remote_code=self._model.trust_remote_code,
        )


class LoaderReader:
    """Leaves reading to a loader of the user, which is called when the device is free for it."""

    def __init__(self, model: ModelSection, tokenizer: Tokenizer, loader: UserLoader) -> None:
        self._model, self._tokenizer, self._loader = model.name, tokenizer, loader
        self._cache: dict[Any, Any] = {}

    def bytes_needed(self, folder: Path) -> int:
        """Return the size of all files: as much as the weights may be."""
        return sum(file.stat().st_size for file in files_of(folder))

    def read(self, folder: Path, where: str, key: Key) -> LoaderCheckpoint:
        """Take the digest of the files, which also brings them into memory."""
        return LoaderCheckpoint(
            folder,
            where,
            self._model,
            key,
            self._loader,
            self._cache,
            digest_files(folder),
            self.bytes_needed(folder),
            self._tokenizer,
        )


def choose_reader(
    model: ModelSection, study_folder: Path, tokenizer: Tokenizer
) -> CheckpointReader:
    """Return the reader that the section of a model asks for; its paths are below the folder.

    Raise ConfigError when its loader cannot be imported.
    """
    if model.loader is None:
        return TransformersReader(model, study_folder, tokenizer)
    return LoaderReader(model, tokenizer, import_loader(model, study_folder))
