"""Checkpoints as models on a device, and what their output layers do."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from engine.errors import CheckpointError
from engine.remote_code import causal_model_class
from engine.weights import Checkpoint
from store import OutputLayer

_SAME = 3e-5  # how far logits may be from the product, relative to the largest: float32 rounding


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint's model on the device."""

    checkpoint: Checkpoint
    module: Any
    output_layer: OutputLayer | None  # when log-probs are kept factored


def build(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> Any:
    """A model with the checkpoint's weights, ready to be called."""
    architecture = causal_model_class(checkpoint)
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what it would print is in `report`
    try:
        model, report = architecture.from_pretrained(
            None,
            config=checkpoint.config,
            state_dict=checkpoint.weights,
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
    model.eval().to(device)
    if dtype != torch.float32:
        _accumulate_head_in_float32(model)
    return model


def _accumulate_head_in_float32(model: Any) -> None:
    """Give the output layer float32 weights of its own, so that logits are not rounded."""
    head = model.get_output_embeddings()
    for name, parameter in list(head.named_parameters(recurse=False)):
        setattr(head, name, torch.nn.Parameter(parameter.float(), requires_grad=False))
    head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))


@contextlib.contextmanager
def capture_hidden(model: LoadedModel) -> Iterator[list[torch.Tensor]]:
    """Collect what the output layer is given, one tensor per forward pass; nothing when dense."""
    captured: list[torch.Tensor] = []
    if model.output_layer is None:
        yield captured
        return
    head = model.module.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    try:
        yield captured
    finally:
        hook.remove()


def find_output_layer(
    checkpoint: Checkpoint, module: Any, probe: torch.Tensor, vocab_size: int
) -> OutputLayer:
    """How the model makes logits of the input of its output layer, found by asking it.

    The model is run on `probe` (1, token) and what comes out compared with the product, so that
    what cannot be written as one is refused, never approximated: raises CheckpointError.
    """
    head = module.get_output_embeddings()
    if getattr(checkpoint.config.get_text_config(), "final_logit_softcapping", None):
        raise _refusal(checkpoint)
    if not isinstance(head, torch.nn.Linear):
        raise _refusal(checkpoint)
    seen: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits = module(probe, use_cache=False).logits[0, :, :vocab_size].float()
    finally:
        hook.remove()
    if len(seen) != 1 or seen[0].shape[:2] != probe.shape:
        raise _refusal(checkpoint)
    weight = _factor(head.weight, vocab_size)
    bias = None if head.bias is None else _factor(head.bias, vocab_size)
    product = torch.from_numpy(
        OutputLayer(weight, bias).logits(seen[0][0].float().cpu().numpy())
    ).double()
    # The one factor that fits best; 1 exactly where nothing is scaled.
    scale = float((logits.cpu().double() * product).sum() / product.square().sum().clamp_min(1e-30))
    layer = OutputLayer(weight, bias, 1.0 if abs(scale - 1) < _SAME else scale)
    expect_product(LoadedModel(checkpoint, module, layer), seen[0][0], logits)
    return layer


def expect_product(model: LoadedModel, hidden: torch.Tensor, logits: torch.Tensor) -> None:
    """Raise CheckpointError when logits (token, vocab) are not those of the output layer.

    Models that are not finite are not judged here: their scores are refused with the token's name.
    """
    assert model.output_layer is not None
    found = logits.float().cpu().numpy()
    product = model.output_layer.logits(hidden.float().cpu().numpy())
    if not np.isfinite(found).all():
        return
    if not np.abs(product - found).max() <= _SAME * max(float(np.abs(found).max()), 1e-3):
        raise _refusal(model.checkpoint)


def _factor(tensor: torch.Tensor, vocab_size: int) -> Any:
    return tensor.detach()[:vocab_size].float().cpu().numpy()


def _refusal(checkpoint: Checkpoint) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint.where}: its logits are not hidden states times an output embedding, so "
        'log-probs cannot be kept factored; set log_probs.representation = "dense"'
    )
