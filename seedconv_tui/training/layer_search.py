"""Finding, by running a model, the layer whose product its logits are."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from seedconv_tui.training.wrapped_models import plain

_PADDING = 1024  # rows that a vocabulary is filled up with, at most
_ROWS = 64  # of the product that are compared
_CHUNK = 8192  # rows of the weight that are made float32 at once
_SAME = 3e-5  # how far float32 logits may be from the product, relative to the largest
_EQUAL = 0.95  # share of half-precision logits that a factor has to give exactly
_HALF = {torch.bfloat16, torch.float16}


@dataclass
class Heard:
    """One use of a layer: what went in and came out."""

    layer: nn.Linear
    input: torch.Tensor  # (batch, position, hidden)
    output: torch.Tensor | None = None  # (batch, position, vocab or more)
    weight: torch.Tensor | None = None  # (vocab, hidden) float32, on the CPU
    bias: torch.Tensor | None = None
    product: torch.Tensor | None = None  # of some rows, (row, vocab) float32
    uses: int = 1  # of the layer in one run of the model, with this one


@dataclass(frozen=True)
class Layer:
    """The layer that makes logits: `scale` times its output."""

    module: nn.Linear
    scale: float
    weight: torch.Tensor | None = None  # (vocab, hidden) float32, on the CPU, where it was copied
    bias: torch.Tensor | None = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits of hidden states (row, hidden) float32 on the CPU, (row, vocab)."""
        assert self.weight is not None
        product = hidden @ self.weight.T
        return self.scale * (product if self.bias is None else product + self.bias)


def candidates(module: nn.Module, vocab: int) -> list[nn.Linear]:
    """Return the layers that may make logits of that many tokens."""
    return [
        part
        for part in module.modules()
        if isinstance(part, nn.Linear) and vocab <= part.out_features <= vocab + _PADDING
    ]


@contextlib.contextmanager
def listening(layers: list[nn.Linear], vocab: int, *, weights: bool) -> Iterator[list[Heard]]:
    """Collect the last use of one of these layers; with `weights`, a copy of its weight, too.

    The copy is made before the layer runs: FSDP gathers a weight for the call and takes it back,
    and what only refers to it would keep training from doing so.
    """
    heard: list[Heard] = []
    uses = Counter[nn.Module]()

    def before(layer: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if not isinstance(layer, nn.Linear) or not arguments:  # called by name
            heard.clear()
            return
        uses[layer] += 1
        heard[:] = [Heard(layer, plain(arguments[0].detach()), uses=uses[layer])]
        if weights:
            _copy(heard[0], vocab)

    def after(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        if heard and heard[0].layer is layer:
            heard[0].output = plain(output.detach())

    hooks = [layer.register_forward_pre_hook(before) for layer in layers]
    hooks += [layer.register_forward_hook(after) for layer in layers]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _copy(heard: Heard, vocab: int) -> None:
    weight = plain(heard.layer.weight.detach())[:vocab]
    rows = heard.input.flatten(0, -2)[:_ROWS].float()
    copy = torch.empty(weight.shape, dtype=torch.float32)
    product = torch.empty(len(rows), len(weight), device=rows.device)
    for start in range(0, len(weight), _CHUNK):
        part = slice(start, start + _CHUNK)
        exact = weight[part].to(rows.device, torch.float32)
        product[:, part] = rows @ exact.T
        copy[part] = exact
    if heard.layer.bias is not None:
        bias = plain(heard.layer.bias.detach())[:vocab].to(rows.device, torch.float32, copy=True)
        product += bias
        heard.bias = bias.cpu()
    heard.weight, heard.product = copy, product


def find_layer(heard: list[Heard], logits: torch.Tensor, vocab: int) -> Layer | None:
    """Return the layer that was heard if logits (batch, position, ...) are its product.

    That its output is its product is seen only where the weight was copied.
    """
    scale = factor(heard, logits, vocab)
    if scale is None:
        return None
    output = heard[0].output
    if output is None or heard[0].weight is None or heard[0].product is None:
        return Layer(heard[0].layer, scale)
    if not torch.isfinite(heard[0].weight).all():
        return None
    made = output.flatten(0, -2)[: len(heard[0].product), :vocab].float()
    distance, size = (made - heard[0].product).abs(), made.abs().max().clamp_min(1e-3)
    if output.dtype in _HALF:
        # Rounding is half a step at each; a layer that computes in fewer bits is further away.
        step = torch.finfo(output.dtype).eps
        rounded = distance.square().mean().sqrt() <= step * made.square().mean().sqrt() + 1e-6
        same = bool(rounded) and bool(distance.max() <= 2 * step * size)
    else:
        same = bool(distance.max() <= _SAME * size)
    return Layer(heard[0].layer, scale, heard[0].weight, heard[0].bias) if same else None


def factor(heard: list[Heard], logits: torch.Tensor, vocab: int) -> float | None:
    """Return by what logits are the output of the layer that was heard; None: they are not.

    A soft cap bends small logits by less than half precision shows in one of them. So this compares
    the bits of the rounded product, not a distance.
    """
    output = heard[0].output if heard else None
    if output is None or output.shape[:-1] != logits.shape[:-1]:
        return None
    made, said = output[..., :vocab], logits[..., :vocab]
    if made.shape != said.shape:
        return None
    if torch.equal(made.to(said.dtype), said):
        return 1.0
    coarse = made.dtype if made.dtype in _HALF else said.dtype
    made, said = (values.flatten(0, -2)[:_ROWS].float() for values in (made, said))
    scale = float((said * made).sum() / made.square().sum().clamp_min(1e-30))
    if coarse in _HALF:
        same = (made * scale).to(coarse) == said.to(coarse)
        return scale if float(same.float().mean()) >= _EQUAL else None
    distance = (made * scale - said).abs().max()
    return scale if bool(distance <= _SAME * said.abs().max().clamp_min(1e-3)) else None
