"""A checkpoint that was read, with the model made of it: the thing to score.

Nothing else about them is known to the scorer, so that models of any origin can be scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from engine.models.output_head import Head


class ReadCheckpoint(Protocol):
    """A checkpoint that was read and checked, and is not yet a model."""

    @property
    def folder(self) -> Path:
        """Return where it lies on this machine."""

    @property
    def where(self) -> str:
        """Return its place, for people."""

    @property
    def note(self) -> str | None:
        """Return what the user should know of what was read, in one line; None: nothing."""

    def bytes_as(self, dtype: torch.dtype) -> int:
        """Return the bytes that its weights take on a device in this precision; 0: not known."""

    def drop(self) -> None:
        """Let go of what is in the host's memory: a model was made of it."""


class LanguageModel(Protocol):
    """A model that can be asked; where its weights are meanwhile is its own affair.

    The head is known once the model was made.
    """

    @property
    def name(self) -> str:
        """Return what notes call it, such as its class."""

    @property
    def architecture(self) -> object:
        """Return what is equal, and hashable, for models that compute in the same way."""

    @property
    def fingerprint(self) -> str:
        """Return the digest of its weights."""

    @property
    def dtype(self) -> torch.dtype:
        """Return the precision in which it computes."""

    @property
    def rows(self) -> int:
        """Return how many entries its vocabulary has, with padding."""

    @property
    def longest(self) -> int | None:
        """Return how many inputs it takes at most; None: any number."""

    @property
    def limits(self) -> tuple[int, ...]:
        """Return numbers of inputs beyond which it may compute otherwise."""

    @property
    def head(self) -> Head | None:
        """Return what makes logits of its states; None: its states are logits."""

    def states(self, ids: torch.Tensor, shown: torch.Tensor | None, last: int) -> torch.Tensor:
        """Return the states of the last positions, at least of the `last` ones.

        `ids`, int64 (batch, position), are on the device, and so is what is returned: (batch, n,
        hidden) where there is a head, else (batch, n, vocab or more). `shown` is 0 at ids that fill
        a batch up; None: the model need not know.
        """

    def watch(self, percents: Sequence[int]) -> tuple[int, ...]:
        """Have `states` return, after the final ones, those after these percents of its layers.

        Return how many units each of them has; none where its layers are not known, and `states`
        returns what it did.
        """

    def close(self) -> None:
        """Let go of what it holds: it is not used any more."""
