"""Makes models with the loader that the study file names."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.errors import CheckpointError, first_line, may_pass
from engine.machine.faults import is_fault
from engine.models.maker_settings import MakerSettings
from engine.models.residency import Place, Stage
from engine.models.user_arrays import WrongOutputError
from engine.models.user_code import UserLoader, kept_settings, place_in
from engine.models.user_model import (
    UserFunction,
    UserModel,
    UserModule,
    close_made,
    rounding,
)
from engine.models.vocabulary import too_few
from engine.models.weights import weights_digest
from engine.text.tokenizer import Tokenizer
from store.schema import Key


@dataclass(frozen=True)
class LoaderCheckpoint:
    """A checkpoint that a user's loader reads."""

    folder: Path  # or one file
    where: str
    model: str
    key: Key
    loader: UserLoader
    cache: dict[Any, Any]  # of the loader, as long as the worker lives
    digest: str  # of the files
    n_bytes: int  # of the files
    tokenizer: Tokenizer
    note: str | None = None

    def bytes_as(self, dtype: torch.dtype) -> int:
        """Return the size of the files, which is more where they hold more than weights."""
        return self.n_bytes

    def drop(self) -> None:
        """Do nothing: nothing is in memory."""


class UserMaker:
    """Calls loaders and checks what they return."""

    def __init__(self, settings: MakerSettings) -> None:
        self._settings, self._device = settings, settings.devices.output
        self._noted = set[str]()  # names of models
        self._made = weakref.WeakSet[UserModel]()

    def make(self, checkpoint: LoaderCheckpoint, place: Place) -> UserModel:
        """Return what the loader makes of a checkpoint. Raise CheckpointError.

        Where `place` has a stage, modules take turns on the device; a function stays where it is.
        """
        others = [(model, model.say_first()) for model in self._made if not model.closed]
        made = _load(checkpoint, self._device)
        try:
            model = self._ask(checkpoint, made, place.stage)
            _check_apart(made, others)
        except BaseException as error:
            close_made(made)
            if isinstance(error, WrongOutputError):
                raise CheckpointError(f"{checkpoint.where}: {error}") from error
            raise
        self._made.add(model)
        if checkpoint.model not in self._noted:
            self._noted.add(checkpoint.model)
            self._note_precision(checkpoint.model, model)
        return model

    def _note_precision(self, name: str, model: UserModel) -> None:
        """Note where a model is less exact than the study file says."""
        dtype, note = self._settings.dtype, self._settings.note
        kind, study = (str(it).removeprefix("torch.") for it in (model.dtype, dtype))
        if model.head is None and model.returns.itemsize < 4:
            note(
                f"model {name}: its loader gives logits in {kind}, which rounds them; give "
                "float32, or .hidden and .output_layer"
            )
        elif rounding(model.dtype) > rounding(dtype):
            note(
                f"model {name}: its loader computes in {kind}, where scoring.dtype is {study}: a "
                "KL near the noise floor is rounding"
            )

    def _ask(self, checkpoint: LoaderCheckpoint, made: Any, stage: Stage | None) -> UserModel:
        asked: UserModule | UserFunction
        if isinstance(made, nn.Module):
            fingerprint = _fingerprint(made) or _of_weights(made) or checkpoint.digest
            asked = UserModule(made, stage)
        elif callable(made):
            fingerprint = _fingerprint(made) or checkpoint.digest
            asked = UserFunction(made, self._device)
        else:
            raise WrongOutputError(
                f"its loader returned {type(made).__name__}; it should return an nn.Module, or a "
                "function from ids to logits"
            )
        ids = self._settings.first(asked.longest)
        alike = checkpoint.model, checkpoint.loader.name
        rows = self._settings.vocab_size
        model = UserModel(made, asked, ids, rows, checkpoint.where, fingerprint, alike)
        if model.rows < checkpoint.tokenizer.size:
            raise WrongOutputError(too_few(model.rows, checkpoint.tokenizer))
        model.check_causal()
        return model


def _load(checkpoint: LoaderCheckpoint, device: torch.device) -> Any:
    """Call the loader. Whatever it raises is the checkpoint's CheckpointError."""
    (seed, step), loader = checkpoint.key, checkpoint.loader
    try:
        with kept_settings():
            return loader.load(
                checkpoint.folder.absolute(),
                model=checkpoint.model,
                seed=seed,
                step=step,
                device=str(device),
                cache=checkpoint.cache,
            )
    except BaseException as error:
        if not is_fault(error):
            raise
        at = place_in(error, loader.folder)
        text = f"{checkpoint.where}: its loader {loader.name} fails: {first_line(error)}{at}"
        raise CheckpointError(text, passing=may_pass(error)) from error


def _check_apart(made: Any, others: Sequence[tuple[UserModel, torch.Tensor]]) -> None:
    """Raise WrongOutputError when models that are in use are not what they were before."""
    for model, said in others:
        if model.made is made or not model.still_says(said):
            raise WrongOutputError(
                f"its loader changed the model of {model.where}, which is still in use; make a "
                'new one for each checkpoint, or set log_probs.representation = "dense"'
            )


def _fingerprint(made: Any) -> str | None:
    """Return a digest of `.fingerprint`, if there is one. Raise WrongOutputError."""
    found = getattr(made, "fingerprint", None)
    if found is None or (isinstance(made, nn.Module) and callable(found)):
        return None
    if not isinstance(found, str) or not found:
        raise WrongOutputError(f".fingerprint should be a text, found {type(found).__name__}")
    return hashlib.blake2b(f"fingerprint {found}".encode(), digest_size=12).hexdigest()


def _of_weights(module: nn.Module) -> str | None:
    """Return the digest of a module's weights; None where their kind of tensor has none."""
    weights = {
        name: tensor.detach().cpu()
        for name, tensor in module.state_dict().items()
        if isinstance(tensor, torch.Tensor)
    }
    try:
        return weights_digest(weights)
    except Exception:  # a tensor of a kind of its own
        return None
