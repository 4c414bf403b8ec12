"""Call models of several makes for logits at every position."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from seedconv_tui.training.wrapped_models import plain

Forward = Callable[[nn.Module, torch.Tensor], torch.Tensor | None]

_GIVE = "give forward=, a function of (model, ids) that returns them"
_TARGETS = ("target", "label", "tgt", "next")  # in the name of what is to be predicted


class NoLogitsError(ValueError):
    """A model that gives logits in an unknown way; `what` says why, after "the model"."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the model {what}; {_GIVE}")
        self.what = what


class DefaultForward:
    """Calls Hugging Face models by name, others with ids alone or with ids as targets, too.

    nanoGPT returns logits of the last position only, unless it gets targets. What else a model may
    want besides ids, such as positions or a mask, is never made up of them.
    """

    def __init__(self, vocab: int) -> None:
        self._vocab = vocab
        self._with_targets: bool | None = None

    def __call__(self, module: nn.Module, ids: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, position, vocab or more). Raise NoLogitsError if there are none."""
        parameters = _parameters(module)
        if "input_ids" in parameters:
            options = {"use_cache": False} if "use_cache" in parameters else {}
            return self._logits(module(input_ids=ids, **options), ids)
        if self._with_targets is None:
            self._with_targets = _wants_targets(parameters)
            if self._with_targets is None and ids.shape[1] > 1:  # without them, if that does
                found = _only(module(ids), ids, self._vocab)
                self._with_targets = found is None
                if found is not None:
                    return found
        return self._logits(module(ids, ids) if self._with_targets else module(ids), ids)

    def _logits(self, output: Any, ids: torch.Tensor) -> torch.Tensor:
        found = _only(output, ids, self._vocab)
        if found is None:
            shape = ", ".join(map(str, ids.shape))
            raise NoLogitsError(f"returns no logits of shape ({shape}, {self._vocab} or more)")
        return found


def are_probabilities(logits: torch.Tensor) -> bool:
    """Return whether what a model returned as logits (..., vocab) are their softmax."""
    values = logits.detach().float()
    return bool((values >= 0).all()) and bool(((values.sum(-1) - 1).abs() < 0.01).all())


class CheckedForward:
    """Calls what the user gave, and checks what it returns."""

    def __init__(self, forward: Forward, vocab: int) -> None:
        self._forward, self._vocab = forward, vocab

    def __call__(self, module: nn.Module, ids: torch.Tensor) -> torch.Tensor | None:
        """Return logits (batch, position, vocab or more), or None on a rank that has none."""
        output = self._forward(module, ids)
        if output is None:
            return None
        found = _only(output, ids, self._vocab)
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


def _wants_targets(parameters: Mapping[str, inspect.Parameter]) -> bool | None:
    """Return whether a model is to get ids as targets, too; None: it can be asked without.

    Raise NoLogitsError where it needs something else.
    """
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    named = [parameter for parameter in parameters.values() if parameter.kind in kinds]
    if len(named) < 2:  # a wrapper's may be (*args), for what it wraps
        return None if len(parameters) > 1 else False
    name = named[1].name.lower()
    targets = name in {"y", "ys", "yb"} or any(part in name for part in _TARGETS)
    if named[1].default is not inspect.Parameter.empty:
        return None if targets else False
    if not targets:
        raise NoLogitsError(f"wants {named[1].name} besides the ids of tokens")
    return True


def _only(output: Any, ids: torch.Tensor, vocab: int) -> torch.Tensor | None:
    """Return the logits in what a model returned; None: there are none.

    Raise NoLogitsError where several may be: hidden states are as wide as a small vocabulary.
    """
    found = list(_logits(output, ids, vocab))
    if any(other is not found[0] for other in found[1:]):
        shapes = " and ".join(str(tuple(one.shape)) for one in found[:3])
        raise NoLogitsError(f"returns several tensors that may be logits, {shapes}")
    return found[0] if found else None


def _logits(output: Any, ids: torch.Tensor, vocab: int) -> Iterator[torch.Tensor]:
    """Yield tensors in what a model returned that have the shape of logits."""
    if isinstance(output, torch.Tensor):
        if output.ndim == 3 and output.shape[:2] == ids.shape and output.shape[2] >= vocab:
            yield plain(output)
        return
    if hasattr(output, "logits"):
        output = [output.logits]
    elif isinstance(output, dict):
        output = [output["logits"]] if "logits" in output else list(output.values())
    if isinstance(output, (list, tuple)):
        for part in output:
            yield from _logits(part, ids, vocab)
