"""The output layer as a function of its own, so that logits can be made a few tokens at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from engine.models.packed_weight import PackedWeight
from engine.models.spreading import weight_of
from store.schema import OutputLayer

SAME = 3e-5  # how far logits may be from the product, relative to the largest: float32 rounding


@dataclass(frozen=True)
class Head:
    """Logits of hidden states: `cap(scale * (hidden @ weight.T + bias))`, float32.

    A soft cap c is c * tanh(x / c), as in Gemma 2.
    """

    weight: torch.Tensor  # (vocab, hidden) float32, on the device
    bias: torch.Tensor | None  # (vocab,)
    scale: float = 1.0
    soft_cap: float | None = None

    @cached_property
    def packed(self) -> PackedWeight | None:
        """The weight in the order in which a CPU multiplies it; None: it is not packed."""
        return PackedWeight.of(self.weight)

    def logits(self, hidden: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the logits of hidden states (token, hidden), (token, vocab) float32.

        Further units, which are those of other layers, are left out. Without a packed weight, `out`
        is used when it is given.
        """
        hidden = hidden[:, : self.weight.shape[1]]
        if self.packed is not None:
            made = self.packed.times(hidden, self.bias)
        elif self.bias is None:
            made = torch.mm(hidden, self.weight.T, out=out)
        else:
            made = torch.addmm(self.bias, hidden, self.weight.T, out=out)
        if self.scale != 1.0:
            made *= self.scale
        if self.soft_cap is not None:
            made.div_(self.soft_cap).tanh_().mul_(self.soft_cap)
        return made

    def output_layer(self) -> OutputLayer | None:
        """Return it as the store keeps it; None when it cannot be kept as factors."""
        if self.soft_cap is not None:
            return None
        bias = None if self.bias is None else self.bias.cpu().numpy()
        return OutputLayer(self.weight.cpu().numpy(), bias, self.scale)

    @classmethod
    def of(cls, layer: OutputLayer, device: torch.device) -> Head:
        """Return the head that the store kept."""
        bias = None if layer.bias is None else torch.from_numpy(layer.bias).to(device)
        return cls(torch.from_numpy(layer.weight).to(device), bias, layer.scale)


class _Reached(Exception):  # noqa: N818  (not an error: it ends a forward pass early)
    """The output layer was reached."""


def hidden_states(module: Any, **inputs: Any) -> torch.Tensor:
    """Return the input of the output layer, (batch, position, hidden), without logits.

    It is on the device of `inputs`, wherever the layers are.
    """
    found = input_of(module.get_output_embeddings(), lambda: module(**inputs))
    return found.to(_device(inputs))


def input_of(layer: Any, call: Callable[[], Any]) -> torch.Tensor:
    """Return what a layer gets from a call, which ends there."""
    seen: list[torch.Tensor] = []

    def stop(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        seen.append(arguments[0])
        raise _Reached

    hook = layer.register_forward_pre_hook(stop)
    try:
        with contextlib.suppress(_Reached):
            call()
    finally:
        hook.remove()
    return seen[0]


def find_head(module: Any, vocab_size: int, **probe: Any) -> Head | None:
    """Find, by running it, how a module makes logits of its output layer's input.

    It is run on `probe` and what comes out compared with the product, scaled or capped as its
    configuration may say. None when the logits are something else; the module must make them then.
    """
    layer = module.get_output_embeddings()
    if not isinstance(layer, torch.nn.Linear):
        return None
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        logits = module(**probe).logits[..., :vocab_size].float()
    finally:
        hook.remove()
    if len(seen) != 1 or seen[0].shape[:-1] != logits.shape[:-1]:
        return None
    weight, bias = (
        None if tensor is None else tensor.detach()[:vocab_size].to(logits.device, torch.float32)
        for tensor in (weight_of(module, layer, name) for name in ("weight", "bias"))
    )
    assert weight is not None
    if not logits.isfinite().all():
        return Head(weight, bias)  # nothing is known; its first token will be refused by name
    hidden = seen[0].to(logits.device, torch.float32).flatten(0, -2)
    logits = logits.flatten(0, -2)
    return fitting_head(weight, bias, hidden, logits, module.config.get_text_config().to_dict())


def fitting_head(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    hidden: torch.Tensor,
    logits: torch.Tensor,
    config: Mapping[str, Any],
    *,
    same: float = SAME,
) -> Head | None:
    """Return how these float32 logits, (row, vocab), come of hidden states; None: not known.

    Scaled as fits best, or capped as the configuration may say. `same` is how far they may be from
    the product, relative to the largest.
    """
    for head in _candidates(weight, bias, hidden, logits, config):
        if (head.logits(hidden) - logits).abs().max() <= same * logits.abs().max().clamp_min(1e-3):
            return head
    return None


def _device(inputs: Mapping[str, Any]) -> torch.device:
    """Return the device that a module's inputs are on, and so what is made of its outputs."""
    return next(value.device for value in inputs.values() if isinstance(value, torch.Tensor))


def _candidates(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    hidden: torch.Tensor,
    logits: torch.Tensor,
    config: Mapping[str, Any],
) -> Iterator[Head]:
    yield Head(weight, bias)
    for name, cap in config.items():  # its name differs: final_logit_softcapping, ...
        if "cap" in name and isinstance(cap, (int, float)) and cap > 0:
            yield Head(weight, bias, soft_cap=float(cap))
    product = Head(weight, bias).logits(hidden)
    # The one factor that fits best.
    scale = (logits.double() * product).sum() / product.double().square().sum().clamp_min(1e-30)
    yield Head(weight, bias, scale=float(scale))
