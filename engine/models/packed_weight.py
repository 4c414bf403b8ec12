"""Products with a weight that is packed once, in the order in which a CPU multiplies it.

torch packs a weight at each product of float32. Where a product is of a hundred rows, as here, that
and its slower loops take as long as the arithmetic. torch.compile packs once, by operators of
oneDNN that have no public name: they are used where a trial shows that they are there and right.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any, Self

import torch

_LEAST_BYTES, _MOST_BYTES = 2**20, 2**26  # a packed weight is a second one in memory
_ROWS = 128  # of a product that it is packed for; others take their time, and give the same


class PackedWeight:
    """A weight, (out, in) float32, for products on a CPU."""

    def __init__(self, weight: torch.Tensor) -> None:
        """Pack it. Raise AttributeError or RuntimeError where torch cannot."""
        self._packed: Any = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS)

    @classmethod
    def of(cls, weight: torch.Tensor) -> Self | None:
        """Return the packed weight; None where that does not pay, or torch cannot."""
        size = weight.numel() * weight.element_size()
        if weight.device.type != "cpu" or not _LEAST_BYTES <= size <= _MOST_BYTES:
            return None
        return cls(weight) if weight.dtype == torch.float32 and _works() else None

    def times(self, states: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return `states @ weight.T + bias`, of states (row, in) and a bias (out,), float32."""
        # Strides of a bias would be ignored.
        states, bias = states.contiguous(), None if bias is None else bias.contiguous()
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            states, self._packed, bias, "none", [], ""
        )
        return product


@cache
def _works() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64"):  # others have other libraries
        return False
    weight = torch.linspace(-3, 2, 64 * 48).sin().view(64, 48)
    states, bias = weight[:7].cos(), weight[:, 0]
    try:
        product = PackedWeight(weight).times(states, bias)
    except (AttributeError, RuntimeError):
        return False
    plain = torch.addmm(bias, states, weight.T)
    return bool((product - plain).abs().max() <= 1e-5 * plain.abs().max())
