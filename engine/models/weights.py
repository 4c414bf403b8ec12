"""Reading one checkpoint into memory, with every check that does not need the model to run.

Runs in a thread of its own while another checkpoint is scored. Files are read, not mapped: a file
that is truncated under a mapping kills the process.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from engine.errors import CheckpointError, first_line, may_pass
from engine.machine.device_errors import is_out_of_memory
from engine.machine.faults import blamed
from engine.models.configuration import read_config
from engine.models.stored_weights import read_stored
from engine.models.vocabulary import check_vocabulary
from engine.sources.checkpoint_files import INDEX_OF, CheckpointFiles, checkpoint_files
from engine.sources.weight_sets import refuse_other_names
from engine.text.tokenizer import Tokenizer

# What a wrapper puts into the names of the weights of what it wraps, at any depth.
_WRAPPERS = (
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
    "_forward_module.",
)
# Of a configuration: where it was read from, another place each time, and what modules do not ask.
_TRIFLES = {"_name_or_path", "dtype", "torch_dtype", "transformers_version"}
_TYPES = frozenset({
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,  # of masks
})  # fmt: skip


@dataclass(frozen=True)
class CheckpointWeights:
    """A checkpoint in memory, not yet a model."""

    folder: Path  # of its config.json, and of what lies next to that
    where: str  # its place, for people
    config: Any  # transformers.PretrainedConfig
    weights: dict[str, torch.Tensor]
    fingerprint: str  # of names and contents of the weights
    n_bytes: int
    trust_remote_code: bool = False  # whether the model's class may come from its repository
    note: str | None = None  # which weights these are, where there are others next to them
    # Weights that are NaN or infinite, with their files; the model may have no use for them.
    not_finite: dict[str, str] = field(default_factory=dict)

    def bytes_as(self, dtype: torch.dtype) -> int:
        """Return the bytes that the weights take in this precision."""
        return sum(tensor.numel() * dtype.itemsize for tensor in self.weights.values())

    def outline(self) -> object:
        """Return what is equal for checkpoints whose weights fit the same module."""
        fields = self.config.to_dict()
        config = {name: value for name, value in fields.items() if name not in _TRIFLES}
        shapes = frozenset((name, tuple(tensor.shape)) for name, tensor in self.weights.items())
        return json.dumps(config, sort_keys=True, default=str), shapes

    def drop(self) -> None:
        """Let go of the weights: what is on the device needs no copy here."""
        self.weights.clear()


def read_checkpoint(
    folder: Path,
    tokenizer: Tokenizer,
    *,
    where: str | None = None,
    config: Path | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> CheckpointWeights:
    """Read and check a checkpoint of a causal language model, a folder or one file.

    `where` names its place in messages, if that is not the folder. `config` is its config.json, if
    that is not next to the weights.

    With `allow_pickle` weights may be pickled; only tensors are unpickled even so. With
    `trust_remote_code` the configuration's class may be code of the checkpoint, which then runs.

    Raise CheckpointError, in one line, when files are missing, damaged or cannot be read, weights
    are not finite or all zero, or the checkpoint uses another vocabulary than the study.
    """
    where = where or str(folder)
    try:
        with blamed(where, "cannot be read"):
            files = checkpoint_files(folder, allow_pickle=allow_pickle, config=config)
            return _read(files, where, tokenizer, trust_remote_code)
    except CheckpointError as error:
        text = str(error).replace(str(folder), where)
        raise CheckpointError(text, passing=error.passing) from error.__cause__
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        text = f"{where}: this machine has no memory left for its weights"
        raise CheckpointError(text, passing=True) from None


def _read(
    files: CheckpointFiles, where: str, tokenizer: Tokenizer, trust_remote_code: bool
) -> CheckpointWeights:
    folder = files.place
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder}: holds a PEFT adapter (adapter_config.json) next to its "
            "weights; merge it, or delete what is left of it"
        )
    config = read_config(files.config, trust_remote_code=trust_remote_code)
    check_vocabulary(folder, config, tokenizer, files.config.parent)
    weights: dict[str, torch.Tensor] = {}
    names: set[str] = set()  # as in the files
    not_finite: dict[str, str] = {}
    n_bytes = 0
    # What other trainers wrote is read at once, and named as a whole.
    for file in files.weights if files.stored is None else (files.place,):
        try:
            shard, shard_bytes = _read_file(file, files)
        except FileNotFoundError as error:
            lost = error.filename or file
            raise CheckpointError(f"{lost}: was deleted while it was being read") from None
        except (OSError, SafetensorError) as error:
            text = f"{file}: cannot be read: {first_line(error)}"
            raise CheckpointError(text, passing=may_pass(error)) from None
        names |= shard.keys()
        shard = _without_wrappers(file, shard, weights)
        _check_types(file, shard)
        not_finite |= dict.fromkeys(
            _check_values(file, shard), str(file).replace(str(folder), where)
        )
        weights.update(shard)
        n_bytes += shard_bytes
    if files.listed is not None:
        index = folder / INDEX_OF[files.weights[0].name]
        refuse_other_names(files.weights[0], index, names, files.listed)
    fingerprint = weights_digest(weights)
    note = files.note and files.note.replace(str(folder), where)
    return CheckpointWeights(
        files.config.parent,
        where,
        config,
        weights,
        fingerprint,
        n_bytes,
        trust_remote_code,
        note,
        not_finite,
    )


def _read_file(file: Path, files: CheckpointFiles) -> tuple[dict[str, torch.Tensor], int]:
    """Return the weights in one file, or all where it is not one of transformers'; and bytes."""
    if files.stored is not None:
        return read_stored(files.stored)
    data = file.read_bytes()
    return _unpickle(file, data) if files.pickled else load(data), len(data)


