"""The work order: what a study wants captured, as the engine publishes it for training scripts.

One file, `work-order.npz`, in the folder of announcements. It holds token ids, so that a training
process needs no tokenizer, and sequences instead of windows, as only that process knows how many
tokens its model takes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.training.announcing import check_names
from seedconv_tui.training.plain_arrays import open_plain, read_flat, write_header

ORDER_FILE = "work-order.npz"  # not .json: those are announcements
_FORMAT = 1
_MOST_BYTES = 2**33
_MOST_HEAD = 2**26
_PLAIN = "study", "keep", "vocab", "vocabulary", "window", "overlap", "pad", "dtype"
_DTYPES = {"inputs": "<i4", "lengths": "<i8", "predicts": "|b1"}

CapturedAs = Literal["factored", "dense"]  # representations of log-probs that capture can write


@dataclass(frozen=True)
class Sequences:
    """A model's input of one pass, and the positions of these inputs to predict at."""

    inputs: NDArray[np.int32]  # of all sequences, one after the other
    lengths: NDArray[np.int64]  # (sequence,)
    predicts: NDArray[np.bool_]  # as inputs: the token after this one is asked for

    @classmethod
    def of(cls, parts: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> Sequences:
        """Return sequences given as (inputs, predicts) each."""
        return cls(
            np.concatenate([np.asarray(inputs, np.int32) for inputs, _ in parts]),
            np.array([len(inputs) for inputs, _ in parts], np.int64),
            np.concatenate([np.asarray(predicts, np.bool_) for _, predicts in parts]),
        )

    @cached_property
    def digest(self) -> str:
        """Return a digest of these sequences, as hexadecimal digits."""
        made = hashlib.blake2b(digest_size=16)
        for name, dtype in _DTYPES.items():
            values = np.ascontiguousarray(getattr(self, name), dtype)
            made.update(values.size.to_bytes(8, "little") + values.tobytes())
        return made.hexdigest()

    def split(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.bool_]]]:
        """Yield inputs and predicts of each sequence, (n,) both."""
        start = 0
        for length in self.lengths.tolist():
            yield self.inputs[start : start + length], self.predicts[start : start + length]
            start += length

    def check(self) -> None:
        """Raise ValueError when the arrays do not belong together."""
        if not len(self.lengths) or self.lengths.min() < 1:
            raise ValueError("has a sequence without tokens, or none at all")
        if not self.lengths.sum() == len(self.inputs) == len(self.predicts):
            raise ValueError(
                f"has sequences of {self.lengths.sum()} tokens, {len(self.inputs)} inputs and "
                f"{len(self.predicts)} marks; these should be equal"
            )
        if self.inputs.min() < 0:
            raise ValueError(f"has a negative token id, {self.inputs.min()}")
        if not self.predicts.any():
            raise ValueError("asks for no prediction")


@dataclass(frozen=True)
class ModelOrder:
    """A study's wishes for one model. None: whatever comes."""

    seeds: tuple[str, ...] | None = None
    steps: tuple[int, ...] | None = None


