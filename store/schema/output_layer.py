"""The output layer: how a model makes logits of its last hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Representation = Literal["dense", "factored", "none"]  # of log-probs; none: they are not kept


@dataclass(frozen=True)
class OutputLayer:
    """A model's output layer: logits are `scale * (hidden @ weight.T + bias)`, all float32."""

    weight: NDArray[np.float32]  # (vocab, hidden)
    bias: NDArray[np.float32] | None  # (vocab,)
    scale: float = 1.0

    def logits(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits (token, vocab) of hidden states (token, hidden), float32."""
        logits: NDArray[np.float32] = hidden @ self.weight.T
        if self.bias is not None:
            logits += self.bias
        if self.scale != 1.0:
            logits *= np.float32(self.scale)
        return logits
