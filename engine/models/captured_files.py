"""Captures from training, which replace checkpoints: found and checked; rows are read later."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import CheckpointError, may_pass
from engine.models.vocabulary import USUAL_PADDING
from engine.sources.captures import fingerprint, read_capture
from engine.study_file.scoring_section import ScoringSection
from seedconv_tui.training.handover import (
    BIAS,
    WEIGHT,
    Handover,
    SpooledFile,
    most_noise,
)
from seedconv_tui.training.plain_arrays import read_header
from store.schema import Key, OutputLayer, Representation


class CapturedFile:
    """A file of a capture, read once from its beginning to its end; its checksum is compared."""

    def __init__(self, path: Path, listed: SpooledFile, dtype: str, dims: int) -> None:
        """Open it and read what it says of its array. Raise CheckpointError."""
        self._path, self._listed, self._dtype = path, listed, np.dtype(dtype)
        self._digest = hashlib.blake2b(digest_size=16)
        try:
            self._open()
            self.shape = read_header(self._stream, listed.bytes, dtype, dims)
            header = self._stream.tell()
            self._stream.seek(0)
            self._digest.update(self._stream.read(header))
        except (OSError, ValueError) as error:
            raise self._error(error) from None
        self._at, self._left = header, self.shape[0]

    def _open(self) -> None:
        # Neither through a link nor waiting for the other end of a pipe.
        handle = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        self._stream = os.fdopen(handle, "rb")
        _refuse_others(os.fstat(handle), self._listed)

    def rest(self) -> None:
        """Close it until more of it is read: not all of very many can be open at once."""
        self._stream.close()

    def read(self, rows: int) -> NDArray[np.generic]:
        """Return the next rows. Raise CheckpointError, also after the last for a wrong checksum."""
        values = np.empty((rows, *self.shape[1:]), self._dtype)
        try:
            if self._stream.closed:
                self._open()
                self._stream.seek(self._at)
            n = self._stream.readinto(values.view(np.uint8).data) if values.size else 0
        except (OSError, ValueError) as error:
            raise self._error(error) from None
        if n != values.nbytes:
            raise self._error(ValueError("has become shorter"))
        self._digest.update(values.data)
        self._at, self._left = self._at + values.nbytes, self._left - rows
        if not self._left:
            self._stream.close()
            if self._digest.hexdigest() != self._listed.digest:
                raise self._error(ValueError("is not what was handed over: its checksum differs"))
        return values

    def _error(self, error: OSError | ValueError) -> CheckpointError:
        if isinstance(error, OSError):
            text = f"cannot be read: {error.strerror or error}"
            return CheckpointError(f"{self._path}: {text}", passing=may_pass(error))
        return CheckpointError(f"{self._path}: {error}. Capture this step again")


def _refuse_others(status: os.stat_result, listed: SpooledFile) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_size != listed.bytes:
        raise ValueError(f"is not the {listed.bytes:,} bytes that were handed over")


@dataclass(frozen=True)
class Captured:
    """A checkpoint's answers from training, found whole; its rows are not read yet."""

    folder: Path
    where: str  # its place, for people
    handover: Handover
    layer: OutputLayer | None  # None: rows are log-probs
    fingerprint: str
    doubts: tuple[str, ...] = ()  # what to know of it, true of all of a run

    @property
    def keep(self) -> Representation:
        """Return how its log-probs are kept: as they came."""
        return self.handover.representation

    @property
    def rows(self) -> int:
        """Return how many entries the model's vocabulary has, with padding."""
        return self.handover.model_vocab

    @property
    def note(self) -> str | None:
        """Return nothing: there is nothing else that could have been read."""
        return None

    def bytes_as(self, dtype: torch.dtype) -> int:
        """Return nothing: it has no weights but its output layer."""
        return 0

    def drop(self) -> None:
        """Do nothing: no model is made of it."""

    def record(self) -> dict[str, Any]:
        """Return what is worth recording of how it was captured."""
        found = self.handover
        return {
            "captured": True,
            "device": found.device,
            "dtype": found.dtype,
            "tf32": found.tf32,
            "order": found.order,
            "captured_at": found.created,
        }


def read_layer(folder: Path, found: Handover, vocab_size: int) -> OutputLayer | None:
    """Return the output layer that was handed over. Raise CheckpointError."""
    if found.representation != "factored":
        return None
    weight = _whole(folder / WEIGHT, found.files[WEIGHT], 2, vocab_size)
    bias = None
    if BIAS in found.files:
        bias = _whole(folder / BIAS, found.files[BIAS], 1, vocab_size)
    return OutputLayer(weight, bias, found.scale)


def _whole(path: Path, listed: SpooledFile, dims: int, vocab_size: int) -> NDArray[np.float32]:
    file = CapturedFile(path, listed, "<f4", dims)
    if file.shape[0] != vocab_size:
        raise CheckpointError(
            f"{path}: has {file.shape[0]:,} rows, the study's vocabulary has {vocab_size:,} "
            "entries. Capture this step again"
        )
    return file.read(vocab_size).astype(np.float32, copy=False)


class CapturedReader:
    """Reads what was captured of one model, all but its rows."""

    def __init__(self, model: str, order: str, scoring: ScoringSection, vocab_size: int) -> None:
        """Take what captures must be of: the digest of the work order, and the study's window."""
        self._model, self._order, self._vocab_size = model, order, vocab_size
        self._window, self._dtype = scoring.window, scoring.dtype

    def bytes_needed(self, folder: Path) -> int:
        """Return the bytes of the output layer."""
        files = read_capture(folder, self._model).files
        return sum(files[name].bytes for name in (WEIGHT, BIAS) if name in files)

    def read(self, folder: Path, where: str, key: Key) -> Captured:
        """Read what a capture says of itself, and its output layer. Raise CheckpointError."""
        found = read_capture(folder, self._model)
        if found.order != self._order:
            raise CheckpointError(
                f"{folder}: was captured by another work order: text, tokenizer or windows of the "
                "study have changed since. Restart training, so that it reads the new one"
            )
        if found.window > self._window:
            raise CheckpointError(
                f"{folder}: was captured in windows of {found.window:,} tokens, scoring.window is "
                f"{self._window:,}. Capture this step again"
            )
        layer = read_layer(folder, found, self._vocab_size)
        doubts = tuple(self._doubts(found))
        return Captured(folder, where, found, layer, fingerprint(found), doubts)

    def _doubts(self, found: Handover) -> Iterator[str]:
        """Yield what to know of a capture, the same of all of a run."""
        if found.dtype != self._dtype or found.tf32:
            how = f"{found.dtype} with TF32" if found.tf32 else found.dtype
            yield (
                f"captured in {how}, where scoring.dtype is {self._dtype}: a KL near the noise "
                "floor is rounding; it is recorded of each checkpoint"
            )
        if (more := found.model_vocab - self._vocab_size) > USUAL_PADDING:
            yield (
                f"{more:,} of the {found.model_vocab:,} logits that were captured are taken as "
                f"padding, as the study's tokenizer has {self._vocab_size:,} entries. Is it the "
                "one of training?"
            )
        if found.noise_floor > most_noise(found.dtype):
            yield (
                "captured with more noise than rounding makes: the same tokens got other "
                "log-probs in another batch. Does dropout stay on in evaluation, or does a token "
                "see later ones? The noise floor is recorded of each checkpoint"
            )