def _unpickle(file: Path, data: bytes) -> dict[str, torch.Tensor]:
    """Load weights that torch.save wrote, and nothing else that may be in such a file."""
    try:
        weights = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{file}: holds more than weights, and so is not loaded") from None
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be read: {first_line(error)}") from None
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in weights.items()
    ):
        raise CheckpointError(f"{file}: should hold tensors by name")
    return weights


def _without_wrappers(
    file: Path, shard: dict[str, torch.Tensor], others: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return weights under the names that they had before a wrapper changed them.

    Raise CheckpointError when one of them is there with and without the wrapper, and differs.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in shard.items():
        plain = name
        for wrapper in _WRAPPERS:
            plain = plain.replace(wrapper, "")
        other = found.get(plain, others.get(plain))
        if other is not None and not torch.equal(other, tensor):
            raise CheckpointError(f"{file}: holds {plain} twice, with other values as {name}")
        found[plain] = tensor
    return found


def _check_types(file: Path, shard: dict[str, torch.Tensor]) -> None:
    for name, tensor in shard.items():
        if tensor.dtype not in _TYPES:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{file}: {name} is {kind}: quantised weights are not read; load the model, "
                "dequantize() it, then save_pretrained"
            )


def _check_values(file: Path, shard: dict[str, torch.Tensor]) -> Iterator[str]:
    """Yield the names of weights that are NaN or infinite. Raise CheckpointError: all are zero."""
    matrices = [tensor for tensor in shard.values() if tensor.ndim >= 2]
    if matrices and not any(bool(tensor.any()) for tensor in matrices):
        raise CheckpointError(f"{file}: all weights are zero; it was allocated but never written")
    for name, tensor in shard.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        low, high = tensor.aminmax()  # either is NaN where any is; no mask is made
        if not bool(low.isfinite() & high.isfinite()):
            yield name


def weights_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Return a digest of the names and contents of tensors, which are on the host."""
    digest = hashlib.blake2b(digest_size=12)
    for name in sorted(weights):
        tensor = weights[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