@dataclass(frozen=True)
class WorkOrder:
    """A study's wishes for each step. Raise ValueError for what cannot be right."""

    study: str  # its name
    models: Mapping[str, ModelOrder]
    keep: CapturedAs  # what the study would rather have
    vocab: int  # tokens of the tokenizer
    vocabulary: str  # digest of the tokenizer's vocabulary
    window: int  # tokens that a model reads at once, or fewer where it takes fewer
    overlap: int
    pad: int  # token id that fills rows up
    dtype: str  # what the study scores in; said to users, not applied to a model in training
    text: Sequences
    probes: Mapping[str, Sequences] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Return a digest of what gives captured rows their meaning, as hexadecimal digits.

        It depends on vocabulary, text, window and overlap; not on models, steps or probes.
        """
        meaning = (self.vocabulary, str(self.vocab), self.text.digest, self.window, self.overlap)
        return hashlib.blake2b("\0".join(map(str, meaning)).encode(), digest_size=16).hexdigest()

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError('names no model; a study has [[models]] with source = "captured"')
        for name, model in self.models.items():
            for seed in model.seeds if model.seeds is not None else ("0",):
                check_names(name, seed, max(model.steps or (0,)), "/")
            for step in model.steps or ():
                check_names(name, "0", step, "/")
        for what, low, high in (("vocab", 1, 2**31), ("window", 1, 2**31), ("pad", 0, 2**31 - 1)):
            _check_number(what, getattr(self, what), low, high)
        _check_number("overlap", self.overlap, 0, self.window - 1)
        if self.keep not in get_args(CapturedAs):
            raise ValueError(f"keep should be factored or dense, found {self.keep!r}")
        for what in ("study", "dtype", "vocabulary"):
            text = getattr(self, what)
            if not (isinstance(text, str) and text.isprintable() and 0 < len(text) <= 1000):
                raise ValueError(f"{what} should be a short text, found {str(text)[:40]!r}")
        for name, sequences in {"text": self.text, **self.probes}.items():
            try:
                sequences.check()
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None


def _check_number(what: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{what} should be a number from {low} to {high}, found {str(value)[:40]}")


def write_order(path: Path, order: WorkOrder) -> None:
    """Write an order, whole or not at all. Raise OSError."""
    arrays = {"text": order.text}
    arrays |= {f"probe{n}": sequences for n, sequences in enumerate(order.probes.values())}
    head = json.dumps({
        "format": _FORMAT,
        **{name: getattr(order, name) for name in _PLAIN},
        "models": {
            name: {"seeds": model.seeds, "steps": model.steps}
            for name, model in order.models.items()
        },
        "probes": list(order.probes),
        "digest": order.digest,
    }).encode()  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                _put(archive, "head", np.frombuffer(head, np.uint8), "|u1")
                for name, sequences in arrays.items():
                    for part, dtype in _DTYPES.items():
                        _put(archive, f"{name}.{part}", getattr(sequences, part), dtype)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def _put(archive: zipfile.ZipFile, name: str, values: NDArray[Any], dtype: str) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
        write_header(cast(BinaryIO, stream), values.shape, dtype)
        stream.write(np.ascontiguousarray(values, dtype).tobytes())


def sync_folder(folder: Path) -> None:
    """Have a rename in a folder survive a loss of power, where its file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_order(path: Path) -> WorkOrder:
    """Return the order in a file. Raise ValueError naming it when there is none that can be read.

    Anybody may have written it: nothing in it is run, and memory stays below its size.
    """
    advice = "write it again with: seedconv order STUDY"
    try:
        with open_plain(path, link=True) as file, zipfile.ZipFile(file) as archive:
            return _order(archive)
    except FileNotFoundError:
        raise ValueError(
            f"{path}: is not there. Make it before training starts, with: seedconv order STUDY"
        ) from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}. {advice}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, EOFError,
            zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # fmt: skip
        what = str(error) if type(error) is ValueError else f"is no work order ({error})"
        raise ValueError(f"{path}: {' '.join(what.split())[:300]}. {advice}") from None


def _order(archive: zipfile.ZipFile) -> WorkOrder:
    head = json.loads(_get(archive, "head", "|u1", _MOST_HEAD).tobytes())
    if head["format"] != _FORMAT:
        raise ValueError(
            f"has format {str(head['format'])[:20]}, this seedconv reads {_FORMAT}: both sides "
            "need the same version"
        )
    names = head["probes"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("probes should be a list of names")
    order = WorkOrder(
        text=_sequences(archive, "text"),
        probes={name: _sequences(archive, f"probe{n}") for n, name in enumerate(names)},
        models={
            name: ModelOrder(_listed(model["seeds"], str), _listed(model["steps"], int))
            for name, model in head["models"].items()
        },
        **{
            name: head[name]
            for name in (
                "study",
                "keep",
                "vocab",
                "vocabulary",
                "window",
                "overlap",
                "pad",
                "dtype",
            )
        },
    )
    if order.digest != head["digest"]:
        raise ValueError("its text is not what its digest says")
    return order


def _listed(values: Any, kind: type) -> tuple[Any, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise ValueError("seeds and steps should be lists or null")
    return tuple(values)


def _sequences(archive: zipfile.ZipFile, name: str) -> Sequences:
    parts = {part: _get(archive, f"{name}.{part}", kind) for part, kind in _DTYPES.items()}
    return Sequences(**cast(Any, parts))


def _get(
    archive: zipfile.ZipFile, name: str, dtype: str, most: int = _MOST_BYTES
) -> NDArray[np.generic]:
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > most:
        raise ValueError(f"{name} is packed or too large")
    with archive.open(member) as stream:
        values = read_flat(cast(BinaryIO, stream), member.file_size, dtype)
        stream.read(1)  # to the end, so that its check sum is compared
    if dtype == "|b1" and values.view(np.uint8).max(initial=0) > 1:
        raise ValueError(f"{name} holds more than true and false")
    return values
