"""States of inner layers, taken while a module computes its final ones.

Layer `k` of `n` has computed what the next one takes: hooks see the inputs of layers. 0 is the
input of the first one, the embeddings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch


def layers_before(percent: int, n_layers: int) -> int:
    """Return how many of a model's layers have computed at a percent of them, rounded down."""
    return percent * n_layers // 100


class InnerLayers:
    """Those layers of a module whose input is asked for."""

    def __init__(self, layers: Sequence[Any], widths: tuple[int, ...]) -> None:
        """Take layers, and the width of the input of each."""
        self._layers, self.widths = layers, widths

    def after(self, states: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return final states with those of the layers after them, (batch, position, unit)."""
        with _watching(self._layers) as seen:
            final = states()
        inner = [seen[at].to(final.device) for at in range(len(self._layers))]
        return torch.cat([final, *inner], -1)


def find_layers(
    module: Any, percents: Sequence[int], states: Callable[[], torch.Tensor]
) -> InnerLayers | None:
    """Find the layers of a module by running it once; `states` calls it with (1, position) ids.

    They are a list of as many modules as its configuration has layers. Each is called once, in
    order, with a state for each position. None: there is no such list.
    """
    n_layers = getattr(module.config.get_text_config(), "num_hidden_layers", None)
    for blocks in module.modules():
        if not isinstance(blocks, torch.nn.ModuleList) or len(blocks) != n_layers:
            continue
        with _watching([*blocks]) as seen:
            n_positions = states().shape[-2]
        if [*seen] == [*range(n_layers)] and all(
            of.ndim == 3 and of.shape[:2] == (1, n_positions) for of in seen.values()
        ):
            chosen = [layers_before(percent, n_layers) for percent in percents]
            return InnerLayers(
                [blocks[at] for at in chosen], tuple(seen[at].shape[-1] for at in chosen)
            )
    return None


@contextlib.contextmanager
def _watching(layers: Sequence[Any]) -> Iterator[dict[int, torch.Tensor]]:
    """Yield what will be the input of each layer that is called, by place, in the order of calls.

    What is called twice has an empty one: it is no layer as meant here.
    """
    seen: dict[int, torch.Tensor] = {}

    def look(at: int, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = [of for of in (*arguments, *named.values()) if isinstance(of, torch.Tensor)]
        # A copy: a model may go on adding to the same memory.
        seen[at] = tensors[0].clone() if tensors and at not in seen else torch.empty(0)

    hooks = [
        layer.register_forward_pre_hook(
            lambda _, arguments, named, at=at: look(at, arguments, named), with_kwargs=True
        )
        for at, layer in enumerate(layers)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
