"""How models of several makes are called for logits at every position."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from seedconv_tui.training.wrapped_models import plain

Forward = Callable[[nn.Module, torch.Tensor], torch.Tensor | None]


class DefaultForward:
    """Calls Hugging Face models by name, others with ids alone or with ids as targets, too.

    nanoGPT returns logits of the last position only, unless it gets targets.
    """

    def __init__(self, vocab: int) -> None:
        self._vocab = vocab
        self._with_targets: bool | None = None

    def __call__(self, module: nn.Module, ids: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, position, vocab or more). Raise ValueError if there are none."""
        parameters = _parameters(module)
        if "input_ids" in parameters:
            options = {"use_cache": False} if "use_cache" in parameters else {}
            return self._logits(module(input_ids=ids, **options), ids)
        if self._with_targets is None:
            second = list(parameters.values())[1:2]
            targets = [parameter for parameter in second if _names_targets(parameter.name)]
            self._with_targets = any(it.default is it.empty for it in targets)
            if targets and not self._with_targets and ids.shape[1] > 1:
                found = next(_logits(module(ids), ids, self._vocab), None)
                self._with_targets = found is None
                if found is not None:
                    return found
        return self._logits(module(ids, ids) if self._with_targets else module(ids), ids)

    def _logits(self, output: Any, ids: torch.Tensor) -> torch.Tensor:
        found = next(_logits(output, ids, self._vocab), None)
        if found is None:
            batch, positions = ids.shape
            raise ValueError(
                f"the model returns no logits of shape ({batch}, {positions}, {self._vocab} or "
                "more); give forward=, a function of (model, ids) that returns them"
            )
        return found


class CheckedForward:
    """Calls what the user gave, and checks what it returns."""

    def __init__(self, forward: Forward, vocab: int) -> None:
        self._forward, self._vocab = forward, vocab

    def __call__(self, module: nn.Module, ids: torch.Tensor) -> torch.Tensor | None:
        """Return logits (batch, position, vocab or more), or None on a rank that has none."""
        output = self._forward(module, ids)
        if output is None:
            return None
        found = next(_logits(output, ids, self._vocab), None)
        if found is None:
            shape = getattr(output, "shape", type(output).__name__)
            raise ValueError(
                f"forward= returned {shape}; it should return logits of shape "
                f"{(*ids.shape, self._vocab)}, or more of them"
            )
        return found


def _parameters(module: nn.Module) -> dict[str, inspect.Parameter]:
    forward = module.forward
    if type(module).__name__ == "FullyShardedDataParallel":
        forward = module.module.forward  # type: ignore[union-attr]
    return dict(inspect.signature(forward).parameters)


def _names_targets(name: str) -> bool:
    """Return whether a parameter is what a model is to predict, and not a mask or positions."""
    return name in {"y", "tgt", "ys"} or "target" in name or "label" in name


def _logits(output: Any, ids: torch.Tensor, vocab: int) -> Iterator[torch.Tensor]:
    """Yield tensors in what a model returned that have the shape of logits."""
    if isinstance(output, torch.Tensor):
        if output.ndim == 3 and output.shape[:2] == ids.shape and output.shape[2] >= vocab:
            yield plain(output)
        return
    if hasattr(output, "logits"):
        output = [output.logits]
    elif isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        for part in output:
            yield from _logits(part, ids, vocab)
