"""A checkpoint's model as transformers builds it, as the scorer asks it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from engine.models.inner_layers import InnerLayers, find_layers
from engine.models.output_head import Head, find_head, hidden_states
from engine.models.residency import Stage, StagedModule
from engine.models.spreading import bring_back, release
from engine.models.weights import CheckpointWeights

_LIMIT = "original_max_position_embeddings"  # of a configuration: positions beyond it are scaled


class LoadedModel:
    """A checkpoint's model: a module of its own, whose weights may wait in the host's memory.

    No two checkpoints share a module, as some change themselves when they are called.
    """

    def __init__(
        self,
        checkpoint: CheckpointWeights,
        module: Any,
        dtype: torch.dtype,
        *,
        architecture: object = None,
        stage: Stage | None = None,
        changes_itself: bool = False,
        masked: bool = False,
    ) -> None:
        """Take a module that holds the checkpoint's weights, and can be called.

        `architecture` is equal for checkpoints of one. With a `stage` the weights leave the device
        until the model is used; with `changes_itself` those that calling it has changed are kept.
        """
        self.name, self.fingerprint = type(module).__name__, checkpoint.fingerprint
        self.dtype, self.architecture = dtype, architecture
        self.rows = int(module.config.get_text_config().vocab_size)
        self.longest = longest_input(module)
        limits = _values(module.config.to_dict(), _LIMIT)
        self.limits = tuple(limit for limit in limits if isinstance(limit, int))
        self.head: Head | None = None
        self._inner: InnerLayers | None = None
        self._first = torch.empty(0)  # ids of a text, with which it was tried
        self._masked = masked
        self._staged = StagedModule(module, stage, changes_itself=changes_itself)

    def activate(self) -> Any:
        """Return the module with its weights on the device."""
        return self._staged.activate()

    @torch.inference_mode()
    def find_head(self, ids: torch.Tensor, vocab_size: int) -> None:
        """Find how logits of the study's entries are made of states, with the first of a text."""
        self._first = ids
        self.head = find_head(self.activate(), vocab_size, **self._inputs(ids, None))

    @torch.inference_mode()
    def watch(self, percents: Sequence[int]) -> tuple[int, ...]:
        """See `LanguageModel`. Raise what the model raises."""
        self._inner = None
        if self.head is not None:
            self._inner = find_layers(
                self.activate(), percents, lambda: self.states(self._first, None, 1)
            )
        return () if self._inner is None else self._inner.widths

    def states(self, ids: torch.Tensor, shown: torch.Tensor | None, last: int) -> torch.Tensor:
        """Return hidden states of all positions, or else logits of the last ones."""
        module, inputs = self.activate(), self._inputs(ids, shown)
        try:
            if self._inner is not None:
                return self._inner.after(lambda: hidden_states(module, **inputs))
            if self.head is not None:
                return hidden_states(module, **inputs)
            if _takes(module, "logits_to_keep"):
                inputs["logits_to_keep"] = last
            logits: torch.Tensor = module(**inputs).logits
            return logits
        finally:
            bring_back(module)

    def _inputs(self, ids: torch.Tensor, shown: torch.Tensor | None) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": ids}
        if not self._masked:
            inputs["use_cache"] = False
        if shown is not None:
            inputs["attention_mask"] = shown
        return inputs

    def close(self) -> None:
        """Free its memory, as soon as nobody else holds the module."""
        self._staged.close()
        release(self._staged.module)


def longest_input(module: Any) -> int | None:
    """Return how many inputs a module takes at most; None when any number."""
    config = module.config.get_text_config()
    longest: int | None = getattr(config, "max_position_embeddings", None)
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            # As in RoBERTa: positions are counted from the one after that of padding.
            longest = int(part.num_embeddings) - part.padding_idx - 1
    return longest


def _takes(module: Any, argument: str) -> bool:
    return argument in inspect.signature(module.forward).parameters


def _values(tree: Any, name: str) -> Iterator[Any]:
    """Yield what a name stands for, anywhere in a configuration."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key == name:
            yield value
        yield from _values(value, name)
