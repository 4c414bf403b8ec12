"""Unwrap a model in training: its wrappers, the ranks it is spread over, its arguments."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# Where torch has them, the older place last; not imported for those who do without.
_FSDP = "torch.distributed.fsdp", "torch.distributed._composable.fsdp"
_TENSORS = "torch.distributed.tensor", "torch.distributed._tensor"
_WRAPPERS = {"DistributedDataParallel", "DataParallel", "DeepSpeedEngine"}
_HOLDERS = "config", "params", "args", "model_args", "model_config", "cfg", "hparams"
_CONTEXTS = (
    "max_position_embeddings", "block_size", "context_length", "n_positions", "n_ctx",
    "max_seq_len", "max_seq_length", "max_sequence_length", "seq_len", "seq_length", "sequence_len",
)  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """A model's layout on devices and ranks."""

    module: nn.Module  # without what only serves training
    device: torch.device  # of its inputs
    together: bool  # every rank must run it at the same time: its weights are spread over them
    alike: bool  # ranks may run it on different inputs


def survey(model: nn.Module, world: int) -> Placement:
    """Return how a model lies on `world` ranks. Raise ValueError when it has no parameters."""
    module = unwrapped(model)
    parameters = list(module.parameters())
    if not parameters:
        raise ValueError("the model has no parameters")
    spread = [parameter for parameter in parameters if _mesh(parameter) is not None]
    kinds = kinds_of_fsdp("FSDPModule", "FullyShardedDataParallel")
    fully_sharded = [part for part in module.modules() if isinstance(part, kinds)]
    together = bool(spread or fully_sharded) or any(
        hasattr(parameter, "ds_id") or getattr(parameter, "tensor_model_parallel", False)
        for parameter in parameters
    )
    alike = not together or (
        bool(fully_sharded)
        and all(_is_data_parallel(parameter, world) for parameter in spread)
        and not any(getattr(parameter, "tensor_model_parallel", False) for parameter in parameters)
    )
    return Placement(module, _device(parameters[0], fully_sharded), together and world > 1, alike)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return a model without DDP, DeepSpeed's engine or `torch.compile` around it.

    DDP would broadcast buffers, and compiled code be compiled again for other shapes.
    """
    while True:
        inner = model._modules.get("_orig_mod")
        if type(model).__name__ in _WRAPPERS:
            inner = getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def kinds_of_fsdp(*names: str) -> tuple[type, ...]:
    """Return those of `FSDPModule` and `FullyShardedDataParallel` that this process can have."""
    modules = [sys.modules.get(name) for name in _FSDP]
    found = [getattr(module, name, None) for module in modules for name in names]
    return tuple(kind for kind in found if kind is not None)


def _mesh(tensor: torch.Tensor) -> Any:
    """Return the mesh of a distributed tensor, or None."""
    kinds = [getattr(sys.modules.get(name), "DTensor", None) for name in _TENSORS]
    if not isinstance(tensor, tuple(kind for kind in kinds if kind is not None)):
        return None
    return tensor.device_mesh  # type: ignore[attr-defined]


def _is_data_parallel(parameter: Any, world: int) -> bool:
    """Return whether a parameter is spread only as FSDP does it, or HSDP: copies of shards."""
    mesh = _mesh(parameter)
    if mesh.size() != world:
        return False
    return bool(mesh.ndim == 1 or (mesh.ndim == 2 and parameter.placements[0].is_replicate()))


def _device(parameter: torch.Tensor, fully_sharded: list[nn.Module]) -> torch.device:
    for part in fully_sharded:
        if isinstance(device := getattr(part, "compute_device", None), torch.device):
            return device
    mesh = _mesh(parameter)
    if mesh is None or mesh.device_type == "cpu":
        return parameter.device
    return torch.device(
        mesh.device_type, torch.get_device_module(mesh.device_type).current_device()
    )


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return all of a tensor that may be spread over ranks; then every rank has to ask."""
    if _mesh(tensor) is None:
        return tensor
    whole: torch.Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return whole


def find_context(module: nn.Module) -> int | None:
    """Return how many tokens a model takes at once, by its configuration; None: it does not say."""
    # A wrapper, as of FSDP1 or a LightningModule, may have the model one level below.
    for part in (module, *module.children()):
        found = [
            value
            for holder in _configurations(part)
            for name in _CONTEXTS
            if isinstance(value := _field(holder, name), int)
            and not isinstance(value, bool)
            and value > 1
        ]
        if found:
            return min(found)
    return None


def _configurations(module: nn.Module) -> list[Any]:
    held = [holder for name in _HOLDERS if (holder := _field(module, name)) is not None]
    of_text = getattr(held[0], "get_text_config", None) if held else None
    return [*([of_text()] if callable(of_text) else held), module]


def _field(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)


def most_ids(module: nn.Module) -> int | None:
    """Return the rows of a model's largest embedding; None when it has none that is known."""
    sizes = [part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding)]
    return max(sizes, default=None)
