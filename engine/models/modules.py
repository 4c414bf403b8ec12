"""Checkpoints as models on a device: one module per architecture, its weights swapped in."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from engine.errors import CheckpointError
from engine.models.remote_code import model_class
from engine.models.weights import CheckpointWeights

_TRIFLES = {"_name_or_path", "dtype", "torch_dtype", "transformers_version"}  # of a configuration


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint's weights and the module they belong to, which others may share."""

    checkpoint: CheckpointWeights
    module: Any
    weights: Mapping[str, torch.Tensor]  # by name of parameter or buffer
    device: torch.device
    dtype: torch.dtype

    def activate(self) -> Any:
        """Give the module these weights and return it; those that are elsewhere are copied."""
        for name, tensor in _tensors(self.module).items():
            if name in self.weights:
                tensor.data = _placed(self.weights[name], self.device, tensor.dtype)
        return self.module


class Modules:
    """Makes models of checkpoints. A module is built when a new architecture comes, then reused."""

    def __init__(self, dtype: torch.dtype, device: torch.device, *, masked: bool = False) -> None:
        self._dtype, self._device, self._masked = dtype, device, masked
        self._modules: dict[object, Any] = {}

    def load(self, checkpoint: CheckpointWeights, *, resident: bool = True) -> LoadedModel:
        """Return a model with these weights: on the device, or moved there at each use.

        Raise CheckpointError when the weights do not fit the architecture.
        """
        weights, key = checkpoint.weights, _key(checkpoint)
        self.empty()
        module = self._modules.get(key)
        if module is None or not _ties_hold(module, weights):
            module = _build(checkpoint, self._dtype, self._device, masked=self._masked)
            if _takes_as_they_are(module, weights):
                self._modules[key] = module
            else:
                weights = _tensors(module)
        # Not what each module makes for itself and never saves, such as frequencies of positions:
        # it has its own precision, and old checkpoints have it rounded.
        own = _tensors(module)
        names = own.keys() & module.state_dict().keys() & weights.keys()
        chosen = {name: weights[name].detach() for name in names}
        if resident:
            chosen = {
                name: _placed(tensor, self._device, own[name].dtype)
                for name, tensor in chosen.items()
            }
        return LoadedModel(checkpoint, module, chosen, self._device, self._dtype)

    def empty(self) -> None:
        """Let go of the weights that were used last: there need be no room for old and new ones.

        Models that are still in use bring theirs again.
        """
        for module in self._modules.values():
            for parameter in module.parameters():
                parameter.data = torch.empty(0, dtype=parameter.dtype, device=parameter.device)


def _key(checkpoint: CheckpointWeights) -> object:
    """Return what is equal for checkpoints whose weights fit the same module."""
    config = {k: v for k, v in checkpoint.config.to_dict().items() if k not in _TRIFLES}
    shapes = frozenset((name, tuple(t.shape)) for name, t in checkpoint.weights.items())
    return json.dumps(config, sort_keys=True, default=str), shapes


def _tensors(module: Any) -> dict[str, torch.Tensor]:
    return dict(itertools.chain(module.named_parameters(), module.named_buffers()))


def _placed(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(device, dtype, non_blocking=True)


def _ties(module: Any) -> dict[str, str]:
    """Return further names of parameters that have several, and the one `_tensors` uses."""
    first = {id(parameter): name for name, parameter in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every if name != first[id(p)]}


def _ties_hold(module: Any, weights: Mapping[str, torch.Tensor]) -> bool:
    """Return whether weights that are one in the module are equal in a checkpoint with two."""
    return all(
        name not in weights or torch.equal(weights[name], weights[first])
        for name, first in _ties(module).items()
    )


def _takes_as_they_are(module: Any, weights: Mapping[str, torch.Tensor]) -> bool:
    """Return whether loading gave every parameter the weight of its own name, unchanged."""
    tied = _ties(module)
    for name, tensor in module.state_dict().items():
        if name in tied:
            continue
        if name not in weights or weights[name].shape != tensor.shape:
            return False
        if not torch.equal(_placed(weights[name], tensor.device, tensor.dtype), tensor):
            return False
    return True


def _build(
    checkpoint: CheckpointWeights, dtype: torch.dtype, device: torch.device, *, masked: bool
) -> Any:
    """Build a module with the checkpoint's weights, ready to be called."""
    architecture = model_class(checkpoint, masked=masked)
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what it would print is in `report`
    try:
        module, report = architecture.from_pretrained(
            None,
            config=checkpoint.config,
            state_dict=dict(checkpoint.weights),
            dtype=dtype,
            output_loading_info=True,
        )
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{checkpoint.where}: weights do not fit config.json: {reason}"
        ) from None
    finally:
        logger.setLevel(level)
    for problem in ("missing_keys", "mismatched_keys"):
        if names := sorted(map(str, report[problem])):
            what = problem.removesuffix("_keys")
            raise CheckpointError(
                f"{checkpoint.where}: weights {what}: {names[0]}"
                + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            )
    module.eval().to(device)
    module.requires_grad_(requires_grad=False)
    layer: Any = module.get_output_embeddings()
    if dtype != torch.float32 and isinstance(layer, torch.nn.Linear):
        vars(layer)["forward"] = _float32_product(layer)  # this instance computes otherwise
    return module


def _float32_product(layer: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return an output layer's function in float32, so that logits are not rounded."""

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        bias = None if layer.bias is None else layer.bias.float()
        return torch.nn.functional.linear(hidden.float(), layer.weight.float(), bias)

    return forward
