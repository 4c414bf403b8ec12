"""A small GPT in one file: torch, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Config:
    """How large the model is."""

    vocab: int
    context_length: int = 64
    width: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1


class Block(nn.Module):
    """Attention to what came before, then two layers at each position."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.before_attention = nn.LayerNorm(config.width)
        self.attention = nn.Linear(config.width, 3 * config.width)
        self.attended = nn.Linear(config.width, config.width)
        self.before_mlp = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, 4 * config.width)
        self.down = nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, position, width) to the same."""
        split = (*x.shape[:2], self.heads, -1)
        query, key, value = (
            part.view(split).transpose(1, 2)
            for part in self.attention(self.before_attention(x)).chunk(3, dim=-1)
        )
        attended = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0, is_causal=True
        )
        x = x + self.drop(self.attended(attended.transpose(1, 2).flatten(2)))
        return x + self.drop(self.down(functional.gelu(self.up(self.before_mlp(x)))))

    def drop(self, x: Tensor) -> Tensor:
        """Drop some of it in training."""
        return functional.dropout(x, self.dropout, self.training)


class Nano(nn.Module):
    """A GPT whose output layer is its token embedding."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab, config.width)
        self.positions = nn.Embedding(config.context_length, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocab, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.06)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (batch, position, vocab) of the token after each of `ids` (batch, position)."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = functional.dropout(
            self.tokens(ids) + self.positions(positions), self.config.dropout, self.training
        )
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))
