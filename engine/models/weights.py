"""Reading one checkpoint into memory, with every check that does not need the model to run.

Runs in a thread of its own while another checkpoint is scored. Files are read, not mapped: a file
that is truncated under a mapping kills the process.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load

from engine.errors import CheckpointError, may_pass
from engine.machine.device_errors import is_out_of_memory
from engine.models.vocabulary import check_vocabulary
from engine.sources.checkpoint_files import INDEX_OF, checkpoint_files
from engine.sources.weight_sets import refuse_other_names
from engine.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class CheckpointWeights:
    """A checkpoint in memory, not yet a model."""

    folder: Path
    where: str  # its place, for people
    config: Any  # transformers.PretrainedConfig
    weights: dict[str, torch.Tensor]
    fingerprint: str  # of names and contents of the weights
    n_bytes: int
    trust_remote_code: bool = False  # whether the model's class may come from its repository
    note: str | None = None  # which weights these are, where there are others beside them


def read_checkpoint(
    folder: Path,
    tokenizer: Tokenizer,
    *,
    where: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> CheckpointWeights:
    """Read and check a checkpoint of a causal language model.

    `where` names its place in messages, if that is not the folder. With `allow_pickle` weights may
    be pickled; only tensors are unpickled even so. With `trust_remote_code` the configuration's
    class may be code of the checkpoint, which then runs.

    Raise CheckpointError, in one line, when files are missing, damaged or cannot be read, weights
    are not finite or all zero, or the checkpoint uses another vocabulary than the study.
    """
    where = where or str(folder)
    try:
        return _read(folder, where, tokenizer, allow_pickle, trust_remote_code)
    except CheckpointError as error:
        text = str(error).replace(str(folder), where)
        raise CheckpointError(text, passing=error.passing) from None
    except OSError as error:
        text = f"{where}: cannot be read: {_first_line(error)}"
        raise CheckpointError(text, passing=may_pass(error)) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        text = f"{where}: this machine has no memory left for its weights"
        raise CheckpointError(text, passing=True) from None


def _read(
    folder: Path, where: str, tokenizer: Tokenizer, allow_pickle: bool, trust_remote_code: bool
) -> CheckpointWeights:
    from transformers import AutoConfig

    files = checkpoint_files(folder, allow_pickle=allow_pickle)
    try:
        config = AutoConfig.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except Exception as error:
        # Code of the repository may raise anything.
        if not trust_remote_code and not isinstance(
            error, (OSError, ValueError, KeyError, TypeError, StrictDataclassError)
        ):
            raise
        text = f"{folder / 'config.json'}: {_refusal(error)}"
        raise CheckpointError(text, passing=may_pass(error)) from None
    check_vocabulary(folder, config, tokenizer)
    weights: dict[str, torch.Tensor] = {}
    n_bytes = 0
    for file in files.weights:
        try:
            data = file.read_bytes()
            shard = _unpickle(file, data) if files.pickled else load(data)
        except FileNotFoundError:
            raise CheckpointError(f"{file}: was deleted while it was being read") from None
        except (OSError, SafetensorError) as error:
            text = f"{file}: cannot be read: {_first_line(error)}"
            raise CheckpointError(text, passing=may_pass(error)) from None
        _check_values(file, shard)
        weights.update(shard)
        n_bytes += len(data)
    if files.listed is not None:
        index = folder / INDEX_OF[files.weights[0].name]
        refuse_other_names(files.weights[0], index, weights, files.listed)
    fingerprint = _fingerprint(weights)
    note = files.note and files.note.replace(str(folder), where)
    return CheckpointWeights(
        folder, where, config, weights, fingerprint, n_bytes, trust_remote_code, note
    )


def _unpickle(file: Path, data: bytes) -> dict[str, torch.Tensor]:
    """Load weights that torch.save wrote, and nothing else that may be in such a file."""
    try:
        weights = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{file}: holds more than weights, and so is not loaded") from None
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be read: {_first_line(error)}") from None
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in weights.items()
    ):
        raise CheckpointError(f"{file}: should hold tensors by name")
    return weights


def _refusal(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return (
            "its model is code of the repository, which is not run; set "
            "models.trust_remote_code = true if you trust it"
        )
    if isinstance(error, StrictDataclassError):
        return " ".join(
            str(error).split()
        )  # the first line has the field, the next what it should be
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _check_values(file: Path, shard: dict[str, torch.Tensor]) -> None:
    matrices = [tensor for tensor in shard.values() if tensor.ndim >= 2]
    if matrices and not any(bool(tensor.any()) for tensor in matrices):
        raise CheckpointError(f"{file}: all weights are zero; it was allocated but never written")
    for name, tensor in shard.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        low, high = tensor.aminmax()  # either is NaN where any is; no mask is made
        if not bool(low.isfinite() & high.isfinite()):
            raise CheckpointError(f"{file}: {name} holds NaN or infinite weights")


def _fingerprint(weights: dict[str, torch.Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for name in sorted(weights):
        tensor = weights[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
